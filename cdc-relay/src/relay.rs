//! One source: take it, stream it, and whatever ends the stream, take it again.
//!
//! ```text
//!            ┌──────────── wait (back-off with jitter) ◀───────────────┐
//!            ▼                                                         │ trouble
//!  run ─▶ takeover ─▶ stream: one select! over frames, outcomes, time ─┘
//!                        └── shutdown ─▶ drain ─▶ last acknowledgement ─▶ end
//! ```

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use tailrace_runtime::shutdown::Shutdown;
use tokio::sync::mpsc::Receiver;
use tokio::time::{sleep, sleep_until};

use crate::board::Board;
use crate::clock;
use crate::config::{Config, SourceConfig};
use crate::dead_letter::DeadLetterContext;
use crate::engine::{Command, Engine, EngineSettings};
use crate::parking::{Parking, Scan};
use crate::position::Position;
use crate::requests::{self, DeskWork, Request, Work};
use crate::router::Router;
use crate::sink::kafka;
use crate::takeover::{self, Holding};
use crate::trouble::Trouble;

/// The waits between attempts: quick at first, because most troubles are short.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// How often a halted source is looked at again.
const HALTED_INTERVAL: Duration = Duration::from_secs(15);
/// A third of the server's patience, and never rarer than this.
const STATUS_INTERVAL_MAX: Duration = Duration::from_secs(10);
/// How soon after a status the next one tells of a new position.
const STATUS_INTERVAL_MIN: Duration = Duration::from_millis(100);
/// A source is behind when its commits are sent so long after they were made,
const CATCH_UP_LAG: Duration = Duration::from_millis(250);
/// and then a batch may wait so long for company.
const CATCH_UP_INTERVAL: Duration = Duration::from_millis(50);
/// How long the server may take to say goodbye.
const FAREWELL_LIMIT: Duration = Duration::from_secs(2);

/// Publishes one source until shutdown.
pub(crate) async fn run(
    config: Arc<Config>,
    source: SourceConfig,
    board: Board,
    mut requests: Receiver<Request>,
    shutdown: Shutdown,
) {
    let mut waits = backoff();
    while !shutdown.requested() {
        board.starting();
        let trouble = match attempt(&config, &source, &board, &mut requests, &shutdown, &mut waits).await {
            Ok(()) => return,
            Err(trouble) => trouble,
        };
        board.trouble(&trouble);
        requests::dismiss(&mut requests);
        let wait = match trouble {
            Trouble::Standby => takeover::STANDBY_INTERVAL,
            Trouble::Halted(_) => HALTED_INTERVAL,
            Trouble::Passing(_) => waits.next().unwrap_or(BACKOFF_MAX),
        };
        tokio::select! {
            () = sleep(wait) => {}
            () = shutdown.wait() => return,
        }
    }
}

fn backoff() -> backon::ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(BACKOFF_MIN)
        .with_max_delay(BACKOFF_MAX)
        .with_jitter()
        .without_max_times()
        .build()
}

async fn attempt(
    config: &Config,
    source: &SourceConfig,
    board: &Board,
    requests: &mut Receiver<Request>,
    shutdown: &Shutdown,
    waits: &mut backon::ExponentialBackoff,
) -> Result<(), Trouble> {
    let mut holding = tokio::select! {
        taken = takeover::take(config, source, board) => taken?,
        () = shutdown.wait() => return Ok(()),
    };
    let parked = std::mem::take(&mut holding.parked);
    let begun_at = holding.position.resume_lsn;
    let mut engine = engine(config, source, holding.position, parked);
    requests::dismiss(requests);
    board.streaming(engine.progress(), holding.stream.backend_pid());
    let desk = DeskWork::new(config, source, requests);
    let end = stream(&mut holding, &mut engine, board, desk, shutdown).await;
    board.ended(engine.progress());
    // What is refused each time must not be tried faster each time: only progress makes the waits short again.
    if engine.progress().durable > begun_at {
        *waits = backoff();
    }
    let Holding { stream, sink, lease, .. } = holding;
    // A server that stops waits for its streams, and the sink may wait for Kafka: a broken stream goes first.
    let stream = Some(stream).filter(|_| end.is_ok());
    // Nothing of this attempt may reach Kafka once the next one begins.
    sink.close().await;
    if let Some(stream) = stream {
        let farewell = stream.finish(engine.status(clock::now()), FAREWELL_LIMIT).await;
        if let Err(error) = farewell {
            tracing::debug!(source = source.name, error = %error, "the server did not confirm the last status");
        }
    }
    drop(lease);
    end
}

