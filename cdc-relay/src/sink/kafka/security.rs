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

    /// The connection to `host`, encrypted if it is to be.
    pub(super) fn wrap(&self, host: &str, stream: TcpStream) -> io::Result<Box<dyn Stream>> {
        let Some(config) = &self.tls else { return Ok(Box::new(stream)) };
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let client = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        Ok(Box::new(StreamOwned::new(client, stream)))
    }
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
