//! Takes the lines of the README's quick start, so that what runs is what readers see. Only the addresses are those that the
//! caller names.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

const README: &str = "../README.md";
const FENCE: &str = "```rust quickstart\n";

#[expect(clippy::disallowed_methods, reason = "cargo tells a build script its folder by a variable")]
fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={README}");
    let readme = fs::read_to_string(README)?;
    let (_, rest) = readme.split_once(FENCE).ok_or("the README has no quick start")?;
    let (lines, _) = rest.split_once("```").ok_or("the quick start has no end")?;
    let mut code = lines.to_owned();
    for (number, port) in ["5001", "5002", "5003", "5005"].iter().enumerate() {
        let address = format!("\"http://127.0.0.1:{port}\"");
        if !code.contains(&address) {
            return Err(format!("the quick start does not name {address}").into());
        }
        code = code.replace(&address, &format!("addresses[{number}].as_str()"));
    }
    let out = PathBuf::from(env::var("OUT_DIR")?).join("quickstart.rs");
    fs::write(out, format!("{{\n{code}    Ok(())\n}}\n"))?;
    Ok(())
}
