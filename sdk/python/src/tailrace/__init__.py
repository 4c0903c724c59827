"""The Python client of Tailrace: generated messages and stubs, and a small shell around them.

The shell connects with an account whose token is kept fresh, retries, pages, watches and reads failures. It holds a
watch's cursor and a session's tokens, in memory only. The messages are in ``tailrace.order.v1.order_pb2`` and its
like.
"""

from tailrace.backoff import Backoff
from tailrace.client import Endpoints, Tailrace, connect
from tailrace.failure import Failure, failure_of
from tailrace.pages import pages
from tailrace.retry import RetryOptions, is_repeatable, new_request_id
from tailrace.session import Credentials, Password, Session
from tailrace.watch import Watch, WatchOptions, WatchState

__all__ = [
    "Backoff",
    "Credentials",
    "Endpoints",
    "Failure",
    "Password",
    "RetryOptions",
    "Session",
    "Tailrace",
    "Watch",
    "WatchOptions",
    "WatchState",
    "connect",
    "failure_of",
    "is_repeatable",
    "new_request_id",
    "pages",
]
