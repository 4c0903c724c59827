//! The one error of this crate's readers.

/// Bytes that are not what the protocol says should stand there.
///
/// The connection that sent them cannot be read any further.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} at byte {offset} of the {message}")]
pub struct ParseError {
    message: &'static str,
    expected: &'static str,
    offset: usize,
}

impl ParseError {
    pub(crate) const fn new(message: &'static str, expected: &'static str, offset: usize) -> Self {
        Self { message, expected, offset }
    }
}
