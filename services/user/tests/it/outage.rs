//! Postgres goes away under a running service, and comes back.

use tokio::{task::spawn_blocking, time::timeout};
use tonic::Code;
use xtask::native::{Postgres, PostgresOptions, Scratch};

use crate::support::{DEADLINE, Service, new_user, reason};

#[tokio::test(flavor = "multi_thread")]
async fn the_service_outlives_its_database() {
    let scratch = Scratch::new().expect("a folder");
    let folder = scratch.path().join("postgres");
    let postgres = spawn_blocking(move || {
        let options = PostgresOptions { without_fsync: true, ..PostgresOptions::default() };
        Postgres::start(&folder, options).expect("Postgres starts")
    });
    let postgres = postgres.await.expect("no panic");
    let service = Service::launch(&postgres.superuser_url("postgres")).await;
    let changed_from = async |ready| {
        let changed = timeout(DEADLINE, service.context().readiness.changed_from(ready)).await;
        changed.unwrap_or_else(|_| panic!("still {ready}: {}", service.context().readiness));
    };
    changed_from(false).await;
    service.create("ada@example.org").await;

    let postgres = spawn_blocking(move || {
        postgres.crash();
        postgres
    });
    let postgres = postgres.await.expect("no panic");
    changed_from(true).await;
    let status =
        service.users().create_user(new_user("Bob", "bob@example.org")).await.expect_err("no database");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "UNAVAILABLE"));

    let postgres = spawn_blocking(move || {
        postgres.restart().expect("it starts again");
        postgres
    });
    let postgres = postgres.await.expect("no panic");
    changed_from(false).await;
    service.create("bob@example.org").await;
    service.stop().await;
    drop(postgres);
}
