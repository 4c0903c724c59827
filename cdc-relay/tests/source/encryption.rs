//! TLS, what it trusts, and the password bound to it.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;

use cdc_relay::source::{Catalog, ReplicationConnection, ReplicationOptions, SourceErrorKind, TlsMode};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::support::{Server, eventually};

/// A server with TLS, and its authority.
async fn encrypted_server(host: &str) -> (Server, String) {
    let server = Server::start(&[]).await;
    let (authority, certificate, key) = certificate(host);
    let data = server.scratch.path().join("postgres");
    put(&data, "server.crt", &certificate);
    put(&data, "server.key", &key);
    let client = server.client("postgres").await;
    client.batch_execute("alter system set ssl = on").await.unwrap();
    client.batch_execute("select pg_reload_conf()").await.unwrap();
    eventually("TLS is on", async || {
        // A new process has the new setting.
        let row = server.client("postgres").await.query_one("show ssl", &[]).await.unwrap();
        row.get::<_, String>(0) == "on"
    })
    .await;
    (server, authority)
}

fn certificate(host: &str) -> (String, String, String) {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new([host.to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
    (authority.pem(), leaf.pem(), key.serialize_pem())
}

/// A file of the server's, as private as it demands of its key.
fn put(data: &Path, name: &str, text: &str) {
    let path = data.join(name);
    std::fs::write(&path, text).unwrap();
    let owner = data.metadata().unwrap();
    chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

async fn refused(options: &ReplicationOptions) {
    for error in [
        ReplicationConnection::connect(options).await.err().expect("a refusal"),
        Catalog::connect(options).await.err().expect("a refusal"),
    ] {
        assert_eq!(error.kind(), SourceErrorKind::Denied, "{error}");
        assert!(error.to_string().contains("the TLS handshake failed; the certificate must"), "{error}");
    }
}

#[tokio::test]
async fn a_verified_connection_is_encrypted_and_its_password_bound_to_it() {
    let (server, authority) = encrypted_server("127.0.0.1").await;
    let database = server.database().await;
    let mut options = database.options();
    options.tls = TlsMode::verify_full(authority.as_bytes()).unwrap();
    // Without a bound password there is no way in: the server offers only the mechanism that binds.
    let connection = ReplicationConnection::connect(&options).await.unwrap();
    let sql = "select ssl from pg_stat_ssl where pid = $1";
    let row = database.client.query_one(sql, &[&connection.backend_pid()]).await.unwrap();
    assert!(row.get::<_, bool>(0));
    let catalog = Catalog::connect(&options).await.unwrap();
    assert_eq!(catalog.wal_level().await.unwrap(), "logical");
}

#[tokio::test]
async fn an_unknown_authority_is_refused_and_require_does_not_ask() {
    let (server, _) = encrypted_server("127.0.0.1").await;
    let mut options = server.database().await.options();
    let (another_authority, _, _) = certificate("127.0.0.1");
    options.tls = TlsMode::verify_full(another_authority.as_bytes()).unwrap();
    refused(&options).await;
    options.tls = TlsMode::Require;
    ReplicationConnection::connect(&options).await.unwrap();
    Catalog::connect(&options).await.unwrap();
}

#[tokio::test]
async fn a_certificate_for_another_host_is_refused() {
    let (server, authority) = encrypted_server("elsewhere.example").await;
    let mut options = server.database().await.options();
    options.tls = TlsMode::verify_full(authority.as_bytes()).unwrap();
    refused(&options).await;
}

#[tokio::test]
async fn a_server_without_tls_is_refused_when_tls_is_asked_for() {
    let mut options = Server::shared().await.database().await.options();
    options.tls = TlsMode::Require;
    let error = ReplicationConnection::connect(&options).await.err().unwrap();
    assert_eq!(error.kind(), SourceErrorKind::Denied, "{error}");
    assert!(error.to_string().contains("does not offer TLS; set ssl = on"), "{error}");
}
