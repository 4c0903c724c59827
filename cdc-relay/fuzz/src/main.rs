//! libFuzzer's program: one target, named by `TAILRACE_FUZZ_TARGET`. `cargo xtask fuzz` builds and runs it.

#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use relay_fuzz::{TARGETS, Target};

static TARGET: OnceLock<&Target> = OnceLock::new();

fuzz_target!(|data: &[u8]| (TARGET.get_or_init(chosen).take)(data));

#[expect(clippy::disallowed_methods, reason = "libFuzzer owns the command line")]
fn chosen() -> &'static Target {
    let name = std::env::var("TAILRACE_FUZZ_TARGET").expect("TAILRACE_FUZZ_TARGET names a target");
    TARGETS.iter().find(|target| target.name == name).expect("a target of this name")
}
