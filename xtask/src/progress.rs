//! Lines that say what goes on, with the seconds since the start. Tests keep it quiet.

use std::time::{Duration, Instant};

/// Where lines about progress go.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    since: Option<Instant>,
}

impl Progress {
    /// To standard error, counted from now.
    pub fn on_terminal() -> Self {
        Self { since: Some(Instant::now()) }
    }

    /// Nowhere.
    pub fn quiet() -> Self {
        Self { since: None }
    }

    /// Whether anybody sees it.
    pub fn is_quiet(&self) -> bool {
        self.since.is_none()
    }

    /// The time since the start.
    pub fn elapsed(&self) -> Duration {
        self.since.map(|since| since.elapsed()).unwrap_or_default()
    }

    /// Says what goes on.
    pub fn say(&self, what: &str) {
        if self.since.is_some() {
            eprintln!("[{:6.1} s] {what}", self.elapsed().as_secs_f64());
        }
    }

    /// Says that something begins, does it, and says how long it took if that was worth a line.
    ///
    /// # Errors
    ///
    /// Those of `work`.
    pub fn step<T>(&self, what: &str, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        self.say(&format!("{what} …"));
        let start = Instant::now();
        let done = work()?;
        self.say(&format!("{what}: done in {:.1} s", start.elapsed().as_secs_f64()));
        Ok(done)
    }
}
