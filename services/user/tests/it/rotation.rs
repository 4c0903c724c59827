//! Signing keys are changed while the service runs.

use std::{fs, path::Path};

use service_testing::{until, with_token};
use tailrace::{auth::v1::ListSigningKeysRequest, user::v1::GetUserRequest};
use tailrace_runtime::{auth::Verifier, settings::AuthSettings};
use tonic::Code;

use crate::support::{Database, Service, signing_key};

const EMAIL: &str = "ada@example.org";

async fn published(service: &Service) -> Vec<String> {
    let keys = service.auth().list_signing_keys(ListSigningKeysRequest {}).await.expect("keys").into_inner();
    keys.signing_keys.into_iter().map(|key| key.key_id).collect()
}

fn key_id(token: &str) -> String {
    jsonwebtoken::decode_header(token).expect("a token").kid.expect("it names its key")
}

/// Puts the contents in the place of the file at once, as an operator's tool should.
fn replace(file: &Path, contents: &str) {
    let beside = file.with_extension("new");
    fs::write(&beside, contents).expect("written");
    fs::rename(beside, file).expect("renamed");
}

#[tokio::test]
async fn a_key_is_changed_while_tokens_flow_and_none_of_them_is_refused() {
    let database = Database::new().await;
    let service = Service::start(&database).await;
    let name = service.create(EMAIL).await.name;
    // Another service, which asks for the keys.
    let elsewhere = Verifier::connect(&AuthSettings::plaintext(service.url())).expect("a URL");
    let holds = async |token: &str| {
        let get = GetUserRequest { name: name.clone() };
        elsewhere.verify(token).await?;
        service.users().get_user(with_token(get, token)).await
    };

    let file = service.key_file().to_owned();
    let old = fs::read_to_string(&file).expect("a key");
    let (_folder, new) = signing_key();
    let new = fs::read_to_string(new).expect("a key");
    let first = service.token(EMAIL).await;
    holds(&first).await.expect("a token of the first key");

    replace(&file, "no key at all");
    replace(&file, &format!("{new}{old}"));
    until("tokens of the new key", async || {
        let token = service.token(EMAIL).await;
        holds(&token).await.expect("every token holds");
        key_id(&token) != key_id(&first)
    })
    .await;
    assert_eq!(published(&service).await.len(), 2);
    holds(&first).await.expect("and so do those of before");

    replace(&file, &new);
    until("the first key being withdrawn", async || published(&service).await.len() == 1).await;
    until("its tokens being refused", async || {
        let get = GetUserRequest { name: name.clone() };
        let answer = service.users().get_user(with_token(get, &first)).await;
        answer.is_err_and(|status| status.code() == Code::Unauthenticated)
    })
    .await;
    holds(&service.token(EMAIL).await).await.expect("the new key signs");

    replace(&file, "no key at all");
    holds(&service.token(EMAIL).await).await.expect("a file that cannot be used changes nothing");
    service.stop().await;
}
