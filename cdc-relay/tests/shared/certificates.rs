//! Certificates of the tests' own authorities, and a server of Postgres that has one.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

/// A certificate authority.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// One that nobody trusts yet.
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new([]).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pair = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, pair).expect("a certificate of its own"))
    }

    /// Its own certificate.
    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for the host, and its key.
    pub(crate) fn certificate(&self, host: &str) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new([host.to_owned()]).expect("a host");
        let leaf = params.signed_by(&key, &self.0).expect("a certificate");
        (leaf.pem(), key.serialize_pem())
    }
}

/// Writes a file of the server's, as private as it demands of its key.
pub(crate) fn put(data: &Path, name: &str, text: &str) {
    let path = data.join(name);
    std::fs::write(&path, text).expect("a file of the server's");
    let owner = data.metadata().expect("the server's folder");
    chown(&path, Some(owner.uid()), Some(owner.gid())).expect("its owner");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("its permissions");
}
