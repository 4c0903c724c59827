"""The watch, against a server that plays one script for each call."""

import threading
from typing import Any

import grpc
import pytest
from server import Auth, events, serving

from tailrace import Backoff, Endpoints, Password, WatchOptions, WatchState, connect
from tailrace.stream.v1.event_stream_service_pb2 import WatchRequest, WatchResponse

QUICK = Backoff(base=0.01, cap=0.01)


def event(offset: int) -> WatchResponse:
    response = WatchResponse(cursor=f"after {offset}")
    response.event.offset = offset
    return response


CAUGHT_UP = WatchResponse(cursor="end", caught_up=WatchResponse.CaughtUp())


class Script:
    """Answers each call with the next list: responses, a code that ends the call, or "hang"."""

    def __init__(self, *calls: list[WatchResponse | grpc.StatusCode | str]) -> None:
        self.requests: list[WatchRequest] = []
        self.ended: list[threading.Event] = []
        outer = self

        class Events:
            @staticmethod
            def Watch(request: WatchRequest, context: Any) -> Any:
                # A call that was given up is not asked for another step: only the callback tells.
                ended = threading.Event()
                if not context.add_callback(ended.set):
                    ended.set()
                outer.requests.append(request)
                outer.ended.append(ended)
                for step in calls[len(outer.requests) - 1]:
                    if isinstance(step, grpc.StatusCode):
                        context.abort(step, step.name)
                    if step == "hang":
                        ended.wait(10)
                        return
                    yield step

        self.servicer = events(Events)

    def read(self, endpoints: Endpoints, count: int, options: WatchOptions | None = None) -> list[int]:
        """Give the offsets of the first events, and close."""
        options = options or WatchOptions(backoff=QUICK)
        request = WatchRequest(newest=100)
        offsets: list[int] = []
        with connect(endpoints) as tailrace, tailrace.watch(request, options) as watch:
            for response in watch:
                if response.HasField("event"):
                    offsets.append(response.event.offset)
                if len(offsets) == count:
                    break
        return offsets


def test_it_begins_where_asked_and_goes_on_after_the_last_cursor() -> None:
    states: list[WatchState] = []
    script = Script([event(1), event(2), grpc.StatusCode.UNAVAILABLE], [event(3)], [CAUGHT_UP, event(4), "hang"])
    with serving(script.servicer) as endpoints:
        assert script.read(endpoints, 4, WatchOptions(backoff=QUICK, on_state=states.append)) == [1, 2, 3, 4]
        assert script.ended[-1].wait(10), "the call ends with its reader"
    assert [request.newest for request in script.requests] == [100, 0, 0]
    assert [request.cursor for request in script.requests] == ["", "after 2", "after 3"]
    beginning = [WatchState.CONNECTING, WatchState.CATCHING_UP, WatchState.WAITING]
    assert states == [*beginning, *beginning, WatchState.CONNECTING, WatchState.LIVE]


def test_it_raises_when_another_call_would_fail_likewise() -> None:
    script = Script([event(7), grpc.StatusCode.PERMISSION_DENIED])
    with serving(script.servicer) as endpoints, pytest.raises(grpc.RpcError, match="PERMISSION_DENIED"):
        script.read(endpoints, 2)


def test_it_goes_on_with_the_next_token_unless_that_is_refused_too() -> None:
    expired = grpc.StatusCode.UNAUTHENTICATED
    script = Script([event(1), expired], [event(2), expired], [expired])
    offsets: list[int] = []
    with serving(Auth().add, script.servicer) as endpoints, connect(endpoints, Password("a@b.c", "p")) as tailrace:
        with pytest.raises(grpc.RpcError, match="UNAUTHENTICATED"):
            offsets.extend(response.event.offset for response in tailrace.watch())
    assert len(script.requests) == 3


def test_it_gives_a_silent_call_up_and_loses_nothing() -> None:
    script = Script([event(1), "hang"], [event(2), "hang"])
    with serving(script.servicer) as endpoints:
        assert script.read(endpoints, 2, WatchOptions(backoff=QUICK, abandon_after=0.2)) == [1, 2]
    assert script.requests[1].cursor == "after 1"


def test_closing_it_ends_its_reader() -> None:
    script = Script([event(1), "hang"])
    with serving(script.servicer) as endpoints, connect(endpoints) as tailrace:
        watch = tailrace.watch()
        for _ in watch:
            threading.Timer(0.05, watch.close).start()
        assert watch.state is WatchState.IDLE
        assert watch.cursor == "after 1"
