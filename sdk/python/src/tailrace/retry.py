"""Repeats calls that cannot do harm twice, while a service is away."""

import random
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import Descriptor

from tailrace.backoff import Backoff
from tailrace.failure import failure_of

Answer = TypeVar("Answer")

TOO_MANY_CALLS = "RATE_LIMIT_EXCEEDED"
"""The reason of a call that was refused because too many came, before anything was done for it."""


@dataclass(frozen=True)
class RetryOptions:
    """How a call that cannot do harm twice is repeated while the service is away."""

    attempts_max: int = 5
    """How often a call is sent at most, the first time included."""
    backoff: Backoff = field(default_factory=lambda: Backoff(base=0.1, cap=5.0))
    random: Callable[[], float] = random.random
    sleep: Callable[[float], None] = time.sleep


def new_request_id() -> str:
    """Make a fresh ``request_id``.

    Make one for each thing the caller wants to happen, and send the same again when the outcome of a call is unknown:
    the server then answers as it did, or would have done, the first time.
    """
    return str(uuid.uuid4())


@cache
def is_repeatable(method: str) -> bool:
    """Tell whether the contract lets a client send a call again without knowing what became of the first.

    ``method`` is its path, ``/package.Service/Method``.
    """
    name = method.removeprefix("/").replace("/", ".")
    try:
        descriptor = descriptor_pool.Default().FindMethodByName(name)
    except KeyError:
        return False
    options: descriptor_pb2.MethodOptions = descriptor.GetOptions()
    unknown = descriptor_pb2.MethodOptions.IDEMPOTENCY_UNKNOWN
    return options.idempotency_level != unknown or _takes_request_id(descriptor.input_type)


def _takes_request_id(message: Descriptor) -> bool:
    return "request_id" in message.fields_by_name


def _with_request_id(request: Any) -> Any:
    """Give the request a ``request_id`` unless it has one; the caller's message stays as it is."""
    if not _takes_request_id(request.DESCRIPTOR) or request.request_id:
        return request
    copy = type(request)()
    copy.CopyFrom(request)
    copy.request_id = new_request_id()
    return copy


def retrying(call: Callable[[], Answer], options: RetryOptions, deadline: float | None = None) -> Answer:
    """Call until it succeeds, fails otherwise than ``UNAVAILABLE`` or by too many calls, or has failed often enough.

    No wait begins that would pass the deadline, a moment of ``time.monotonic``.
    """
    attempt = 0
    while True:
        try:
            return call()
        except grpc.RpcError as error:
            failure = failure_of(error)
            attempt += 1
            repeated = failure.code is grpc.StatusCode.UNAVAILABLE or failure.reason == TOO_MANY_CALLS
            if not repeated or attempt >= options.attempts_max:
                raise
            wait = failure.retry_after + options.backoff.delay(attempt - 1, options.random())
            if deadline is not None and time.monotonic() + wait >= deadline:
                raise
            options.sleep(wait)


class Retry(grpc.UnaryUnaryClientInterceptor):
    """Repeats what failed with ``UNAVAILABLE`` (AIP-194) or because too many calls came.

    Repeated are calls that the contract says change nothing, and calls with a ``request_id``, which gets a fresh one
    when it has none. A wait is what the server's ``RetryInfo`` says, plus jitter.
    """

    def __init__(self, options: RetryOptions) -> None:
        self._options = options

    def intercept_unary_unary(
        self, continuation: Callable[[Any, Any], Any], client_call_details: Any, request: Any
    ) -> Any:
        """Send the call, perhaps several times."""
        if not is_repeatable(client_call_details.method):
            return continuation(client_call_details, request)
        request = _with_request_id(request)
        timeout = client_call_details.timeout
        deadline = None if timeout is None else time.monotonic() + timeout

        def attempt() -> Any:
            details = client_call_details
            if deadline is not None:
                details = details._replace(timeout=max(0.0, deadline - time.monotonic()))
            outcome = continuation(details, request)
            # Waits for the answer, and raises what the call failed with.
            outcome.result()
            return outcome

        return retrying(attempt, self._options, deadline)
