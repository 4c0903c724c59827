"""Retry, session, pages and failures, against a server in this process."""

import re
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2
from server import Auth, away, fail, orders, relay, serving

from tailrace import Backoff, Endpoints, Password, RetryOptions, connect, failure_of, new_request_id, pages
from tailrace.auth.v1.auth_service_pb2_grpc import AuthServiceStub
from tailrace.order.v1.order_pb2 import Order
from tailrace.order.v1.order_service_pb2 import (
    CreateOrderRequest,
    GetOrderRequest,
    ListOrdersRequest,
    ListOrdersResponse,
)
from tailrace.relay.v1.relay_service_pb2 import RedriveDeadLetterRequest, RedriveDeadLetterResponse
from tailrace.session import Session

ACCOUNT = Password("a@b.c", "p")


class Failing:
    """Every method fails so often, then answers; it keeps the ids of the requests."""

    def __init__(self, failures: int, seconds: int = 0) -> None:
        self.request_ids: list[str] = []
        self.waits: list[float] = []
        self.failures = failures
        self.seconds = seconds

    def options(self) -> RetryOptions:
        return RetryOptions(random=lambda: 1.0, sleep=self.waits.append)

    def answer(self, request: Message, context: Any, answer: Message) -> Any:
        self.request_ids.append(getattr(request, "request_id", ""))
        if len(self.request_ids) <= self.failures:
            away(context, self.seconds)
        return answer

    def servicers(self) -> list[Callable[[grpc.Server], None]]:
        class Orders:
            CreateOrder = staticmethod(lambda request, context: self.answer(request, context, Order()))
            GetOrder = staticmethod(lambda request, context: self.answer(request, context, Order()))

        class Relay:
            RedriveDeadLetter = staticmethod(
                lambda request, context: self.answer(request, context, RedriveDeadLetterResponse())
            )

        return [orders(Orders), relay(Relay)]


def test_a_call_to_a_service_that_is_away_is_sent_again_with_one_request_id() -> None:
    server = Failing(2)
    request = CreateOrderRequest()
    with serving(*server.servicers()) as endpoints, connect(endpoints, retry=server.options()) as tailrace:
        tailrace.orders.CreateOrder(request)
    assert len(server.request_ids) == 3
    assert len(set(server.request_ids)) == 1
    assert re.fullmatch(r"[0-9a-f-]{36}", server.request_ids[0])
    assert server.waits == [0.1, 0.2]
    assert request == CreateOrderRequest()


def test_a_request_id_that_was_given_is_kept() -> None:
    server = Failing(1)
    mine = new_request_id()
    with serving(*server.servicers()) as endpoints, connect(endpoints, retry=server.options()) as tailrace:
        tailrace.orders.CreateOrder(CreateOrderRequest(request_id=mine))
    assert server.request_ids == [mine, mine]


def test_the_wait_is_as_long_as_the_server_asks() -> None:
    server = Failing(1, seconds=7)
    with serving(*server.servicers()) as endpoints, connect(endpoints, retry=server.options()) as tailrace:
        tailrace.orders.GetOrder(GetOrderRequest())
    assert server.waits == [7.1]


@pytest.mark.parametrize(("reason", "waits"), [("RATE_LIMIT_EXCEEDED", [7.1]), ("SIGN_IN_THROTTLED", [])])
def test_a_call_that_was_one_too_many_is_sent_again_when_the_server_says(reason: str, waits: list[float]) -> None:
    server = Failing(0)
    calls: list[str] = []

    class Orders:
        @staticmethod
        def GetOrder(request: Any, context: Any) -> Order:
            calls.append(reason)
            if len(calls) == 1:
                retry = error_details_pb2.RetryInfo()
                retry.retry_delay.seconds = 7
                info = error_details_pb2.ErrorInfo(reason=reason, domain="tailrace")
                fail(context, code_pb2.RESOURCE_EXHAUSTED, "too many", info, retry)
            return Order()

    with serving(orders(Orders)) as endpoints, connect(endpoints, retry=server.options()) as tailrace:
        if waits:
            tailrace.orders.GetOrder(GetOrderRequest())
        else:
            with pytest.raises(grpc.RpcError, match="too many"):
                tailrace.orders.GetOrder(GetOrderRequest())
    assert server.waits == waits


def test_no_wait_passes_the_deadline() -> None:
    server = Failing(1, seconds=7)
    with serving(*server.servicers()) as endpoints, connect(endpoints, retry=server.options()) as tailrace:
        with pytest.raises(grpc.RpcError, match="away"):
            tailrace.orders.GetOrder(GetOrderRequest(), timeout=5)
    assert server.waits == []


def test_a_call_fails_in_the_end() -> None:
    server = Failing(5)
    with serving(*server.servicers()) as endpoints, connect(endpoints, retry=server.options()) as tailrace:
        with pytest.raises(grpc.RpcError, match="away"):
            tailrace.orders.GetOrder(GetOrderRequest())
    assert len(server.request_ids) == 5


def test_a_call_that_could_do_harm_twice_is_sent_once() -> None:
    server = Failing(1)
    with serving(*server.servicers()) as endpoints, connect(endpoints, retry=server.options()) as tailrace:
        with pytest.raises(grpc.RpcError, match="away"):
            tailrace.relay.RedriveDeadLetter(RedriveDeadLetterRequest())
    assert len(server.request_ids) == 1


