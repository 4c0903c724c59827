//! How a stream is refused or ended, as the caller sees it. The reasons are part of the contract.

use std::time::Duration;

use tailrace_runtime::error::Problem;
use tonic::{Code, Status};

use crate::{admission::Refused, cursor::InvalidCursor, filter::Refusal};

/// After how long a caller that the server sent away should come back.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// Why a stream ends that was going well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The process stops.
    Draining,
    /// The caller's token expired.
    TokenExpired,
    /// The caller reads too slowly.
    SlowConsumer,
}

impl From<End> for Status {
    fn from(end: End) -> Self {
        match end {
            End::Draining => retry(Problem::new(
                Code::Unavailable,
                "DRAINING",
                "The server is stopping; watch again with the last cursor.",
            )),
            End::TokenExpired => Problem::new(
                Code::Unauthenticated,
                "TOKEN_EXPIRED",
                "The token has expired; sign in and watch again with the last cursor.",
            )
            .into_status(),
            End::SlowConsumer => Problem::new(
                Code::ResourceExhausted,
                "SLOW_CONSUMER",
                "You read more slowly than events come; watch again with the last cursor.",
            )
            .into_status(),
        }
    }
}

/// The topics are not known yet, because Kafka was not reached so far.
pub fn not_ready() -> Status {
    retry(Problem::new(Code::Unavailable, "NOT_READY", "The topics are not read yet; try again."))
}

/// A field does not hold what the contract says.
pub fn invalid_field(path: &str, expected: &str) -> Status {
    Problem::invalid_fields([(path.to_owned(), expected.to_owned())]).into_status()
}

impl From<InvalidCursor> for Status {
    fn from(_: InvalidCursor) -> Self {
        Problem::new(
            Code::InvalidArgument,
            "CURSOR_INVALID",
            "The cursor is not one that this service gave out; start without it.",
        )
        .field("cursor", "a cursor of an earlier response, unaltered")
        .into_status()
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::OperatorOnly(topic) => {
                Problem::new(Code::PermissionDenied, "OPERATOR_ONLY", "This topic is for operators.")
                    .metadata("topic", topic)
            }
            Refusal::UnknownTopic(topic) => {
                Problem::new(Code::NotFound, "TOPIC_NOT_FOUND", "This topic is not served here.")
                    .metadata("topic", topic)
            }
        }
        .into_status()
    }
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        let reason = match refused {
            Refused::Process => "STREAMS_EXHAUSTED",
            Refused::Principal => "STREAMS_PER_PRINCIPAL_EXHAUSTED",
        };
        Problem::new(Code::ResourceExhausted, reason, sentence(&refused.to_string())).into_status()
    }
}

/// Adds when to come back.
fn retry(problem: Problem) -> Status {
    problem.retry_after(RETRY_DELAY).into_status()
}

fn sentence(fragment: &str) -> String {
    let mut letters = fragment.chars();
    letters.next().map_or_else(String::new, |first| format!("{}{}.", first.to_uppercase(), letters.as_str()))
}

#[cfg(test)]
mod tests {
    use tonic_types::StatusExt as _;

    use super::*;

    #[test]
    fn draining_says_when_to_come_back() {
        let status = Status::from(End::Draining);
        let details = status.get_error_details();
        assert_eq!(status.code(), Code::Unavailable);
        assert_eq!(details.error_info().map(|info| info.reason.as_str()), Some("DRAINING"));
        assert_eq!(details.retry_info().and_then(|info| info.retry_delay), Some(RETRY_DELAY));
    }

    #[test]
    fn refusals_are_sentences() {
        let status = Status::from(Refused::Principal);
        assert_eq!(status.message(), "You have as many streams open as you may; close one.");
    }
}
