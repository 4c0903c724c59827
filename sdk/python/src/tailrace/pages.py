"""Lists, page by page."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar


class _Request(Protocol):
    page_token: str

    def CopyFrom(self, other: Any, /) -> None: ...  # noqa: N802


class _Page(Protocol):
    @property
    def next_page_token(self) -> str: ...


Request = TypeVar("Request", bound=_Request)
Page = TypeVar("Page", bound=_Page)


def pages(list_: Callable[[Request], Page], request: Request) -> Iterator[Page]:
    """Give every page of a list, each asked for when the one before has been read.

    >>> for page in pages(tailrace.orders.ListOrders, ListOrdersRequest(filter="state = STATE_PLACED")): ...
    """
    page = list_(request)
    yield page
    while page.next_page_token:
        following = type(request)()
        following.CopyFrom(request)
        following.page_token = page.next_page_token
        page = list_(following)
        yield page
