//! Compiles `proto/` without `protoc`: messages, services, ProtoJSON and the descriptor set that reflection serves.

use std::{env, error::Error, fs, path::PathBuf};

const ROOT: &str = "proto";
const THIRD_PARTY: &str = "proto/third_party";

#[expect(clippy::disallowed_methods, reason = "cargo tells a build script its folder by a variable")]
fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={ROOT}");
    let contract = contract_files(PathBuf::from(ROOT).join("tailrace"))?;
    let mut compiler = protox::Compiler::new([ROOT, THIRD_PARTY])?;
    compiler.include_imports(true).include_source_info(true).open_files(&contract)?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // Encoded by the compiler: the types of prost would drop the annotations.
    let encoded = compiler.encode_file_descriptor_set();
    let mut descriptors = compiler.file_descriptor_set();
    fs::write(out.join("tailrace.descriptors.bin"), &encoded)?;

    // An event may have fields that a later contract added.
    pbjson_build::Builder::new()
        .register_descriptors(&encoded)?
        .ignore_unknown_fields()
        .build(&[".tailrace", ".google.type"])?;

    // The annotations (google.api, buf.validate) are read from the descriptors; no code is made of them.
    descriptors.file.retain(|file| {
        let package = file.package();
        package != "google.api" && package != "buf.validate"
    });
    tonic_prost_build::configure()
        .compile_well_known_types(true)
        .extern_path(".google.protobuf", "::pbjson_types")
        .bytes(".tailrace.event.v1.Event")
        .compile_fds(descriptors)?;
    Ok(())
}

fn contract_files(folder: PathBuf) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(contract_files(path)?);
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
