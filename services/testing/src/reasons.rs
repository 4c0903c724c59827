//! Every reason of the table is shown by a test: one that is documented and cannot be reached is a lie.

use std::{fs, path::Path};

use tailrace_runtime::error::REASONS;

/// Where the tests of everything that answers calls stand.
const FOLDERS: &[&str] = &["services", "cdc-relay"];

/// What a file holds of tests.
fn tests_of(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("a source file");
    let is_test = path.components().any(|part| part.as_os_str() == "tests") || path.ends_with("tests.rs");
    if is_test {
        text
    } else {
        text.split_once("#[cfg(test)]").map_or_else(String::new, |(_, tests)| tests.to_owned())
    }
}

fn collect(folder: &Path, tests: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, tests);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("reasons.rs")
        {
            tests.push(tests_of(&path));
        }
    }
}

#[test]
fn every_reason_is_shown_by_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut tests = Vec::new();
    for folder in FOLDERS {
        collect(&root.join(folder), &mut tests);
    }
    let is_shown = |name: &str| tests.iter().any(|test| test.contains(&format!("\"{name}\"")));
    let unshown: Vec<_> = REASONS.iter().map(|reason| reason.name).filter(|name| !is_shown(name)).collect();
    assert_eq!(unshown, [] as [&str; 0]);
    eprintln!("{} reasons", REASONS.len());
}
