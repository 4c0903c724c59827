//! TLS from PEM files: the certificate of a port, which is followed while the process runs, and whom a client trusts.
//!
//! ```text
//! cert, key, client CA ──read each second──► changed and usable? ──► new handshakes; open connections go on as they are
//!                                                 └ no: the old one stays, said in the log and on /readyz
//! ```
//!
//! What is said of a file never holds a piece of it.

mod client;

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use metrics::gauge;
use rustls::{
    Error, InconsistentKeys, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
    sign::{CertifiedKey, SingleCertAndKey},
};
use tokio::sync::watch;
use tracing::info;
use x509_cert::{Certificate, der::Decode as _};

pub use self::client::{File, Trust};
use crate::{
    follow::Follower, health::Readiness, process::Misconfigured, settings::TlsSettings, shutdown::Shutdown,
};

pub(crate) const CERTIFICATE: &str = "TAILRACE_TLS_CERT_FILE";
pub(crate) const KEY: &str = "TAILRACE_TLS_KEY_FILE";
const CLIENT_CA: &str = "TAILRACE_TLS_CLIENT_CA_FILE";
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// What a handshake that begins now is done with.
pub(crate) type Current = watch::Receiver<Arc<ServerConfig>>;

/// The TLS of a port, and the files that it comes from.
pub(crate) struct PortTls {
    paths: Paths,
    read: Files,
    current: watch::Sender<Arc<ServerConfig>>,
}

#[derive(Clone)]
struct Paths {
    certificate: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
}

/// The bytes of the files.
#[derive(Eq, PartialEq)]
struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl PortTls {
    /// As the settings say; None: plaintext.
    pub(crate) fn load(settings: &TlsSettings) -> Result<Option<Self>, Misconfigured> {
        let Some(paths) = Paths::of(settings)? else { return Ok(None) };
        let read = paths.read().map_err(Misconfigured::new)?;
        let config = paths.config(&read).map_err(Misconfigured::new)?;
        Ok(Some(Self { paths, read, current: watch::Sender::new(config) }))
    }

    /// What handshakes are done with, now and later.
    pub(crate) fn current(&self) -> Current {
        self.current.subscribe()
    }

    /// Follows the files until shutdown is requested.
    pub(crate) async fn follow(mut self, readiness: Readiness, shutdown: Shutdown) {
        let mut follower = Follower::new("the certificate", readiness.remark("certificate"));
        loop {
            let paths = self.paths.clone();
            let changed = || {
                let found = paths.read()?;
                let config = if found == self.read { None } else { Some(paths.config(&found)?) };
                Ok(config.map(|config| (found, config)))
            };
            let changed = tokio::select! {
                changed = follower.next(changed) => changed,
                () = shutdown.wait() => return,
            };
            if let Some(Some((found, config))) = changed {
                info!(file = %self.paths.certificate.display(), "new connections get the new certificate");
                self.read = found;
                self.current.send_replace(config);
            }
        }
    }
}

impl fmt::Debug for PortTls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("PortTls")
            .field("certificate", &self.paths.certificate)
            .finish_non_exhaustive()
    }
}

impl Paths {
    fn of(settings: &TlsSettings) -> Result<Option<Self>, Misconfigured> {
        let client_ca = settings.tls_client_ca_file.clone();
        let pair = pair((CERTIFICATE, &settings.tls_cert_file), (KEY, &settings.tls_key_file))?;
        match pair {
            Some((certificate, key)) => Ok(Some(Self { certificate, key, client_ca })),
            None if client_ca.is_some() => Err(Misconfigured::new(format!(
                "{CLIENT_CA}: clients show certificates over TLS only; set {CERTIFICATE} and {KEY} too"
            ))),
            None => Ok(None),
        }
    }

    fn read(&self) -> Result<Files, String> {
        Ok(Files {
            certificate: read(CERTIFICATE, &self.certificate)?,
            key: read(KEY, &self.key)?,
            client_ca: self.client_ca.as_deref().map(|path| read(CLIENT_CA, path)).transpose()?,
        })
    }

