//! The descriptors of the contract: as JSON, which keeps comments and annotations readable without generated code, and plain
//! for generators of clients.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{buf, scratch};

const BUF_TIMEOUT: Duration = Duration::from_secs(120);
/// Clients need no annotations.
const ANNOTATIONS: [&str; 2] = ["buf/validate/", "google/api/"];

/// Every file of the contract and what it imports, as a `FileDescriptorSet` in `ProtoJSON`.
///
/// # Errors
///
/// When buf cannot compile the contract.
pub fn json() -> Result<Value> {
    let path = scratch()?.join("whole.json");
    let out = path.display().to_string();
    buf(&["build", "--as-file-descriptor-set", "-o", &out]).run(BUF_TIMEOUT)?;
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {out}"))?;
    serde_json::from_str(&text).context("buf writes JSON")
}

/// The descriptors without annotations, and without the files that define those, as a file for `protoc --descriptor_set_in`.
///
/// # Errors
///
/// When buf cannot compile the contract.
pub fn plain(whole: &Value) -> Result<PathBuf> {
    let mut plain = without_annotations(whole.clone());
    if let Some(files) = plain["file"].as_array_mut() {
        files.retain(|file| !is_annotation(&file["name"]));
        for file in files {
            if let Some(imports) = file.get_mut("dependency").and_then(Value::as_array_mut) {
                imports.retain(|name| !is_annotation(name));
            }
        }
    }
    let (json, binary) = (scratch()?.join("plain.json"), scratch()?.join("plain.binpb"));
    std::fs::write(&json, plain.to_string()).with_context(|| format!("cannot write {}", json.display()))?;
    let (from, to) = (json.display().to_string(), binary.display().to_string());
    buf(&["build", &from, "--as-file-descriptor-set", "-o", &to]).run(BUF_TIMEOUT)?;
    Ok(binary)
}

/// The paths of the contract's own files, such as `tailrace/user/v1/user.proto`.
pub fn own_files(whole: &Value) -> Vec<String> {
    let files = whole["file"].as_array().into_iter().flatten();
    let names = files.filter_map(|file| file["name"].as_str());
    names.filter(|name| name.starts_with("tailrace/")).map(str::to_owned).collect()
}

fn is_annotation(name: &Value) -> bool {
    name.as_str().is_some_and(|name| ANNOTATIONS.iter().any(|folder| name.starts_with(folder)))
}

/// Extensions are the keys in brackets.
fn without_annotations(value: Value) -> Value {
    match value {
        Value::Object(entries) => entries
            .into_iter()
            .filter(|(key, _)| !key.starts_with('['))
            .map(|(key, value)| (key, without_annotations(value)))
            .collect(),
        Value::Array(items) => items.into_iter().map(without_annotations).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn annotations_are_left_out_and_other_options_stay() {
        let field =
            json!({"name": "a", "options": {"[buf.validate.field]": {"required": true}, "deprecated": true}});
        let expected = json!({"name": "a", "options": {"deprecated": true}});
        assert_eq!(without_annotations(json!([field])), json!([expected]));
    }
}
