//! The table, in Markdown: for people at a terminal and for the document alike.

use std::fmt::Write as _;

use crate::findings::{Figure, Findings};

/// One table of all findings, and under which conditions each was made.
pub(crate) fn markdown<'a>(findings: impl IntoIterator<Item = &'a Findings>) -> String {
    let mut table =
        String::from("| `--workload` | figure | measured | spread | aim | |\n|---|---|---|---|---|---|\n");
    let mut notes = String::new();
    for found in findings {
        for figure in &found.figures {
            let _ = writeln!(table, "| `{}` {}", found.workload, row(figure));
        }
        let _ = writeln!(notes, "- `{}`: {}. On {}.", found.workload, found.conditions, found.machine);
    }
    format!("{table}\n{notes}")
}

fn row(figure: &Figure) -> String {
    let (aim, verdict) = match &figure.aim {
        None => ("", ""),
        Some(aim) if aim.is_met => (aim.text.as_str(), "met"),
        Some(aim) => (aim.text.as_str(), "**missed**"),
    };
    format!("| {} | {} | {} | {aim} | {verdict} |", figure.what, figure.value, figure.spread)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_tells_aim_and_verdict() {
        let mut findings = Findings::of("single-row", "few events".to_owned());
        findings.machine = "2 × Slow".to_owned();
        findings.add(Figure::new("rate", "66 k/s".to_owned(), "one run".to_owned()));
        findings
            .add(Figure::new("ratio", "0.76 ×".to_owned(), "0.7 to 0.8".to_owned()).aim("≥ 0.9 ×", false));
        let table = markdown([&findings]);
        let rows: Vec<_> = table.lines().skip(2).collect();
        assert_eq!(
            rows,
            [
                "| `single-row` | rate | 66 k/s | one run |  |  |",
                "| `single-row` | ratio | 0.76 × | 0.7 to 0.8 | ≥ 0.9 × | **missed** |",
                "",
                "- `single-row`: few events. On 2 × Slow.",
            ]
        );
    }
}