def session_at(endpoints: Endpoints, now: Callable[[], float]) -> tuple[grpc.Channel, Session]:
    channel = grpc.insecure_channel(endpoints.users.removeprefix("http://"))
    return channel, Session(AuthServiceStub(channel), ACCOUNT, RetryOptions(), now)


def test_a_session_signs_in_once_for_calls_at_the_same_time_and_renews_once() -> None:
    auth = Auth()
    moment = 0.0
    with serving(auth.add) as endpoints:
        channel, session = session_at(endpoints, lambda: moment)
        tokens: list[str] = []

        def many() -> None:
            threads = [threading.Thread(target=lambda: tokens.append(session.token())) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        many()
        moment = 719.0
        many()
        moment = 720.0
        many()
        channel.close()
    assert auth.asked == ["login", "refresh r1"]
    assert tokens == ["a1"] * 16 + ["a2"] * 8


def test_a_session_signs_in_anew_when_the_refresh_token_is_not_taken() -> None:
    auth = Auth(refresh_works=False)
    with serving(auth.add) as endpoints, connect(endpoints, ACCOUNT) as tailrace:
        tailrace.renew()
        tailrace.renew()
        tailrace.sign_out()
    assert auth.asked == ["login", "refresh r1", "login", "logout r2"]


def test_a_call_that_is_refused_for_its_token_is_sent_with_the_next() -> None:
    auth = Auth()
    tokens: list[str] = []

    class Orders:
        @staticmethod
        def GetOrder(request: Any, context: Any) -> Order:
            tokens.append(dict(context.invocation_metadata())["authorization"])
            if tokens[-1] == "Bearer a1":
                info = error_details_pb2.ErrorInfo(reason="TOKEN_INVALID", domain="tailrace")
                fail(context, code_pb2.UNAUTHENTICATED, "not any more", info)
            return Order()

    with serving(auth.add, orders(Orders)) as endpoints, connect(endpoints, ACCOUNT) as tailrace:
        tailrace.orders.GetOrder(GetOrderRequest())
    assert auth.asked == ["login", "refresh r1"]
    assert tokens == ["Bearer a1", "Bearer a2"]


def test_a_token_that_was_given_is_sent_as_it_is() -> None:
    tokens: list[str | None] = []

    class Orders:
        @staticmethod
        def GetOrder(request: Any, context: Any) -> Order:
            tokens.append(dict(context.invocation_metadata()).get("authorization"))
            return Order()

    current: list[str | None] = [None, "t1"]
    with serving(orders(Orders)) as endpoints, connect(endpoints, lambda: current.pop(0)) as tailrace:
        tailrace.orders.GetOrder(GetOrderRequest())
        tailrace.orders.GetOrder(GetOrderRequest())
    assert tokens == [None, "Bearer t1"]


def test_pages_are_asked_for_one_after_the_other_with_the_same_filter() -> None:
    asked: list[str] = []

    class Orders:
        @staticmethod
        def ListOrders(request: ListOrdersRequest, context: Any) -> ListOrdersResponse:
            asked.append(f"{request.filter} {request.page_token}")
            return ListOrdersResponse(next_page_token="" if request.page_token else "second")

    request = ListOrdersRequest(filter="f")
    with serving(orders(Orders)) as endpoints, connect(endpoints) as tailrace:
        asked.extend("read" for _ in pages(tailrace.orders.ListOrders, request))
    assert asked == ["f ", "f second", "read", "read"] or asked == ["f ", "read", "f second", "read"]
    assert request == ListOrdersRequest(filter="f")


def test_a_failure_names_its_reason_and_its_fields() -> None:
    class Orders:
        @staticmethod
        def GetOrder(request: Any, context: Any) -> Order:
            violation = error_details_pb2.BadRequest.FieldViolation(field="name", description="is no name")
            fail(
                context,
                code_pb2.INVALID_ARGUMENT,
                "the request is not valid",
                error_details_pb2.ErrorInfo(reason="INVALID_FIELDS", domain="tailrace"),
                error_details_pb2.BadRequest(field_violations=[violation]),
            )
            return Order()

    with serving(orders(Orders)) as endpoints, connect(endpoints) as tailrace:
        with pytest.raises(grpc.RpcError) as caught:
            tailrace.orders.GetOrder(GetOrderRequest())
    failure = failure_of(caught.value)
    assert (failure.code, failure.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELDS")
    assert failure.message == "the request is not valid"
    assert failure.fields == {"name": "is no name"}


@pytest.mark.parametrize(
    ("attempt", "random", "expected"),
    [(0, 0.0, 0.0), (0, 1.0, 0.5), (3, 0.5, 2.0), (6, 1.0, 30.0), (1_000, 1.0, 30.0)],
)
def test_the_wait_doubles_up_to_a_bound(attempt: int, random: float, expected: float) -> None:
    assert Backoff(0.5, 30.0).delay(attempt, random) == expected


def test_an_address_without_a_scheme_is_no_endpoint() -> None:
    good = Endpoints(*["http://127.0.0.1:1"] * 4)
    with pytest.raises(ValueError, match="is no endpoint"):
        connect(replace(good, users="127.0.0.1:5001"))


def test_a_password_is_not_shown() -> None:
    assert "p'" not in repr(ACCOUNT)
