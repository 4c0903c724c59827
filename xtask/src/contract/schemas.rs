//! A JSON Schema for each event type, in `docs/api/schemas`, named as the type is.
//!
//! A payload may hold more than its schema names: consumers ignore what they do not know, so that fields can be added.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::{descriptors, scratch, sdks};
use crate::toolchains::PROTOC_GEN_JSONSCHEMA;
use crate::workspace;

const FOLDER: &str = "docs/api/schemas";
const GENERATE_TIMEOUT: Duration = Duration::from_secs(120);
/// The files whose messages are payloads end so.
const EVENTS: &str = "_events.proto";
/// The comment of a payload begins so, and goes on with its type.
const PAYLOAD_OF: &str = " Payload of `";

/// Where the schemas stand, and nothing else.
pub fn folder() -> PathBuf {
    workspace::root().join(FOLDER)
}

/// Writes the schemas.
///
/// # Errors
///
/// When the generator fails, or a message of a file of events does not say which type it is the payload of.
pub fn generate(whole: &Value) -> Result<()> {
    let folder = folder();
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let raw = scratch()?.join("schemas");
    let _ = std::fs::remove_dir_all(&raw);
    std::fs::create_dir_all(&raw)?;
    let files = descriptors::own_files(whole).into_iter().filter(|file| file.ends_with(EVENTS));
    sdks::protoc(&descriptors::plain(whole)?)?
        .arg(format!("--plugin={}", PROTOC_GEN_JSONSCHEMA.path()?.display()))
        .arg(format!("--jsonschema_out={}", raw.display()))
        .arg("--jsonschema_opt=target=json-bundle,additional_properties=true")
        .args(files)
        .run(GENERATE_TIMEOUT)?;
    for (message, event_type) in payloads(whole)? {
        let path = raw.join(format!("{message}.jsonschema.bundle.json"));
        let text = std::fs::read_to_string(&path).with_context(|| format!("no schema of {message}"))?;
        let mut schema: Value = serde_json::from_str(&text)?;
        schema["$id"] = json!(format!("{event_type}.json"));
        std::fs::write(folder.join(format!("{event_type}.json")), format!("{schema:#}\n"))?;
    }
    Ok(())
}

/// The payloads, each with the type of its event.
fn payloads(whole: &Value) -> Result<Vec<(String, String)>> {
    let mut payloads = Vec::new();
    let files = whole["file"].as_array().into_iter().flatten();
    for file in files.filter(|file| file["name"].as_str().is_some_and(|name| name.ends_with(EVENTS))) {
        for (number, message) in file["messageType"].as_array().into_iter().flatten().enumerate() {
            let name = message["name"].as_str().unwrap_or_default();
            let Some(event_type) = event_type(file, number) else {
                bail!("the comment of {name} does not begin with \"Payload of `TYPE`\"");
            };
            let package = file["package"].as_str().unwrap_or_default();
            payloads.push((format!("{package}.{name}"), event_type));
        }
    }
    Ok(payloads)
}

fn event_type(file: &Value, message: usize) -> Option<String> {
    let locations = file["sourceCodeInfo"]["location"].as_array()?;
    // 4 is the number of `message_type` in a file's descriptor.
    let location = locations.iter().find(|location| location["path"] == json!([4, message]))?;
    let rest = location["leadingComments"].as_str()?.strip_prefix(PAYLOAD_OF)?;
    Some(rest.split_once('`')?.0.to_owned())
}
