//! Errors as callers see them (AIP-193): a code, one sentence, `ErrorInfo` for programs, `BadRequest` for forms and
//! `RequestInfo` for whoever asks the operators.
//!
//! What went wrong inside never enters a [`Problem`]: it is logged where it is handled.

mod reasons;

use std::{collections::HashMap, error::Error, fmt, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use tracing::{error, warn};

pub use self::reasons::{REASONS, Reason};
use crate::{postgres, request};

/// The `domain` of every `ErrorInfo`.
pub const DOMAIN: &str = "tailrace";

/// Reason of an `INVALID_ARGUMENT` whose field violations tell what is wrong.
pub const INVALID_FIELDS: &str = "INVALID_FIELDS";

/// How long to wait before trying again what passes by itself.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);

/// An error under construction.
#[derive(Clone, Debug)]
#[must_use = "a problem is told by returning its status"]
pub struct Problem {
    code: Code,
    reason: &'static str,
    message: String,
    metadata: Vec<(String, String)>,
    fields: Vec<(String, String)>,
    retry_after: Option<Duration>,
}

impl Problem {
    /// `reason` is one of [`REASONS`] and never changes; `message` is a sentence for people and may.
    pub fn new(code: Code, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            metadata: Vec::new(),
            fields: Vec::new(),
            retry_after: None,
        }
    }

    /// Bad input, field by field (path, what is expected).
    pub fn invalid_fields(fields: impl IntoIterator<Item = (String, String)>) -> Self {
        let fields: Vec<_> = fields.into_iter().collect();
        let paths: Vec<_> = fields.iter().map(|(path, _)| path.as_str()).collect();
        let message = format!("The request is not valid: see {}.", paths.join(", "));
        Self { fields, ..Self::new(Code::InvalidArgument, INVALID_FIELDS, message) }
    }

    /// Something inside failed; the caller learns only that.
    pub fn internal() -> Self {
        Self::new(Code::Internal, "INTERNAL", "Something went wrong inside; the request id helps to find it.")
    }

    /// Something that the process needs cannot be reached; a retry may help.
    pub fn unavailable(what: &'static str) -> Self {
        Self::new(Code::Unavailable, "UNAVAILABLE", "Not available at the moment; try again.")
            .metadata("part", what)
            .retry_after(RETRY_AFTER)
    }

    /// There is no such method.
    pub(crate) fn method_unknown() -> Self {
        let sentence = "There is no such method; see reflection, or the contract, for those that there are.";
        Self::new(Code::Unimplemented, "METHOD_UNKNOWN", sentence)
    }

    /// A failure inside, logged here with its causes. The caller learns whether a retry may help, and nothing else.
    pub fn inside(failure: &(dyn Error + Send + Sync + 'static)) -> Self {
        if postgres::is_absence(failure) {
            warn!(error = postgres::chain(failure), "a call found the database absent");
            return Self::unavailable("database");
        }
        error!(error = postgres::chain(failure), "a call failed");
        Self::internal()
    }

    /// Adds a dynamic part of the message for programs.
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.push((key.into(), value.into()));
        self
    }

    /// Adds a violation of the field at `path`, such as `user.email`.
    pub fn field(mut self, path: impl Into<String>, description: impl Into<String>) -> Self {
        self.fields.push((path.into(), description.into()));
        self
    }

    /// Asks the caller to try again after `wait`.
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// The status to return, with the id of the current request.
    pub fn into_status(self) -> Status {
        let mut details = ErrorDetails::new();
        let metadata: HashMap<String, String> = self.metadata.into_iter().collect();
        details.set_error_info(self.reason, DOMAIN, metadata);
        for (path, description) in self.fields {
            details.add_bad_request_violation(path, description);
        }
        if let Some(wait) = self.retry_after {
            details.set_retry_info(Some(wait));
        }
        if let Some(id) = request::id() {
            details.set_request_info(id, "");
        }
        Status::with_error_details(self.code, self.message, details)
    }
}

/// The fields of one request that are not valid, collected so that a caller learns of all at once.
#[derive(Debug, Default)]
pub struct Violations {
    fields: Vec<(String, String)>,
}

impl Violations {
    /// The value of the field at `path`, or none and a violation.
    pub fn check<T, E: fmt::Display>(&mut self, path: impl Into<String>, parsed: Result<T, E>) -> Option<T> {
        match parsed {
            Ok(value) => Some(value),
            Err(rule) => {
                self.add(path, rule);
                None
            }
        }
    }

    /// The field at `path` breaks `rule`.
    pub fn add(&mut self, path: impl Into<String>, rule: impl fmt::Display) {
        self.fields.push((path.into(), rule.to_string()));
    }

    /// Whether nothing is wrong so far.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The fields that are not valid.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|(path, _)| path.as_str())
    }

    /// The problem that names them.
    pub fn into_problem(self) -> Problem {
        Problem::invalid_fields(self.fields)
    }

    /// `INVALID_ARGUMENT` for one field.
    pub fn of(path: &str, rule: impl fmt::Display) -> Problem {
        Problem::invalid_fields([(path.to_owned(), rule.to_string())])
    }
}

impl From<Problem> for Status {
    fn from(problem: Problem) -> Self {
        problem.into_status()
    }
}
