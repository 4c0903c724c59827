//! How our own connections to brokers are encrypted and authenticated: by the properties that librdkafka has, in its words.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rsasl::config::SASLConfig;
use rsasl::mechname::Mechname;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::config::KafkaConfig;

/// The mechanisms that work here. The client library has others.
const MECHANISMS: [&str; 3] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];

/// What a connection is read from and written to.
pub(super) trait Stream: Read + Write + Send {}

impl<S: Read + Write + Send> Stream for S {}

/// How every connection to the cluster is made.
pub(super) struct Security {
    tls: Option<Arc<ClientConfig>>,
    pub(super) sasl: Option<Sasl>,
}

/// Who we say we are.
pub(super) struct Sasl {
    pub(super) mechanism: &'static Mechname,
    pub(super) config: Arc<SASLConfig>,
}

impl Security {
    /// By these properties.
    ///
    /// # Errors
    /// Naming the property that only the client library can follow.
    pub(super) fn of(config: &KafkaConfig) -> Result<Self, String> {
        let mut properties = Properties(config.properties.clone());
        let protocol = properties.take("security.protocol").unwrap_or_default().to_ascii_lowercase();
        let (encrypted, authenticated) = match protocol.as_str() {
            "" | "plaintext" => (false, false),
            "ssl" => (true, false),
            "sasl_plaintext" => (false, true),
            "sasl_ssl" => (true, true),
            other => return Err(format!("security.protocol = {other:?} is not known")),
        };
        let tls = encrypted.then(|| tls(&mut properties)).transpose()?.map(Arc::new);
        let sasl = authenticated.then(|| sasl(&mut properties)).transpose()?;
        properties.check_all_taken(encrypted, authenticated)?;
        Ok(Self { tls, sasl })
    }

    /// The connection to `host`, encrypted if it is to be. See [`is_certificate`].
    pub(super) fn wrap(&self, host: &str, mut stream: TcpStream) -> io::Result<Box<dyn Stream>> {
        let Some(config) = &self.tls else { return Ok(Box::new(stream)) };
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let mut client = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        while client.is_handshaking() {
            client.complete_io(&mut stream)?;
        }
        Ok(Box::new(StreamOwned::new(client, stream)))
    }
}

/// Whether a connection failed because the server's certificate is not taken.
pub(super) fn is_certificate(error: &io::Error) -> bool {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    matches!(cause, Some(rustls::Error::InvalidCertificate(_)))
}

fn tls(properties: &mut Properties) -> Result<ClientConfig, String> {
    if properties.take("ssl.endpoint.identification.algorithm").is_some_and(|name| name != "https") {
        return Err("ssl.endpoint.identification.algorithm is not https".into());
    }
    let mut roots = RootCertStore::empty();
    if let Some(pem) = properties.pem("ssl.ca")? {
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let added = certificate.map_err(|error| error.to_string());
            added
                .and_then(|certificate| roots.add(certificate).map_err(|error| error.to_string()))
                .map_err(|error| format!("the certificates of ssl.ca: {error}"))?;
        }
    } else {
        // As the client library does: what cannot be read of the system's own is left out.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    match (properties.pem("ssl.certificate")?, properties.pem("ssl.key")?) {
        (None, None) => Ok(builder.with_no_client_auth()),
        (Some(chain), Some(key)) => {
            let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&chain).collect();
            let chain = chain.map_err(|error| format!("ssl.certificate: {error}"))?;
            let key = PrivateKeyDer::from_pem_slice(&key).map_err(|error| format!("ssl.key: {error}"))?;
            builder.with_client_auth_cert(chain, key).map_err(|error| format!("ssl.certificate: {error}"))
        }
        _ => Err("of ssl.certificate and ssl.key only one is set".into()),
    }
}

fn sasl(properties: &mut Properties) -> Result<Sasl, String> {
    let mechanism = properties.take("sasl.mechanisms").or_else(|| properties.take("sasl.mechanism"));
    let mechanism = mechanism.unwrap_or_else(|| "GSSAPI".into());
    let known = MECHANISMS.into_iter().find(|known| mechanism.eq_ignore_ascii_case(known));
    let known = known.ok_or_else(|| format!("sasl.mechanisms is {mechanism}"))?;
    let user = properties.take("sasl.username").ok_or("sasl.username is not set")?;
    let password = properties.take("sasl.password").ok_or("sasl.password is not set")?;
    Ok(Sasl {
        mechanism: Mechname::parse(known.as_bytes()).map_err(|error| error.to_string())?,
        config: SASLConfig::with_credentials(None, user, password).map_err(|error| error.to_string())?,
    })
}

