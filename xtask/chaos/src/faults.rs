//! Carries a schedule out: each fault is a task that breaks a part at its time, waits, and mends it.
//!
//! When the last task has ended, everything runs again and every link is whole.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::task::{JoinSet, block_in_place};
use tokio::time::{Instant, interval, sleep, sleep_until};
use xtask::native::{Kafka, Postgres};

use crate::cluster::{Cluster, RELAYS};
use crate::proxy::Mode;
use crate::relays::{Claim, Relays};
use crate::schedule::{BROKERS, Blow, Fault, Link, Part, Server, Side, SmallDisk, Step, Whose};
use crate::source::Source;

/// How long Postgres may take to recover.
const POSTGRES_TIMEOUT: Duration = Duration::from_secs(60);
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// What faults need to know.
pub(crate) struct Injector {
    cluster: Arc<Cluster>,
    relays: Arc<Relays>,
    source: Arc<Source>,
    /// Mending may take longer than the schedule allows for: the next fault of the same part waits for it.
    parts: HashMap<Part, Arc<Mutex<()>>>,
}

/// A fault as it was carried out.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Done {
    /// When it began.
    pub(crate) began_ms: u64,
    /// When it was mended.
    pub(crate) mended_ms: u64,
    /// Whom it hit, where the schedule leaves that open.
    pub(crate) note: String,
    #[serde(flatten)]
    pub(crate) step: Step,
}

impl Injector {
    pub(crate) fn new(cluster: Arc<Cluster>, relays: Arc<Relays>, source: Arc<Source>) -> Self {
        let sides = [Side::Holder, Side::Standby].map(Part::Relay).into_iter();
        let brokers = (0..BROKERS).flat_map(|broker| [Part::Broker(broker), Part::LinkToBroker(broker)]);
        let parts = sides.chain(brokers).chain([Part::Postgres, Part::LinkToPostgres]);
        let parts = parts.map(|part| (part, Arc::default())).collect();
        Self { cluster, relays, source, parts }
    }

    /// Carries out everything; the answer comes when all is mended.
    pub(crate) async fn carry_out(self, schedule: &[Step]) -> Result<Vec<Done>> {
        let begun = Instant::now();
        let injector = Arc::new(self);
        let mut tasks = JoinSet::new();
        for step in schedule.iter().cloned() {
            tasks.spawn(Arc::clone(&injector).step(step, begun));
        }
        let mut all = Vec::new();
        while let Some(done) = tasks.join_next().await {
            let done = done.context("a fault panicked")??;
            eprintln!(
                "  {:5.1} s to {:5.1} s  {}{}{}",
                Duration::from_millis(done.began_ms).as_secs_f64(),
                Duration::from_millis(done.mended_ms).as_secs_f64(),
                done.step.fault,
                if done.note.is_empty() { "" } else { ": " },
                done.note
            );
            injector.relays.ensure_alive()?;
            all.push(done);
        }
        all.sort_by_key(|done| done.began_ms);
        Ok(all)
    }

    async fn step(self: Arc<Self>, step: Step, begun: Instant) -> Result<Done> {
        sleep_until(begun + Duration::from_millis(step.at_ms)).await;
        let mut held = Vec::new();
        for part in step.fault.parts() {
            held.push(Arc::clone(&self.parts[&part]).lock_owned().await);
        }
        let elapsed_ms = || u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let began_ms = elapsed_ms();
        let note = self.inflict(step.fault, Duration::from_millis(step.lasts_ms)).await?;
        Ok(Done { began_ms, mended_ms: elapsed_ms(), note, step })
    }

    /// Breaks, waits, mends.
    async fn inflict(&self, fault: Fault, lasts: Duration) -> Result<String> {
        match fault {
            Fault::Relay(blow, side) => self.relay(blow, side, lasts).await,
            Fault::DeposeHolder => self.depose(lasts).await,
            Fault::Broker(blow, broker) => self.broker(blow, broker, lasts).await,
            Fault::KillKafka => self.kill_kafka(lasts).await,
            Fault::CrashPostgres => self.postgres(Postgres::crash, lasts).await,
            Fault::RestartPostgres => self.postgres(Postgres::stop, lasts).await,
            Fault::EndWalsender => self.end_sessions("backend_type = 'walsender'").await,
            Fault::CutLink(link) => self.link(link, Mode::Cut, lasts).await,
            Fault::SlowLink(link) => self.link(link, Mode::Slow, lasts).await,
            Fault::HalfOpenLink(link, lost) => self.link(link, Mode::HalfOpen(lost), lasts).await,
            Fault::FillDisk(disk) => self.disk(disk, lasts).await,
        }
    }

    async fn relay(&self, blow: Blow, side: Side, lasts: Duration) -> Result<String> {
        let claim = self.claim(side).await?;
        let relay = claim.relay();
        let mut note = format!("relay {}", relay.name);
        match blow {
            Blow::Kill => block_in_place(|| relay.kill()),
            Blow::Stop => match block_in_place(|| relay.stop()) {
                Some(status) => note.push_str(&format!(" ended ({status})")),
                None => note.push_str(" had to be killed"),
            },
            Blow::Freeze => relay.freeze(),
        }
        sleep(lasts).await;
        match blow {
            Blow::Kill | Blow::Stop => relay.start()?,
            Blow::Freeze => relay.thaw(),
        }
        Ok(note)
    }

