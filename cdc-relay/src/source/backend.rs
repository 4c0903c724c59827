//! The few frames of the server that start-up and commands need, beside the stream itself.

use bytes::{Buf as _, Bytes, TryGetError};

/// A frame that says something else than its tag promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame of the server cannot be read")]
pub(super) struct Malformed(());

impl From<TryGetError> for Malformed {
    fn from(_: TryGetError) -> Self {
        Self(())
    }
}

/// An error or notice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ServerMessage {
    /// Five characters.
    pub(super) sqlstate: String,
    /// The message alone. Detail and context may quote data, and stay in the server's log.
    pub(super) text: String,
    /// The function of the server that said it: the same in every language.
    pub(super) routine: String,
}

/// Reads the body of an 'E' or 'N' frame: fields of a letter and a string. Never fails, because an error that we
/// cannot read is still an error.
pub(super) fn server_message(mut body: Bytes) -> ServerMessage {
    let mut message = ServerMessage::default();
    while let Ok(field) = body.try_get_u8() {
        let Ok(value) = c_string(&mut body) else { break };
        match field {
            b'C' => message.sqlstate = value,
            b'M' => message.text = value,
            b'R' => message.routine = value,
            _ => {}
        }
    }
    message
}

/// The error in a notice, if going on would lose events: since version 18 a publication that does not exist is only warned
/// of, and what it should have published is left out and acknowledged. Before, it was this error.
pub(super) fn loss_in_notice(body: Bytes) -> Option<ServerMessage> {
    const UNDEFINED_OBJECT: &str = "42704";
    let notice = server_message(body);
    let is_loss = notice.routine == "LoadPublications";
    is_loss.then(|| ServerMessage { sqlstate: UNDEFINED_OBJECT.to_owned(), ..notice })
}

/// What the server wants to know before it lets us in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Authentication {
    Ok,
    CleartextPassword,
    Md5Password { salt: [u8; 4] },
    Sasl { mechanisms: Vec<String> },
    SaslContinue(Bytes),
    SaslFinal(Bytes),
    Unsupported(i32),
}

/// Reads the body of an 'R' frame.
pub(super) fn authentication(mut body: Bytes) -> Result<Authentication, Malformed> {
    Ok(match body.try_get_i32()? {
        0 => Authentication::Ok,
        3 => Authentication::CleartextPassword,
        5 => Authentication::Md5Password { salt: body.try_get_u32()?.to_be_bytes() },
        10 => Authentication::Sasl { mechanisms: mechanisms(body)? },
        11 => Authentication::SaslContinue(body),
        12 => Authentication::SaslFinal(body),
        kind => Authentication::Unsupported(kind),
    })
}

/// Names up to an empty one.
fn mechanisms(mut body: Bytes) -> Result<Vec<String>, Malformed> {
    let mut names = Vec::new();
    loop {
        let name = c_string(&mut body)?;
        if name.is_empty() {
            return Ok(names);
        }
        names.push(name);
    }
}

/// Reads the process id from a 'K' frame.
pub(super) fn backend_pid(mut body: Bytes) -> Result<i32, Malformed> {
    Ok(body.try_get_i32()?)
}

/// Reads name and value from an 'S' frame.
pub(super) fn parameter(mut body: Bytes) -> Result<(String, String), Malformed> {
    Ok((c_string(&mut body)?, c_string(&mut body)?))
}

/// Reads a 'D' frame of the simple protocol, in which every value is text.
pub(super) fn row(mut body: Bytes) -> Result<Vec<Option<String>>, Malformed> {
    let count = body.try_get_u16()?;
    (0..count).map(|_| text(&mut body)).collect()
}

fn text(body: &mut Bytes) -> Result<Option<String>, Malformed> {
    let Ok(length) = usize::try_from(body.try_get_i32()?) else {
        return Ok(None);
    };
    if length > body.len() {
        return Err(Malformed(()));
    }
    Ok(Some(String::from_utf8_lossy(&body.split_to(length)).into_owned()))
}

fn c_string(body: &mut Bytes) -> Result<String, Malformed> {
    let length = body.iter().position(|byte| *byte == 0).ok_or(Malformed(()))?;
    let text = String::from_utf8_lossy(&body.split_to(length)).into_owned();
    body.advance(1);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{Authentication, authentication, row, server_message};

    #[test]
    fn an_error_keeps_its_code_and_its_message_and_no_data() {
        let body = Bytes::from_static(b"SFATAL\0VFATAL\0C28P01\0Mno\0DKey (email)=(a@b)\0\0");
        let message = server_message(body);
        assert_eq!((message.sqlstate.as_str(), message.text.as_str()), ("28P01", "no"));
    }

    #[test]
    fn an_error_cut_short_is_still_an_error() {
        assert_eq!(server_message(Bytes::from_static(b"C57P01\0Mshut")).sqlstate, "57P01");
    }

    #[test]
    fn the_ways_to_authenticate_are_told_apart() {
        for (body, expected) in [
            (&b"\0\0\0\0"[..], Authentication::Ok),
            (b"\0\0\0\x05salt", Authentication::Md5Password { salt: *b"salt" }),
            (b"\0\0\0\x0AA\0B\0\0", Authentication::Sasl { mechanisms: vec!["A".into(), "B".into()] }),
            (b"\0\0\0\x07", Authentication::Unsupported(7)),
        ] {
            assert_eq!(authentication(Bytes::from_static(body)), Ok(expected));
        }
        for body in [&b""[..], b"\0\0\0", b"\0\0\0\x05sal", b"\0\0\0\x0AA\0B"] {
            assert!(authentication(Bytes::from_static(body)).is_err());
        }
    }

    #[test]
    fn a_row_is_its_values() {
        let body = Bytes::from_static(b"\0\x02\0\0\0\x03abc\xFF\xFF\xFF\xFF");
        assert_eq!(row(body), Ok(vec![Some("abc".into()), None]));
        assert!(row(Bytes::from_static(b"\0\x01\0\0\0\x09abc")).is_err());
    }
}
