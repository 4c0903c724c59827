//! `cargo xtask logs`: the logs of one process or of all, and what is added to them.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::workspace;

const FOLLOW_INTERVAL: Duration = Duration::from_millis(200);

/// The options of `logs`.
#[derive(Debug, Args)]
pub struct Options {
    /// The process, for example `cdc-relay`; all when it is left out.
    process: Option<String>,

    /// Go on with what is added.
    #[arg(short, long)]
    follow: bool,

    /// The folder of the stack.
    #[arg(long, value_name = "FOLDER", default_value_os_t = workspace::data())]
    dir: PathBuf,
}

/// Prints logs.
///
/// # Errors
///
/// When there is no such log.
pub fn run(options: &Options) -> Result<ExitCode> {
    let all = logs(&options.dir.join("logs"))?;
    let chosen: Vec<_> = match &options.process {
        None => all,
        Some(name) => {
            let names: Vec<_> = all.iter().map(|(name, _)| name.clone()).collect();
            let one: Vec<_> = all.into_iter().filter(|(other, _)| other == name).collect();
            if one.is_empty() {
                bail!("no log of {name}; there are: {}", names.join(", "));
            }
            one
        }
    };
    let prefixed = chosen.len() > 1;
    let mut tails = Vec::new();
    for (name, path) in chosen {
        let file = File::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
        tails.push(Tail {
            prefix: if prefixed { format!("{name} | ") } else { String::new() },
            file,
            rest: Vec::new(),
        });
    }
    loop {
        for tail in &mut tails {
            tail.print()?;
        }
        if !options.follow {
            return Ok(ExitCode::SUCCESS);
        }
        std::thread::sleep(FOLLOW_INTERVAL);
    }
}

struct Tail {
    prefix: String,
    file: File,
    /// The beginning of a line whose end is not written yet.
    rest: Vec<u8>,
}

impl Tail {
    fn print(&mut self) -> Result<()> {
        self.file.read_to_end(&mut self.rest).context("cannot read a log")?;
        let end = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        let mut out = std::io::stdout().lock();
        for line in self.rest.drain(..end).as_slice().split_inclusive(|byte| *byte == b'\n') {
            let written = out.write_all(self.prefix.as_bytes()).and_then(|()| out.write_all(line));
            written.context("cannot write to standard output")?;
        }
        Ok(())
    }
}

fn logs(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let entries = std::fs::read_dir(folder).context("there are no logs: `cargo xtask up` writes them")?;
    let paths = entries.flatten().map(|entry| entry.path());
    let named = |path: PathBuf| Some((path.file_name()?.to_str()?.strip_suffix(".log")?.to_owned(), path));
    let mut logs: Vec<_> = paths.filter_map(named).collect();
    logs.sort();
    Ok(logs)
}