    async fn depose(&self, lasts: Duration) -> Result<String> {
        let claim = self.claim(Side::Holder).await?;
        let relay = claim.relay();
        relay.freeze();
        let ended = self.end_sessions("usename = 'cdc_relay'").await?;
        sleep(lasts).await;
        relay.thaw();
        Ok(format!("relay {}, {ended}", relay.name))
    }

    async fn claim(&self, side: Side) -> Result<Claim<'_>> {
        self.relays.claim(side).await.context("more faults of relays than relays")
    }

    async fn broker(&self, blow: Blow, number: usize, lasts: Duration) -> Result<String> {
        let broker = &self.cluster.brokers[number];
        match blow {
            Blow::Kill => block_in_place(|| broker.kill()),
            Blow::Stop => block_in_place(|| broker.stop()),
            Blow::Freeze => broker.signal(Signal::STOP),
        }
        sleep(lasts).await;
        match blow {
            Blow::Kill | Blow::Stop => block_in_place(|| broker.start_again())?,
            Blow::Freeze => broker.signal(Signal::CONT),
        }
        Ok(String::new())
    }

    async fn kill_kafka(&self, lasts: Duration) -> Result<String> {
        let brokers = &self.cluster.brokers;
        block_in_place(|| brokers.iter().for_each(Kafka::kill));
        sleep(lasts).await;
        // All at once: a majority must be starting before one of them answers.
        block_in_place(|| {
            std::thread::scope(|scope| {
                let starts: Vec<_> =
                    brokers.iter().map(|broker| scope.spawn(|| broker.start_again())).collect();
                starts.into_iter().try_for_each(|start| start.join().expect("starting does not panic"))
            })
        })?;
        Ok(String::new())
    }

    async fn postgres(&self, end: fn(&Postgres), lasts: Duration) -> Result<String> {
        let postgres = &self.cluster.postgres;
        let begun = Instant::now();
        block_in_place(|| end(postgres));
        let note = format!("down after {:.1} s", begun.elapsed().as_secs_f64());
        sleep(lasts).await;
        block_in_place(|| postgres.restart())?;
        Ok(note)
    }

    async fn disk(&self, disk: SmallDisk, lasts: Duration) -> Result<String> {
        let broker = &self.cluster.brokers[SmallDisk::BROKER];
        let Some(disks) = &self.cluster.disks else {
            // What a full disk may come to.
            let note = match disk {
                SmallDisk::Postgres => self.postgres(Postgres::crash, lasts).await?,
                SmallDisk::Broker => self.broker(Blow::Kill, SmallDisk::BROKER, lasts).await?,
            };
            return Ok(format!("no small disk, killed instead; {note}"));
        };
        let full = match disk {
            SmallDisk::Postgres => &disks.postgres,
            SmallDisk::Broker => &disks.broker,
        };
        block_in_place(|| full.fill())?;
        sleep(lasts).await;
        full.clear()?;
        match disk {
            SmallDisk::Postgres => self.wait_for_postgres().await,
            SmallDisk::Broker => block_in_place(|| {
                let note = if broker.is_running() { "it still ran" } else { "it had ended" };
                // It does not use a disk again that has failed once.
                broker.kill();
                broker.start_again()?;
                Ok(note.to_owned())
            }),
        }
    }

    /// Postgres goes on by itself when there is room again, unless it has ended.
    async fn wait_for_postgres(&self) -> Result<String> {
        let mut looks = interval(LOOK_INTERVAL);
        let begun = Instant::now();
        let mut note = "it went on by itself";
        while self.cluster.session("postgres").await.is_err() {
            if !self.cluster.postgres.is_running() {
                note = "it had ended";
                block_in_place(|| self.cluster.postgres.restart())?;
            }
            ensure!(begun.elapsed() < POSTGRES_TIMEOUT, "Postgres does not go on after its disk was full");
            looks.tick().await;
        }
        Ok(note.to_owned())
    }

    /// Ends sessions in the source's database. When Postgres is away there are none.
    async fn end_sessions(&self, which: &str) -> Result<String> {
        let sql = format!(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = $1 AND {which}"
        );
        let ended = async {
            let session = self.cluster.session(&self.source.name).await?;
            anyhow::Ok(session.client.query_one(&sql, &[&self.source.name]).await?.get::<_, i64>(0))
        };
        Ok(ended
            .await
            .map_or_else(|_| "Postgres was away".to_owned(), |count| format!("{count} sessions ended")))
    }

    async fn link(&self, link: Link, mode: Mode, lasts: Duration) -> Result<String> {
        let (relays, note) = match link.whose {
            Whose::Both => ((0..RELAYS).collect(), String::new()),
            Whose::Holder => {
                let holder = self.relays.holder().await.unwrap_or(0);
                (vec![holder], format!("relay {}", self.relays.relays[holder].name))
            }
        };
        let set = |mode: Mode| {
            for links in relays.iter().map(|relay: &usize| &self.cluster.links[*relay]) {
                match link.to {
                    Server::Postgres => links.postgres.set(mode),
                    Server::Broker(broker) => links.brokers[broker].set(mode),
                    Server::Kafka => links.brokers.iter().for_each(|link| link.set(mode)),
                }
            }
        };
        ensure!(!relays.is_empty(), "a link belongs to a relay");
        set(mode);
        sleep(lasts).await;
        set(Mode::Pass);
        Ok(note)
    }
}
