//! Tokens that must not hold, each for one reason, beside the one that does. Most are signed with the right key: what is wrong with
//! them is all that can refuse them.

use std::fmt;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::{
    Engine as _,
    engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD},
};
use jsonwebtoken::{EncodingKey, Header, encode, get_current_timestamp};
use serde_json::{Value, json};
use tailrace::auth::v1::SigningKey;
use tailrace_runtime::access::TABLE;
use tonic::{Code, transport::Channel};

use crate::{contract::method, errors::told, raw};

const HOUR_S: u64 = 3600;
/// More than any token may live.
const WEEK_S: u64 = 7 * 24 * HOUR_S;
/// All that a forger is told.
const REFUSAL: &str = "The access token is not valid; sign in again.";

/// Has the key, and makes tokens that are not what they should be.
pub struct Forger {
    pair: Ed25519KeyPair,
    key_id: String,
    user: String,
}

impl Forger {
    /// With the private key in PKCS#8 and what is published of it; his tokens name `user`.
    pub fn new(pkcs8: &[u8], key: &SigningKey, user: &str) -> Self {
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8).expect("a key");
        assert_eq!(pair.public_key().as_ref(), key.public_key, "the key that is published");
        Self { pair, key_id: key.key_id.clone(), user: user.to_owned() }
    }

    /// The token that holds.
    pub fn genuine(&self) -> String {
        self.signed(&self.header(), &self.claims())
    }

    /// Those that do not, each with what is wrong with it.
    pub fn forgeries(&self) -> Vec<(String, String)> {
        [self.forged_signatures(), self.forged_headers(), self.forged_claims(), self.no_tokens()].concat()
    }

    fn header(&self) -> Value {
        json!({ "typ": "at+jwt", "alg": "EdDSA", "kid": self.key_id })
    }

    fn claims(&self) -> Value {
        let now = get_current_timestamp();
        json!({ "iss": "tailrace", "aud": "tailrace", "sub": self.user, "iat": now, "exp": now + HOUR_S })
    }

    fn signed(&self, header: &Value, claims: &Value) -> String {
        self.sign(header.to_string().as_bytes(), claims.to_string().as_bytes())
    }

    fn sign(&self, header: &[u8], claims: &[u8]) -> String {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = self.pair.sign(message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }

    fn forged_signatures(&self) -> Vec<(String, String)> {
        let genuine = self.genuine();
        let (message, signature) = genuine.rsplit_once('.').expect("three parts");
        let bytes = URL_SAFE_NO_PAD.decode(signature).expect("base64");
        let flipped = |at: usize| {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            format!("{message}.{}", URL_SAFE_NO_PAD.encode(bytes))
        };
        let stranger = Ed25519KeyPair::generate().expect("a key");
        let stranger = Self { pair: stranger, key_id: self.key_id.clone(), user: self.user.clone() };
        let other = Self::resigned(&self.sign(self.header().to_string().as_bytes(), b"{}"), signature);
        let symmetric =
            Header { typ: Some("at+jwt".to_owned()), kid: Some(self.key_id.clone()), ..Header::default() };
        let public = EncodingKey::from_secret(self.pair.public_key().as_ref());
        let mac = encode(&symmetric, &self.claims(), &public).expect("a token");
        named([
            ("another key", stranger.genuine()),
            ("the public key as the secret of HS256", mac),
            ("no signature", format!("{message}.")),
            ("a short signature", format!("{message}.{}", &signature[..signature.len() - 4])),
            ("a long signature", format!("{genuine}AAAA")),
            ("a signature of nothing but zeros", format!("{message}.{}", URL_SAFE_NO_PAD.encode([0; 64]))),
            ("another first bit of the signature", flipped(0)),
            ("another last bit of the signature", flipped(bytes.len() - 1)),
            ("the signature of another token", other),
        ])
    }

    /// The message of a token with the signature of another.
    fn resigned(token: &str, signature: &str) -> String {
        let (message, _) = token.rsplit_once('.').expect("three parts");
        format!("{message}.{signature}")
    }

    fn forged_headers(&self) -> Vec<(String, String)> {
        let key_id = &self.key_id;
        let changed = [
            ("alg", json!("none")),
            ("alg", json!("None")),
            ("alg", json!("eddsa")),
            ("alg", json!("HS256")),
            ("alg", json!("RS256")),
            ("alg", json!("ES256")),
            ("alg", json!(["EdDSA"])),
            ("alg", json!("")),
            ("alg", Value::Null),
            ("typ", json!("JWT")),
            ("typ", json!("rt+jwt")),
            ("typ", json!("")),
            ("typ", Value::Null),
            ("kid", json!("unknown")),
            ("kid", json!("../../../../dev/null")),
            ("kid", json!("' OR '1'='1")),
            ("kid", json!("nul\0")),
            ("kid", json!("")),
            ("kid", json!(7)),
            ("kid", json!([key_id])),
            ("kid", Value::Null),
            ("crit", json!(["exp"])),
            ("crit", json!([])),
            ("b64", json!(false)),
            ("jku", json!("https://evil.example/keys.json")),
            ("x5u", json!("https://evil.example/key.pem")),
            ("x5c", json!(["MIIB"])),
            ("jwk", json!({ "kty": "OKP", "crv": "Ed25519", "x": "AAAA" })),
            ("zip", json!("DEF")),
            ("cty", json!("JWT")),
        ];
        let mut forged: Vec<_> = changed
            .into_iter()
            .map(|(entry, value)| {
                let header = with(self.header(), entry, &value);
                (format!("header {entry} {value}"), self.signed(&header, &self.claims()))
            })
            .collect();
        let claims = self.claims().to_string();
        let twice = format!(r#"{{"typ":"at+jwt","alg":"none","alg":"EdDSA","kid":"{key_id}"}}"#);
        let two_keys = format!(r#"{{"typ":"at+jwt","alg":"EdDSA","kid":"x","kid":"{key_id}"}}"#);
        let two_texts = format!("{}{{}}", self.header());
        let deep =
            format!(r#"{{"typ":"at+jwt","alg":"EdDSA","kid":{}1{}}}"#, "[".repeat(900), "]".repeat(900));
        for (what, header) in [
            ("two algorithms", twice.as_bytes()),
            ("two keys", two_keys.as_bytes()),
            ("two headers", two_texts.as_bytes()),
            ("a deep header", deep.as_bytes()),
            ("an empty header", b""),
            ("a header without entries", b"{}"),
            ("a header that is a list", b"[]"),
            ("a header that is no UTF-8", b"{\"typ\":\"\xff\"}"),
        ] {
            forged.push((what.to_owned(), self.sign(header, claims.as_bytes())));
        }
        forged
    }

    fn forged_claims(&self) -> Vec<(String, String)> {
        let now = get_current_timestamp();
        let changed = [
            ("iss", json!("someone")),
            ("iss", json!("")),
            ("iss", Value::Null),
            ("aud", json!("another")),
            ("aud", json!(["another", "third"])),
            ("aud", json!([])),
            ("aud", Value::Null),
            ("sub", json!("orders/ada")),
            ("sub", json!("users/")),
            ("sub", json!("")),
            ("sub", json!(1)),
            ("sub", json!([self.user])),
            ("sub", Value::Null),
            ("exp", json!(now - HOUR_S)),
            ("exp", json!(now + WEEK_S)),
            ("exp", json!(0)),
            ("exp", json!(-1)),
            ("exp", json!(1.5e300)),
            ("exp", json!(u64::MAX)),
            ("exp", json!("soon")),
            ("exp", json!((now + HOUR_S).to_string())),
            ("exp", Value::Null),
            ("nbf", json!(now + HOUR_S)),
            ("nbf", json!("now")),
            ("nbf", json!(-1)),
            ("iat", json!(now + HOUR_S)),
            ("iat", json!(u64::MAX)),
            ("iat", json!(now.to_string())),
            ("iat", Value::Null),
            ("roles", json!("operator")),
            ("roles", json!([1])),
        ];
        let mut forged: Vec<_> = changed
            .into_iter()
            .map(|(claim, value)| {
                let claims = with(self.claims(), claim, &value);
                (format!("claim {claim} {value}"), self.signed(&self.header(), &claims))
            })
            .collect();
        let header = self.header().to_string();
        let claims = self.claims().to_string();
        let rest = claims.strip_prefix('{').expect("an object");
        for (what, claims) in [
            ("two ends", format!(r#"{{"exp":1,{rest}"#).into_bytes()),
            ("two subjects", format!(r#"{{"sub":"users/else",{rest}"#).into_bytes()),
            ("two texts of claims", format!("{claims}{claims}").into_bytes()),
            ("a subject that is no UTF-8", [b"{\"sub\":\"users/\xff\",", rest.as_bytes()].concat()),
            ("no claims", Vec::new()),
            ("claims without entries", b"{}".to_vec()),
            ("claims that are a list", format!("[{claims}]").into_bytes()),
        ] {
            forged.push((what.to_owned(), self.sign(header.as_bytes(), &claims)));
        }
        forged
    }

    fn no_tokens(&self) -> Vec<(String, String)> {
        let genuine = self.genuine();
        let parts: Vec<_> = genuine.split('.').collect();
        let [header, claims, signature] = parts[..] else { panic!("three parts") };
        let padded = URL_SAFE.encode(self.header().to_string());
        let flattened = json!({ "protected": header, "payload": claims, "signature": signature }).to_string();
        named([
            ("one part", header.to_owned()),
            ("two parts", format!("{header}.{claims}")),
            ("four parts", format!("{genuine}.{signature}")),
            ("five parts", format!("{genuine}..")),
            ("dots", "..".to_owned()),
            ("the token twice", format!("{genuine}{genuine}")),
            ("two tokens", format!("{genuine} {genuine}")),
            ("padding", format!("{padded}=.{claims}.{signature}")),
            ("a stranger in the alphabet", format!("{header}.{claims}.+{}", &signature[1..])),
            ("a space within", format!("{header}. {claims}.{signature}")),
            ("the JSON form", flattened),
            ("a giant", "x".repeat(4097)),
            ("a giant of three parts", format!("{header}.{}.{signature}", "A".repeat(4096))),
        ])
    }
}

/// Calls what needs a token, in every RPC of `service` that does, with each forgery and with `others`, tokens of other kinds. Gives how
/// many were refused, all of them in the same words.
pub async fn assert_forgeries_refused(
    channel: &Channel,
    service: &str,
    forger: &Forger,
    others: &[(&str, String)],
) -> usize {
    let others = others.iter().map(|(what, token)| ((*what).to_owned(), token.clone()));
    let forgeries: Vec<_> = forger.forgeries().into_iter().chain(others).collect();
    let is_guarded = |rpc: &str| rpc.strip_prefix(service).is_some_and(|rest| rest.starts_with('/'));
    let mut refused = 0;
    for rule in TABLE.iter().filter(|rule| is_guarded(rule.rpc) && rule.anyone.is_none()) {
        for (what, token) in &forgeries {
            let outcome = raw::call(channel, &method(rule.rpc), token, Vec::new()).await;
            let status = outcome.err().unwrap_or_else(|| panic!("{what} let into {}", rule.rpc));
            let expected = (Code::Unauthenticated, "TOKEN_INVALID".to_owned());
            assert_eq!(told(&status), expected, "{what} at {}", rule.rpc);
            assert_eq!(status.message(), REFUSAL, "{what} at {}", rule.rpc);
            refused += 1;
        }
        let genuine = raw::call(channel, &method(rule.rpc), &forger.genuine(), Vec::new()).await;
        let is_known = genuine.as_ref().err().is_none_or(|status| status.code() != Code::Unauthenticated);
        assert!(is_known, "the genuine token at {}: {genuine:?}", rule.rpc);
    }
    assert!(refused > 0, "{service} has what needs a token");
    eprintln!("{service}: {refused} forged tokens refused");
    refused
}

fn named<const N: usize>(tokens: [(&str, String); N]) -> Vec<(String, String)> {
    tokens.map(|(what, token)| (what.to_owned(), token)).into()
}

/// The object with another entry, or without it.
fn with(mut object: Value, entry: &str, value: &Value) -> Value {
    let entries = object.as_object_mut().expect("an object");
    if value.is_null() {
        entries.remove(entry);
    } else {
        entries.insert(entry.to_owned(), value.clone());
    }
    object
}

impl fmt::Debug for Forger {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Forger").field("user", &self.user).finish_non_exhaustive()
    }
}
