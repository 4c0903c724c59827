//! Holds a service to the rules that the contract writes down: for every rule of every field that a request reaches, values on
//! both sides of its limits are sent, and the service must agree with the rule about each.
//!
//! The rules are read from the descriptors (`buf.validate`), so a rule that is added or changed is tested without a word here; one of a
//! kind that is not known fails the test.

use prost::Message;
use prost_reflect::{DynamicMessage, FieldDescriptor, ReflectMessage as _, Value};
use tonic::{Code, transport::Channel};
use uuid::Uuid;

use crate::{
    contract::{Rules, method, methods, required_by_expression, rpc},
    errors::{fields, told},
    raw,
};

/// Fields that services are stricter with than a rule can say: what they hold has a grammar or an origin.
const STRICTER: &[&str] = &["page_token", "filter", "cursor", "current_password"];

/// A request that breaks no rule.
#[derive(Debug)]
pub struct Sample {
    pub(crate) rpc: &'static str,
    pub(crate) token: String,
    pub(crate) message: DynamicMessage,
}

impl Sample {
    /// `message` for `rpc` (`package.Service/Method`), sent with this token.
    pub fn new(rpc: &'static str, token: &str, message: &impl Message) -> Self {
        let bytes = message.encode_to_vec();
        let message = DynamicMessage::decode(method(rpc).input(), bytes.as_slice()).expect("a sample");
        Self { rpc, token: token.to_owned(), message }
    }
}

/// Sends every value that the rules tell apart, in place of what the samples hold, of which there must be one for every RPC of
/// `service` that takes anything. Gives how many were sent.
pub async fn assert_rules(channel: &Channel, service: &str, samples: &[Sample]) -> usize {
    assert_complete(service, samples.iter().map(|sample| sample.rpc));
    let mut sent = 0;
    for sample in samples {
        for probe in probes(sample) {
            check(channel, sample, probe).await;
            sent += 1;
        }
    }
    eprintln!("{service}: {sent} values beside the limits of its rules");
    sent
}

/// Every RPC that takes anything has a sample.
pub(crate) fn assert_complete(service: &str, sampled: impl Iterator<Item = &'static str>) {
    let sampled: Vec<_> = sampled.collect();
    for method in methods(service).iter().filter(|method| method.input().fields().len() > 0) {
        let rpc = rpc(method);
        assert!(sampled.contains(&rpc.as_str()), "{rpc} has a sample");
    }
}

/// A request that differs from a sample in the field at a path, and whether the rules allow it.
struct Probe {
    path: String,
    is_valid: bool,
    message: DynamicMessage,
}

async fn check(channel: &Channel, sample: &Sample, probe: Probe) {
    let Probe { path, is_valid, message } = probe;
    let bytes = message.encode_to_vec();
    let sent = String::from_utf8_lossy(&bytes).into_owned();
    let outcome = raw::call(channel, &method(sample.rpc), &sample.token, bytes).await;
    let is_refused = outcome.as_ref().err().is_some_and(|status| complains(status, &path));
    let is_stricter = is_valid && STRICTER.contains(&path.as_str());
    assert!(
        is_stricter || is_refused != is_valid,
        "{} {path}: the rule says {is_valid}: {sent:?}\n{outcome:?}",
        sample.rpc
    );
}

/// Whether an error says that the field at `path`, or something in it, is not valid.
fn complains(status: &tonic::Status, path: &str) -> bool {
    let (code, _) = told(status);
    code == Code::InvalidArgument
        && fields(status).iter().any(|field| {
            field.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with(['[', '.']))
        })
}

fn probes(sample: &Sample) -> Vec<Probe> {
    let required = required_by_expression(&sample.message.descriptor());
    let mut probes = Vec::new();
    let mut take = |path, is_valid, message| probes.push(Probe { path, is_valid, message });
    collect(&sample.message, "", &required, &mut take, &|message| message);
    probes
}

/// Puts a changed part back into the whole.
type Wrap<'a> = &'a dyn Fn(DynamicMessage) -> DynamicMessage;
type Take<'a> = &'a mut dyn FnMut(String, bool, DynamicMessage);

/// Every value to try for every field below `message`, each in a whole request.
fn collect(message: &DynamicMessage, prefix: &str, required: &[String], take: Take<'_>, wrap: Wrap<'_>) {
    let whole = required_by_expression(&message.descriptor());
    assert!(prefix.is_empty() || whole.is_empty(), "{prefix}: no test knows the rules of a message within");
    for field in message.descriptor().fields() {
        let path = format!("{prefix}{}", field.name());
        for (value, is_valid) in candidates(&field, message, required.contains(&path)) {
            let mut changed = message.clone();
            match value {
                Some(value) => changed.set_field(&field, value),
                None => changed.clear_field(&field),
            }
            take(path.clone(), is_valid, wrap(changed));
        }
        descend(message, &field, &path, required, take, wrap);
    }
}

