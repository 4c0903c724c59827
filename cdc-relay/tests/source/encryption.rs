//! TLS, what it trusts, and the password bound to it.

use std::sync::Arc;

use cdc_relay::source::{
    Catalog, ReplicationConnection, ReplicationOptions, Secret, SourceError, SourceErrorKind, TlsMode,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, ServerConfig, WantsVerifier};
use service_testing::CertificateAuthority;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::server_files::put;
use crate::support::{Server, eventually};

/// A server with TLS, and its authority.
async fn encrypted_server(host: &str) -> (Server, CertificateAuthority) {
    let server = Server::start(&[]).await;
    let authority = CertificateAuthority::new();
    let (certificate, key) = authority.sign(host);
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
async fn a_verified_connection_is_encrypted() {
    let (server, authority) = encrypted_server("127.0.0.1").await;
    let database = server.database().await;
    let mut options = database.options();
    options.tls = TlsMode::verify_full(authority.pem().as_bytes()).unwrap();
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
    options.tls = TlsMode::verify_full(CertificateAuthority::new().pem().as_bytes()).unwrap();
    refused(&options).await;
    options.tls = TlsMode::Require;
    ReplicationConnection::connect(&options).await.unwrap();
    Catalog::connect(&options).await.unwrap();
}

#[tokio::test]
async fn someone_in_the_middle_gets_no_session_even_where_certificates_are_not_verified() {
    let (server, authority) = encrypted_server("127.0.0.1").await;
    let mut options = server.database().await.options();
    options.tls = TlsMode::Require;
    ReplicationConnection::connect(&options).await.unwrap();
    options.port =
        man_in_the_middle(options.port, &authority, &CertificateAuthority::new(), Offer::AsItIs).await;
    let error =
        ReplicationConnection::connect(&options).await.err().expect("the proof is bound to the certificate");
    assert_eq!(error.kind(), SourceErrorKind::Denied, "{error}");
    assert!(error.to_string().contains("channel binding check failed"), "{error}");
}

#[tokio::test]
async fn a_channel_binding_that_is_taken_out_of_the_offer_is_noticed() {
    let (server, authority) = encrypted_server("127.0.0.1").await;
    let mut options = server.database().await.options();
    // Even someone with a certificate of the right authority.
    options.tls = TlsMode::verify_full(authority.pem().as_bytes()).unwrap();
    let server_port = options.port;
    options.port = man_in_the_middle(server_port, &authority, &authority, Offer::WithoutBinding).await;
    let error =
        ReplicationConnection::connect(&options).await.err().expect("the server knows what it offered");
    assert_eq!(error.kind(), SourceErrorKind::Denied, "{error}");
    assert!(error.to_string().contains("channel binding"), "{error}");

    options.channel_binding_required = true;
    options.port = man_in_the_middle(server_port, &authority, &authority, Offer::WithoutBinding).await;
    unbound(ReplicationConnection::connect(&options).await.err());
    options.port = man_in_the_middle(server_port, &authority, &authority, Offer::WithoutBinding).await;
    unbound(Catalog::connect(&options).await.err());
    options.port = server_port;
    ReplicationConnection::connect(&options).await.unwrap();
    Catalog::connect(&options).await.unwrap();
}

#[tokio::test]
async fn where_a_bound_password_is_required_no_other_way_in_is_taken() {
    let (server, authority) = encrypted_server("127.0.0.1").await;
    let mut options = server.database().await.options();
    options.tls = TlsMode::verify_full(authority.pem().as_bytes()).unwrap();
    options.channel_binding_required = true;
    for way in ["trust", "password"] {
        let hba = format!(
            "host all postgres 127.0.0.1/32 scram-sha-256\nhostssl all cdc_relay 127.0.0.1/32 {way}\n"
        );
        put(&server.scratch.path().join("postgres"), "pg_hba.conf", &hba);
        server.client("postgres").await.batch_execute("select pg_reload_conf()").await.unwrap();
        eventually("the server no longer asks for SCRAM", async || {
            ReplicationConnection::connect(&options).await.is_err()
        })
        .await;
        unbound(ReplicationConnection::connect(&options).await.err());
        unbound(Catalog::connect(&options).await.err());
    }
}

fn unbound(error: Option<SourceError>) {
    let error = error.expect("a refusal");
    assert_eq!(error.kind(), SourceErrorKind::Denied, "{error}");
    assert!(error.to_string().contains("does not bind the password to the TLS connection"), "{error}");
}

#[tokio::test]
async fn a_password_is_not_sent_in_clear_text_to_a_server_that_is_not_verified() {
    let mut options = ReplicationOptions::new("127.0.0.1", 0, "cdc_relay", "users");
    options.password = Some(Secret::new("the password"));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    options.port = listener.local_addr().unwrap().port();
    let connect = ReplicationConnection::connect(&options);
    let server = async {
        let (mut client, _) = listener.accept().await.unwrap();
        client.write_all(b"R\0\0\0\x08\0\0\0\x03").await.unwrap();
        let mut heard = Vec::new();
        // The client hangs up over our question, which may break the connection rather than end it.
        let _ = client.read_to_end(&mut heard).await;
        heard
    };
    let (connected, heard) = tokio::join!(connect, server);
    let error = connected.err().expect("a refusal");
    assert_eq!(error.kind(), SourceErrorKind::Denied, "{error}");
    assert!(error.to_string().contains("in clear text"), "{error}");
    assert!(!heard.windows(12).any(|window| window == b"the password"));
}

#[tokio::test]
async fn a_certificate_for_another_host_is_refused() {
    let (server, authority) = encrypted_server("elsewhere.example").await;
    let mut options = server.database().await.options();
    options.tls = TlsMode::verify_full(authority.pem().as_bytes()).unwrap();
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

/// What someone in the middle makes of the server's offer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Offer {
    AsItIs,
    WithoutBinding,
}

/// Takes one connection under a certificate of `theirs` and passes everything on to the true server.
async fn man_in_the_middle(
    server_port: u16,
    server_authority: &CertificateAuthority,
    theirs: &CertificateAuthority,
    offer: Offer,
) -> u16 {
    let (certificate, key) = theirs.sign("127.0.0.1");
    let certificates = CertificateDer::pem_slice_iter(certificate.as_bytes()).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let config = server_builder().with_no_client_auth().with_single_cert(certificates, key).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(server_authority.pem().as_bytes()).unwrap()).unwrap();
    let connector =
        TlsConnector::from(Arc::new(client_builder().with_root_certificates(roots).with_no_client_auth()));

    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tailrace_runtime::task::spawn("man in the middle", async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut server = TcpStream::connect(("127.0.0.1", server_port)).await.unwrap();
        let mut request = [0; 8];
        client.read_exact(&mut request).await.unwrap();
        server.write_all(&request).await.unwrap();
        client.write_u8(server.read_u8().await.unwrap()).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let mut server = connector.connect(name, server).await.unwrap();
        let mut client = TlsAcceptor::from(Arc::new(config)).accept(client).await.unwrap();
        if offer == Offer::WithoutBinding {
            let start_up = read_message(&mut client, 0).await;
            server.write_all(&start_up).await.unwrap();
            let asked = read_message(&mut server, 1).await;
            client.write_all(&without_binding(&asked)).await.unwrap();
        }
        // It ends when either side leaves, politely or not.
        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
    });
    port
}

