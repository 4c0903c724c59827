//! What an error tells besides its code.

use tailrace_runtime::error::REASONS;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// Everything that came with the status.
pub fn details(status: &Status) -> ErrorDetails {
    status.check_error_details().expect("details")
}

/// The reason, which every error has. Holds the error to all that is promised of errors.
#[track_caller]
pub fn reason(status: &Status) -> String {
    let details = details(status);
    let info = details.error_info().unwrap_or_else(|| panic!("every error has an ErrorInfo: {status:?}"));
    assert_eq!(info.domain, "tailrace");
    let row = REASONS.iter().find(|row| row.name == info.reason);
    assert_eq!(row.map(|row| row.code), Some(status.code()), "{} in the table of reasons", info.reason);
    let request = details.request_info().map(|info| info.request_id.as_str());
    assert!(request.is_some_and(|id| !id.is_empty()), "every error names its call: {status:?}");
    assert!(status.message().ends_with('.'), "a sentence: {status:?}");
    let waits = matches!(status.code(), Code::Unavailable);
    assert!(!waits || details.retry_info().is_some(), "what passes says when to come back: {status:?}");
    info.reason.clone()
}

/// Code and reason.
#[track_caller]
pub fn told(status: &Status) -> (Code, String) {
    (status.code(), reason(status))
}

/// The paths of the fields that are not valid.
#[track_caller]
pub fn fields(status: &Status) -> Vec<String> {
    let details = details(status);
    let bad_request = details.bad_request().expect("field violations");
    bad_request.field_violations.iter().map(|violation| violation.field.clone()).collect()
}
