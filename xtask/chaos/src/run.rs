//! One run: a source, two relays, writers; the faults of the seed; healing; the comparison.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tokio::time::{Instant, interval};
use xtask::commands::chaos::Options;

use crate::checker::{self, Delivery, Findings};
use crate::cluster::Cluster;
use crate::faults::{Done, Injector};
use crate::relays::Relays;
use crate::schedule::{self, Shape, Step};
use crate::source::Source;
use crate::topics;
use crate::writer::Writers;

/// After that, with everything mended and written, all must be published.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(120);
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// What a run does.
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) quick: bool,
    pub(crate) delivery: Delivery,
    pub(crate) schedule: Vec<Step>,
}

impl Plan {
    /// The plan of a seed.
    pub(crate) fn new(seed: u64, options: &Options) -> Self {
        let delivery = if options.at_least_once { Delivery::AtLeastOnce } else { Delivery::ExactlyOnce };
        let mut plan = Self { seed, quick: options.quick, delivery, schedule: Vec::new() };
        plan.schedule = schedule::draw(seed, &plan.shape());
        plan
    }

    fn shape(&self) -> Shape {
        if self.quick { Shape::QUICK } else { Shape::FULL }
    }
}

/// What a run has shown.
pub(crate) struct Outcome {
    delivery: Delivery,
    pub(crate) faults: Vec<Done>,
    pub(crate) events: u64,
    /// Rows that were rolled back.
    pub(crate) rolled_back: u64,
    /// Commits that were not answered, because Postgres went away.
    pub(crate) unanswered: u64,
    /// How long it took until all was published, once everything was mended and written.
    pub(crate) recovery: Duration,
    pub(crate) findings: Findings,
    /// What else must not be.
    pub(crate) complaints: Vec<String>,
}

impl Outcome {
    /// Whether nothing was wrong.
    pub(crate) fn is_well(&self) -> bool {
        self.findings.counts.keep(self.delivery) && self.complaints.is_empty()
    }
}

/// Carries the plan out. The source is removed again unless something was found.
pub(crate) async fn run(cluster: &Arc<Cluster>, number: u32, plan: &Plan, logs: PathBuf) -> Result<Outcome> {
    let source = Source::make(cluster, number, plan, logs).await.context("cannot make a source")?;
    let source = Arc::new(source);
    let relays = Arc::new(Relays::start(&source).await?);
    let writers =
        Writers::start(&cluster.postgres.superuser_url(&source.name), plan.seed, plan.shape().events);

    let injector = Injector::new(Arc::clone(cluster), Arc::clone(&relays), Arc::clone(&source));
    let faults = injector.carry_out(&plan.schedule).await?;
    let journal = writers.finish().await?;
    let written = Instant::now();
    wait_for_position(cluster, &source, &relays, written).await?;
    let recovery = written.elapsed();
    let mut complaints = relays.broken_invariants().await;
    complaints.extend(tokio::task::block_in_place(|| relays.stop()));

    let rows = source.rows(cluster).await?;
    let events = rows.len() as u64;
    ensure!(
        events >= journal.committed,
        "Postgres holds {events} rows, but has answered the commits of {}",
        journal.committed
    );
    let bootstrap = cluster.bootstrap();
    let topics = source.event_topics();
    topics::settle(&bootstrap, &topics).await?;
    let records = tokio::task::block_in_place(|| topics::read(&bootstrap, &topics))?;
    let findings = checker::compare(&rows, &records, &journal.rolled_back, &*source);
    let outcome = Outcome {
        delivery: plan.delivery,
        faults,
        events,
        rolled_back: journal.rolled_back.len() as u64,
        unanswered: journal.unanswered,
        recovery,
        findings,
        complaints,
    };
    if outcome.is_well() {
        source.remove(cluster).await?;
    }
    Ok(outcome)
}

/// Waits until the relay has told Postgres that everything is published which was committed by now.
async fn wait_for_position(
    cluster: &Cluster,
    source: &Source,
    relays: &Relays,
    written: Instant,
) -> Result<()> {
    let session = cluster.session(&source.name).await?;
    let end: String = session.client.query_one("SELECT pg_current_wal_insert_lsn()::text", &[]).await?.get(0);
    let sql = "SELECT confirmed_flush_lsn >= $2::text::pg_lsn, confirmed_flush_lsn::text \
               FROM pg_replication_slots WHERE slot_name = $1";
    let mut looks = interval(LOOK_INTERVAL);
    loop {
        looks.tick().await;
        relays.ensure_alive()?;
        let row = session
            .client
            .query_one(sql, &[&source.slot(), &end])
            .await
            .context("cannot look at the slot")?;
        if row.get(0) {
            return Ok(());
        }
        if written.elapsed() > RECOVERY_TIMEOUT {
            let confirmed: String = row.get(1);
            let states = relays.states().await;
            bail!("after {RECOVERY_TIMEOUT:?} not all is published: {confirmed} of {end}; {states}");
        }
    }
}
