//! What each role of the running system may do in the databases, statement by statement, and nothing else.
//!
//! ```text
//!  owner    migrations and partitions: everything in its database, nothing outside
//!  service  rows of its tables; of the outbox INSERT alone
//!  relay    replication; of the outbox SELECT alone
//! ```

use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls, error::SqlState};
use xtask::settings::Settings;

use crate::support::system::System;

/// The roles of one database (role, variable of its password), in the order of the letters O, S, R.
const ROLES: [(&str, [(&str, &str); 3]); 2] = [
    (
        "orders",
        [
            ("orders_owner", "ORDERS_OWNER_PASSWORD"),
            ("orders_service", "ORDERS_SERVICE_PASSWORD"),
            ("cdc_relay", "CDC_RELAY_PASSWORD"),
        ],
    ),
    (
        "users",
        [
            ("users_owner", "USERS_OWNER_PASSWORD"),
            ("users_service", "USERS_SERVICE_PASSWORD"),
            ("cdc_relay", "CDC_RELAY_PASSWORD"),
        ],
    ),
];

/// In both databases. `{day}` is a partition of the outbox. Each is rolled back.
const EVERYWHERE: &[(&str, &str)] = &[
    ("O R", "SELECT * FROM outbox LIMIT 1"),
    (
        "OS ",
        "INSERT INTO outbox (id, aggregate_type, aggregate_id, aggregate_version, event_type, payload, headers) VALUES (gen_random_uuid(), 'a', 'a', 1, 'a', '{}', '{}')",
    ),
    ("O  ", "UPDATE outbox SET owner = null WHERE false"),
    ("O  ", "DELETE FROM outbox WHERE false"),
    ("O  ", "TRUNCATE outbox"),
    ("O  ", "LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE"),
    ("O  ", "ALTER TABLE outbox ADD COLUMN mine integer"),
    ("O  ", "DROP TABLE outbox"),
    ("O  ", "SELECT * FROM {day} LIMIT 1"),
    ("O  ", "INSERT INTO {day} SELECT * FROM {day} WHERE false"),
    ("O  ", "DELETE FROM {day} WHERE false"),
    ("O  ", "ALTER TABLE outbox DETACH PARTITION {day}"),
    ("O  ", "SELECT outbox_make_partitions(7)"),
    ("O  ", "SELECT outbox_make_partitions(current_date, 7)"),
    ("O  ", "SELECT * FROM outbox_retired"),
    ("O  ", "DELETE FROM outbox_retired"),
    ("O  ", "ALTER PUBLICATION tailrace_outbox SET (publish = 'insert, update')"),
    ("O  ", "DROP PUBLICATION tailrace_outbox"),
    ("O  ", "CREATE PUBLICATION mine"),
    ("OS ", "SELECT * FROM carried_out_request LIMIT 1"),
    ("OS ", "INSERT INTO carried_out_request SELECT * FROM carried_out_request WHERE false"),
    ("O  ", "UPDATE carried_out_request SET answer = '' WHERE false"),
    ("OS ", "DELETE FROM carried_out_request WHERE false"),
    ("O  ", "TRUNCATE carried_out_request"),
    ("OS ", "SELECT * FROM migration"),
    ("O  ", "DELETE FROM migration WHERE false"),
    ("OS ", "SELECT * FROM outbox_migration"),
    ("O  ", "UPDATE outbox_migration SET checksum = '' WHERE false"),
    ("O  ", "CREATE TABLE mine ()"),
    ("O  ", "CREATE TEMPORARY TABLE mine ()"),
    ("O  ", "CREATE SCHEMA mine"),
    ("O  ", "CREATE FUNCTION mine() RETURNS integer LANGUAGE sql AS 'SELECT 1'"),
    ("  R", "SELECT pg_create_logical_replication_slot('mine_' || pg_backend_pid(), 'pgoutput', true)"),
    ("  R", "SELECT pg_create_physical_replication_slot('mine_p_' || pg_backend_pid(), false, true)"),
    ("OSR", "SELECT count(*) FROM pg_replication_slots"),
    ("OSR", "SELECT pg_current_wal_insert_lsn()"),
    ("OSR", "LISTEN mine"),
    ("   ", "CREATE ROLE mine"),
    ("   ", "ALTER ROLE cdc_relay SUPERUSER"),
    ("   ", "SET ROLE postgres"),
    ("   ", "SET SESSION AUTHORIZATION postgres"),
    ("   ", "SET session_replication_role = replica"),
    ("   ", "SELECT rolpassword FROM pg_authid"),
    ("   ", "SELECT pg_read_file('PG_VERSION')"),
    ("   ", "SELECT lo_import('PG_VERSION')"),
    ("   ", "COPY (SELECT 1) TO PROGRAM 'true'"),
    ("   ", "COPY (SELECT 1) TO '/tmp/mine'"),
    ("   ", "SELECT pg_reload_conf()"),
    ("   ", "SELECT pg_switch_wal()"),
    ("   ", "CREATE SUBSCRIPTION mine CONNECTION 'dbname=mine' PUBLICATION mine WITH (connect = false)"),
    ("   ", "CREATE DATABASE mine"),
    ("   ", "ALTER SYSTEM SET work_mem = '1MB'"),
];

