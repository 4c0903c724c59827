//! A hardened database: TLS alone, certificates verified, SCRAM bound to the connection, and a role that may replicate
//! and read the outbox and nothing else.

use std::time::Instant;

use service_testing::CertificateAuthority;

use crate::operator::{dead_letters, dead_letters_over_tls};
use crate::server_files::put;
use crate::support::{DEADLINE, Servers, Source};
use crate::writer::Writer;

/// Only tests come in without TLS, and only as the superuser.
const HBA: &str =
    "host all postgres 127.0.0.1/32 scram-sha-256\nhostssl all cdc_relay 127.0.0.1/32 scram-sha-256\n";

/// Servers whose Postgres is hardened, and the authority that signed its certificate.
async fn hardened() -> (Servers, CertificateAuthority) {
    let servers = Servers::start(&[]).await;
    let authority = CertificateAuthority::new();
    let (certificate, key) = authority.sign("127.0.0.1");
    let data = servers.scratch.path().join("postgres");
    put(&data, "server.crt", &certificate);
    put(&data, "server.key", &key);
    put(&data, "pg_hba.conf", HBA);
    let client = servers.client("postgres").await;
    client.batch_execute("alter system set ssl = on").await.expect("a setting");
    client.batch_execute("select pg_reload_conf()").await.expect("a superuser");
    let deadline = Instant::now() + DEADLINE;
    loop {
        // A new process has the new setting.
        let row = servers.client("postgres").await.query_one("show ssl", &[]).await.expect("a setting");
        if row.get::<_, &str>(0) == "on" {
            return (servers, authority);
        }
        assert!(Instant::now() < deadline, "TLS is not on");
    }
}

/// A source whose role has no right but those it needs.
async fn least_privileged(servers: &Servers) -> Source<'_> {
    let source = servers.source().await;
    let sql = format!(
        "revoke all on database {name} from public; grant connect on database {name} to cdc_relay;
         revoke all on schema public from public; grant usage on schema public to cdc_relay;
         create table secrets (t text)",
        name = source.name
    );
    source.client.batch_execute(&sql).await.expect("the rights");
    source
}

