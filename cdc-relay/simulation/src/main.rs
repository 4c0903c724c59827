//! `relay-simulation`: runs many schedules, or one with its trace.

#![expect(clippy::print_stdout, reason = "the answer of a command goes to standard output")]

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use clap::Parser;
use relay_simulation::{Ended, LoopBug, Seen, run};

/// A run of as many schedules must come to every situation.
const FULL_RUN: u64 = 10_000;
/// How much of a trace is printed for a failure found among many.
const TRACE_LINES: usize = 40;

/// Simulates the relay's engine under faults.
#[derive(Debug, Parser)]
#[command(name = "simulate")]
struct Arguments {
    /// Run this schedule alone and print its trace.
    #[arg(long)]
    seed: Option<u64>,

    /// How many schedules to run.
    #[arg(long, default_value_t = 20_000)]
    schedules: u64,

    /// The first seed.
    #[arg(long, default_value_t = 0)]
    first: u64,

    /// Plant one bug after the other, and count the schedules until it is caught.
    #[cfg(feature = "planted-bugs")]
    #[arg(long)]
    planted: bool,

    /// Only this bug; with `--seed`, the trace of that schedule.
    #[cfg(feature = "planted-bugs")]
    #[arg(long, value_name = "NAME")]
    bug: Option<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // A panic is a failure of its schedule, and told as one.
    std::panic::set_hook(Box::new(|_| {}));
    #[cfg(feature = "planted-bugs")]
    if arguments.planted {
        return planted(&arguments);
    }
    match arguments.seed {
        Some(seed) => one(seed, None),
        None => many(arguments.first, arguments.schedules),
    }
}

fn one(seed: u64, bug: Option<LoopBug>) -> ExitCode {
    let ended = run(seed, bug, true);
    for line in &ended.trace {
        println!("{line}");
    }
    match ended.failure {
        None => {
            println!("seed {seed}: {} transactions, {} rows, all in order", ended.transactions, ended.rows);
            ExitCode::SUCCESS
        }
        Some(failure) => {
            println!("seed {seed} FAILS: {failure}");
            ExitCode::FAILURE
        }
    }
}

#[derive(Default)]
struct Sum {
    seen: Seen,
    transactions: u64,
    rows: u64,
    failed: Option<(u64, String)>,
}

impl Sum {
    fn add(&mut self, seed: u64, ended: Ended) {
        self.seen.add(&ended.seen);
        self.transactions += ended.transactions;
        self.rows += ended.rows;
        if let Some(failure) = ended.failure
            && self.failed.as_ref().is_none_or(|(first, _)| seed < *first)
        {
            self.failed = Some((seed, failure));
        }
    }
}

fn many(first: u64, schedules: u64) -> ExitCode {
    let begun = Instant::now();
    let sum = Mutex::new(Sum::default());
    let next = AtomicU64::new(first);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + schedules {
                return;
            }
            let ended = run(seed, None, false);
            let Ok(mut sum) = sum.lock() else { return };
            sum.add(seed, ended);
            if sum.failed.is_some() {
                return;
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    let sum = sum.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some((seed, failure)) = sum.failed {
        let trace = run(seed, None, true).trace;
        for line in trace.iter().skip(trace.len().saturating_sub(TRACE_LINES)) {
            println!("{line}");
        }
        println!("seed {seed} FAILS: {failure}\nits whole trace: cargo xtask simulate --seed {seed}");
        return ExitCode::FAILURE;
    }
    let mut never = 0;
    for (what, count) in sum.seen.counts() {
        println!("{count:>9}  {}", what.words());
        never += u32::from(count == 0);
    }
    println!(
        "{schedules} schedules from seed {first}: {} transactions, {} rows, nothing lost, repeated or out of order, \
         in {:.0} s",
        sum.transactions,
        sum.rows,
        begun.elapsed().as_secs_f64()
    );
    if schedules >= FULL_RUN && never > 0 {
        println!("FAILS: {never} situations were never come to");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

#[cfg(feature = "planted-bugs")]
fn planted(arguments: &Arguments) -> ExitCode {
    use relay_simulation::planted::{PLANTED, catch, named, plant};

    let bug = arguments.bug.as_deref().and_then(named);
    if bug.is_none() && (arguments.bug.is_some() || arguments.seed.is_some()) {
        println!("name one of: {}", PLANTED.iter().map(|bug| bug.name()).collect::<Vec<_>>().join(", "));
        return ExitCode::FAILURE;
    }
    if let (Some(seed), Some(bug)) = (arguments.seed, bug) {
        return one(seed, plant(bug));
    }
    println!("{:<28} {:>9}  caught by", "bug", "schedules");
    let mut missed = 0;
    let chosen: Vec<_> = bug.map_or_else(|| PLANTED.to_vec(), |bug| vec![bug]);
    for bug in &chosen {
        match catch(*bug, arguments.first, arguments.schedules) {
            Some((schedules, failure)) => println!("{:<28} {schedules:>9}  {failure}", bug.name()),
            None => {
                missed += 1;
                println!("{:<28} {:>9}  NOT CAUGHT", bug.name(), arguments.schedules);
            }
        }
    }
    println!("{} bugs planted, {missed} not caught", chosen.len());
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
