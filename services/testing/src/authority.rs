//! Who signs the tokens of tests, and publishes the key as the user service would.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use jsonwebtoken::{EncodingKey, encode, get_current_timestamp};
use serde_json::json;
use tailrace::auth::v1::{
    ChangePasswordRequest, ChangePasswordResponse, ListSigningKeysRequest, ListSigningKeysResponse,
    LoginRequest, LoginResponse, LogoutRequest, LogoutResponse, RefreshTokenRequest, RefreshTokenResponse,
    SigningKey,
    auth_service_server::{AuthService, AuthServiceServer},
};
use tailrace_runtime::auth::{self, AUDIENCE, ISSUER};
use tonic::{Request, Response, Status};

use crate::forged::Forger;

const KEY_ID: &str = "test";
const TOKEN_LIFE_S: u64 = 3600;

/// A key of its own.
#[derive(Debug)]
pub struct Authority {
    pair: Ed25519KeyPair,
    asked: Arc<AtomicUsize>,
    withdrawn: Arc<AtomicBool>,
}

impl Authority {
    /// With a new key.
    pub fn generate() -> Self {
        Self {
            pair: Ed25519KeyPair::generate().expect("a key"),
            asked: Arc::default(),
            withdrawn: Arc::default(),
        }
    }

    /// A token that is good for longer than any test takes.
    pub fn token(&self, user: &str, roles: &[&str]) -> String {
        self.token_for(user, roles, Duration::from_secs(TOKEN_LIFE_S))
    }

    /// A token that ends after `life`.
    pub fn token_for(&self, user: &str, roles: &[&str], life: Duration) -> String {
        self.sign(KEY_ID, user, roles, get_current_timestamp() + life.as_secs())
    }

    /// Who forges tokens of `user` with its key.
    pub fn forger(&self, user: &str) -> Forger {
        Forger::new(self.pair.to_pkcs8v1().expect("DER").as_ref(), &self.key(), user)
    }

    /// A token that was good once.
    pub fn expired_token(&self, user: &str) -> String {
        self.sign(KEY_ID, user, &[], get_current_timestamp() - TOKEN_LIFE_S)
    }

    /// A token that names a key which nobody publishes.
    pub fn forged_token(&self, key_id: &str, user: &str) -> String {
        self.sign(key_id, user, &[], get_current_timestamp() + TOKEN_LIFE_S)
    }

    /// The key as it is published.
    pub fn key(&self) -> SigningKey {
        let public_key = self.pair.public_key().as_ref().to_vec();
        SigningKey { key_id: KEY_ID.to_owned(), algorithm: "EdDSA".to_owned(), public_key }
    }

    /// The service where verifiers get the key.
    pub fn publisher(&self) -> AuthServiceServer<Publisher> {
        let (asked, withdrawn) = (Arc::clone(&self.asked), Arc::clone(&self.withdrawn));
        AuthServiceServer::new(Publisher { key: self.key(), asked, withdrawn })
    }

    /// Publishes its key no longer.
    pub fn withdraw(&self) {
        self.withdrawn.store(true, Ordering::SeqCst);
    }

    /// How often the key was asked for.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn sign(&self, key_id: &str, user: &str, roles: &[&str], exp: u64) -> String {
        let iat = get_current_timestamp().min(exp);
        let claims =
            json!({ "iss": ISSUER, "aud": AUDIENCE, "sub": user, "roles": roles, "iat": iat, "exp": exp });
        let header = auth::header(key_id.to_owned());
        let der = self.pair.to_pkcs8v1().expect("DER");
        encode(&header, &claims, &EncodingKey::from_ed_der(der.as_ref())).expect("a token")
    }
}

/// Publishes the key, and does nothing else.
#[derive(Debug)]
pub struct Publisher {
    key: SigningKey,
    asked: Arc<AtomicUsize>,
    withdrawn: Arc<AtomicBool>,
}

fn keys_only() -> Status {
    Status::unimplemented("tests sign their own tokens")
}

#[tonic::async_trait]
impl AuthService for Publisher {
    async fn login(&self, _: Request<LoginRequest>) -> Result<Response<LoginResponse>, Status> {
        Err(keys_only())
    }

    async fn refresh_token(
        &self,
        _: Request<RefreshTokenRequest>,
    ) -> Result<Response<RefreshTokenResponse>, Status> {
        Err(keys_only())
    }

    async fn logout(&self, _: Request<LogoutRequest>) -> Result<Response<LogoutResponse>, Status> {
        Err(keys_only())
    }

    async fn change_password(
        &self,
        _: Request<ChangePasswordRequest>,
    ) -> Result<Response<ChangePasswordResponse>, Status> {
        Err(keys_only())
    }

    async fn list_signing_keys(
        &self,
        _: Request<ListSigningKeysRequest>,
    ) -> Result<Response<ListSigningKeysResponse>, Status> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let withdrawn = self.withdrawn.load(Ordering::SeqCst);
        let signing_keys = if withdrawn { vec![] } else { vec![self.key.clone()] };
        Ok(Response::new(ListSigningKeysResponse { signing_keys }))
    }
}
