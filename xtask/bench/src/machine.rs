//! What the figures were measured on, and what else went on there.

use serde::Serialize;

/// The machine, in the words of its kernel.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    processors: usize,
    processor: String,
    memory_gib: f64,
    kernel: String,
    /// Runnable threads on average over the minute before the measurement: above a few tenths, something else ran.
    load_before: f64,
}

impl Machine {
    /// This one, now.
    pub(crate) fn now() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let load = read("/proc/loadavg").split(' ').next().and_then(|load| load.parse().ok());
        Self {
            processors: std::thread::available_parallelism().map_or(0, usize::from),
            processor: value(&read("/proc/cpuinfo"), "model name").unwrap_or_default(),
            memory_gib: memory_kib(&read("/proc/meminfo")).unwrap_or_default() / 1024.0 / 1024.0,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load_before: load.unwrap_or(f64::NAN),
        }
    }

    /// One line about it.
    pub(crate) fn line(&self) -> String {
        format!(
            "{} × {}, {:.0} GiB, Linux {}, load before {:.1}",
            self.processors, self.processor, self.memory_gib, self.kernel, self.load_before
        )
    }
}

fn value(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn memory_kib(text: &str) -> Option<f64> {
    value(text, "MemTotal")?.split(' ').next()?.parse().ok()
}
