//! `cargo xtask tidy`: the rules of style that lints cannot see, over every Rust file of the work tree.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::workspace;

/// A file longer than this does too much.
const LINES_MAX: usize = 600;

/// Checks, and says so.
///
/// # Errors
///
/// What is untidy, a line each.
pub fn run() -> Result<ExitCode> {
    check()?;
    eprintln!("tidy");
    Ok(ExitCode::SUCCESS)
}

/// Checks every file that git knows of.
///
/// # Errors
///
/// What is untidy, a line each.
pub fn check() -> Result<()> {
    let mut problems = Vec::new();
    for path in files()? {
        let shown = path.display().to_string();
        let whole = workspace::root().join(&path);
        // A file may be deleted and not yet committed; an image is no text.
        let Ok(text) = std::fs::read_to_string(&whole) else { continue };
        if is_generated(&path) {
            continue;
        }
        let found = match path.extension().and_then(|extension| extension.to_str()) {
            Some("rs") => rust(&path, &text),
            Some("md") => broken_links(&whole, &text),
            _ => Vec::new(),
        };
        problems.extend(found.into_iter().map(|problem| format!("{shown}{problem}")));
    }
    if problems.is_empty() {
        return Ok(());
    }
    bail!("untidy:\n{}", problems.join("\n"))
}

/// Code that `cargo xtask generate` writes.
fn is_generated(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "generated")
}

fn files() -> Result<Vec<PathBuf>> {
    let arguments = ["ls-files", "--cached", "--others", "--exclude-standard"];
    let output = Command::new("git").args(arguments).current_dir(workspace::root()).output();
    let output = output.context("git is needed to list the files")?;
    if !output.status.success() {
        bail!("git ls-files failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let text = String::from_utf8(output.stdout).context("a file name is not UTF-8")?;
    Ok(text.lines().map(PathBuf::from).collect())
}

/// The problems of a Rust file, each with the place it begins with.
fn rust(path: &Path, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if path.ends_with("mod.rs") {
        problems.push(": a module is NAME.rs and NAME/, never mod.rs".to_owned());
    }
    let lines = text.lines().count();
    if lines > LINES_MAX {
        problems.push(format!(": {lines} lines, more than {LINES_MAX}"));
    }
    if !text.starts_with("//!") {
        problems.push(": does not open with //! and what it is for".to_owned());
    }
    let is_test = path.components().any(|part| part.as_os_str() == "tests");
    let mut in_tests = is_test;
    for (number, line) in text.lines().enumerate() {
        in_tests |= line.trim() == "mod tests {";
        if let Some(problem) = line_problem(line, in_tests) {
            problems.push(format!(":{}: {problem}", number + 1));
        }
    }
    problems
}

fn line_problem(line: &str, in_tests: bool) -> Option<&'static str> {
    // Written in two halves, so that this file is tidy itself.
    let code = line.split("//").next().unwrap_or_default();
    if code.contains(concat!("#[all", "ow(")) && !code.contains("reason") {
        return Some("use #[expect(lint, reason = \"…\")]");
    }
    if in_tests
        && (code.contains(concat!("thread::sl", "eep(")) || code.contains(concat!("time::sl", "eep(")))
    {
        return Some("a test waits for a condition with a deadline, it does not sleep");
    }
    if line.contains(concat!("TO", "DO")) || line.contains(concat!("FIX", "ME")) {
        return Some("finish it, or write an issue");
    }
    line.ends_with([' ', '\t']).then_some("white space at the end")
}

/// Relative links to files that are not there.
fn broken_links(path: &Path, text: &str) -> Vec<String> {
    let folder = path.parent().unwrap_or(path);
    let mut problems = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for target in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            if !file.is_empty() && !file.contains(':') && !folder.join(file).exists() {
                problems.push(format!(":{}: no file {file}", number + 1));
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn untidy_lines_are_found_where_they_are() {
        let text = format!("//! A module.\nmod tests {{\n    std::thread::sl{}(x);\n}}\n", "eep");
        let expected = ":3: a test waits for a condition with a deadline, it does not sleep";
        assert_eq!(rust(Path::new("src/a.rs"), &text), [expected]);
    }

    #[test]
    fn a_module_says_what_it_is_for() {
        assert_eq!(
            rust(Path::new("src/a.rs"), "fn a() {}\n"),
            [": does not open with //! and what it is for"]
        );
    }

    #[test]
    fn a_link_to_a_missing_file_is_found() {
        let here = workspace::root().join("README.md");
        let text = "[there](Cargo.toml#x) [away](https://example.com) [gone](no/such.md)";
        assert_eq!(broken_links(&here, text), [":1: no file no/such.md"]);
    }
}
