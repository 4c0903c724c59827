//! Why a source is not streaming, sorted by what happens next.

use std::error::Error;

use crate::engine::EngineError;
use crate::sink::kafka::SinkError;
use crate::source::{SourceError, SourceErrorKind};

/// Why a source is not streaming. The text is one line that tells the mend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Another relay holds it: wait for its end.
    Standby,
    /// Something is away or refuses; it may come back any moment.
    Passing(String),
    /// Going on could lose or repeat events: an operator decides. Looked at again now and then.
    Halted(String),
}

impl From<SourceError> for Trouble {
    fn from(error: SourceError) -> Self {
        let text = with_causes(&error);
        match error.kind() {
            SourceErrorKind::Retry | SourceErrorKind::SlotBusy { .. } | SourceErrorKind::Denied => {
                Self::Passing(text)
            }
            SourceErrorKind::Halt => Self::Halted(text),
        }
    }
}

impl From<SinkError> for Trouble {
    fn from(error: SinkError) -> Self {
        if error.is_fenced() { Self::Standby } else { Self::Passing(error.to_string()) }
    }
}

impl From<EngineError> for Trouble {
    fn from(error: EngineError) -> Self {
        let text = with_causes(&error);
        match error {
            EngineError::Silence(_) => Self::Passing(text),
            EngineError::Parse(_)
            | EngineError::OutOfOrder(_)
            | EngineError::Outside(_)
            | EngineError::MissingColumn(_)
            | EngineError::DeadLetterRefused(_)
            | EngineError::TooManyParked(_) => Self::Halted(text),
        }
    }
}

/// The error and what lies below it, in one line.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(below) = cause {
        text = format!("{text}: {below}");
        cause = below.source();
    }
    text
}
