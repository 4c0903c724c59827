//! What a failed call says.

use std::collections::BTreeMap;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// A failed call in the words a program needs: what, why, and which field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What kind of failure it is.
    pub code: Code,
    /// The machine-readable reason, such as `REQUEST_ID_REUSED`; empty when the server gave none.
    pub reason: String,
    /// The server's sentence.
    pub message: String,
    /// What is wrong with each field, by its path in the request, such as `order.lines[0].quantity`.
    pub fields: BTreeMap<String, String>,
    /// How long the server asks to wait before another try; zero when it does not say.
    pub retry_after: Duration,
}

/// Reads the status details (`ErrorInfo`, `BadRequest`, `RetryInfo`).
pub fn failure_of(status: &Status) -> Failure {
    let details = status.get_error_details();
    let (reason, about) = details
        .error_info()
        .map_or_else(Default::default, |info| (info.reason.clone(), info.metadata.get("field").cloned()));
    let violations = details.bad_request().map(|bad| bad.field_violations.clone()).unwrap_or_default();
    let mut fields: BTreeMap<_, _> =
        violations.into_iter().map(|violation| (violation.field, violation.description)).collect();
    // What is no bad request can still be about one field: an e-mail address that is taken.
    if let (true, Some(field)) = (fields.is_empty(), about) {
        fields.insert(field, status.message().to_owned());
    }
    let retry_after = details.retry_info().and_then(|info| info.retry_delay).unwrap_or_default();
    Failure { code: status.code(), reason, message: status.message().to_owned(), fields, retry_after }
}

/// Whether the same call can succeed later without anybody changing anything. What cannot be told counts as passing: giving
/// up on a stream that would have come back is worse than one more attempt.
pub(crate) fn is_passing(code: Code) -> bool {
    !matches!(
        code,
        Code::Unauthenticated
            | Code::PermissionDenied
            | Code::InvalidArgument
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::NotFound
            | Code::AlreadyExists
            | Code::Unimplemented
    )
}
