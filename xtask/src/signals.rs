//! Ctrl-C and its relatives: what the terminal or an operator asks of the runner.

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};

/// The exit code of a program that a signal cut short, as shells count it.
pub const INTERRUPTED: u8 = 130;

/// Calls `act` at each SIGINT, SIGTERM and SIGHUP, until it answers `false`.
///
/// # Errors
///
/// When signals cannot be received.
pub fn watch(mut act: impl FnMut() -> bool + Send + 'static) -> Result<()> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start tokio")?;
    let (mut interrupt, mut terminate, mut hang_up) = {
        let _entered = runtime.enter();
        let receive = |kind| signal(kind).context("cannot receive signals");
        (receive(SignalKind::interrupt())?, receive(SignalKind::terminate())?, receive(SignalKind::hangup())?)
    };
    std::thread::spawn(move || {
        runtime.block_on(async {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hang_up.recv() => {}
                }
                if !act() {
                    return;
                }
            }
        });
    });
    Ok(())
}
