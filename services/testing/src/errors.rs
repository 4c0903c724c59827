//! What an error tells besides its code.

use tailrace_runtime::error::REASONS;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// What only the inside says: no error may hold it.
const TAINTS: &[&str] = &[
    "SQLSTATE",
    "db error",
    "ERROR:",
    "constraint",
    "duplicate key",
    "relation \"",
    "violates",
    "ostgres",
    "deadpool",
    "carried_out_request",
    "order_lines",
    "password_hash",
    "users_email_once",
    "INSERT",
    "SELECT",
    "panicked",
    "unwrap",
    ".rs:",
    "src/",
    "/home/",
    "/tmp/",
    "/usr/",
    "tokio",
    "tonic",
    "prost",
    "hyper",
    "h2 protocol",
    "kafka",
    "Os {",
    "os error",
    "Some(",
    "None",
];

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
    let told = String::from_utf8_lossy(status.details());
    let taint = TAINTS.iter().find(|taint| status.message().contains(**taint) || told.contains(**taint));
    assert_eq!(taint, None, "nothing of the inside is told: {status:?}");
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

/// Holds errors to be one and the same, but for the call that each names and for `asked`, what its caller asked about: whoever gets them
/// cannot tell which of the cases he is in. Gives how many there were.
#[track_caller]
pub fn assert_alike(what: &str, errors: &[(&str, &str, Status)]) -> usize {
    let words = |(_, asked, status): &(&str, &str, Status)| {
        let mut details = details(status);
        reason(status);
        details.set_request_info("", "");
        let words = format!("{:?} {} {details:?}", status.code(), status.message());
        if asked.is_empty() { words } else { words.replace(*asked, "…") }
    };
    let (first, others) = errors.split_first().expect("errors");
    for other in others {
        assert_eq!(words(first), words(other), "{what}: {} and {}", first.0, other.0);
    }
    errors.len()
}
