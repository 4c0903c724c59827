//! Generates the Rust client's code from `proto/`: messages, clients, and a table of the methods.
//!
//! In a build script, because the root package's has compiled the generators already, as build dependencies.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use prost_types::method_options::IdempotencyLevel;
use prost_types::{DescriptorProto, FileDescriptorSet, MethodDescriptorProto, ServiceDescriptorProto};

const ROOT: &str = "../../proto";
const THIRD_PARTY: &str = "../../proto/third_party";

#[expect(clippy::disallowed_methods, reason = "cargo tells a build script its folder by a variable")]
fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={ROOT}");
    let contract = contract_files(&Path::new(ROOT).join("tailrace"))?;
    let mut compiler = protox::Compiler::new([ROOT, THIRD_PARTY])?;
    compiler.include_imports(true).include_source_info(true);
    let mut descriptors = compiler.open_files(&contract)?.file_descriptor_set();
    // Clients need no annotations.
    descriptors.file.retain(|file| !["google.api", "buf.validate"].contains(&file.package()));
    let out = PathBuf::from(env::var("OUT_DIR")?).join("client");
    // What an earlier contract had must not be written again.
    let _ = fs::remove_dir_all(&out);
    fs::create_dir_all(&out)?;
    fs::write(out.join("methods.rs"), methods(&descriptors))?;
    tonic_prost_build::configure().build_server(false).out_dir(&out).compile_fds(descriptors)?;
    Ok(())
}

/// The table of what a client may do with each method.
fn methods(descriptors: &FileDescriptorSet) -> String {
    let mut table = String::from("// This file is generated from the contract.\n&[\n");
    for file in &descriptors.file {
        for service in &file.service {
            for method in &service.method {
                let line = method_line(descriptors, file.package(), service, method);
                writeln!(table, "    {line},").expect("a string takes everything");
            }
        }
    }
    table + "]\n"
}

fn method_line(
    descriptors: &FileDescriptorSet,
    package: &str,
    service: &ServiceDescriptorProto,
    method: &MethodDescriptorProto,
) -> String {
    let path = format!("/{package}.{}/{}", service.name(), method.name());
    let level =
        method.options.as_ref().map_or(IdempotencyLevel::IdempotencyUnknown, |o| o.idempotency_level());
    let field = message(descriptors, method.input_type())
        .and_then(|input| input.field.iter().find(|field| field.name() == "request_id"))
        .map(|field| field.number());
    let is_repeatable = level != IdempotencyLevel::IdempotencyUnknown || field.is_some();
    let streams = method.server_streaming() || method.client_streaming();
    format!(
        "Method {{ path: {path:?}, streams: {streams}, is_repeatable: {is_repeatable}, request_id: {field:?} }}"
    )
}

fn message<'a>(descriptors: &'a FileDescriptorSet, name: &str) -> Option<&'a DescriptorProto> {
    descriptors.file.iter().find_map(|file| {
        let own = name.strip_prefix(&format!(".{}.", file.package()))?;
        file.message_type.iter().find(|message| message.name() == own)
    })
}

fn contract_files(folder: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(contract_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
