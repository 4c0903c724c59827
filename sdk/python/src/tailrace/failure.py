"""What a failed call says."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status


@dataclass(frozen=True)
class Failure:
    """A failed call in the words a program needs: what, why, and which field."""

    code: grpc.StatusCode
    """What kind of failure it is."""
    reason: str
    """The machine-readable reason, such as ``REQUEST_ID_REUSED``; empty when the server gave none."""
    message: str
    """The server's sentence."""
    fields: Mapping[str, str] = field(default_factory=dict)
    """What is wrong with each field, by its path in the request, such as ``order.lines[0].quantity``."""
    retry_after: float = 0.0
    """How long the server asks to wait before another try, in seconds; 0 when it does not say."""


def failure_of(error: grpc.RpcError) -> Failure:
    """Read the status details (``ErrorInfo``, ``BadRequest``, ``RetryInfo``) of what a call raised."""
    if not isinstance(error, grpc.Call):
        return Failure(grpc.StatusCode.UNKNOWN, "", str(error))
    info = error_details_pb2.ErrorInfo()
    bad_request = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    status = rpc_status.from_call(error)
    for detail in status.details if status is not None else ():
        for message in (info, bad_request, retry):
            detail.Unpack(message)
    message = error.details() or ""
    fields = {violation.field: violation.description for violation in bad_request.field_violations}
    # What is no bad request can still be about one field: an e-mail address that is taken.
    if not fields and "field" in info.metadata:
        fields = {info.metadata["field"]: message}
    retry_after = retry.retry_delay.ToTimedelta().total_seconds()
    return Failure(error.code(), info.reason, message, fields, retry_after)


_FINAL = frozenset(
    {
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)


def is_passing(code: grpc.StatusCode) -> bool:
    """Tell whether the same call can succeed later without anybody changing anything.

    What cannot be told counts as passing: giving up on a stream that would have come back is worse than one more
    attempt.
    """
    return code not in _FINAL
