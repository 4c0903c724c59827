//! The API reference in `docs/api`: a page for each package, of the comments in the contract.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::workspace;

const FOLDER: &str = "docs/api/reference";
const OWN: &str = "tailrace.";

/// Where each kind of thing is found in a descriptor: its number in `descriptor.proto`, which paths of comments are made of.
const FILE_MESSAGES: u64 = 4;
const FILE_ENUMS: u64 = 5;
const FILE_SERVICES: u64 = 6;
const SERVICE_METHODS: u64 = 2;
const MESSAGE_FIELDS: u64 = 2;
const NESTED_MESSAGES: u64 = 3;
const NESTED_ENUMS: u64 = 4;
const ENUM_VALUES: u64 = 2;

/// Where the pages stand, and nothing else.
pub fn folder() -> PathBuf {
    workspace::root().join(FOLDER)
}

/// Writes the pages.
///
/// # Errors
///
/// When a page cannot be written.
pub fn generate(whole: &Value) -> Result<()> {
    let folder = folder();
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut packages: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    for file in items(whole, "file").filter(|file| text(file, "package").starts_with(OWN)) {
        packages.entry(text(file, "package").to_owned()).or_default().push(file);
    }
    let mut index = String::from(
        "# API reference\n\nMade of the contract in `proto/` by `cargo xtask generate`. Errors: [errors](../errors.md).\n\n\
         | package | services |\n|---|---|\n",
    );
    for (package, files) in &packages {
        let services =
            files.iter().flat_map(|file| items(file, "service")).map(|service| text(service, "name"));
        let services: Vec<_> = services.map(|name| format!("`{name}`")).collect();
        writeln!(index, "| [{package}]({package}.md) | {} |", services.join(", "))?;
        std::fs::write(folder.join(format!("{package}.md")), page(package, files)?)?;
    }
    std::fs::write(folder.join("README.md"), index)?;
    Ok(())
}

fn page(package: &str, files: &[&Value]) -> Result<String> {
    let mut page = format!("# {package}\n");
    for file in files {
        let file = File::of(file);
        for (number, service) in items(file.value, "service").enumerate() {
            file.service(&mut page, service, &[FILE_SERVICES, number as u64])?;
        }
    }
    for file in files {
        let file = File::of(file);
        for (number, message) in items(file.value, "messageType").enumerate() {
            file.message(&mut page, message, "", &[FILE_MESSAGES, number as u64])?;
        }
        for (number, declared) in items(file.value, "enumType").enumerate() {
            file.enumeration(&mut page, declared, "", &[FILE_ENUMS, number as u64])?;
        }
    }
    Ok(page)
}

/// A file of the contract, and its comments by path.
struct File<'a> {
    value: &'a Value,
    comments: BTreeMap<Vec<u64>, &'a str>,
}

impl<'a> File<'a> {
    fn of(value: &'a Value) -> Self {
        let locations = items(&value["sourceCodeInfo"], "location");
        let comments = locations.filter_map(|location| {
            let path = items(location, "path").filter_map(Value::as_u64).collect();
            Some((path, location["leadingComments"].as_str()?))
        });
        Self { value, comments: comments.collect() }
    }

    /// The comment as it stands in the file, without the space that each line begins with.
    fn comment(&self, path: &[u64]) -> String {
        let lines = self.comments.get(path).copied().unwrap_or_default().lines();
        let lines: Vec<_> = lines.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
        lines.join("\n").trim().to_owned()
    }

    fn service(&self, page: &mut String, service: &Value, path: &[u64]) -> Result<()> {
        writeln!(page, "\n## {}\n\n{}", text(service, "name"), self.comment(path))?;
        for (number, method) in items(service, "method").enumerate() {
            let name = text(method, "name");
            let stream = if method["serverStreaming"] == true { "stream " } else { "" };
            let (input, output) = (link(text(method, "inputType")), link(text(method, "outputType")));
            writeln!(page, "\n### {name}\n\n`{name}`({input}) returns ({stream}{output})")?;
            let repeat = match method["options"]["idempotencyLevel"].as_str() {
                Some("NO_SIDE_EFFECTS") => " · changes nothing",
                Some("IDEMPOTENT") => " · idempotent",
                Some(_) | None => "",
            };
            page.truncate(page.trim_end().len());
            writeln!(
                page,
                "{repeat}\n\n{}",
                self.comment(&[path, &[SERVICE_METHODS, number as u64]].concat())
            )?;
        }
        Ok(())
    }