    fn config(&self, files: &Files) -> Result<Arc<ServerConfig>, String> {
        let provider = provider();
        let certified = certified(
            (CERTIFICATE, &self.certificate, &files.certificate),
            (KEY, &self.key, &files.key),
            &provider,
        )?;
        let ends_at = certified.cert.first().and_then(|leaf| ends_at(leaf));
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let builder = match (&self.client_ca, &files.client_ca) {
            (Some(path), Some(pem)) => {
                let roots = Arc::new(roots(CLIENT_CA, path, pem)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
                builder.with_client_cert_verifier(verifier.map_err(|error| said(CLIENT_CA, path, error))?)
            }
            _ => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        // Of files that are taken, all three.
        if let Some(ends_at) = ends_at {
            gauge!("rpc_server_certificate_expires_timestamp_seconds").set(ends_at);
        }
        Ok(Arc::new(config))
    }
}

/// Two settings that are given together or not at all.
fn pair(
    one: (&str, &Option<PathBuf>),
    other: (&str, &Option<PathBuf>),
) -> Result<Option<(PathBuf, PathBuf)>, Misconfigured> {
    let alone = |given: &str, missing: &str| {
        Misconfigured::new(format!("{missing}: {given} is set, and needs it; set both or neither"))
    };
    match (one.1, other.1) {
        (Some(first), Some(second)) => Ok(Some((first.clone(), second.clone()))),
        (Some(_), None) => Err(alone(one.0, other.0)),
        (None, Some(_)) => Err(alone(other.0, one.0)),
        (None, None) => Ok(None),
    }
}

/// The authorities in a file of the setting.
pub(crate) fn roots_of(setting: &str, path: &Path) -> Result<RootCertStore, Misconfigured> {
    read(setting, path).and_then(|pem| roots(setting, path, &pem)).map_err(Misconfigured::new)
}

/// The provider that every TLS connection of the process uses.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn roots(setting: &str, path: &Path, pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(setting, path, pem)? {
        roots.add(certificate).map_err(|error| said(setting, path, error))?;
    }
    Ok(roots)
}

fn certificates(setting: &str, path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    // What the parser says may quote the file.
    found.ok().filter(|found| !found.is_empty()).ok_or_else(|| {
        said(setting, path, "holds no certificate that can be read; give PEM, -----BEGIN CERTIFICATE-----")
    })
}

type Named<'a> = (&'a str, &'a Path, &'a [u8]);

/// A certificate with the key that was made for it.
fn certified(
    certificate: Named<'_>,
    key: Named<'_>,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, String> {
    let (setting, path, pem) = certificate;
    let chain = certificates(setting, path, pem)?;
    let (key_setting, key_path, key_pem) = key;
    let refused = |why: &str| said(key_setting, key_path, why);
    let der = PrivateKeyDer::from_pem_slice(key_pem).map_err(|_| {
        refused("holds no key that can be read; give PEM, -----BEGIN PRIVATE KEY-----, not encrypted")
    })?;
    let signing = provider
        .key_provider
        .load_private_key(der)
        .map_err(|_| refused("is no RSA, ECDSA or EdDSA key that can be used; make another"))?;
    let certified = CertifiedKey::new(chain, signing);
    match certified.keys_match() {
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(Error::InconsistentKeys(_)) => {
            let why = format!(
                "is not the key of the certificate in {}; give the two that belong together",
                path.display()
            );
            Err(refused(&why))
        }
        Err(error) => Err(said(setting, path, error)),
    }
}

fn ends_at(leaf: &CertificateDer<'_>) -> Option<f64> {
    let certificate = Certificate::from_der(leaf).ok()?;
    Some(certificate.tbs_certificate.validity.not_after.to_unix_duration().as_secs_f64())
}

fn read(setting: &str, path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| said(setting, path, format!("cannot be read: {error}; give a PEM file")))
}

fn said(setting: &str, path: &Path, why: impl fmt::Display) -> String {
    format!("{setting}: {}: {why}", path.display())
}