fn engine(config: &Config, source: &SourceConfig, position: Position, parked: Scan) -> Engine {
    let wal_sender_timeout = source.connection.wal_sender_timeout;
    let settings = EngineSettings {
        buffer_bytes_max: source.buffer_bytes_max,
        status_interval: STATUS_INTERVAL_MAX.min(wal_sender_timeout / 3),
        status_interval_min: STATUS_INTERVAL_MIN,
        idle_position_interval: source.idle_position_interval,
        silence_max: wal_sender_timeout * 2,
        catch_up_lag: CATCH_UP_LAG,
        catch_up_interval: CATCH_UP_INTERVAL,
    };
    let table = format!("{}.{}", source.table.schema, source.table.name);
    let router = Router {
        routes: config.routes.clone(),
        record_bytes_max: config.kafka.record_bytes_max,
        dead_letters: DeadLetterContext::new(&source.name, &table, &config.kafka.dead_letter_topic),
    };
    let topic = kafka::parked_topic(&source.name);
    let parking = Parking::new(&topic, config.kafka.record_bytes_max, source.parked_keys_max).with(parked);
    let (table, columns) = (source.table.clone(), source.columns.clone());
    Engine::new(settings, router, table, columns, position, parking, clock::now())
}

/// Streams until trouble, or until shutdown and everything complete is in Kafka.
async fn stream(
    holding: &mut Holding,
    engine: &mut Engine,
    board: &Board,
    mut desk: DeskWork<'_>,
    shutdown: &Shutdown,
) -> Result<(), Trouble> {
    let mut frames = Vec::new();
    let mut draining = false;
    loop {
        let now = clock::now();
        while let Some(command) = engine.poll_command(now) {
            match command {
                Command::Publish(batch) => {
                    let record = holding.record(batch.position);
                    holding.sink.publish(batch, record);
                }
                Command::Record(position) => holding.sink.record(holding.record(position)),
                Command::SendStatus(status) => holding.stream.writer.queue(status),
                Command::ReadParked(key) => desk.read(key),
                Command::AnswerRelease(released) => desk.answer(released),
            }
        }
        board.progress(engine.progress());
        if engine.is_drained() {
            return Ok(());
        }
        tokio::select! {
            biased;
            // Stopping comes first: nothing more is taken in.
            () = shutdown.wait(), if !draining => {
                draining = true;
                engine.drain();
            }
            // Without the lease another relay may be at work.
            () = holding.lease.lost() => return Err(Trouble::Passing("the connection that holds the lease was lost".into())),
            // An outcome frees the way for the next batch.
            outcome = holding.sink.outcome() => engine.handle_outcome(clock::now(), outcome?)?,
            // The server's patience is finite; a status is 34 bytes.
            sent = holding.stream.writer.flush(), if !holding.stream.writer.is_idle() => sent?,
            // Operators ask seldom, and a release must not wait for a busy stream to pause.
            work = desk.next() => match work? {
                Work::Parked(piece) => engine.handle_parked(piece),
                Work::List(answer) => {
                    // Who asked may be gone.
                    let _ = answer.send(engine.parking().list());
                }
                Work::Release(position, action) => engine.release(position, action),
            },
            // Time: statuses, idle positions, silence.
            () = sleep_until(engine.next_timeout().into()) => engine.handle_timeout(clock::now())?,
            // New data last, and only while there is room for it.
            read = holding.stream.reader.next_frames(&mut frames), if engine.wants_data() => {
                read?;
                let now = clock::now();
                for body in frames.drain(..) {
                    engine.handle_copy_data(now, body)?;
                }
            }
        }
    }
}
