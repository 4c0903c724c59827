//! The calling side: a channel over `https`, to whom it trusts and with a certificate of its own if it has one.

use std::{io, path::PathBuf, sync::Arc};

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint};
use tower::{ServiceExt as _, service_fn, util::BoxCloneService};

use super::{certified, pair, provider, read, roots_of};
use crate::process::Misconfigured;

const HTTPS_PORT: u16 = 443;

/// A setting's name and the file that it gives.
pub type File<'a> = (&'a str, &'a Option<PathBuf>);

/// Whom a client trusts, and what it shows.
#[derive(Clone, Debug)]
pub struct Trust {
    config: Arc<ClientConfig>,
}

impl Trust {
    /// Trusts the authorities in `ca`, and shows the certificate if one is given.
    pub fn from_files(ca: File<'_>, certificate: File<'_>, key: File<'_>) -> Result<Self, Misconfigured> {
        let (setting, path) = ca;
        let path = path.as_ref().ok_or_else(|| {
            Misconfigured::new(format!(
                "{setting}: https needs the authorities to trust; give their PEM file"
            ))
        })?;
        let roots = roots_of(setting, path)?;
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| Misconfigured::new(error.to_string()))?
            .with_root_certificates(roots);
        let mut config = match pair(certificate, key)? {
            Some((certificate_path, key_path)) => {
                let (certificate, key) = (certificate.0, key.0);
                let read = |setting, path| read(setting, path).map_err(Misconfigured::new);
                let (chain, secret) = (read(certificate, &certificate_path)?, read(key, &key_path)?);
                let shown = certified(
                    (certificate, &certificate_path, &chain),
                    (key, &key_path, &secret),
                    &provider(),
                );
                let shown = shown.map_err(Misconfigured::new)?;
                builder.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(shown)))
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self { config: Arc::new(config) })
    }

    /// A channel that connects when it is first used. The server's certificate must name the host of the URL.
    pub fn connect_lazy(&self, endpoint: &Endpoint) -> Channel {
        endpoint.connect_with_connector_lazy(self.connector())
    }

    /// A channel that is connected.
    pub async fn connect(&self, endpoint: &Endpoint) -> Result<Channel, tonic::transport::Error> {
        endpoint.connect_with_connector(self.connector()).await
    }

    fn connector(&self) -> BoxCloneService<Uri, TokioIo<TlsStream<TcpStream>>, io::Error> {
        let connector = TlsConnector::from(Arc::clone(&self.config));
        service_fn(move |uri: Uri| {
            let connector = connector.clone();
            async move { connect(&connector, &uri).await.map(TokioIo::new) }
        })
        .boxed_clone()
    }
}

async fn connect(connector: &TlsConnector, uri: &Uri) -> io::Result<TlsStream<TcpStream>> {
    let invalid = |why| io::Error::new(io::ErrorKind::InvalidInput, why);
    // A host with IPv6 is written in brackets there, and nowhere else.
    let host = uri.host().ok_or_else(|| invalid("no host"))?.trim_matches(['[', ']']);
    let name = ServerName::try_from(host.to_owned()).map_err(|_| invalid("no host's name"))?;
    let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(HTTPS_PORT))).await?;
    stream.set_nodelay(true)?;
    connector.connect(name, stream).await
}
