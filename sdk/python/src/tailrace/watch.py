"""A stream of events that outlives its connections."""

import enum
import random
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import grpc

from tailrace.backoff import Backoff
from tailrace.failure import failure_of, is_passing
from tailrace.stream.v1.event_stream_service_pb2 import WatchRequest, WatchResponse
from tailrace.stream.v1.event_stream_service_pb2_grpc import EventStreamServiceStub


class WatchState(enum.Enum):
    """Where a watch stands."""

    IDLE = "idle"
    """Not begun, or its reader stopped reading."""
    CONNECTING = "connecting"
    """A call is under way and nothing has arrived yet."""
    CATCHING_UP = "catching up"
    """Events arrive that were in the topics before this call."""
    LIVE = "live"
    """What arrives is new."""
    WAITING = "waiting"
    """The call failed; the next begins after a wait."""
    FAILED = "failed"
    """The call failed and another would fail likewise."""


@dataclass(frozen=True)
class WatchOptions:
    """How a watch goes on."""

    backoff: Backoff = field(default_factory=lambda: Backoff(base=0.5, cap=30.0))
    abandon_after: float = 45.0
    """How long silence may last before the call is given up for a new one, in seconds."""
    on_state: Callable[[WatchState], None] = lambda _: None
    """Called with each new state."""
    random: Callable[[], float] = random.random


class Watch:
    """A stream of events that outlives its connections.

    Each new call begins after the last cursor, so that a reader sees every event once, in order. It does not buffer,
    filter or deduplicate, and it does not look at the events. It ends when it is closed, from any thread, and raises
    when another call would fail like the last (no permission, a bad request). Iterate again to go on after the last
    cursor.
    """

    def __init__(
        self,
        events: EventStreamServiceStub,
        request: WatchRequest,
        options: WatchOptions | None = None,
        *,
        renews_token: bool = False,
    ) -> None:
        """``renews_token``: another call would be sent with another token, so one that ended ends no watch."""
        self._events = events
        self._request = WatchRequest()
        self._request.CopyFrom(request)
        self._options = options or WatchOptions()
        self._renews_token = renews_token
        self._closed = threading.Event()
        self._call: grpc.RpcContext | None = None
        self._state = WatchState.IDLE

    @property
    def state(self) -> WatchState:
        """Where it stands."""
        return self._state

    @property
    def cursor(self) -> str:
        """The cursor after the last response that was read; empty before the first."""
        return self._request.cursor

    def close(self) -> None:
        """End it, and a wait of its reader."""
        self._closed.set()
        if self._call is not None:
            self._call.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[WatchResponse]:
        attempt = 0
        while not self._closed.is_set():
            self._enter(WatchState.CONNECTING)
            retry_after = 0.0
            try:
                with closing(self._responses()) as responses:
                    for response in responses:
                        attempt = 0
                        yield response
            except grpc.RpcError as error:
                failure = failure_of(error)
                if self._closed.is_set():
                    break
                if failure.code is grpc.StatusCode.UNAUTHENTICATED and self._renews_token and self._has_begun():
                    continue
                if not is_passing(failure.code):
                    self._enter(WatchState.FAILED)
                    raise
                retry_after = failure.retry_after
            self._enter(WatchState.WAITING)
            self._closed.wait(retry_after + self._options.backoff.delay(attempt, self._options.random()))
            attempt += 1
        self._enter(WatchState.IDLE)

    def _responses(self) -> Generator[WatchResponse, None, None]:
        """Give what one call answers; it ends with its reader."""
        call = self._events.Watch(self._request)
        self._call = call
        with _Silence(self._options.abandon_after, call.cancel) as silence:
            try:
                for response in call:
                    silence.broken()
                    self._read(response)
                    yield response
                    # The time that the reader takes is no silence of the server.
                    silence.broken()
            finally:
                call.cancel()

    def _read(self, response: WatchResponse) -> None:
        if response.cursor:
            self._request.cursor = response.cursor
        if response.HasField("caught_up"):
            self._enter(WatchState.LIVE)
        elif self._state is WatchState.CONNECTING:
            self._enter(WatchState.CATCHING_UP)

    def _has_begun(self) -> bool:
        return self._state is not WatchState.CONNECTING

    def _enter(self, state: WatchState) -> None:
        self._state = state
        self._options.on_state(state)


class _Silence:
    """A thread that gives a call up when nothing was heard for too long."""

    def __init__(self, bound: float, give_up: Callable[[], object]) -> None:
        self._bound = bound
        self._give_up = give_up
        self._heard = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="tailrace-watch-silence", daemon=True)

    def broken(self) -> None:
        self._heard = time.monotonic()

    def _listen(self) -> None:
        while not self._over.wait(max(0.0, self._heard + self._bound - time.monotonic())):
            if time.monotonic() >= self._heard + self._bound:
                self._give_up()
                return

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