/// The configuration of a relay that trusts this authority, with something more in its URL.
fn configure(source: &Source<'_>, authority: &CertificateAuthority, host: &str, more: &str) {
    let ca = source.config().with_extension("pem");
    std::fs::write(&ca, authority.pem()).expect("a file");
    let text = source.default_config();
    let url = format!("/{}\"\n", source.name);
    let hardened = format!("/{}{more}\"\nca_file = \"{}\"\n", source.name, ca.display());
    assert!(text.contains(&url));
    let (kafka, rest) = text.split_once("[[source]]").expect("a source");
    let rest = rest.replace(&url, &hardened).replace("127.0.0.1", host);
    source.configure(&format!("{kafka}[[source]]{rest}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_with_the_least_rights_over_verified_tls_and_bound_scram_publishes_exactly_once() {
    let (servers, authority) = hardened().await;
    let source = least_privileged(&servers).await;
    let sql = "select rolsuper or rolcreaterole or rolcreatedb or rolbypassrls or not rolreplication
        or has_table_privilege('cdc_relay', 'secrets', 'select') or has_table_privilege('cdc_relay', 'outbox', 'insert')
        from pg_roles where rolname = 'cdc_relay'";
    let has_too_much: bool = source.client.query_one(sql, &[]).await.expect("the role").get(0);
    assert!(!has_too_much);

    configure(&source, &authority, "127.0.0.1", "?channel_binding=require");
    let mut relay = source.running().await;
    let mut writer = Writer::default();
    writer.write(&source, 20, 3).await;
    relay.kill();
    writer.write(&source, 20, 3).await;
    let relay = source.relay();
    relay.ready().await;
    writer.check(&source).await;
    let sql = "select count(*), count(*) filter (where not ssl) from pg_stat_ssl
        join pg_stat_activity using (pid) where usename = 'cdc_relay'";
    let row = source.client.query_one(sql, &[]).await.expect("the connections");
    let (all, plain): (i64, i64) = (row.get(0), row.get(1));
    assert!(all >= 2, "{all} connections: stream and catalog at least");
    assert_eq!(plain, 0, "connections without TLS");

    wrong_trust_is_said_once(&source, &authority).await;
}

/// Each of them in one line that tells the mend, and no secret.
async fn wrong_trust_is_said_once(source: &Source<'_>, authority: &CertificateAuthority) {
    let tls = "the TLS handshake failed; the certificate must be made out to this host and signed by the given authority";
    configure(source, &CertificateAuthority::new(), "127.0.0.1", "");
    refused(source, tls).await;
    configure(source, authority, "localhost", "");
    refused(source, tls).await;
    source.configure(&source.default_config());
    refused(source, "pg_hba.conf must admit this role from this host, with this kind of encryption").await;
}

async fn refused(source: &Source<'_>, words: &str) {
    let output = source.init();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(words), "{text:?} does not say {words:?}");
    let mut relay = source.relay();
    relay.not_ready_because(words).await;
    assert_eq!(relay.stop(), Some(0));
    let said = relay.log().lines().filter(|line| line.contains("\"WARN\"")).count();
    assert_eq!(said, 1, "{}", relay.log());
    assert!(!relay.log().contains("relay-secret"), "a secret is not logged");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_with_a_certificate_reaches_a_relay_that_asks_for_one_and_nobody_else_does() {
    let servers = Servers::shared().await;
    let source = servers.source().await;
    assert!(source.init().status.success());
    let (ours, stranger) = (CertificateAuthority::new(), CertificateAuthority::new());
    let write = |name: &str, text: &str| {
        let path = source.config().with_extension(name);
        std::fs::write(&path, text).expect("a file");
        path
    };
    let pair = |name: &str, authority: &CertificateAuthority| {
        let (certificate, key) = authority.sign("127.0.0.1");
        (write(&format!("{name}.crt"), &certificate), write(&format!("{name}.key"), &key))
    };
    let (ca, strange_ca) = (write("ca", &ours.pem()), write("strange.ca", &stranger.pem()));
    let (server, operator, other) =
        (pair("server", &ours), pair("operator", &ours), pair("other", &stranger));
    let relay = source.relay_with(&[
        ("TAILRACE_TLS_CERT_FILE", &server.0),
        ("TAILRACE_TLS_KEY_FILE", &server.1),
        ("TAILRACE_TLS_CLIENT_CA_FILE", &ca),
    ]);
    relay.ready().await;

    let no_answer = "no relay answers at https://";
    // A refused client hears of it after the handshake: how is chance.
    let refused = "the relay: ";
    for (files, words) in [
        ([Some(&ca), Some(&operator.0), Some(&operator.1)], "no key is parked"),
        ([Some(&ca), Some(&other.0), Some(&other.1)], refused),
        ([Some(&ca), None, None], refused),
        ([Some(&strange_ca), Some(&operator.0), Some(&operator.1)], no_answer),
        (
            [None, None, None],
            "TAILRACE_RELAY_CA_FILE: https needs the authorities to trust; give their PEM file",
        ),
        ([Some(&ca), Some(&operator.0), None], "TAILRACE_RELAY_KEY_FILE"),
    ] {
        let names = ["TAILRACE_RELAY_CA_FILE", "TAILRACE_RELAY_CERT_FILE", "TAILRACE_RELAY_KEY_FILE"];
        let named = names.into_iter().zip(files);
        let files: Vec<_> = named.filter_map(|(name, file)| Some((name, file?.as_path()))).collect();
        let said = dead_letters_over_tls(&relay, &files).await;
        assert!(said.text.contains(words), "{files:?}: {said:?}");
        assert_eq!(said.is_success, words == "no key is parked", "{said:?}");
        assert_eq!(said.text.lines().count(), 1, "one line: {said:?}");
    }
    let said = dead_letters(&relay, &["list"]).await;
    assert!(!said.is_success, "not without TLS: {said:?}");
}