/// A message whose length stands behind a tag of so many bytes.
async fn read_message(from: &mut (impl AsyncRead + Unpin), tag_bytes: usize) -> Vec<u8> {
    let mut message = vec![0; tag_bytes + 4];
    from.read_exact(&mut message).await.unwrap();
    let length = u32::from_be_bytes(message[tag_bytes..].try_into().unwrap());
    message.resize(tag_bytes + usize::try_from(length).unwrap(), 0);
    from.read_exact(&mut message[tag_bytes + 4..]).await.unwrap();
    message
}

/// The server's list of mechanisms, without the one that binds.
fn without_binding(asked: &[u8]) -> Vec<u8> {
    const BINDING: &[u8] = b"SCRAM-SHA-256-PLUS\0";
    let at = asked.windows(BINDING.len()).position(|window| window == BINDING).expect("the server offers it");
    let mut rest = [&asked[..at], &asked[at + BINDING.len()..]].concat();
    let length = u32::try_from(rest.len() - 1).unwrap();
    rest[1..5].copy_from_slice(&length.to_be_bytes());
    rest
}

fn server_builder() -> ConfigBuilder<ServerConfig, WantsVerifier> {
    ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
}

fn client_builder() -> ConfigBuilder<ClientConfig, WantsVerifier> {
    ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
}