    fn message(&self, page: &mut String, message: &Value, within: &str, path: &[u64]) -> Result<()> {
        let name = format!("{within}{}", text(message, "name"));
        writeln!(page, "\n## {name}\n\n{}", self.comment(path))?;
        let mut rows = String::new();
        for (number, field) in items(message, "field").enumerate() {
            let comment = self.comment(&[path, &[MESSAGE_FIELDS, number as u64]].concat());
            let what = [cell(&comment), rules(&field["options"])].join(" ");
            let (number, kind) = (&field["number"], kind(field));
            writeln!(rows, "| `{}` | {number} | {kind} | {} |", text(field, "name"), what.trim())?;
        }
        if !rows.is_empty() {
            write!(page, "\n| field | number | type | what |\n|---|---|---|---|\n{rows}")?;
        }
        for (number, nested) in items(message, "nestedType").enumerate() {
            let is_map = nested["options"]["mapEntry"] == true;
            if !is_map {
                let path = [path, &[NESTED_MESSAGES, number as u64]].concat();
                self.message(page, nested, &format!("{name}."), &path)?;
            }
        }
        for (number, declared) in items(message, "enumType").enumerate() {
            let path = [path, &[NESTED_ENUMS, number as u64]].concat();
            self.enumeration(page, declared, &format!("{name}."), &path)?;
        }
        Ok(())
    }

    fn enumeration(&self, page: &mut String, declared: &Value, within: &str, path: &[u64]) -> Result<()> {
        writeln!(page, "\n## {within}{}\n\n{}", text(declared, "name"), self.comment(path))?;
        write!(page, "\n| value | number | what |\n|---|---|---|\n")?;
        for (number, value) in items(declared, "value").enumerate() {
            let comment = self.comment(&[path, &[ENUM_VALUES, number as u64]].concat());
            let number = value["number"].as_i64().unwrap_or_default();
            writeln!(page, "| `{}` | {number} | {} |", text(value, "name"), cell(&comment))?;
        }
        Ok(())
    }
}

/// The type of a field, in the words of the contract.
fn kind(field: &Value) -> String {
    let repeated = if field["label"] == "LABEL_REPEATED" { "repeated " } else { "" };
    let kind = match field["typeName"].as_str() {
        Some(name) => link(name),
        None => text(field, "type").trim_start_matches("TYPE_").to_lowercase(),
    };
    format!("{repeated}{kind}")
}

/// A link to a message or enum of ours; the name of any other.
fn link(name: &str) -> String {
    let name = name.trim_start_matches('.');
    let Some((package, own)) = name.split_once(".v1.").filter(|_| name.starts_with(OWN)) else {
        return format!("`{name}`");
    };
    let anchor = own.replace('.', "").to_lowercase();
    format!("[`{own}`]({package}.v1.md#{anchor})")
}

/// What the annotations say of a field: its behaviour, and the rules of its value.
fn rules(options: &Value) -> String {
    let behaviours = items(options, "[google.api.field_behavior]").filter_map(Value::as_str);
    let mut rules: Vec<String> = behaviours.map(|name| name.to_lowercase().replace('_', " ")).collect();
    let validated = options.get("[buf.validate.field]").and_then(Value::as_object).into_iter().flatten();
    for (kind, rule) in validated {
        match rule.as_object() {
            Some(of_kind) => {
                rules.extend(of_kind.iter().map(|(name, value)| format!("`{name}: {}`", shown(value))))
            }
            None if kind == "required" => {}
            None => rules.push(format!("`{kind}: {}`", shown(rule))),
        }
    }
    if rules.is_empty() { String::new() } else { format!("*{}*", rules.join(", ")) }
}

fn shown(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    text.replace('|', "\\|")
}

/// A comment as one cell of a table.
fn cell(comment: &str) -> String {
    comment.replace('|', "\\|").split_whitespace().collect::<Vec<_>>().join(" ")
}

fn items<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_field_tells_its_behaviour_and_its_rules() {
        let options = json!({
            "[google.api.field_behavior]": ["REQUIRED", "INPUT_ONLY"],
            "[buf.validate.field]": {"required": true, "string": {"minLen": "8"}},
        });
        assert_eq!(rules(&options), "*required, input only, `minLen: 8`*");
        assert_eq!(rules(&json!(null)), "");
    }

    #[test]
    fn only_own_types_are_linked() {
        let own = "[`Order.State`](tailrace.order.v1.md#orderstate)";
        assert_eq!(link(".tailrace.order.v1.Order.State"), own);
        assert_eq!(link(".google.type.Money"), "`google.type.Money`");
    }
}
