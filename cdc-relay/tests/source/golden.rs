//! The statements of the golden sessions, on the server under test; their frames are left for whoever wants to keep them.

use std::fmt::Write as _;
use std::path::Path;

use bytes::Bytes;
use cdc_relay::source::StreamOptions;
use replication_protocol::pgoutput::Message;
use replication_protocol::{CopyData, Lsn};

use crate::listing::{EXPECTED, listing};
use crate::support::{DEADLINE, Database, Server, soon, status};

const EVERYTHING: &str = "everything";

const TABLES: &str = "
    create type colour as enum ('red', 'green');
    create table outbox (id uuid primary key, aggregate_type text not null, aggregate_version bigint not null,
        payload json, headers json);
    create table other (id int primary key, colour colour, large text);
    alter table other alter column large set storage external;
    create publication everything for all tables;
    select pg_replication_origin_create('elsewhere')";

/// One transaction each.
const STATEMENTS: &[&str] = &[
    "insert into outbox values ('00000000-0000-7000-8000-000000000001', 'users', 1, '{\"name\": \"Zoë\"}', null)",
    "begin;
     insert into outbox values ('00000000-0000-7000-8000-000000000002', 'orders', 7, '{}',
        '{\"traceparent\": \"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\"}');
     insert into outbox values ('00000000-0000-7000-8000-000000000003', 'orders', 8, '{}', null);
     select pg_logical_emit_message(true, 'outbox', 'hello');
     commit",
    "select pg_logical_emit_message(false, 'beat', '')",
    "insert into other values (1, 'green', repeat('x', 5000))",
    "update other set colour = null",
    "update other set id = 2",
    "alter table other replica identity full",
    "update other set colour = 'red'",
    "delete from other",
    "truncate other, outbox",
    "select pg_replication_origin_session_setup('elsewhere')",
    "begin;
     select pg_replication_origin_xact_setup('0/ABCDEF', '2026-01-02 03:04:05+00');
     insert into outbox values ('00000000-0000-7000-8000-000000000004', 'users', 2, '{}', null);
     commit",
];

#[tokio::test]
async fn the_golden_statements_read_alike_on_every_server() {
    // Of its own, because an origin belongs to the whole server.
    let server = Server::start(&[]).await;
    let database = server.database().await;
    database
        .execute("drop publication if exists \"outbox of \"\"tests\"\", it's quoted\"; drop table outbox")
        .await;
    for statement in TABLES.split(';') {
        database.execute(statement).await;
    }
    database.create_slot().await;
    for statement in STATEMENTS {
        database.execute(statement).await;
    }
    let bodies = session(&database).await;
    let messages: Vec<Message> = bodies.iter().filter_map(message).collect();
    assert_eq!(listing(&messages), EXPECTED);

    let row =
        database.client.query_one("select current_setting('server_version_num')::int / 10000", &[]).await;
    keep(row.unwrap().get(0), &bodies);
}

/// The bodies of the frames up to the end of the last transaction, and a keepalive behind it.
async fn session(database: &Database<'_>) -> Vec<Bytes> {
    let connection = database.connect().await;
    let options = StreamOptions { messages: true };
    let mut stream =
        connection.start_replication(&database.slot, EVERYTHING, Lsn::ZERO, options).await.unwrap();
    let mut bodies = Vec::new();
    let mut read = 0;
    let mut is_last = false;
    let end = loop {
        soon(stream.reader.next_frames(&mut bodies)).await.expect("frames in time").unwrap();
        let found = bodies[read..].iter().filter_map(message).find_map(|message| {
            is_last |= matches!(message, Message::Origin(_));
            if let Message::Commit(commit) = message {
                Some(commit.end_lsn).filter(|_| is_last)
            } else {
                None
            }
        });
        if let Some(end) = found {
            break end;
        }
        read = bodies.len();
    };
    // A keepalive may have come with it; this one is asked for.
    bodies.truncate(bodies.iter().rposition(|body| message(body).is_some()).unwrap() + 1);
    stream.writer.send_status(status(end, true)).await.unwrap();
    soon(stream.reader.next_frames(&mut bodies)).await.expect("a keepalive in time").unwrap();
    stream.finish(status(end, false), DEADLINE).await.unwrap();
    bodies
}

fn message(body: &Bytes) -> Option<Message> {
    match CopyData::parse(body.clone()).unwrap() {
        CopyData::XLogData(piece) => Some(Message::parse(piece.data).unwrap()),
        CopyData::PrimaryKeepalive(_) | CopyData::Unknown(_) => None,
    }
}

/// As the files beside the protocol's tests are written.
fn keep(major: i32, bodies: &[Bytes]) {
    let mut text = format!(
        "# Bodies of the CopyData frames of one session, one a line, as Postgres {major} sent them:\n\
         # START_REPLICATION … (proto_version '1', publication_names '\"{EVERYTHING}\"', binary 'true', messages 'true').\n"
    );
    for body in bodies {
        body.iter().for_each(|byte| write!(text, "{byte:02x}").unwrap());
        text.push('\n');
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("golden");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(format!("postgres-{major}-binary.hex")), text).unwrap();
}