const IN_ORDERS: &[(&str, &str)] = &[
    ("OS ", "SELECT * FROM orders LIMIT 1"),
    ("OS ", "INSERT INTO orders SELECT * FROM orders WHERE false"),
    ("OS ", "UPDATE orders SET state = state WHERE false"),
    ("O  ", "DELETE FROM orders WHERE false"),
    ("O  ", "TRUNCATE orders CASCADE"),
    ("O  ", "ALTER TABLE orders DROP COLUMN state"),
    ("OS ", "SELECT * FROM order_lines LIMIT 1"),
    ("OS ", "INSERT INTO order_lines SELECT * FROM order_lines WHERE false"),
    ("O  ", "UPDATE order_lines SET quantity = 1 WHERE false"),
    ("O  ", "DELETE FROM order_lines WHERE false"),
    ("OS ", "SELECT * FROM known_user LIMIT 1"),
    ("OS ", "UPDATE known_user SET deleted = true WHERE false"),
    ("OS ", "DELETE FROM known_user WHERE false"),
    ("O  ", "TRUNCATE known_user"),
    ("OS ", "LOCK TABLE inbox IN EXCLUSIVE MODE"),
    ("OS ", "UPDATE inbox SET next_offset = 0 WHERE false"),
    ("OS ", "SELECT * FROM inbox_set_aside LIMIT 1"),
    ("O  ", "UPDATE inbox_set_aside SET reason = '' WHERE false"),
];

const IN_USERS: &[(&str, &str)] = &[
    ("OS ", "SELECT password_hash FROM users LIMIT 1"),
    ("OS ", "INSERT INTO users SELECT * FROM users WHERE false"),
    ("OS ", "UPDATE users SET operator = operator WHERE false"),
    ("O  ", "DELETE FROM users WHERE false"),
    ("O  ", "TRUNCATE users CASCADE"),
    ("OS ", "SELECT * FROM sign_in LIMIT 1"),
    ("OS ", "DELETE FROM sign_in WHERE false"),
    ("OS ", "SELECT * FROM refresh_token LIMIT 1"),
    ("OS ", "UPDATE refresh_token SET spent = true WHERE false"),
    ("O  ", "TRUNCATE refresh_token"),
];

/// What may not run within a transaction; nobody may run it at all.
fn stands_alone(statement: &str) -> bool {
    statement.starts_with("CREATE DATABASE") || statement.starts_with("ALTER SYSTEM")
}

/// Whether the role may; any failure but the lack of a privilege is a mistake of the test.
async fn may(client: &Client, statement: &str) -> bool {
    if !stands_alone(statement) {
        client.batch_execute("BEGIN").await.expect("begun");
    }
    let outcome = client.batch_execute(statement).await;
    client.batch_execute("ROLLBACK").await.expect("rolled back");
    match outcome {
        Ok(()) => true,
        Err(error) => {
            assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{statement}: {error:?}");
            false
        }
    }
}

async fn connect(url: &str, connections: &mut JoinSet<()>) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    connections.spawn(async move { drop(connection.await) });
    Ok(client)
}

fn url(system: &System, (role, variable): (&str, &str), database: &str) -> String {
    let password = Settings::get().value(variable).expect("its password");
    system.stack.postgres().url(role, &password, database)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_may_do_what_it_is_for_and_nothing_else() {
    let system = System::shared().await;
    let mut connections = JoinSet::new();
    let mut checked = 0;
    for (database, roles) in ROLES {
        let own = if database == "orders" { IN_ORDERS } else { IN_USERS };
        let superuser = system.stack.postgres().superuser_url(database);
        let superuser = connect(&superuser, &mut connections).await.expect("a connection");
        let day =
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'outbox'::regclass LIMIT 1";
        let day: String = superuser.query_one(day, &[]).await.expect("a partition").get(0);
        for ((role, variable), letter) in roles.into_iter().zip(['O', 'S', 'R']) {
            let client = connect(&url(system, (role, variable), database), &mut connections).await;
            let client = client.expect("it may connect");
            for (who, statement) in EVERYWHERE.iter().chain(own) {
                let statement = statement.replace("{day}", &day);
                assert_eq!(may(&client, &statement).await, who.contains(letter), "{role}: {statement}");
                checked += 1;
            }
        }
    }
    for (database, others) in [("orders", ROLES[1].1), ("users", ROLES[0].1)] {
        for other in &others[..2] {
            let refused = connect(&url(system, *other, database), &mut connections).await;
            let code = refused.err().and_then(|error| error.code().cloned());
            assert_eq!(code, Some(SqlState::INSUFFICIENT_PRIVILEGE), "{} in {database}", other.0);
            checked += 1;
        }
    }
    eprintln!("{checked} statements and connections");
    assert!(checked >= 300, "{checked}");
}
