//! Where findings are kept: a file of JSON for each workload, a chart of all, and the part of `docs/benchmarks.md` that is
//! written by the command.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use xtask::workspace;

use super::findings::Findings;
use super::workloads::Workload;

const CHART: &str = "relay-benchmarks.svg";
/// What stands around the table in the document.
const TABLE_BEGIN: &str = "<!-- begin: cargo xtask bench relay -->\n";
const TABLE_END: &str = "<!-- end: cargo xtask bench relay -->";

/// The folder of findings.
pub(super) struct Store {
    folder: PathBuf,
}

impl Store {
    /// Findings that mean nothing have a folder of their own.
    pub(super) fn new(is_quick: bool) -> Self {
        let name = if is_quick { "bench/relay-quick" } else { "bench/relay" };
        Self { folder: workspace::data().join(name) }
    }

    /// Keeps what a workload found.
    pub(super) fn write(&self, findings: &Findings) -> Result<()> {
        let text = serde_json::to_string_pretty(findings).context("findings are always JSON")?;
        put(&self.file(&findings.workload), &text)
    }

    /// What was found last for these workloads; what was never measured is left out.
    pub(super) fn read(&self, workloads: &[Workload]) -> Result<Vec<Findings>> {
        let files = workloads.iter().map(|workload| self.file(&workload.name())).filter(|path| path.exists());
        files.map(|path| parse(&path).with_context(|| format!("cannot read {}", path.display()))).collect()
    }

    /// Keeps the chart beside the findings.
    pub(super) fn write_chart(&self, svg: &str) -> Result<()> {
        let path = self.folder.join(CHART);
        put(&path, svg)?;
        println!("{}", path.display());
        Ok(())
    }

    fn file(&self, workload: &str) -> PathBuf {
        self.folder.join(format!("{workload}.json"))
    }
}

fn parse(path: &Path) -> Result<Findings> {
    Ok(serde_json::from_str(&std::fs::read_to_string(path)?)?)
}

/// Puts table and chart into docs/.
pub(super) fn refresh_docs(table: &str, svg: &str) -> Result<()> {
    let docs = workspace::root().join("docs");
    let path = docs.join("benchmarks.md");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let refreshed = replace_table(&text, table)
        .with_context(|| format!("{} has no place for the table: {TABLE_BEGIN}", path.display()))?;
    put(&path, &refreshed)?;
    put(&docs.join(CHART), svg)
}

fn replace_table(text: &str, table: &str) -> Option<String> {
    let (before, rest) = text.split_once(TABLE_BEGIN)?;
    let (_, after) = rest.split_once(TABLE_END)?;
    Some(format!("{before}{TABLE_BEGIN}\n{}\n\n{TABLE_END}{after}", table.trim()))
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
        let text = format!("# Figures\n{TABLE_BEGIN}old\n{TABLE_END}\nWords.\n");
        let expected = format!("# Figures\n{TABLE_BEGIN}\n| new |\n\n{TABLE_END}\nWords.\n");
        assert_eq!(replace_table(&text, "| new |\n").unwrap(), expected);
        assert_eq!(replace_table(&expected, "| new |").unwrap(), expected);
        assert_eq!(replace_table("# Figures\n", "| new |"), None);
    }
}
