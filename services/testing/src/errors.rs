//! What an error tells besides its code.

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// Everything that came with the status.
pub fn details(status: &Status) -> ErrorDetails {
    status.check_error_details().expect("details")
}

/// The reason, which every error has.
#[track_caller]
pub fn reason(status: &Status) -> String {
    let details = details(status);
    let info = details.error_info().unwrap_or_else(|| panic!("every error has an ErrorInfo: {status:?}"));
    assert_eq!(info.domain, "tailrace");
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
