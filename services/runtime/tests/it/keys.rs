//! Where a verifier gets its keys from.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, get_current_timestamp};
use serde_json::json;
use tailrace::auth::v1::{
    ChangePasswordRequest, ChangePasswordResponse, ListSigningKeysRequest, ListSigningKeysResponse,
    LoginRequest, LoginResponse, LogoutRequest, LogoutResponse, RefreshTokenRequest, RefreshTokenResponse,
    SigningKey,
    auth_service_server::{AuthService, AuthServiceServer},
};
use tailrace_runtime::{auth::Verifier, settings::AuthSettings, task};
use tokio::net::TcpListener;
use tonic::{
    Code, Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};

const TOKEN_LIFE_S: u64 = 600;

#[derive(Clone)]
struct Publisher {
    key: SigningKey,
    asked: Arc<AtomicUsize>,
}

#[tonic::async_trait]
impl AuthService for Publisher {
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
        self.asked.fetch_add(1, Ordering::SeqCst);
        Ok(Response::new(ListSigningKeysResponse { signing_keys: vec![self.key.clone()] }))
    }
}

fn token(pair: &Ed25519KeyPair, key_id: &str) -> String {
    let exp = get_current_timestamp() + TOKEN_LIFE_S;
    let claims = json!({ "iss": "tailrace", "aud": "tailrace", "sub": "users/ada", "exp": exp });
    let der = pair.to_pkcs8v1().expect("DER");
    let header = Header { kid: Some(key_id.to_owned()), ..Header::new(Algorithm::EdDSA) };
    encode(&header, &claims, &EncodingKey::from_ed_der(der.as_ref())).expect("a token")
}

fn verifier(address: std::net::SocketAddr) -> Verifier {
    Verifier::connect(&AuthSettings { auth_keys_url: format!("http://{address}") }).expect("a URL")
}

#[tokio::test]
async fn the_publisher_is_asked_once_for_many_callers_and_many_forged_keys() {
    let pair = Ed25519KeyPair::generate().expect("a key");
    let public_key = pair.public_key().as_ref().to_vec();
    let key = SigningKey { key_id: "today".to_owned(), algorithm: "EdDSA".to_owned(), public_key };
    let publisher = Publisher { key, asked: Arc::default() };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let verifier = verifier(listener.local_addr().expect("its address"));
    let server = Server::builder().add_service(AuthServiceServer::new(publisher.clone()));
    task::spawn("publisher", server.serve_with_incoming(TcpIncoming::from(listener)));

    let good = token(&pair, "today");
    let (one, two) = tokio::join!(verifier.verify(&good), verifier.verify(&good));
    assert_eq!(one.expect("a principal"), two.expect("a principal"));
    for forged in 0..10 {
        let status =
            verifier.verify(&token(&pair, &format!("forged-{forged}"))).await.expect_err("no such key");
        assert_eq!(status.code(), Code::Unauthenticated);
    }
    assert_eq!(publisher.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn without_the_publisher_a_token_is_neither_good_nor_bad() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let verifier = verifier(listener.local_addr().expect("its address"));
    drop(listener);
    let pair = Ed25519KeyPair::generate().expect("a key");
    for _ in 0..2 {
        let status = verifier.verify(&token(&pair, "today")).await.expect_err("nobody to ask");
        assert_eq!(status.code(), Code::Unavailable, "the caller should try again, not sign in again");
    }
}
