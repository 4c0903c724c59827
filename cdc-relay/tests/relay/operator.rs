//! An operator: publishes a key, signs a token with it, and runs `cdc-relay dead-letters`.

use std::net::TcpListener;
use std::process::Command;
use std::sync::LazyLock;
use std::thread;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, get_current_timestamp};
use serde_json::json;
use tailrace::auth::v1::auth_service_server::{AuthService, AuthServiceServer};
use tailrace::auth::v1::{
    ChangePasswordRequest, ChangePasswordResponse, ListSigningKeysRequest, ListSigningKeysResponse,
    LoginRequest, LoginResponse, LogoutRequest, LogoutResponse, RefreshTokenRequest, RefreshTokenResponse,
    SigningKey,
};
use tailrace_runtime::auth::{AUDIENCE, ISSUER, OPERATOR_ROLE};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use crate::support::{Relay, relay_command};

const KEY_ID: &str = "test";
const TOKEN_LIFE_S: u64 = 3600;

static AUTHORITY: LazyLock<Authority> = LazyLock::new(Authority::start);

struct Authority {
    keys_url: String,
    pair: Ed25519KeyPair,
}

/// Where the relay gets its keys from.
pub(crate) fn keys_url() -> &'static str {
    &AUTHORITY.keys_url
}

impl Authority {
    /// On a thread of its own: it outlives the runtime of each test.
    fn start() -> Self {
        let pair = Ed25519KeyPair::generate().expect("a key");
        let key = SigningKey {
            key_id: KEY_ID.to_owned(),
            public_key: pair.public_key().as_ref().to_vec(),
            algorithm: "EdDSA".to_owned(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                listener.set_nonblocking(true).expect("a listener for tokio");
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener for tokio");
                let server = Server::builder().add_service(AuthServiceServer::new(Keys(key)));
                server.serve_with_incoming(TcpIncoming::from(listener)).await
            })
        });
        Self { keys_url: format!("http://{address}"), pair }
    }

    fn token(&self, roles: &[&str]) -> String {
        let exp = get_current_timestamp() + TOKEN_LIFE_S;
        let claims =
            json!({ "iss": ISSUER, "aud": AUDIENCE, "sub": "users/ada", "exp": exp, "roles": roles });
        let der = self.pair.to_pkcs8v1().expect("DER");
        let header = Header { kid: Some(KEY_ID.to_owned()), ..Header::new(Algorithm::EdDSA) };
        encode(&header, &claims, &EncodingKey::from_ed_der(der.as_ref())).expect("a token")
    }
}

struct Keys(SigningKey);

#[tonic::async_trait]
impl AuthService for Keys {
    async fn login(&self, _: Request<LoginRequest>) -> Result<Response<LoginResponse>, Status> {
        Err(Status::unimplemented("tests sign their own tokens"))
    }

    async fn refresh_token(
        &self,
        _: Request<RefreshTokenRequest>,
    ) -> Result<Response<RefreshTokenResponse>, Status> {
        Err(Status::unimplemented("tests sign their own tokens"))
    }

    async fn logout(&self, _: Request<LogoutRequest>) -> Result<Response<LogoutResponse>, Status> {
        Err(Status::unimplemented("tests sign their own tokens"))
    }

    async fn change_password(
        &self,
        _: Request<ChangePasswordRequest>,
    ) -> Result<Response<ChangePasswordResponse>, Status> {
        Err(Status::unimplemented("tests sign their own tokens"))
    }

    async fn list_signing_keys(
        &self,
        _: Request<ListSigningKeysRequest>,
    ) -> Result<Response<ListSigningKeysResponse>, Status> {
        Ok(Response::new(ListSigningKeysResponse { signing_keys: vec![self.0.clone()] }))
    }
}

/// What the command said, and whether it succeeded.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) is_success: bool,
    pub(crate) text: String,
}

/// Runs `cdc-relay dead-letters` as an operator.
pub(crate) async fn dead_letters(relay: &Relay, arguments: &[&str]) -> Said {
    ask(command(relay, arguments, Some(AUTHORITY.token(&[OPERATOR_ROLE])))).await
}

/// The same, as anyone else.
pub(crate) async fn dead_letters_as_plain_user(relay: &Relay, arguments: &[&str]) -> Said {
    ask(command(relay, arguments, Some(AUTHORITY.token(&[])))).await
}

/// The same, without a token.
pub(crate) async fn dead_letters_without_token(relay: &Relay, arguments: &[&str]) -> Said {
    ask(command(relay, arguments, None)).await
}

fn command(relay: &Relay, arguments: &[&str], token: Option<String>) -> Command {
    let mut command = relay_command("none.toml".as_ref());
    command.arg("dead-letters").args(arguments).args(["--relay", &format!("http://{}", relay.admin())]);
    command.env_remove("TAILRACE_TOKEN").envs(token.map(|token| ("TAILRACE_TOKEN", token)));
    command
}

async fn ask(mut command: Command) -> Said {
    let output =
        tokio::task::spawn_blocking(move || command.output()).await.expect("no panic").expect("the binary");
    let text = [output.stdout, output.stderr].concat();
    Said { is_success: output.status.success(), text: String::from_utf8_lossy(&text).into_owned() }
}
