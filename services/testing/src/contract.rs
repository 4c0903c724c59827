//! The contract as tests read it: its methods, and the rules of its fields (`buf.validate`).

use std::sync::LazyLock;

use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, MessageDescriptor, MethodDescriptor, Value,
};
use regex::Regex;

/// As `buf.validate` reads addresses: the grammar of the HTML standard.
const EMAIL: &str = r"^[a-zA-Z0-9.!#$%&'*+/=?^_`{|}~-]+@[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*$";
const UUID: &str = "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$";
/// `buf.validate.Ignore.IGNORE_IF_ZERO_VALUE`.
const IGNORE_IF_ZERO_VALUE: i32 = 1;
/// `google.api.FieldBehavior`: fields of a request that only the server sets.
const OUTPUT_ONLY: i32 = 3;
const IDENTIFIER: i32 = 8;

static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(tailrace::FILE_DESCRIPTOR_SET).expect("descriptors"));

/// The methods of a service.
pub(crate) fn methods(service: &str) -> Vec<MethodDescriptor> {
    let service = POOL.get_service_by_name(service).unwrap_or_else(|| panic!("{service} in the contract"));
    service.methods().collect()
}

/// The method `package.Service/Method`.
pub(crate) fn method(rpc: &str) -> MethodDescriptor {
    let (service, name) = rpc.split_once('/').expect("a method");
    let found = methods(service).into_iter().find(|method| method.name() == name);
    found.unwrap_or_else(|| panic!("{rpc} in the contract"))
}

/// Its name, as [`method`] takes it.
pub(crate) fn rpc(method: &MethodDescriptor) -> String {
    format!("{}/{}", method.parent_service().full_name(), method.name())
}

/// Whether callers may write into the field, and are not heard.
pub(crate) fn is_servers_own(field: &FieldDescriptor) -> bool {
    let extension = POOL.get_extension_by_name("google.api.field_behavior").expect("the annotation");
    let options = field.options();
    let behaviors = options.get_extension(&extension);
    let own = |behavior: &Value| matches!(behavior.as_enum_number(), Some(OUTPUT_ONLY | IDENTIFIER));
    behaviors.as_list().is_some_and(|behaviors| behaviors.iter().any(own))
}

/// The rules of one field, those that are set.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    pub(crate) is_required: bool,
    pub(crate) ignores_zero: bool,
    pub(crate) length: (Option<u64>, Option<u64>),
    pub(crate) items: (Option<u64>, Option<u64>),
    pub(crate) range: (Option<i32>, Option<i32>),
    pub(crate) patterns: Vec<Regex>,
    pub(crate) is_email: bool,
    pub(crate) is_uuid: bool,
    pub(crate) is_unique: bool,
    pub(crate) of_item: Option<Box<Rules>>,
}

impl Rules {
    /// The rules of a field; none when it has none. One of a kind that is not known here is a failure.
    pub(crate) fn of(field: &FieldDescriptor) -> Option<Self> {
        let extension = POOL.get_extension_by_name("buf.validate.field").expect("the annotation");
        let options = field.options();
        let written = options.has_extension(&extension).then(|| options.get_extension(&extension))?;
        Some(Self::read(field.full_name(), written.as_message().expect("rules")))
    }

    fn read(path: &str, written: &DynamicMessage) -> Self {
        let mut rules = Self::default();
        for (rule, value) in written.fields() {
            match (rule.name(), value) {
                ("required", Value::Bool(is_required)) => rules.is_required = *is_required,
                ("ignore", Value::EnumNumber(IGNORE_IF_ZERO_VALUE)) => rules.ignores_zero = true,
                ("string" | "int32" | "repeated", Value::Message(of_kind)) => {
                    for (rule, value) in of_kind.fields() {
                        rules.add(path, rule.name(), value);
                    }
                }
                (other, value) => panic!("{path}: the rule {other} = {value:?} is not known to this test"),
            }
        }
        rules
    }

