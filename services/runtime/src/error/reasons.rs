//! The reasons that errors give programs: the one table of them, from which `docs/api/errors.md` is made.
//!
//! A reason never changes its meaning, and none is taken away while a client may know it.

use tonic::Code;

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Reason {
    /// `ErrorInfo.reason`.
    pub name: &'static str,
    /// The code that it comes with.
    pub code: Code,
    /// What it means and what mends it, as a sentence of the reference.
    pub meaning: &'static str,
}

const fn reason(name: &'static str, code: Code, meaning: &'static str) -> Reason {
    Reason { name, code, meaning }
}

/// The table, in the order of the names.
#[rustfmt::skip]
pub const REASONS: &[Reason] = &[
    reason("BUYER_DELETED", Code::FailedPrecondition, "The buyer is deleted, and a deleted user can place no order. What he ordered before stays."),
    reason("BUYER_NOT_YET_KNOWN", Code::Unavailable, "The order service learns of users from their events and has waited 2 s in vain for the buyer's: try again after `RetryInfo`, with the same `request_id`."),
    reason("CALL_NOT_ALLOWED", Code::PermissionDenied, "No token would let this call in."),
    reason("COMPRESSION_UNSUPPORTED", Code::Unimplemented, "The message is compressed in a way that is not read here: use gzip or none."),
    reason("CONCURRENT_CHANGES", Code::Aborted, "The thing is being changed by others all the time: try again, with a pause."),
    reason("CREDENTIALS_INVALID", Code::Unauthenticated, "The address is unknown, its user deleted, or the password wrong; which of them is not told."),
    reason("CURSOR_INVALID", Code::InvalidArgument, "The cursor is none that this service gave out: start without it."),
    reason("DEADLINE_EXCEEDED", Code::DeadlineExceeded, "The caller's deadline passed before the answer. What was asked may have been done: retry with the same `request_id`."),
    reason("DEAD_LETTER_NOT_FOUND", Code::NotFound, "The relay holds no such dead letter."),
    reason("DEAD_LETTER_STILL_REFUSED", Code::FailedPrecondition, "What stood against the event stands against it still: mend it first."),
    reason("DRAINING", Code::Unavailable, "The process is stopping: connect again, and with a cursor go on where it ended."),
    reason("EMAIL_TAKEN", Code::AlreadyExists, "Another user, perhaps a deleted one, has the e-mail address."),
    reason("ETAG_MISMATCH", Code::Aborted, "The thing changed since its etag was read: get it again and decide anew."),
    reason("INTERNAL", Code::Internal, "Something went wrong inside. `RequestInfo` holds the id by which the operators find it."),
    reason("INVALID_FIELDS", Code::InvalidArgument, "Fields are not valid; `BadRequest` names each and what it must be."),
    reason("MESSAGE_MALFORMED", Code::InvalidArgument, "The bytes are not the message that the method takes."),
    reason("MESSAGE_TOO_LARGE", Code::ResourceExhausted, "The message is larger than this port takes."),
    reason("METHOD_UNKNOWN", Code::Unimplemented, "This port serves no such method; reflection lists those that it serves."),
    reason("NOT_READY", Code::Unavailable, "The process is starting: try again after `RetryInfo`."),
    reason("OPERATOR_ONLY", Code::PermissionDenied, "The topic is for operators."),
    reason("OPERATOR_REQUIRED", Code::PermissionDenied, "Only operators may call this."),
    reason("ORDER_NOT_FOUND", Code::NotFound, "There is no such order, or it is somebody else's."),
    reason("ORDER_NOT_PLACED", Code::FailedPrecondition, "The order is cancelled already; only a placed one can be cancelled."),
    reason("OVERLOADED", Code::ResourceExhausted, "Too many passwords are being checked at once: try again after `RetryInfo`."),
    reason("PASSWORD_WRONG", Code::InvalidArgument, "The current password is wrong."),
    reason("RATE_LIMIT_EXCEEDED", Code::ResourceExhausted, "Too many calls came from the caller or, where no verified token answers for them, from his address; `metadata.per` says which. Nothing was done: try again after `RetryInfo`."),
    reason("REFRESH_TOKEN_INVALID", Code::Unauthenticated, "The refresh token is unknown, spent, or its sign-in is over: sign in again."),
    reason("REQUEST_ID_REUSED", Code::InvalidArgument, "The `request_id` was used for another request: take a new one for each."),
    reason("SERVICE_UNKNOWN", Code::NotFound, "Health is asked for a service that this port does not serve."),
    reason("SIGN_IN_THROTTLED", Code::ResourceExhausted, "Too many wrong passwords came from the caller's address, for this account or over all, in signing in or in changing the password: try again after `RetryInfo`."),
    reason("SLOW_CONSUMER", Code::ResourceExhausted, "The stream was read more slowly than events came: watch again with the last cursor."),
    reason("SOURCE_NOT_FOUND", Code::NotFound, "The relay has no such source."),
    reason("SOURCE_NOT_STREAMING", Code::Unavailable, "The relay does not read this source at the moment."),
    reason("STREAMS_EXHAUSTED", Code::ResourceExhausted, "The gateway serves as many streams as it can."),
    reason("STREAMS_PER_PRINCIPAL_EXHAUSTED", Code::ResourceExhausted, "The caller watches as many streams as one may."),
    reason("TOKEN_EXPIRED", Code::Unauthenticated, "The access token ended while the stream went on: refresh it and watch again with the last cursor."),
    reason("TOKEN_INVALID", Code::Unauthenticated, "The access token is not valid, or not any more: refresh it, or sign in again."),
    reason("TOKEN_MISSING", Code::Unauthenticated, "The call needs `authorization: Bearer {access_token}`."),
    reason("TOPIC_NOT_FOUND", Code::NotFound, "The gateway does not serve this topic."),
    reason("UNAVAILABLE", Code::Unavailable, "Something that the process needs is away; `metadata.part` says what. Try again after `RetryInfo`, with the same `request_id`."),
    reason("USER_DELETED", Code::FailedPrecondition, "The user is deleted; only undeleting is possible."),
    reason("USER_NOT_DELETED", Code::AlreadyExists, "The user is not deleted, so there is nothing to undelete."),
    reason("USER_NOT_FOUND", Code::NotFound, "There is no such user, or the caller may not see him, or he is deleted already."),
];

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

    use super::*;
    use crate::grpc::code_name;

    const DOCUMENT: &str = "../../docs/api/errors.md";
    const HEAD: &str = "\
# Errors

