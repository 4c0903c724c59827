//! `cargo xtask up`: starts the stack, watches it, and stops it on Ctrl-C.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use anyhow::Result;
use clap::Args;

use super::status;
use crate::native::child::end_all;
use crate::progress::Progress;
use crate::signals::{self, INTERRUPTED};
use crate::stack::state::State;
use crate::stack::{Ports, Stack, StackOptions};
use crate::tools::{self, Purpose};
use crate::workspace;

/// How often the processes are looked after.
const WATCH_INTERVAL: Duration = Duration::from_millis(200);

/// The options of `up`.
#[derive(Debug, Args)]
pub struct Options {
    /// Wipe the data of earlier runs first; downloads stay.
    #[arg(long)]
    fresh: bool,

    /// Install missing Debian packages.
    #[arg(long)]
    install: bool,

    /// Make two events a second, for something to look at.
    #[arg(long)]
    demo: bool,

    /// The folder for data and logs.
    #[arg(long, value_name = "FOLDER", default_value_os_t = workspace::data())]
    dir: PathBuf,

    /// Take free ports instead of those of `.env`.
    #[arg(long)]
    free_ports: bool,
}

enum Event {
    Started(Result<Arc<Stack>>),
    Signal,
    Stopped,
}

/// Runs the stack until it is asked to stop.
///
/// # Errors
///
/// When something is missing or does not start.
pub fn run(options: &Options) -> Result<ExitCode> {
    let progress = Progress::on_terminal();
    tools::check(Purpose::Run, options.install)?;
    let (events, inbox) = channel();
    let signals = events.clone();
    signals::watch(move || signals.send(Event::Signal).is_ok())?;
    start(options, progress, events.clone());
    let stack = match next(&inbox) {
        Event::Started(stack) => stack?,
        Event::Signal | Event::Stopped => {
            progress.say("stopped before everything had started");
            end_all();
            return Ok(ExitCode::from(INTERRUPTED));
        }
    };
    announce(&stack, progress)?;
    if options.demo {
        stack.start_traffic()?;
    }
    watch(&stack, &inbox);
    progress.say("stopping; Ctrl-C again stops at once");
    stop(Arc::clone(&stack), events);
    match next(&inbox) {
        Event::Stopped | Event::Started(_) => {
            progress.say("everything is stopped");
            Ok(ExitCode::SUCCESS)
        }
        Event::Signal => {
            end_all();
            // The processes die with us; the stack's own orderly end would wait for them.
            std::process::exit(INTERRUPTED.into())
        }
    }
}

fn start(options: &Options, progress: Progress, events: Sender<Event>) {
    let options = StackOptions {
        dir: options.dir.clone(),
        ports: if options.free_ports { Ports::Auto } else { Ports::Default },
        fresh: options.fresh,
        build: true,
        seed: true,
        without_fsync: false,
        relay_config: None,
        progress,
    };
    std::thread::spawn(move || events.send(Event::Started(Stack::start(options).map(Arc::new))));
}

fn stop(stack: Arc<Stack>, events: Sender<Event>) {
    std::thread::spawn(move || {
        stack.stop();
        drop(stack);
        events.send(Event::Stopped)
    });
}

/// Waits for a signal, and says at once when a process has ended by itself.
fn watch(stack: &Stack, inbox: &Receiver<Event>) {
    let mut said = Vec::new();
    while let Err(RecvTimeoutError::Timeout) = inbox.recv_timeout(WATCH_INTERVAL) {
        for death in stack.deaths() {
            if !said.contains(&death) {
                eprintln!("{death}");
                said.push(death);
            }
        }
    }
}

fn announce(stack: &Stack, progress: Progress) -> Result<()> {
    let state = State::of(stack)?;
    state.save(stack.dir())?;
    println!("{}", status::table(&state));
    println!("{}", status::try_this(&state));
    println!("Ctrl-C stops everything. Logs: {}", stack.dir().join("logs").display());
    progress.say("everything is ready");
    Ok(())
}

fn next(inbox: &Receiver<Event>) -> Event {
    inbox.recv().expect("the senders live as long as the program")
}
