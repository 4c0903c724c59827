//! The workloads, one module each.

mod creations;
mod get_order;
mod wrong_passwords;

use anyhow::Result;
use clap::ValueEnum;

use super::Options;
use crate::findings::Findings;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Workload {
    /// CreateOrder next to `pgbench`.
    CreateOrder,
    /// CreateUser next to `pgbench`, with a hash that costs nothing.
    CreateUser,
    /// GetOrder next to `pgbench`.
    GetOrder,
    /// Reads while 200 wrong passwords a second are offered.
    WrongPasswords,
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
            Self::CreateOrder => creations::orders(options).await,
            Self::CreateUser => creations::users(options).await,
            Self::GetOrder => get_order::measure(options).await,
            Self::WrongPasswords => wrong_passwords::measure(options).await,
        }
    }
}
