//! Whom a token names. Those that must not hold are in `service_testing`, where services are held to them too.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use jsonwebtoken::{EncodingKey, encode};
use serde_json::{Value, json};
use tonic_types::StatusExt as _;

use super::*;

const KEY_ID: &str = "today";
const HOUR_S: u64 = 3600;

struct Key {
    private: EncodingKey,
    public: Vec<u8>,
}

fn key() -> Key {
    let pair = Ed25519KeyPair::generate().expect("a key");
    let der = pair.to_pkcs8v1().expect("DER");
    Key { private: EncodingKey::from_ed_der(der.as_ref()), public: pair.public_key().as_ref().to_vec() }
}

fn verifier(key: &Key) -> Verifier {
    let key_id = KEY_ID.to_owned();
    Verifier::fixed([SigningKey { key_id, algorithm: "EdDSA".to_owned(), public_key: key.public.clone() }])
}

fn now_s() -> u64 {
    jsonwebtoken::get_current_timestamp()
}

fn claims() -> Value {
    let now = now_s();
    json!({ "iss": "tailrace", "aud": "tailrace", "sub": "users/ada", "roles": [], "iat": now, "exp": now + HOUR_S })
}

fn signed(key: &Key, claims: &Value) -> String {
    encode(&header(KEY_ID.to_owned()), claims, &key.private).expect("a token")
}

#[tokio::test]
async fn a_good_token_names_its_user() {
    let key = key();
    let principal = verifier(&key).verify(&signed(&key, &claims())).await.expect("a principal");
    assert_eq!((principal.user.as_str(), principal.operator), ("users/ada", false));
    assert!(principal.expires_at > SystemTime::now());
    let mut operator = claims();
    operator["roles"] = json!(["operator"]);
    let principal = verifier(&key).verify(&signed(&key, &operator)).await.expect("a principal");
    assert!(principal.operator);
}

#[tokio::test]
async fn only_a_bearer_entry_is_a_token() {
    let key = key();
    let verifier = verifier(&key);
    let good = signed(&key, &claims());
    for (entry, expected) in [
        (format!("Bearer {good}"), Ok(())),
        (format!("bearer {good}"), Ok(())),
        (format!("Basic {good}"), Err("TOKEN_MISSING")),
        (good.clone(), Err("TOKEN_MISSING")),
        ("Bearer ".to_owned(), Err("TOKEN_INVALID")),
    ] {
        let mut metadata = MetadataMap::new();
        metadata.insert("authorization", entry.parse().expect("a value"));
        let outcome = verifier.authenticate(&metadata).await;
        let reason = outcome.map(drop).map_err(|status| {
            let details = status.check_error_details().expect("details");
            details.error_info().expect("an ErrorInfo").reason.clone()
        });
        assert_eq!(reason, expected.map_err(str::to_owned), "{entry}");
    }
}
