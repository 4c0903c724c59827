//! The workloads, one module each.

mod batched;
mod comparison;
mod crash;
mod giant;
mod latency;
mod payload;
mod rates;
mod single_row;
mod sources;

use anyhow::Result;
use clap::ValueEnum;

use super::Options;
use crate::findings::Findings;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Workload {
    /// A log of transactions of one row, drained.
    SingleRow,
    /// A log of transactions of a hundred rows, drained.
    Batched,
    /// Logs of larger payloads, drained.
    Payload,
    /// One transaction of a million rows, while the relay runs.
    Giant,
    /// A steady load of 1 000 events a second: from the answer of a commit to a consumer.
    Latency,
    /// The same at other rates.
    Rates,
    /// `kill -9` under load: to the first event again, alone and with a standby.
    Crash,
    /// Twenty sources in one process, idle and busy.
    Sources,
}

impl From<Workload> for String {
    fn from(workload: Workload) -> Self {
        workload.name()
    }
}

impl Workload {
    /// All, in the order of the table.
    pub(super) fn all() -> Vec<Self> {
        Self::value_variants().to_vec()
    }

    /// Its name on the command line.
    pub(super) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Measures it.
    pub(super) async fn measure(self, options: &Options) -> Result<Findings> {
        match self {
            Self::SingleRow => single_row::measure(options).await,
            Self::Batched => batched::measure(options).await,
            Self::Payload => payload::measure(options).await,
            Self::Giant => giant::measure(options).await,
            Self::Latency => latency::measure(options).await,
            Self::Rates => rates::measure(options).await,
            Self::Crash => crash::measure(options).await,
            Self::Sources => sources::measure(options).await,
        }
    }
}