    fn add(&mut self, path: &str, name: &str, value: &Value) {
        let regex = |text: &str| Regex::new(text).expect("a pattern");
        match (name, value) {
            ("min_len", Value::U64(limit)) => self.length.0 = Some(*limit),
            ("max_len", Value::U64(limit)) => self.length.1 = Some(*limit),
            ("min_items", Value::U64(limit)) => self.items.0 = Some(*limit),
            ("max_items", Value::U64(limit)) => self.items.1 = Some(*limit),
            ("unique", Value::Bool(true)) => self.is_unique = true,
            ("items", Value::Message(of_item)) => {
                self.of_item = Some(Box::new(Self::read(path, of_item)));
            }
            ("gte", Value::I32(limit)) => self.range.0 = Some(*limit),
            ("lte", Value::I32(limit)) => self.range.1 = Some(*limit),
            ("pattern", Value::String(pattern)) => self.patterns.push(regex(pattern)),
            ("uuid", Value::Bool(true)) => {
                self.is_uuid = true;
                self.patterns.push(regex(UUID));
            }
            ("email", Value::Bool(true)) => {
                self.is_email = true;
                self.patterns.push(regex(EMAIL));
            }
            (other, value) => panic!("{path}: the rule {other} = {value:?} is not known to this test"),
        }
    }

    /// What the rules say of a text.
    pub(crate) fn allow_text(&self, text: &str) -> bool {
        let length = text.chars().count() as u64;
        (text.is_empty() && self.ignores_zero)
            || (within(length, self.length) && self.patterns.iter().all(|pattern| pattern.is_match(text)))
    }

    /// What the rules say of a number.
    pub(crate) fn allow_number(&self, number: i32) -> bool {
        within(number, self.range)
    }

    /// What the rules say of so many different items.
    pub(crate) fn allow_count(&self, count: u64) -> bool {
        within(count, self.items)
    }
}

fn within<T: PartialOrd>(value: T, (least, most): (Option<T>, Option<T>)) -> bool {
    least.is_none_or(|least| value >= least) && most.is_none_or(|most| value <= most)
}

/// The paths of fields that may be empty in general and not in this request: it says so in an expression whose id is
/// `PATH.required`. Any other rule of a whole message is a failure.
pub(crate) fn required_by_expression(message: &MessageDescriptor) -> Vec<String> {
    for oneof in message.oneofs() {
        let extension = POOL.get_extension_by_name("buf.validate.oneof").expect("the annotation");
        assert!(!oneof.options().has_extension(&extension), "{}: no test knows its rule", oneof.full_name());
    }
    let extension = POOL.get_extension_by_name("buf.validate.message").expect("the annotation");
    let options = message.options();
    let written = options.get_extension(&extension).into_owned();
    let mut paths = Vec::new();
    for (rule, value) in written.as_message().expect("rules").fields() {
        let unknown =
            || panic!("{}: the rule {} is not known to this test", message.full_name(), rule.name());
        let expressions = value.as_list().filter(|_| rule.name() == "cel").unwrap_or_else(unknown);
        for expression in expressions {
            let id = expression.as_message().and_then(|rule| rule.get_field_by_name("id")).expect("an id");
            let path = id.as_str().and_then(|id| id.strip_suffix(".required"));
            paths.push(path.unwrap_or_else(|| panic!("{id:?} is not known to this test")).to_owned());
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_of_the_contract_is_of_a_known_kind() {
        let mut count = 0;
        for message in POOL.all_messages().filter(|message| message.package_name().starts_with("tailrace.")) {
            drop(required_by_expression(&message));
            count += message.fields().filter(|field| Rules::of(field).is_some()).count();
        }
        eprintln!("{count} fields have rules");
        assert!(count > 30, "the annotations are in the descriptors: {count}");
    }

    #[test]
    #[should_panic(expected = "the rule prefix = String(\"x\") is not known to this test")]
    fn a_rule_of_another_kind_is_a_failure() {
        Rules::default().add("a.b", "prefix", &Value::String("x".to_owned()));
    }
}