/// Those that nobody has looked at yet.
struct Properties(BTreeMap<String, String>);

impl Properties {
    fn take(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    /// What stands in `NAME.pem`, or in the file at `NAME.location`.
    fn pem(&mut self, name: &str) -> Result<Option<Vec<u8>>, String> {
        let text = self.take(&format!("{name}.pem"));
        let Some(path) = self.take(&format!("{name}.location")) else {
            return Ok(text.map(String::into_bytes));
        };
        fs::read(&path).map(Some).map_err(|error| format!("cannot read {name}.location {path}: {error}"))
    }

    /// One that is left over may say that connections are to be made in another way.
    fn check_all_taken(&self, encrypted: bool, authenticated: bool) -> Result<(), String> {
        let matters = |name: &&String| {
            encrypted && (name.starts_with("ssl.") || name.starts_with("enable.ssl."))
                || authenticated && name.starts_with("sasl.")
        };
        self.0.keys().find(matters).map_or(Ok(()), |name| Err(format!("{name} is set")))
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use rustls::{ServerConfig, ServerConnection};
    use service_testing::CertificateAuthority;

    use super::*;

    /// Properties and their values.
    type Pairs<'a> = &'a [(&'a str, &'a str)];

    fn kafka(properties: Pairs<'_>) -> KafkaConfig {
        let properties = properties.iter().map(|(name, value)| format!("{name:?} = {value:?}\n"));
        let text =
            format!("bootstrap_servers = \"b:9092\"\n[properties]\n{}", properties.collect::<String>());
        toml::from_str(&text).expect("a configuration")
    }

    #[test]
    fn what_only_the_client_library_can_do_is_named() {
        let cases: [(Pairs<'_>, Option<&str>); 9] = [
            (&[], None),
            (&[("security.protocol", "PLAINTEXT"), ("ssl.ca.location", "/nowhere")], None),
            (&[("security.protocol", "ssl")], None),
            (
                &[("security.protocol", "ssl"), ("ssl.ca.location", "/nowhere")],
                Some("cannot read ssl.ca.location /nowhere"),
            ),
            (
                &[("security.protocol", "ssl"), ("ssl.keystore.location", "k")],
                Some("ssl.keystore.location is set"),
            ),
            (
                &[("security.protocol", "ssl"), ("enable.ssl.certificate.verification", "false")],
                Some("enable.ssl.certificate.verification is set"),
            ),
            (&[("security.protocol", "sasl_plaintext")], Some("sasl.mechanisms is GSSAPI")),
            (
                &[("security.protocol", "sasl_ssl"), ("sasl.mechanism", "OAUTHBEARER")],
                Some("sasl.mechanisms is OAUTHBEARER"),
            ),
            (
                &[
                    ("security.protocol", "SASL_SSL"),
                    ("sasl.mechanism", "scram-sha-512"),
                    ("sasl.username", "relay"),
                    ("sasl.password", "secret"),
                ],
                None,
            ),
        ];
        for (properties, expected) in cases {
            let refused = Security::of(&kafka(properties)).err();
            match expected {
                None => assert_eq!(refused, None, "{properties:?}"),
                Some(words) => assert!(refused.as_ref().is_some_and(|it| it.contains(words)), "{refused:?}"),
            }
        }
    }

    #[test]
    fn a_certificate_that_we_do_not_take_is_told_apart_from_other_failures() {
        let authority = CertificateAuthority::new();
        let ca = authority.pem();
        let security = Security::of(&kafka(&[("security.protocol", "ssl"), ("ssl.ca.pem", &ca)]));
        let security = security.expect("a configuration");
        let connect = |served: Option<&str>| {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            let address = listener.local_addr().expect("its address");
            let server = served.map(|host| server(&authority, host));
            let serve = thread::spawn(move || {
                let (mut stream, _) = listener.accept().expect("a connection");
                if let Some(mut connection) = server {
                    // The client may hang up.
                    let _ = connection.complete_io(&mut stream);
                }
            });
            let stream = TcpStream::connect(address).expect("a connection");
            let answer = security.wrap("localhost", stream).map(drop);
            serve.join().expect("no panic");
            answer
        };
        assert!(connect(Some("localhost")).is_ok());
        assert!(connect(Some("elsewhere.example")).is_err_and(|error| is_certificate(&error)));
        assert!(connect(None).is_err_and(|error| !is_certificate(&error)), "hung up");
    }

    fn server(authority: &CertificateAuthority, host: &str) -> ServerConnection {
        let (certificate, key) = authority.sign(host);
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).expect("a certificate");
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![certificate], key));
        ServerConnection::new(Arc::new(config.expect("a configuration"))).expect("a connection")
    }
}
