"""A server in this process whose answers a test writes."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from tailrace import Endpoints
from tailrace.auth.v1.auth_service_pb2 import LoginResponse, LogoutResponse, RefreshTokenResponse
from tailrace.auth.v1.auth_service_pb2_grpc import AuthServiceServicer, add_AuthServiceServicer_to_server
from tailrace.order.v1.order_service_pb2_grpc import OrderServiceServicer, add_OrderServiceServicer_to_server
from tailrace.relay.v1.relay_service_pb2_grpc import RelayServiceServicer, add_RelayServiceServicer_to_server
from tailrace.stream.v1.event_stream_service_pb2_grpc import (
    EventStreamServiceServicer,
    add_EventStreamServiceServicer_to_server,
)


@contextmanager
def serving(*add: Callable[[grpc.Server], None]) -> Iterator[Endpoints]:
    """Serve on a free port for as long as the block lasts."""
    server = grpc.server(ThreadPoolExecutor(max_workers=8))
    for to in add:
        to(server)
    address = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield Endpoints(address, address, address, address)
    finally:
        server.stop(None).wait()


def fail(context: Any, code: int, message: str, *details: Message) -> None:
    """End a call with a rich status."""
    packed = []
    for detail in details:
        packed.append(AnyMessage())
        packed[-1].Pack(detail)
    status = status_pb2.Status(code=code, message=message, details=packed)
    context.abort_with_status(rpc_status.to_status(status))


def away(context: Any, seconds: int = 0) -> None:
    """End a call with UNAVAILABLE."""
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.seconds = seconds
    fail(context, code_pb2.UNAVAILABLE, "away", retry)


class Auth(AuthServiceServicer):
    """Issues a1 and r1, then a2 and r2; keeps what it was asked."""

    def __init__(self, *, refresh_works: bool = True) -> None:
        self.asked: list[str] = []
        self._issued = 0
        self._refresh_works = refresh_works

    def Login(self, request: Any, context: Any) -> LoginResponse:
        self.asked.append("login")
        access, refresh = self._issue()
        answer = LoginResponse(access_token=access, refresh_token=refresh)
        answer.expires_in.seconds = 900
        return answer

    def RefreshToken(self, request: Any, context: Any) -> RefreshTokenResponse:
        self.asked.append(f"refresh {request.refresh_token}")
        if not self._refresh_works:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "spent")
        access, refresh = self._issue()
        answer = RefreshTokenResponse(access_token=access, refresh_token=refresh)
        answer.expires_in.seconds = 900
        return answer

    def Logout(self, request: Any, context: Any) -> LogoutResponse:
        self.asked.append(f"logout {request.refresh_token}")
        return LogoutResponse()

    def ChangePassword(self, request: Any, context: Any) -> Any:
        raise NotImplementedError

    def ListSigningKeys(self, request: Any, context: Any) -> Any:
        raise NotImplementedError

    def _issue(self) -> tuple[str, str]:
        self._issued += 1
        return f"a{self._issued}", f"r{self._issued}"

    def add(self, server: grpc.Server) -> None:
        add_AuthServiceServicer_to_server(self, server)


def orders(servicer: Any) -> Callable[[grpc.Server], None]:
    return lambda server: add_OrderServiceServicer_to_server(_mixed(servicer, OrderServiceServicer), server)


def relay(servicer: Any) -> Callable[[grpc.Server], None]:
    return lambda server: add_RelayServiceServicer_to_server(_mixed(servicer, RelayServiceServicer), server)


def events(servicer: Any) -> Callable[[grpc.Server], None]:
    return lambda server: add_EventStreamServiceServicer_to_server(_mixed(servicer, EventStreamServiceServicer), server)


def _mixed(servicer: Any, kind: type) -> Any:
    """Give a servicer that has the methods of the test, and else those that are not implemented."""
    return type("Servicer", (kind,), dict(vars(servicer)))()