Every error carries `google.rpc.ErrorInfo` with the domain `tailrace` and one of these reasons, and `google.rpc.RequestInfo`
with the id of the call. Bad input adds `google.rpc.BadRequest` with the path of each field, what passes by itself
`google.rpc.RetryInfo` with the time to wait.

| reason | code | what it means, and what mends it |
|---|---|---|
";

    #[test]
    fn the_reference_holds_the_table() {
        let mut expected = HEAD.to_owned();
        for reason in REASONS {
            let _ = writeln!(
                expected,
                "| `{}` | `{}` | {} |",
                reason.name,
                code_name(reason.code),
                reason.meaning
            );
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(DOCUMENT);
        let found = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(found, expected, "{DOCUMENT} must be this");
    }

    #[test]
    fn names_are_in_order_and_as_google_writes_them() {
        assert!(REASONS.is_sorted_by(|one, next| one.name < next.name));
        for Reason { name, .. } in REASONS {
            let legal = |byte: u8| byte.is_ascii_uppercase() || byte == b'_';
            assert!(name.len() <= 63 && name.bytes().all(legal), "{name}");
        }
    }

    #[test]
    fn every_problem_in_the_code_is_in_the_table_with_its_code() {
        let codes: BTreeMap<&str, String> =
            REASONS.iter().map(|reason| (reason.name, format!("{:?}", reason.code))).collect();
        let mut found = 0;
        for folder in [
            "services/runtime/src",
            "services/user/src",
            "services/order/src",
            "services/gateway/src",
            "cdc-relay/src",
        ] {
            for source in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(folder)) {
                // Up to the tests of a file, which make problems of their own.
                let source = source.split("#[cfg(test)]").next().unwrap_or_default().to_owned();
                for made in source.split("Problem::new(").skip(1) {
                    let Some(("", rest)) = made.trim_start().split_once("Code::") else { continue };
                    let (code, rest) = rest.split_once(',').expect("a code and more");
                    let Some(rest) = rest.trim_start().strip_prefix('"') else { continue };
                    let (name, _) = rest.split_once('"').expect("a reason");
                    assert_eq!(codes.get(name).map(String::as_str), Some(code), "{name}");
                    found += 1;
                }
            }
        }
        assert!(found > 20, "the sources were read: {found}");
    }

    fn sources(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
        let mut sources = Vec::new();
        for path in entries {
            if path.is_dir() {
                sources.extend(self::sources(&path));
            } else {
                sources.push(fs::read_to_string(path).expect("a source"));
            }
        }
        sources
    }
}
