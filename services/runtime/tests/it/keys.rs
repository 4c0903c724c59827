//! Where a verifier gets its keys from.

use service_testing::{Authority, details, until};
use tailrace_runtime::{auth::Verifier, settings::AuthSettings, task};
use tokio::net::TcpListener;
use tonic::{
    Code,
    transport::{Server, server::TcpIncoming},
};

const ADA: &str = "users/ada";

fn verifier(address: std::net::SocketAddr) -> Verifier {
    Verifier::connect(&AuthSettings::plaintext(format!("http://{address}"))).expect("a URL")
}

#[tokio::test]
async fn the_publisher_is_asked_once_for_many_callers_and_many_forged_keys() {
    let authority = Authority::generate();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let verifier = verifier(listener.local_addr().expect("its address"));
    let server = Server::builder().add_service(authority.publisher());
    task::spawn("publisher", server.serve_with_incoming(TcpIncoming::from(listener)));

    let good = authority.token(ADA, &[]);
    let (one, two) = tokio::join!(verifier.verify(&good), verifier.verify(&good));
    assert_eq!(one.expect("a principal"), two.expect("a principal"));
    for forged in 0..10 {
        let token = authority.forged_token(&format!("forged-{forged}"), ADA);
        let status = verifier.verify(&token).await.expect_err("no such key");
        assert_eq!(status.code(), Code::Unauthenticated);
    }
    assert_eq!(authority.asked(), 1);
}

#[tokio::test]
async fn a_withdrawn_key_is_forgotten_without_a_restart() {
    let authority = Authority::generate();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let verifier = verifier(listener.local_addr().expect("its address"));
    let server = Server::builder().add_service(authority.publisher());
    task::spawn("publisher", server.serve_with_incoming(TcpIncoming::from(listener)));
    // A token each time: one that was just verified is remembered for a while.
    let mut users = (0..).map(|n| format!("users/{n}"));
    let mut verify = async || verifier.verify(&authority.token(&users.next().expect("a user"), &[])).await;

    verify().await.expect("a principal");
    authority.withdraw();
    verify().await.expect("nobody has asked again");
    assert_eq!(authority.asked(), 1);
    until("the key being forgotten", async || verify().await.is_err()).await;
    assert_eq!(authority.asked(), 2);
    assert_eq!(verify().await.expect_err("withdrawn").code(), Code::Unauthenticated);
}

#[tokio::test]
async fn without_the_publisher_a_token_is_neither_good_nor_bad() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let verifier = verifier(listener.local_addr().expect("its address"));
    drop(listener);
    let authority = Authority::generate();
    for _ in 0..2 {
        let status = verifier.verify(&authority.token(ADA, &[])).await.expect_err("nobody to ask");
        assert_eq!(status.code(), Code::Unavailable, "the caller should try again, not sign in again");
    }
}

#[tokio::test]
async fn a_forged_token_does_not_hold_and_the_genuine_one_does() {
    let authority = Authority::generate();
    let verifier = Verifier::fixed([authority.key()]);
    let forger = authority.forger(ADA);
    assert_eq!(verifier.verify(&forger.genuine()).await.expect("a principal").user, ADA);
    let forgeries = forger.forgeries();
    for (what, token) in &forgeries {
        let status = verifier.verify(token).await.expect_err(what);
        assert_eq!(status.code(), Code::Unauthenticated, "{what}");
        let details = details(&status);
        assert_eq!(details.error_info().map(|info| info.reason.as_str()), Some("TOKEN_INVALID"), "{what}");
    }
    eprintln!("{} forged tokens refused", forgeries.len());
}
