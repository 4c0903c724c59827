//! What a workload found: figures for the table, bars for the chart, and every run.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::statistics::{median, median_interval, range};

/// All of a workload.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Findings {
    pub(crate) workload: String,
    /// What was done, in one line.
    pub(crate) conditions: String,
    /// What it was measured on.
    pub(crate) machine: String,
    pub(crate) figures: Vec<Figure>,
    pub(crate) panels: Vec<Panel>,
    /// Every single run.
    pub(crate) runs: Value,
}

impl Findings {
    pub(crate) fn of(workload: impl Into<String>, conditions: String) -> Self {
        Self {
            workload: workload.into(),
            conditions,
            machine: String::new(),
            figures: Vec::new(),
            panels: Vec::new(),
            runs: Value::Null,
        }
    }

    /// Adds a figure.
    pub(crate) fn add(&mut self, figure: Figure) {
        self.figures.push(figure);
    }
}

/// A line of the table.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Figure {
    pub(crate) what: String,
    pub(crate) value: String,
    pub(crate) spread: String,
    pub(crate) aim: Option<Aim>,
}

/// What a figure should be, and whether it is.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Aim {
    pub(crate) text: String,
    pub(crate) is_met: bool,
}

impl Figure {
    /// A figure and how it spreads, both in words.
    pub(crate) fn new(what: impl Into<String>, value: String, spread: String) -> Self {
        Self { what: what.into(), value, spread, aim: None }
    }

    /// The median of some runs and its interval.
    pub(crate) fn median(what: impl Into<String>, values: &[f64], unit: &str) -> Self {
        let interval = median_interval(values);
        let spread = format!(
            "{} to {} ({:.0} %, n = {})",
            short(interval.low),
            short(interval.high),
            interval.coverage * 100.0,
            values.len()
        );
        Self::new(what, format!("{} {unit}", short(median(values))), spread)
    }

    /// The median of some runs, and the greatest of them.
    pub(crate) fn median_and_max(what: impl Into<String>, values: &[f64], unit: &str) -> Self {
        let (least, greatest) = range(values);
        let spread = format!("{} to {} (all, n = {})", short(least), short(greatest), values.len());
        Self::new(what, format!("{} {unit}, at most {}", short(median(values)), short(greatest)), spread)
    }

    /// Says what it should be.
    #[must_use]
    pub(crate) fn aim(mut self, text: &str, is_met: bool) -> Self {
        self.aim = Some(Aim { text: text.to_owned(), is_met });
        self
    }
}

/// A part of the chart: bars of the same unit.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Panel {
    pub(crate) title: String,
    pub(crate) bars: Vec<Bar>,
}

/// A bar, and what stands beyond its end.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Bar {
    pub(crate) label: String,
    pub(crate) value: f64,
    /// A paler end of the bar, such as the 99th percentile behind the median.
    pub(crate) beyond: Option<f64>,
    pub(crate) text: String,
    pub(crate) is_ours: bool,
}

/// A number with three digits that matter.
pub(crate) fn short(value: f64) -> String {
    let digits = match value.abs() {
        value if value >= 99.95 => 0,
        value if value >= 9.995 => 1,
        value if value >= 0.0995 => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}

/// A count with its thousands apart.
pub(crate) fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy);
    groups.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_three_digits_that_matter() {
        assert_eq!(
            [0.0123, 0.7649, 9.876, 45.67, 99.97, 1234.5].map(short),
            ["0.012", "0.76", "9.88", "45.7", "100", "1234"]
        );
    }

    #[test]
    fn thousands_stand_apart() {
        assert_eq!([7, 1_000, 1_234_567].map(thousands), ["7", "1 000", "1 234 567"]);
    }

    #[test]
    fn a_median_is_told_with_its_interval() {
        let figure = Figure::median("ratio", &[0.7, 0.8, 0.75, 0.9, 0.72, 0.71, 0.85], "×");
        assert_eq!((figure.value.as_str(), figure.spread.as_str()), ("0.75 ×", "0.70 to 0.90 (98 %, n = 7)"));
    }
}
