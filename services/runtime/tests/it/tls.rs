//! TLS of a gRPC port: who may talk to whom, and certificates that change while calls flow.

use std::{fs, net::SocketAddr, os::unix::fs::symlink, path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use service_testing::{Authority, CertificateAuthority, until};
use tailrace_runtime::{auth::Verifier, grpc, settings::AuthSettings, tls::Trust};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::{
    Code, Status,
    service::Routes,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
    health_client::HealthClient,
};

use crate::{
    certificates::{Folder, HOST},
    support::{DEADLINE, Server, grpc_settings},
};

const CHECK: &str = "POST /grpc.health.v1.Health/Check HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
                     content-type: application/grpc-web+proto\r\ncontent-length: 5\r\n\r\n\0\0\0\0\0";

/// A folder with an authority and a certificate of it.
struct Operator {
    authority: CertificateAuthority,
    folder: Folder,
}

impl Operator {
    fn new() -> Self {
        let operator = Self { authority: CertificateAuthority::new(), folder: Folder::new() };
        operator.folder.put("ca.pem", &operator.authority.pem());
        operator.renew();
        operator
    }

    /// Puts a new certificate and its key in the place of the old; gives the certificate.
    fn renew(&self) -> CertificateDer<'static> {
        let (certificate, key) = self.authority.sign(HOST);
        self.folder.put("key.pem", &key);
        self.folder.put("cert.pem", &certificate);
        CertificateDer::from_pem_slice(certificate.as_bytes()).expect("a certificate")
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    async fn start(&self, more: &[&str]) -> Server {
        self.serve(Routes::default(), more).await
    }

    async fn serve(&self, routes: Routes, more: &[&str]) -> Server {
        let (certificate, key) = (self.file("cert.pem"), self.file("key.pem"));
        let arguments = ["--tls-cert-file", &certificate, "--tls-key-file", &key];
        Server::start_with(routes, &[arguments.as_slice(), more].concat()).await
    }

    fn trust(&self) -> Trust {
        trust(self.folder.path(), None)
    }
}

fn trust(folder: &Path, shown: Option<&Path>) -> Trust {
    let (ca, cert) = (Some(folder.join("ca.pem")), shown.map(|folder| folder.join("cert.pem")));
    let key = shown.map(|folder| folder.join("key.pem"));
    Trust::from_files(("CA", &ca), ("CERT", &cert), ("KEY", &key)).expect("files")
}

fn channel(trust: &Trust, address: SocketAddr) -> Channel {
    let url = format!("https://{HOST}:{}", address.port());
    trust.connect_lazy(&Endpoint::from_shared(url).expect("a URL"))
}

async fn check(channel: Channel) -> Result<HealthCheckResponse, Status> {
    let call = async { HealthClient::new(channel).check(HealthCheckRequest::default()).await };
    timeout(DEADLINE, call).await.expect("an answer").map(tonic::Response::into_inner)
}

/// A handshake by hand, without a client certificate.
async fn handshake(operator: &Operator, address: SocketAddr, protocol: &str) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_slice(operator.authority.pem().as_bytes()).expect("a certificate");
    roots.add(ca).expect("an authority");
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let stream = TcpStream::connect(address).await.expect("it listens");
    let name = ServerName::try_from(HOST).expect("a name");
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("a handshake")
}

/// What a new connection is shown.
async fn shown(operator: &Operator, address: SocketAddr) -> CertificateDer<'static> {
    let stream = handshake(operator, address, "h2").await;
    let certificates = stream.get_ref().1.peer_certificates().expect("a certificate");
    certificates[0].clone().into_owned()
}

#[tokio::test]
async fn who_trusts_the_authority_is_served_and_nobody_else_is() {
    let operator = Operator::new();
    let server = operator.start(&[]).await;
    check(channel(&operator.trust(), server.address)).await.expect("served");

    let stranger = Operator::new();
    let refused = check(channel(&stranger.trust(), server.address)).await.expect_err("another authority");
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    let refused = check(server.channel()).await.expect_err("plaintext");
    assert!(matches!(refused.code(), Code::Unavailable | Code::Unknown), "{refused}");
    server.stop().await;
}

