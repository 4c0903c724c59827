"""Connects to every service."""

from dataclasses import dataclass
from types import TracebackType
from typing import Self

import grpc

from tailrace.auth.v1.auth_service_pb2_grpc import AuthServiceStub
from tailrace.order.v1.order_service_pb2_grpc import OrderServiceStub
from tailrace.relay.v1.relay_service_pb2_grpc import RelayServiceStub
from tailrace.retry import Retry, RetryOptions
from tailrace.session import Authorize, Credentials, Given, Password, Session
from tailrace.stream.v1.event_stream_service_pb2 import WatchRequest
from tailrace.stream.v1.event_stream_service_pb2_grpc import EventStreamServiceStub
from tailrace.user.v1.user_service_pb2_grpc import UserServiceStub
from tailrace.watch import Watch, WatchOptions

# Or a connection that is refused would be tried again later than the call is.
_RECONNECT = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 5_000),
]


@dataclass(frozen=True)
class Endpoints:
    """Where each process is reached, for example ``http://127.0.0.1:5001``."""

    users: str
    orders: str
    relay: str
    gateway: str


class Tailrace:
    """A typed stub for every service. Close it, or use it in a ``with`` statement."""

    auth: AuthServiceStub
    users: UserServiceStub
    orders: OrderServiceStub
    relay: RelayServiceStub
    events: EventStreamServiceStub

    def __init__(
        self,
        endpoints: Endpoints,
        credentials: Credentials = None,
        *,
        retry: RetryOptions | None = None,
        root_certificates: bytes | None = None,
    ) -> None:
        """See :func:`connect`."""
        retry = retry or RetryOptions()
        self._channels = {address: _channel(address, root_certificates) for address in set(vars(endpoints).values())}
        self._session: Session | None = None
        if isinstance(credentials, Password):
            anybody = AuthServiceStub(self._channels[endpoints.users])
            self._session = Session(anybody, credentials, retry)
            authorize = Authorize(self._session)
        else:
            authorize = Authorize(Given(credentials))

        def channel(address: str) -> grpc.Channel:
            return grpc.intercept_channel(self._channels[address], authorize, Retry(retry))

        self.auth = AuthServiceStub(channel(endpoints.users))
        self.users = UserServiceStub(channel(endpoints.users))
        self.orders = OrderServiceStub(channel(endpoints.orders))
        self.relay = RelayServiceStub(channel(endpoints.relay))
        self.events = EventStreamServiceStub(channel(endpoints.gateway))

    def watch(self, request: WatchRequest | None = None, options: WatchOptions | None = None) -> Watch:
        """Watch topics; see :class:`Watch`."""
        request = request or WatchRequest()
        return Watch(self.events, request, options, renews_token=self._session is not None)

    def renew(self) -> None:
        """Get an account's next token now: one with the rights of now; does nothing with a token."""
        if self._session is not None:
            self._session.renew()

    def sign_out(self) -> None:
        """End the sign-in of an account; does nothing with a token."""
        if self._session is not None:
            self._session.sign_out()

    def close(self) -> None:
        """Close the connections, and with them the calls that go on."""
        for channel in self._channels.values():
            channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def connect(
    endpoints: Endpoints,
    credentials: Credentials = None,
    *,
    retry: RetryOptions | None = None,
    root_certificates: bytes | None = None,
) -> Tailrace:
    """Make the stubs. Nothing is sent before the first call; an account signs in with it.

    ``root_certificates`` (PEM) verify ``https`` endpoints; without them, those that gRPC brings along do.
    """
    return Tailrace(endpoints, credentials, retry=retry, root_certificates=root_certificates)


def _channel(address: str, root_certificates: bytes | None) -> grpc.Channel:
    scheme, separator, target = address.partition("://")
    target = target.rstrip("/")
    if not separator or scheme not in {"http", "https"}:
        raise ValueError(f"{address!r} is no endpoint: write http://HOST:PORT or https://HOST:PORT")
    if scheme == "http":
        return grpc.insecure_channel(target, _RECONNECT)
    return grpc.secure_channel(target, grpc.ssl_channel_credentials(root_certificates), _RECONNECT)
