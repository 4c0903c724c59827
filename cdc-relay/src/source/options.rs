//! How to reach one source. Already parsed; nothing here reads a file or the environment.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use replication_protocol::frame::FRAME_BYTES_MAX_DEFAULT;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

/// How to reach one source.
#[derive(Debug, Clone)]
pub struct ReplicationOptions {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The role; it needs REPLICATION.
    pub user: String,
    /// Its password, if the server asks for one.
    pub password: Option<Secret>,
    /// The database the slot belongs to.
    pub database: String,
    /// How the relay appears in `pg_stat_activity`; also what tells our own processes from others'.
    pub application_name: String,
    /// Whether and how the way there is encrypted.
    pub tls: TlsMode,
    /// Whether the password must be bound to the TLS connection: then no other way to authenticate is taken.
    pub channel_binding_required: bool,
    /// Longest wait for a connection, and for the answer to a command on it.
    pub connect_timeout: Duration,
    /// After how long without a status from us the server may end the stream.
    pub wal_sender_timeout: Duration,
    /// Bytes of the longest frame that is taken, which bounds a row.
    pub frame_bytes_max: usize,
}

impl ReplicationOptions {
    /// The defaults, and what has none.
    pub fn new(
        host: impl Into<String>,
        port: u16,
        user: impl Into<String>,
        database: impl Into<String>,
    ) -> Self {
        Self {
            host: host.into(),
            port,
            user: user.into(),
            password: None,
            database: database.into(),
            application_name: "cdc-relay".to_owned(),
            tls: TlsMode::Disable,
            channel_binding_required: false,
            connect_timeout: Duration::from_secs(10),
            wal_sender_timeout: Duration::from_secs(30),
            frame_bytes_max: FRAME_BYTES_MAX_DEFAULT,
        }
    }
}

/// Whether and how the way to Postgres is encrypted.
#[derive(Debug, Clone)]
pub enum TlsMode {
    /// Not at all.
    Disable,
    /// Encrypted; the certificate is not verified. Keeps listeners out. Someone in the middle gets neither the password
    /// in clear text nor a session with it, as long as the server asks for SCRAM.
    Require,
    /// Encrypted; the certificate must be signed by one of these and be made out to the host.
    VerifyFull(Arc<RootCertStore>),
}

impl TlsMode {
    /// [`TlsMode::VerifyFull`] with the certificates of a PEM file.
    ///
    /// # Errors
    /// If there is no certificate in it, or one that cannot be read.
    pub fn verify_full(pem: &[u8]) -> Result<Self, PemError> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            roots.add(certificate.map_err(|_| PemError(()))?).map_err(|_| PemError(()))?;
        }
        if roots.is_empty() { Err(PemError(())) } else { Ok(Self::VerifyFull(Arc::new(roots))) }
    }
}

/// No usable certificate authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected one or more certificates in PEM form")]
pub struct PemError(());

/// Text that is never printed.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::{ReplicationOptions, Secret, TlsMode};

    #[test]
    fn a_secret_is_not_printed() {
        let mut options = ReplicationOptions::new("localhost", 5432, "relay", "users");
        options.password = Some(Secret::new("hunter2"));
        assert!(!format!("{options:?}").contains("hunter2"));
    }

    #[test]
    fn a_file_without_a_certificate_is_refused() {
        assert!(TlsMode::verify_full(b"").is_err());
        assert!(
            TlsMode::verify_full(b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n").is_err()
        );
    }
}