#[tokio::test]
async fn browsers_call_over_http_1_and_tls() {
    let operator = Operator::new();
    let server = operator.start(&[]).await;
    let mut stream = handshake(&operator, server.address, "http/1.1").await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"http/1.1".as_slice()));
    stream.write_all(CHECK.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    timeout(DEADLINE, stream.read_to_end(&mut answer)).await.expect("an answer").expect("to its end");
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("grpc-status:0"), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn where_clients_have_certificates_none_is_served_without() {
    let operator = Operator::new();
    let clients = Operator::new();
    let ca = clients.file("ca.pem");
    let server = operator.start(&["--tls-client-ca-file", &ca]).await;
    let own = operator.folder.path();
    check(channel(&trust(own, Some(clients.folder.path())), server.address)).await.expect("served");
    for shown in [None, Some(own)] {
        let refused =
            check(channel(&trust(own, shown), server.address)).await.expect_err("not one of theirs");
        assert!(matches!(refused.code(), Code::Unavailable | Code::Unknown), "{shown:?}: {refused}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_new_certificate_is_for_new_connections_and_a_bad_one_for_none() {
    let operator = Operator::new();
    let server = operator.start(&[]).await;
    let mut health = HealthClient::new(channel(&operator.trust(), server.address));
    let mut open = health.watch(HealthCheckRequest::default()).await.expect("a stream").into_inner();
    open.message().await.expect("open").expect("a first answer");

    let second = operator.renew();
    until("the second certificate", async || shown(&operator, server.address).await == second).await;

    operator.folder.put("cert.pem", "no certificate at all");
    let readiness = &server.context.readiness;
    until("the problem being told", async || {
        readiness.to_string().contains("certificate: TAILRACE_TLS_CERT_FILE:")
    })
    .await;
    assert!(readiness.ready(), "the process works on");
    assert_eq!(shown(&operator, server.address).await, second, "the bad one changes nothing");

    let third = operator.renew();
    until("the third certificate", async || shown(&operator, server.address).await == third).await;
    assert!(readiness.to_string().contains("certificate: ok"), "{readiness}");

    server.condition.fail("gone");
    let told = async {
        while open.message().await.expect("open").expect("open").status() != ServingStatus::NotServing {}
    };
    timeout(DEADLINE, told).await.expect("the connection of the first certificate goes on");
    server.stop().await;
}

#[tokio::test]
async fn a_folder_that_is_changed_by_its_link_is_followed() {
    let operator = Operator::new();
    let folder = Folder::new();
    // As Kubernetes mounts a secret: the files are links through a link to a folder, and that link is changed.
    let put = |version: &str| {
        let (certificate, key) = operator.authority.sign(HOST);
        let files = folder.path().join(version);
        fs::create_dir(&files).expect("a folder");
        fs::write(files.join("tls.crt"), &certificate).expect("written");
        fs::write(files.join("tls.key"), &key).expect("written");
        symlink(version, folder.path().join("..data_tmp")).expect("a link");
        fs::rename(folder.path().join("..data_tmp"), folder.path().join("..data")).expect("renamed");
        CertificateDer::from_pem_slice(certificate.as_bytes()).expect("a certificate")
    };
    let first = put("..1");
    for name in ["tls.crt", "tls.key"] {
        symlink(Path::new("..data").join(name), folder.path().join(name)).expect("a link");
    }
    let file = |name: &str| folder.path().join(name).display().to_string();
    let arguments = ["--tls-cert-file", &file("tls.crt"), "--tls-key-file", &file("tls.key")];
    let server = Server::start(&arguments).await;
    assert_eq!(shown(&operator, server.address).await, first);
    let second = put("..2");
    until("the second certificate", async || shown(&operator, server.address).await == second).await;
    server.stop().await;
}

#[test]
fn what_cannot_be_used_is_refused_with_its_mend_and_nothing_secret() {
    let operator = Operator::new();
    let other = Operator::new();
    let secret = fs::read_to_string(operator.file("key.pem")).expect("a key");
    operator.folder.put("garbage.pem", &secret.replace("-----BEGIN PRIVATE KEY-----\n", "-----BEGIN "));
    operator.folder.put("cut.pem", &secret[..secret.len() / 2]);
    let file = |name: &str| operator.file(name);
    let refused = |arguments: &[&str]| {
        let problem = grpc::check(&grpc_settings(arguments)).expect_err("refused").to_string();
        assert_eq!(problem.lines().count(), 1, "{problem}");
        for line in secret.lines().filter(|line| !line.starts_with("-----")) {
            assert!(!problem.contains(&line[..16]), "{problem}");
        }
        problem
    };
    let (cert, key) = (file("cert.pem"), file("key.pem"));
    grpc::check(&grpc_settings(&["--tls-cert-file", &cert, "--tls-key-file", &key])).expect("fits");

    let pair = |cert: &str, key: &str| refused(&["--tls-cert-file", cert, "--tls-key-file", key]);
    let missing = pair(&file("absent.pem"), &key);
    assert!(missing.contains("TAILRACE_TLS_CERT_FILE") && missing.contains("No such file"), "{missing}");
    assert!(pair(&cert, &file("garbage.pem")).contains("TAILRACE_TLS_KEY_FILE"));
    assert!(pair(&cert, &file("cut.pem")).contains("give PEM"));
    assert!(pair(&file("garbage.pem"), &key).contains("-----BEGIN CERTIFICATE-----"));
    assert!(pair(&cert, &other.file("key.pem")).contains("is not the key of the certificate"));
    assert!(refused(&["--tls-cert-file", &cert]).starts_with("TAILRACE_TLS_KEY_FILE: "));
    assert!(refused(&["--tls-key-file", &key]).starts_with("TAILRACE_TLS_CERT_FILE: "));
    assert!(refused(&["--tls-client-ca-file", &cert]).starts_with("TAILRACE_TLS_CLIENT_CA_FILE: "));
    let ca = ["--tls-cert-file", &cert, "--tls-key-file", &key, "--tls-client-ca-file", &key];
    assert!(refused(&ca).starts_with("TAILRACE_TLS_CLIENT_CA_FILE: "));
    assert!(refused(&["--first-bytes-timeout", "0s"]).starts_with("TAILRACE_FIRST_BYTES_TIMEOUT: "));
}

#[tokio::test]
async fn the_keys_that_verify_tokens_are_asked_for_over_https() {
    let operator = Operator::new();
    let tokens = Authority::generate();
    let clients = Operator::new();
    let (client_ca, ca) = (clients.file("ca.pem"), operator.folder.path().join("ca.pem"));
    let publisher = Routes::new(tokens.publisher());
    let server = operator.serve(publisher, &["--tls-client-ca-file", &client_ca]).await;
    let settings = AuthSettings {
        auth_keys_url: format!("https://{HOST}:{}", server.address.port()),
        auth_keys_ca_file: Some(ca),
        auth_keys_cert_file: Some(clients.folder.path().join("cert.pem")),
        auth_keys_key_file: Some(clients.folder.path().join("key.pem")),
    };
    let token = tokens.token("users/ada", &[]);
    let verifier = Verifier::connect(&settings).expect("settings");
    verifier.verify(&token).await.expect("a principal");

    let elsewhere = AuthSettings { auth_keys_ca_file: Some(client_ca.into()), ..settings.clone() };
    let verifier = Verifier::connect(&elsewhere).expect("settings");
    assert_eq!(verifier.verify(&token).await.expect_err("another authority").code(), Code::Unavailable);
    let nobody = AuthSettings { auth_keys_ca_file: None, ..settings };
    let problem = Verifier::check(&nobody).expect_err("whom to trust?").to_string();
    assert!(problem.starts_with("TAILRACE_AUTH_KEYS_CA_FILE: "), "{problem}");
    server.stop().await;
}
