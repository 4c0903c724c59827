//! `docker-compose.yml` without Docker: it parses, and holds what is promised of it.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use serde_json::Value;
use xtask::settings::Settings;
use xtask::workspace;

fn services() -> Result<serde_json::Map<String, Value>> {
    let text = std::fs::read_to_string(workspace::root().join("docker-compose.yml"))?;
    let file: Value = serde_saphyr::from_str(&text).map_err(|error| anyhow::anyhow!("{error}"))?;
    file["services"].as_object().cloned().context("the file has services")
}

/// Every `${NAME}` in a value.
fn variables(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => {
            found.extend(
                text.split("${").skip(1).filter_map(|rest| rest.split('}').next()).map(str::to_owned),
            );
        }
        Value::Array(values) => values.iter().for_each(|value| variables(value, found)),
        Value::Object(values) => values.values().for_each(|value| variables(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

#[test]
fn the_processes_and_servers_are_there() -> Result<()> {
    let services = services()?;
    for name in ["postgres", "kafka", "user-service", "order-service", "cdc-relay", "gateway"] {
        let service = services.get(name).with_context(|| format!("{name} is missing"))?;
        assert!(service["healthcheck"]["test"].is_array(), "{name} has no health check");
    }
    Ok(())
}

#[test]
fn a_service_is_health_checked_or_runs_to_its_end() -> Result<()> {
    for (name, service) in services()? {
        let check = &service["healthcheck"];
        assert!(check["test"].is_array() || check["disable"] == true, "{name} has no health check");
    }
    Ok(())
}

#[test]
fn every_image_has_a_version() -> Result<()> {
    for (name, service) in services()? {
        let (_, version) =
            text(&service, "image").rsplit_once(':').with_context(|| format!("{name} has no version"))?;
        assert!(!version.is_empty() && version != "latest", "{name} has no version");
    }
    Ok(())
}

#[test]
fn every_variable_is_in_the_env_file() -> Result<()> {
    let mut used = BTreeSet::new();
    services()?.values().for_each(|service| variables(service, &mut used));
    let known: BTreeSet<String> = Settings::get().all().map(|(name, _)| name.to_owned()).collect();
    assert_eq!(used.difference(&known).collect::<Vec<_>>(), Vec::<&String>::new());
    assert!(used.contains("TAILRACE_WEB_PORT"));
    Ok(())
}

#[test]
fn ports_are_published_on_loopback_and_come_from_the_env_file() -> Result<()> {
    let mut published = BTreeSet::new();
    for (name, service) in services()? {
        for port in service["ports"].as_array().into_iter().flatten() {
            let port = port.as_str().with_context(|| format!("{name}: a port is not quoted"))?;
            assert!(port.starts_with("127.0.0.1:${"), "{name} publishes {port}");
            variables(&Value::from(port), &mut published);
        }
    }
    let ports = Settings::get().all().map(|(name, _)| name.to_owned()).filter(|name| name.ends_with("_PORT"));
    let expected: BTreeSet<String> = ports.filter(|name| name != "TAILRACE_KAFKA_CONTROLLER_PORT").collect();
    assert_eq!(published, expected);
    Ok(())
}

#[test]
fn what_a_service_waits_for_exists() -> Result<()> {
    let services = services()?;
    for (name, service) in &services {
        for (other, condition) in service["depends_on"].as_object().into_iter().flatten() {
            let other_service = services.get(other).with_context(|| format!("{name} waits for {other}"))?;
            let has_check = other_service["healthcheck"]["test"].is_array();
            assert_eq!(
                text(condition, "condition") == "service_healthy",
                has_check,
                "{name} waits for {other}"
            );
        }
    }
    Ok(())
}

#[test]
fn a_built_image_is_a_stage_of_the_dockerfile() -> Result<()> {
    let dockerfile = std::fs::read_to_string(workspace::root().join("deploy/Dockerfile"))?;
    for (name, service) in services()? {
        let target = text(&service["build"], "target");
        if !target.is_empty() {
            assert!(dockerfile.contains(&format!(" AS {target}\n")), "{name}: no stage {target}");
        }
    }
    Ok(())
}