fn descend(
    message: &DynamicMessage,
    field: &FieldDescriptor,
    path: &str,
    required: &[String],
    take: Take<'_>,
    wrap: Wrap<'_>,
) {
    let value = message.get_field(field).into_owned();
    let put = |value: Value| {
        let mut changed = message.clone();
        changed.set_field(field, value);
        wrap(changed)
    };
    if let Value::Message(inner) = &value {
        if message.has_field(field) {
            collect(inner, &format!("{path}."), required, take, &|inner| put(Value::Message(inner)));
        }
    } else if let Value::List(items) = &value
        && let Some(Value::Message(first)) = items.first()
    {
        collect(first, &format!("{path}[0]."), required, take, &|inner| {
            let mut items = items.clone();
            items[0] = Value::Message(inner);
            put(Value::List(items))
        });
    }
}

/// Values on both sides of each limit, and whether the rules allow them. None: not set. A field with rules has both kinds.
fn candidates(
    field: &FieldDescriptor,
    message: &DynamicMessage,
    is_required: bool,
) -> Vec<(Option<Value>, bool)> {
    let Some(rules) = Rules::of(field) else { return Vec::new() };
    let held = message.get_field(field).into_owned();
    let mut candidates: Vec<_> = if let Value::List(items) = &held {
        lists(field, &rules, items)
    } else if matches!(held, Value::Message(_)) {
        Vec::new()
    } else {
        scalars(&rules, &held, is_required)
    }
    .into_iter()
    .map(|(value, is_valid)| (Some(value), is_valid))
    .collect();
    if rules.is_required {
        candidates.extend([(None, false), (Some(held), true)]);
    }
    for is_valid in [true, false] {
        let found = candidates.iter().any(|candidate| candidate.1 == is_valid);
        assert!(found, "{}: no value that its rules say {is_valid} to: {rules:?}", field.full_name());
    }
    candidates
}

fn scalars(rules: &Rules, held: &Value, is_required: bool) -> Vec<(Value, bool)> {
    if let Some(held) = held.as_str() {
        let valid = |text: &str| rules.allow_text(text) && !(is_required && text.is_empty());
        let texts = texts(rules, held).into_iter();
        return texts.map(|text| (Value::String(text.clone()), valid(&text))).collect();
    }
    assert!(held.as_i32().is_some(), "no values are known here to try for {held:?}");
    let limits = [rules.range.0, rules.range.1].into_iter().flatten();
    let around = limits.flat_map(|limit| [limit - 1, limit, limit + 1]);
    let numbers = [i32::MIN, -1, 0, 1, i32::MAX].into_iter().chain(around);
    numbers.map(|number| (Value::I32(number), rules.allow_number(number))).collect()
}

/// Lists around the limits of their length, one with a repeat, and one item of each kind that the rules tell apart.
fn lists(field: &FieldDescriptor, rules: &Rules, items: &[Value]) -> Vec<(Value, bool)> {
    let first = items.first().unwrap_or_else(|| panic!("{}: the sample has an item", field.full_name()));
    let limits = [rules.items.0, rules.items.1].into_iter().flatten();
    let counts = limits.flat_map(|limit| [limit.saturating_sub(1), limit, limit + 1]);
    let mut lists: Vec<_> = counts.map(|count| (several(first, count), rules.allow_count(count))).collect();
    if rules.is_unique {
        lists.push((Value::List(vec![first.clone(), first.clone()]), false));
    }
    if let Some(of_item) = &rules.of_item {
        let tried = scalars(of_item, first, false).into_iter();
        lists.extend(tried.map(|(item, is_valid)| (Value::List(vec![item]), is_valid)));
    }
    lists
}

/// So many items, which differ where they can.
fn several(first: &Value, count: u64) -> Value {
    let differing = |number| first.as_str().map(|text| Value::String(format!("{text}{number}")));
    let item = |number| differing(number).unwrap_or_else(|| first.clone());
    Value::List((0..count).map(item).collect())
}

/// Texts around the limits: of every length that matters, in characters of one byte, of two and of four, and some that only a
/// pattern tells apart.
fn texts(rules: &Rules, held: &str) -> Vec<String> {
    let limits = [rules.length.0, rules.length.1].into_iter().flatten();
    let lengths = limits.flat_map(|limit| [limit.saturating_sub(1), limit, limit + 1]);
    let lengths = lengths.filter_map(|length| usize::try_from(length).ok());
    let mut texts: Vec<String> =
        lengths.flat_map(|length| ["x", "é", "😀"].map(|one| one.repeat(length))).collect();
    if let (true, Some(most)) = (rules.is_email, rules.length.1) {
        let (domain, most) = ("@example.org", usize::try_from(most).expect("a length"));
        let address = |length: usize| format!("{}{domain}", "a".repeat(length - domain.len()));
        texts.extend([most - 1, most, most + 1].map(address));
    }
    if rules.is_uuid {
        // Each a new one: an id is used for one request.
        let uuid = Uuid::new_v4().to_string();
        texts.extend([
            Uuid::new_v4().to_string().to_uppercase(),
            uuid.clone(),
            uuid.replace('-', ""),
            format!("{{{uuid}}}"),
        ]);
        texts.push(format!("urn:uuid:{uuid}"));
    }
    let told_apart = ["", " ", "a\0b", "a\nb", "a\u{7f}b", "a\u{85}b", "a\u{202e}b", "a@b@c", "@", "a@-b"];
    texts.extend(told_apart.map(str::to_owned));
    texts.extend([held.to_owned(), held.to_uppercase(), format!("{held}x")]);
    texts.extend([format!(" {held}"), format!("{held}\n")]);
    texts
}
