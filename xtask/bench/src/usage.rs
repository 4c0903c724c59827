//! What a process has used, as the kernel counts it.

use anyhow::{Context, Result};
use serde::Serialize;

const KIB_PER_MIB: f64 = 1024.0;
/// The kernel counts the time of a process in hundredths of a second, whatever its own clock does (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// Memory and time of one process since it began.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Usage {
    /// Resident memory now.
    pub(crate) rss_mib: f64,
    /// The most it ever was.
    pub(crate) rss_peak_mib: f64,
    /// User and system time.
    pub(crate) cpu_s: f64,
}

impl Usage {
    /// Of the process with this id, which must run.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let read = |file: &str| {
            let path = format!("/proc/{pid}/{file}");
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
        };
        let status = read("status")?;
        Ok(Self {
            rss_mib: kib(&status, "VmRSS:").context("no VmRSS")? / KIB_PER_MIB,
            rss_peak_mib: kib(&status, "VmHWM:").context("no VmHWM")? / KIB_PER_MIB,
            cpu_s: cpu_ticks(&read("stat")?).context("no times")? / TICKS_PER_SECOND,
        })
    }
}

fn kib(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Fields 14 and 15 of `stat`; the name in the second may hold anything, so counting begins after its parenthesis.
fn cpu_ticks(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut times = rest.split_whitespace().skip(11);
    let mut next = || times.next()?.parse::<f64>().ok();
    Some(next()? + next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory() {
        let usage = Usage::of(std::process::id()).unwrap();
        assert!(usage.rss_mib > 0.5 && usage.rss_peak_mib >= usage.rss_mib, "{usage:?}");
    }

    #[test]
    fn times_are_found_behind_a_strange_name() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 100 0 0 0 250 30 0 0 20 0 1 0 5 6 7";
        assert_eq!(cpu_ticks(stat), Some(280.0));
    }
}
