//! Tokens that must not hold, each for one reason, beside the one that does.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use jsonwebtoken::{EncodingKey, Header, encode};
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

fn header() -> Header {
    Header { kid: Some(KEY_ID.to_owned()), ..Header::new(Algorithm::EdDSA) }
}

fn signed(key: &Key, claims: &Value) -> String {
    encode(&header(), claims, &key.private).expect("a token")
}

async fn check_refused(verifier: &Verifier, what: &str, token: &str) {
    let status = verifier.verify(token).await.expect_err(what);
    assert_eq!(status.code(), Code::Unauthenticated, "{what}");
    let details = status.check_error_details().expect("details");
    assert_eq!(details.error_info().map(|info| info.reason.as_str()), Some("TOKEN_INVALID"), "{what}");
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
async fn claims_that_do_not_fit_are_refused() {
    let key = key();
    let verifier = verifier(&key);
    let past = now_s() - HOUR_S;
    for (claim, value) in [
        ("iss", json!("someone")),
        ("iss", Value::Null),
        ("aud", json!("another")),
        ("aud", json!(["another"])),
        ("aud", Value::Null),
        ("sub", json!("orders/ada")),
        ("sub", json!("users/")),
        ("sub", Value::Null),
        ("exp", json!(past)),
        ("exp", json!("soon")),
        ("exp", Value::Null),
        ("nbf", json!(now_s() + HOUR_S)),
        ("roles", json!("operator")),
    ] {
        let mut claims = claims();
        claims[claim] = value.clone();
        if value.is_null() {
            claims.as_object_mut().expect("an object").remove(claim);
        }
        check_refused(&verifier, &format!("{claim} {value}"), &signed(&key, &claims)).await;
    }
}

#[tokio::test]
async fn headers_and_signatures_that_do_not_fit_are_refused() {
    let key = key();
    let verifier = verifier(&key);
    let good = signed(&key, &claims());
    let with_header = |header: Header| encode(&header, &claims(), &key.private).expect("a token");
    let mac = EncodingKey::from_secret(&key.public);
    let symmetric = Header { alg: Algorithm::HS256, ..header() };
    let (message, signature) = good.rsplit_once('.').expect("three parts");
    let (_, payload) = message.split_once('.').expect("three parts");
    let none = base64::Engine::encode(
        &base64::engine::general_purpose::URL_SAFE_NO_PAD,
        r#"{"alg":"none","kid":"today"}"#,
    );
    for (what, token) in [
        ("no key id", with_header(Header { kid: None, ..header() })),
        ("an unknown key id", with_header(Header { kid: Some("yesterday".to_owned()), ..header() })),
        ("the public key as a secret", encode(&symmetric, &claims(), &mac).expect("a token")),
        ("another key", signed(&self::key(), &claims())),
        ("no algorithm", format!("{none}.{payload}.")),
        ("no signature", format!("{message}.")),
        ("a short signature", format!("{message}.{}", &signature[..signature.len() - 4])),
        ("two parts", message.to_owned()),
        ("no token", String::new()),
        ("a giant", "x".repeat(TOKEN_BYTES_MAX + 1)),
    ] {
        check_refused(&verifier, what, &token).await;
    }
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
