//! What Python and Go bring to the project: packages and programs, installed into the cache, one folder for each version.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::native::child::Launch;
use crate::settings::Settings;
use crate::workspace;

const INSTALL_TIMEOUT: Duration = Duration::from_secs(600);
/// The packages of the Python SDK, its generator and its tests.
const REQUIREMENTS: &str = "sdk/python/requirements.txt";

/// The folder with the Python packages, for `PYTHONPATH`; installs them unless they are there.
///
/// # Errors
///
/// When pip is missing or cannot install them.
pub fn python_packages() -> Result<PathBuf> {
    let requirements = workspace::root().join(REQUIREMENTS);
    let text = std::fs::read_to_string(&requirements)
        .with_context(|| format!("cannot read {}", requirements.display()))?;
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    let folder = workspace::cache().join(format!("python-{:016x}", hasher.finish()));
    if folder.exists() {
        return Ok(folder);
    }
    // Half of an installation must not be taken for a whole one.
    let half = folder.with_extension("half");
    let _ = std::fs::remove_dir_all(&half);
    let arguments = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target"];
    Launch::new("pip install", "python3", workspace::data().join("logs/pip.log"))
        .args(arguments)
        .args([half.display().to_string(), "--requirement".to_owned(), requirements.display().to_string()])
        .run(INSTALL_TIMEOUT)?;
    std::fs::rename(&half, &folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// A program of Go, with the version that `.env` gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GoProgram {
    name: &'static str,
    package: &'static str,
    version: &'static str,
}

/// Calls gRPC services from a terminal.
pub const GRPCURL: GoProgram = GoProgram {
    name: "grpcurl",
    package: "github.com/fullstorydev/grpcurl/cmd/grpcurl",
    version: "GRPCURL_VERSION",
};
/// Generates Go messages.
pub const PROTOC_GEN_GO: GoProgram = GoProgram {
    name: "protoc-gen-go",
    package: "google.golang.org/protobuf/cmd/protoc-gen-go",
    version: "PROTOC_GEN_GO_VERSION",
};
/// Generates Go clients.
pub const PROTOC_GEN_GO_GRPC: GoProgram = GoProgram {
    name: "protoc-gen-go-grpc",
    package: "google.golang.org/grpc/cmd/protoc-gen-go-grpc",
    version: "PROTOC_GEN_GO_GRPC_VERSION",
};
/// Generates JSON Schemas.
pub const PROTOC_GEN_JSONSCHEMA: GoProgram = GoProgram {
    name: "protoc-gen-jsonschema",
    package: "github.com/bufbuild/protoschema-plugins/cmd/protoc-gen-jsonschema",
    version: "PROTOC_GEN_JSONSCHEMA_VERSION",
};
/// Every program of Go that the tests use.
pub const GO_PROGRAMS: [GoProgram; 4] = [GRPCURL, PROTOC_GEN_GO, PROTOC_GEN_GO_GRPC, PROTOC_GEN_JSONSCHEMA];

impl GoProgram {
    /// Where it is, in a folder of its own; builds it unless it is there.
    ///
    /// # Errors
    ///
    /// When Go is missing or cannot build it.
    pub fn path(self) -> Result<PathBuf> {
        let Self { name, package, version } = self;
        let version = Settings::get().value(version)?;
        let folder = workspace::cache().join("go").join(format!("{name}@{version}"));
        let program = folder.join(name);
        if !program.exists() {
            self.build(&folder, &format!("{package}@v{version}"))?;
        }
        Ok(program)
    }

    fn build(self, folder: &Path, package: &str) -> Result<()> {
        Launch::new(&format!("go install {}", self.name), "go", workspace::data().join("logs/go.log"))
            .env("GOBIN", folder.display().to_string())
            .args(["install", package])
            .run(INSTALL_TIMEOUT)
            .with_context(|| format!("{} is a program of Go", self.name))
    }
}
