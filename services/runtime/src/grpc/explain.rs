//! Errors that the gRPC library makes by itself, before or instead of a handler, in the form of ours: with a reason, the id of
//! the call, and without a word about the inside.

use http::HeaderMap;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::deadline;
use crate::error::Problem;

const DETAILS: &str = "grpc-status-details-bin";

/// Gives the status in `headers` a reason, if it is an error that has none, and the id of the call, if it does not name it: what
/// ends a stream is made by a task of its own, which serves no call.
pub(super) fn explain(headers: &mut HeaderMap, call_id: &str) {
    // Most answers are no errors.
    if headers.get(Status::GRPC_STATUS).is_none_or(|code| code == "0") {
        return;
    }
    let Some(told) = Status::from_header_map(headers) else { return };
    let is_explained = headers.contains_key(DETAILS);
    let status = if is_explained { Some(told) } else { problem_of(&told).map(Problem::into_status) };
    let Some(status) = status else { return };
    let mut details = status.get_error_details();
    if is_explained && details.request_info().is_some() {
        return;
    }
    details.set_request_info(call_id, "");
    for name in [Status::GRPC_STATUS.as_str(), Status::GRPC_MESSAGE.as_str(), DETAILS] {
        headers.remove(name);
    }
    // It fails only where a detail is no header value, and these are base64.
    let _ = Status::with_error_details(status.code(), status.message(), details).add_header(headers);
}

fn problem_of(status: &Status) -> Option<Problem> {
    let message = status.message();
    Some(match status.code() {
        Code::Ok => return None,
        Code::Unimplemented if message.contains("compressed") => Problem::new(
            Code::Unimplemented,
            "COMPRESSION_UNSUPPORTED",
            "The message is compressed in a way that is not read here; use gzip or none.",
        ),
        Code::Unimplemented => Problem::method_unknown(),
        // The library's word for too large is OUT_OF_RANGE; the protocol's is this.
        Code::OutOfRange | Code::ResourceExhausted => Problem::new(
            Code::ResourceExhausted,
            "MESSAGE_TOO_LARGE",
            "The message is larger than this port takes.",
        ),
        Code::InvalidArgument => malformed(),
        Code::Internal | Code::Unknown if is_malformed(message) => malformed(),
        Code::DeadlineExceeded => deadline::exceeded(),
        Code::NotFound => {
            Problem::new(Code::NotFound, "SERVICE_UNKNOWN", "This port does not serve such a service.")
        }
        Code::Unavailable => Problem::unavailable("service"),
        Code::Cancelled
        | Code::Unknown
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::Internal
        | Code::DataLoss
        | Code::Unauthenticated => Problem::internal(),
    })
}

fn malformed() -> Problem {
    let sentence = "The bytes are not the message that this method takes.";
    Problem::new(Code::InvalidArgument, "MESSAGE_MALFORMED", sentence)
}

/// What the library says of bytes that are no message: the protobuf decoder, and the frame around it.
fn is_malformed(message: &str) -> bool {
    const WORDS: &[&str] =
        &["decode", "decompress", "protocol error", "Unexpected EOF", "Missing request message"];
    WORDS.iter().any(|words| message.contains(words))
}
