//! Where findings are kept: a file of JSON for each workload, a chart, and the part of `docs/benchmarks.md` that is written by the
//! command.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use xtask::workspace;

use crate::findings::Findings;

/// The folder of the findings of one measurement.
pub(crate) struct Store {
    measurement: &'static str,
    folder: PathBuf,
}

impl Store {
    /// Findings that mean nothing have a folder of their own.
    pub(crate) fn new(measurement: &'static str, is_quick: bool) -> Self {
        let name = format!("bench/{measurement}{}", if is_quick { "-quick" } else { "" });
        Self { measurement, folder: workspace::data().join(name) }
    }

    /// Keeps what a workload found.
    pub(crate) fn write(&self, findings: &Findings) -> Result<()> {
        let text = serde_json::to_string_pretty(findings).context("findings are always JSON")?;
        put(&self.file(&findings.workload), &text)
    }

    /// What was found last for these workloads; what was never measured is left out.
    pub(crate) fn read(&self, workloads: &[impl Clone + Into<String>]) -> Result<Vec<Findings>> {
        let names = workloads.iter().map(|workload| workload.clone().into());
        let files = names.map(|name| self.file(&name)).filter(|path| path.exists());
        files.map(|path| parse(&path).with_context(|| format!("cannot read {}", path.display()))).collect()
    }

    /// Keeps a chart beside the findings.
    pub(crate) fn write_chart(&self, name: &str, svg: &str) -> Result<()> {
        let path = self.folder.join(name);
        put(&path, svg)?;
        println!("{}", path.display());
        Ok(())
    }

    /// Puts the table into docs/.
    pub(crate) fn refresh_docs(&self, table: &str) -> Result<()> {
        let path = docs().join("benchmarks.md");
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let refreshed = replace_table(&text, self.measurement, table)
            .with_context(|| format!("{} has no place for the table", path.display()))?;
        put(&path, &refreshed)
    }

    fn file(&self, workload: &str) -> PathBuf {
        self.folder.join(format!("{workload}.json"))
    }
}

fn parse(path: &Path) -> Result<Findings> {
    Ok(serde_json::from_str(&std::fs::read_to_string(path)?)?)
}

/// Puts a chart into docs/.
pub(crate) fn refresh_chart(name: &str, svg: &str) -> Result<()> {
    put(&docs().join(name), svg)
}

fn docs() -> PathBuf {
    workspace::root().join("docs")
}

/// The document with another table between the lines that name the measurement.
fn replace_table(text: &str, measurement: &str, table: &str) -> Option<String> {
    let line = |word: &str| format!("<!-- {word}: cargo xtask bench {measurement} -->");
    let (begin, end) = (line("begin"), line("end"));
    let (before, rest) = text.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}\n\n{}\n\n{end}{after}", table.trim()))
}

fn put(path: &Path, text: &str) -> Result<()> {
    let folder = path.parent().context("a file stands in a folder")?;
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_table_is_replaced() {
        let document = |table: &str| {
            format!(
                "# Figures\n<!-- begin: cargo xtask bench relay -->\n\n{table}\n\n<!-- end: cargo xtask bench relay -->\nWords.\n"
            )
        };
        let (old, new) = (document("| old |"), document("| new |"));
        assert_eq!(replace_table(&old, "relay", "| new |\n").unwrap(), new);
        assert_eq!(replace_table(&new, "relay", "| new |").unwrap(), new);
        assert_eq!(replace_table(&new, "services", "| new |"), None);
    }
}
