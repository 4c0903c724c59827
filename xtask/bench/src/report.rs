//! The answer of a measurement: a table for people, the same and every single run as JSON.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::json;
use xtask::workspace;

use crate::machine::Machine;

/// One measurement: what, on which machine, under which conditions.
pub(crate) struct Report {
    name: &'static str,
    machine: Machine,
    conditions: String,
    rows: Vec<Row>,
}

/// A line of the table.
#[derive(Serialize)]
struct Row {
    what: String,
    value: String,
    aim: Option<String>,
    met: Option<bool>,
}

impl Report {
    /// Begins a report; the machine is looked at now, before the measurement loads it.
    pub(crate) fn begin(name: &'static str) -> Self {
        Self { name, machine: Machine::now(), conditions: String::new(), rows: Vec::new() }
    }

    /// Says under which conditions it was measured.
    pub(crate) fn conditions(&mut self, text: impl Into<String>) {
        self.conditions = text.into();
    }

    /// Adds a figure.
    pub(crate) fn row(&mut self, what: impl Into<String>, value: impl Into<String>) {
        self.rows.push(Row { what: what.into(), value: value.into(), aim: None, met: None });
    }

    /// Adds a figure that has an aim, met or missed.
    pub(crate) fn aimed_row(
        &mut self,
        what: impl Into<String>,
        value: impl Into<String>,
        aim: &str,
        met: bool,
    ) {
        let (what, value) = (what.into(), value.into());
        self.rows.push(Row { what, value, aim: Some(aim.to_owned()), met: Some(met) });
    }

    /// Prints the table and writes `.tailrace/bench/NAME.json` with every run in it.
    pub(crate) fn finish(self, runs: &impl Serialize) -> Result<()> {
        println!("\n{}: {}\n{}\n", self.name, self.conditions, self.machine.line());
        let width = self.rows.iter().map(|row| row.what.chars().count()).max().unwrap_or_default();
        for row in &self.rows {
            let verdict = match (&row.aim, row.met) {
                (Some(aim), Some(true)) => format!("   aim {aim}: met"),
                (Some(aim), Some(false)) => format!("   aim {aim}: MISSED"),
                _ => String::new(),
            };
            println!("  {:width$}  {}{verdict}", row.what, row.value);
        }
        let path = file(self.name)?;
        let json = json!({
            "measurement": self.name,
            "machine": self.machine,
            "conditions": self.conditions,
            "figures": self.rows,
            "runs": runs,
        });
        let text = serde_json::to_string_pretty(&json).context("a report is always JSON")?;
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        println!("\n  {}", path.display());
        Ok(())
    }
}

fn file(name: &str) -> Result<PathBuf> {
    let folder = workspace::data().join("bench");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder.join(format!("{name}.json")))
}
