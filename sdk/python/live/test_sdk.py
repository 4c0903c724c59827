"""Against a running system, whose addresses the environment names.

The ``CUT_`` ones lead there over links that break all the time.
"""

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

import grpc
import pytest

from tailrace import (
    Backoff,
    Endpoints,
    Failure,
    Password,
    Tailrace,
    WatchOptions,
    WatchState,
    connect,
    failure_of,
    new_request_id,
    pages,
)
from tailrace.order.v1.order_pb2 import Order, OrderLine
from tailrace.order.v1.order_service_pb2 import CancelOrderRequest, CreateOrderRequest, ListOrdersRequest
from tailrace.stream.v1.event_stream_service_pb2 import WatchRequest
from tailrace.user.v1.user_pb2 import User
from tailrace.user.v1.user_service_pb2 import CreateUserRequest, GetUserRequest, UpdateUserRequest

ORDERS = 20


def setting(name: str) -> str:
    return os.environ[f"TAILRACE_{name}"]


ENDPOINTS = Endpoints(*[setting(f"{name}_URL") for name in ("USERS", "ORDERS", "RELAY", "GATEWAY")])
CUT = replace(ENDPOINTS, orders=setting("CUT_ORDERS_URL"), gateway=setting("CUT_GATEWAY_URL"))


@dataclass
class Customer:
    tailrace: Tailrace
    user: User


def customer(to: Endpoints = ENDPOINTS) -> Customer:
    account = Password(f"{new_request_id()}@sdk.tailrace.localhost", "a password of the tests")
    request = CreateUserRequest(user=User(display_name="SDK", email=account.email), password=account.password)
    with connect(ENDPOINTS) as anyone:
        user = anyone.users.CreateUser(request)
    return Customer(connect(to, account), user)


def order(product: str, quantity: int = 1) -> CreateOrderRequest:
    line = OrderLine(product=product, quantity=quantity)
    line.unit_price.currency_code = "EUR"
    line.unit_price.units = 12
    line.unit_price.nanos = 500_000_000
    return CreateOrderRequest(order=Order(lines=[line]))


def failure(call: Callable[[], object]) -> Failure:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return failure_of(caught.value)


def test_a_customer_lists_by_pages_what_was_ordered_newest_first() -> None:
    with customer().tailrace as tailrace:
        placed = [tailrace.orders.CreateOrder(order(f"Sluice {number}")).name for number in range(5)]
        found = list(pages(tailrace.orders.ListOrders, ListOrdersRequest(page_size=2)))
    assert [len(page.orders) for page in found] == [2, 2, 1]
    assert [order.name for page in found for order in page.orders] == placed[::-1]


def test_a_customer_reads_why_a_call_failed() -> None:
    new = customer()
    user = new.user
    with new.tailrace as tailrace:
        invalid = failure(lambda: tailrace.orders.CreateOrder(order("Sluice", 0)))
        assert invalid.reason == "INVALID_FIELDS"
        assert list(invalid.fields) == ["order.lines[0].quantity"]
        cancel = CancelOrderRequest(name=tailrace.orders.CreateOrder(order("Sluice")).name)
        tailrace.orders.CancelOrder(cancel)
        assert failure(lambda: tailrace.orders.CancelOrder(cancel)).reason == "ORDER_NOT_PLACED"
        first = User(name=user.name, display_name="First", etag=user.etag)
        tailrace.users.UpdateUser(UpdateUserRequest(user=first))
        second = User(name=user.name, display_name="Second", etag=user.etag)
        stale = failure(lambda: tailrace.users.UpdateUser(UpdateUserRequest(user=second)))
        assert stale.reason == "ETAG_MISMATCH"
        assert tailrace.users.GetUser(GetUserRequest(name=user.name)).display_name == "First"


def test_a_customer_stays_signed_in_by_refreshing_and_signs_out() -> None:
    new = customer()
    with new.tailrace as tailrace:
        for _ in range(3):
            tailrace.renew()
            assert tailrace.users.GetUser(GetUserRequest(name=new.user.name)).name == new.user.name
        tailrace.sign_out()


def test_a_customer_places_each_order_once_and_sees_it_once_over_links_that_break() -> None:
    tailrace = customer(CUT).tailrace
    placed: list[str] = []

    def place() -> None:
        placed.extend(tailrace.orders.CreateOrder(order(f"Wheel {number}")).name for number in range(ORDERS))

    states: set[WatchState] = set()
    seen: list[str] = []
    options = WatchOptions(backoff=Backoff(base=0.05, cap=0.2), on_state=states.add)
    request = WatchRequest(topics=["orders.created"], newest=1000)
    placing = threading.Thread(target=place)
    placing.start()
    with tailrace, tailrace.watch(request, options) as watch:
        for response in watch:
            if response.HasField("event"):
                seen.append(response.event.subject)
            if len(seen) >= ORDERS and WatchState.WAITING in states:
                break
        placing.join()
        # Orders lie in several partitions, so only each order's own events have an order.
        assert sorted(seen) == sorted(placed)
        listed = [
            order.name
            for page in pages(tailrace.orders.ListOrders, ListOrdersRequest(page_size=7))
            for order in page.orders
        ]
        assert listed == placed[::-1]
