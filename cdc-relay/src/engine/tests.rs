//! A list of inputs and the exact list of outputs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use replication_protocol::{Lsn, StandbyStatusUpdate};

use super::*;
use crate::dead_letter::DeadLetterContext;
use crate::parking::Waiting;
use crate::position::{Partial, Position};
use crate::record::{Batch, Outcome, Record};
use crate::release::Action;
use crate::router::Route;
use crate::transaction::EventPosition;

mod delivery;
mod memory;
mod pace;
mod parking;

const RELATION_OID: u32 = 77;
const SECOND: Duration = Duration::from_secs(1);

/// An engine, its clock, and the frames of a server.
struct Bench {
    engine: Engine,
    now: Now,
    answers: Vec<Released>,
}

impl Bench {
    /// An engine that starts at 0/64 and is already told of the outbox table.
    fn new() -> Self {
        let mut bench = Self::starting_at(Position::at(Lsn::new(100)), 1 << 20);
        assert!(matches!(bench.commands()[..], [Command::SendStatus(_)]), "the server hears from us at once");
        bench
    }

    fn starting_at(start: Position, buffer_bytes_max: usize) -> Self {
        let now = Now { monotonic: Instant::now(), unix_us: 1_700_000_000_000_000 };
        let settings = EngineSettings {
            buffer_bytes_max,
            status_interval: 10 * SECOND,
            status_interval_min: SECOND / 10,
            idle_position_interval: 5 * SECOND,
            silence_max: 60 * SECOND,
            catch_up_lag: SECOND / 4,
            catch_up_interval: SECOND / 20,
        };
        let router = Router {
            routes: vec![Route::new("users.*", "users.created")],
            record_bytes_max: 1_000_000,
            dead_letters: DeadLetterContext::new("users", "public.outbox", "dead-letter"),
        };
        let table = Table { schema: "public".into(), name: "outbox".into() };
        let parking = Parking::new("tailrace.parked.users", 1_000_000, 100);
        let engine = Engine::new(settings, router, table, ColumnNames::default(), start, parking, now);
        let mut bench = Self { engine, now, answers: Vec::new() };
        bench.send(relation(RELATION_OID, "outbox"));
        bench
    }

    fn send(&mut self, data: Vec<u8>) {
        self.try_send(data).expect("a good frame");
    }

    /// Sends as a server does whose commits were made so long ago.
    fn send_late(&mut self, data: Vec<u8>, lag: Duration) {
        let mut body = x_log_data(&data);
        let lag_us = i64::try_from(lag.as_micros()).expect("a short time");
        body[17..25].copy_from_slice(&lag_us.to_be_bytes());
        self.engine.handle_copy_data(self.now, body.into()).expect("a good frame");
    }

    fn try_send(&mut self, data: Vec<u8>) -> Result<(), EngineError> {
        self.engine.handle_copy_data(self.now, x_log_data(&data).into())
    }

    fn keepalive(&mut self, wal_end: u64, reply_requested: bool) {
        let mut body = vec![b'k'];
        body.extend(wal_end.to_be_bytes());
        body.extend([0; 8]);
        body.push(u8::from(reply_requested));
        self.engine.handle_copy_data(self.now, body.into()).expect("a good keepalive");
    }

    /// One transaction that inserts a row per key, its commit record at `final_lsn`, ending ten later.
    fn transaction(&mut self, final_lsn: u64, keys: &[&str]) {
        self.send(begin(final_lsn));
        for key in keys {
            self.send(insert(RELATION_OID, key, "users.created.v1", 10));
        }
        self.send(commit(final_lsn, final_lsn + 10));
    }

    fn commands(&mut self) -> Vec<Command> {
        let mut commands = Vec::new();
        while let Some(command) = self.engine.poll_command(self.now) {
            if let Command::AnswerRelease(released) = command {
                self.answers.push(released);
            } else {
                commands.push(command);
            }
        }
        commands
    }

    /// The batch among the commands, if there is one.
    fn published(&mut self) -> Option<Arc<Batch>> {
        self.commands()
            .into_iter()
            .find_map(|command| if let Command::Publish(batch) = command { Some(batch) } else { None })
    }

    fn status(&mut self) -> Option<StandbyStatusUpdate> {
        self.commands()
            .into_iter()
            .find_map(|command| if let Command::SendStatus(status) = command { Some(status) } else { None })
    }

    fn committed(&mut self) {
        self.engine.handle_outcome(self.now, Outcome::Committed).expect("nothing can go wrong");
    }

    fn wait(&mut self, time: Duration) {
        self.now.monotonic += time;
        self.engine.handle_timeout(self.now).expect("the server is not silent for so long");
    }
}

fn x_log_data(data: &[u8]) -> Vec<u8> {
    [&b"w"[..], &[0; 24], data].concat()
}

fn c_string(text: &str) -> Vec<u8> {
    [text.as_bytes(), b"\0"].concat()
}

fn begin(final_lsn: u64) -> Vec<u8> {
    [&b"B"[..], &final_lsn.to_be_bytes(), &0_i64.to_be_bytes(), &7_u32.to_be_bytes()].concat()
}

fn commit(commit_lsn: u64, end_lsn: u64) -> Vec<u8> {
    [&b"C\0"[..], &commit_lsn.to_be_bytes(), &end_lsn.to_be_bytes(), &0_i64.to_be_bytes()].concat()
}

fn relation(oid: u32, name: &str) -> Vec<u8> {
    let mut data = [&b"R"[..], &oid.to_be_bytes(), &c_string("public"), &c_string(name), b"d"].concat();
    data.extend(5_u16.to_be_bytes());
    for column in ["id", "aggregate_type", "aggregate_id", "event_type", "payload"] {
        data.extend([&b"\0"[..], &c_string(column), &25_u32.to_be_bytes(), &(-1_i32).to_be_bytes()].concat());
    }
    data
}

fn insert(oid: u32, key: &str, event_type: &str, payload_bytes: usize) -> Vec<u8> {
    let mut data = [&b"I"[..], &oid.to_be_bytes(), b"N", &5_u16.to_be_bytes()].concat();
    let payload = "x".repeat(payload_bytes);
    for value in ["event-id", "users", key, event_type, &payload] {
        data.push(b't');
        data.extend(u32::try_from(value.len()).expect("short").to_be_bytes());
        data.extend(value.as_bytes());
    }
    data
}

fn message(transactional: bool) -> Vec<u8> {
    [&b"M"[..], &[u8::from(transactional)], &0_u64.to_be_bytes(), b"p\0", &0_u32.to_be_bytes()].concat()
}

fn keys(batch: &Batch) -> Vec<&str> {
    batch.records.iter().map(|record| str::from_utf8(&record.key).expect("text")).collect()
}

fn positions(batch: &Batch) -> Vec<String> {
    batch
        .records
        .iter()
        .map(|record| {
            let value = record.headers.get("tailrace_position").expect("every record has a position");
            String::from_utf8(value.to_vec()).expect("text")
        })
        .collect()
}

fn at(lsn: u64) -> Position {
    Position::at(Lsn::new(lsn))
}

#[test]
fn a_commit_is_published_at_once_and_acknowledged_as_its_end_lsn_once_it_is_in_kafka() {
    let mut bench = Bench::new();
    bench.transaction(200, &["a", "b"]);
    let batch = bench.published().expect("a whole commit waits for nothing");
    assert_eq!(keys(&batch), ["a", "b"]);
    assert_eq!(positions(&batch), ["0/C8/0", "0/C8/1"]);
    assert_eq!(batch.position, at(210));
    bench.wait(SECOND);
    assert_eq!(bench.status(), None, "nothing is acknowledged before Kafka has it");
    bench.committed();
    let status = bench.status().expect("a moved position is told");
    assert_eq!((status.flush, status.apply), (Lsn::new(210), Lsn::new(210)));
}

#[test]
fn nothing_is_published_before_its_commit() {
    let mut bench = Bench::new();
    bench.send(begin(200));
    bench.send(insert(RELATION_OID, "a", "users.created.v1", 10));
    assert_eq!(bench.published(), None);
    bench.send(commit(200, 210));
    assert!(bench.published().is_some());
}

#[test]
fn one_batch_is_in_flight_and_the_next_takes_every_commit_that_came_meanwhile() {
    let mut bench = Bench::new();
    bench.transaction(200, &["a"]);
    assert_eq!(bench.published().map(|batch| batch.records.len()), Some(1));
    bench.transaction(220, &["b"]);
    bench.transaction(240, &["c"]);
    bench.send(begin(260));
    bench.send(insert(RELATION_OID, "d", "users.created.v1", 10));
    assert_eq!(bench.published(), None, "the first is not in Kafka yet");
    bench.committed();
    let batch = bench.published().expect("the next batch");
    assert_eq!((keys(&batch), batch.position), (vec!["b", "c"], at(250)));
}

#[test]
fn what_is_before_the_position_is_dropped_whole_and_counted() {
    let mut bench = Bench::starting_at(at(210), 1 << 20);
    bench.transaction(200, &["old"]);
    bench.transaction(220, &["new"]);
    let batch = bench.published().expect("the new transaction");
    assert_eq!((keys(&batch), batch.position), (vec!["new"], at(230)));
}

#[test]
fn a_transaction_that_begins_exactly_at_the_position_is_not_dropped() {
    let mut bench = Bench::starting_at(at(210), 1 << 20);
    bench.transaction(210, &["next"]);
    assert_eq!(bench.published().map(|batch| batch.position), Some(at(220)));
}

#[test]
fn a_giant_transaction_is_split_and_goes_on_after_a_restart_without_gap_or_repeat() {
    let mut bench = Bench::starting_at(at(100), 64 * 1024);
    bench.send(begin(200));
    let mut sent = 0;
    while bench.engine.wants_data() {
        bench.send(insert(RELATION_OID, &sent.to_string(), "users.created.v1", 4_000));
        sent += 1;
    }
    let first = bench.published().expect("a full buffer is published although its commit is not there");
    let partial = Partial { final_lsn: Lsn::new(200), next_ordinal: sent };
    assert_eq!(first.position, Position { partial: Some(partial), ..at(100) });
    bench.committed();
    bench.wait(10 * SECOND);
    assert_eq!(
        bench.status().map(|status| status.flush),
        Some(Lsn::new(100)),
        "its commit is not acknowledged"
    );

    let mut again = Bench::starting_at(first.position, 1 << 20);
    again.send(begin(200));
    for key in 0..sent + 2 {
        again.send(insert(RELATION_OID, &key.to_string(), "users.created.v1", 4_000));
    }
    again.send(commit(200, 210));
    let rest = again.published().expect("the rest");
    assert_eq!(keys(&rest), [sent.to_string(), (sent + 1).to_string()]);
    assert_eq!(rest.position, at(210));
}

#[test]
fn messages_and_rows_of_other_tables_count_but_are_no_events() {
    let mut bench = Bench::new();
    bench.send(relation(88, "users"));
    bench.send(begin(200));
    bench.send(insert(88, "not-an-event", "users.created.v1", 10));
    bench.send(message(true));
    bench.send(insert(RELATION_OID, "a", "users.created.v1", 10));
    bench.send(commit(200, 210));
    bench.send(message(false));
    assert_eq!(bench.published().map(|batch| positions(&batch)), Some(vec!["0/C8/2".to_owned()]));
}

#[test]
fn an_idle_position_is_a_keepalives_end_heard_while_nothing_was_pending() {
    let mut bench = Bench::new();
    bench.keepalive(500, false);
    assert_eq!(bench.published(), None, "not at once");
    bench.wait(5 * SECOND);
    let batch = bench.published().expect("after the interval");
    assert_eq!((batch.records.len(), batch.position), (0, at(500)));

    bench.transaction(600, &["a"]);
    bench.keepalive(700, true);
    bench.committed();
    let batch = bench.published().expect("the commit");
    assert_eq!(batch.position, at(610), "a keepalive heard with events pending is no position");
}

#[test]
fn an_idle_position_is_recorded_at_once_when_the_server_asks() {
    let mut bench = Bench::new();
    bench.keepalive(500, true);
    let commands = bench.commands();
    let [Command::SendStatus(status), Command::Publish(batch)] = &commands[..] else {
        panic!("{commands:?}")
    };
    assert_eq!(status.flush, Lsn::new(100), "only what is durable is acknowledged, also when asked");
    assert_eq!(batch.position, at(500));
    bench.committed();
    bench.wait(SECOND / 10);
    assert_eq!(bench.status().map(|status| status.flush), Some(Lsn::new(500)));
}

#[test]
fn an_idle_position_never_forgets_a_half_published_transaction() {
    let partial = Partial { final_lsn: Lsn::new(200), next_ordinal: 3 };
    let mut bench = Bench::starting_at(Position { partial: Some(partial), ..at(100) }, 1 << 20);
    bench.keepalive(150, true);
    assert_eq!(bench.published(), None);
    bench.transaction(200, &["0", "1", "2"]);
    bench.keepalive(300, true);
    assert_eq!(bench.published().map(|batch| batch.position), Some(at(300)));
}

#[test]
fn empty_transactions_move_the_position_like_keepalives() {
    let mut bench = Bench::new();
    bench.transaction(200, &[]);
    assert_eq!(bench.published(), None);
    bench.wait(5 * SECOND);
    assert_eq!(bench.published().map(|batch| batch.position), Some(at(210)));
}

#[test]
fn a_full_buffer_stops_reading_and_statuses_go_out_all_the_same() {
    let mut bench = Bench::starting_at(at(100), 64 * 1024);
    bench.transaction(200, &["a"]);
    let _ = bench.published().expect("in flight");
    let mut lsn = 300;
    while bench.engine.wants_data() {
        bench.send(begin(lsn));
        bench.send(insert(RELATION_OID, "b", "users.created.v1", 8_000));
        bench.send(commit(lsn, lsn + 10));
        lsn += 20;
    }
    bench.wait(10 * SECOND);
    assert_eq!(bench.status().map(|status| status.flush), Some(Lsn::new(100)));
    bench.wait(60 * SECOND);
    bench.committed();
    let _ = bench.published().expect("what waited");
    assert!(bench.engine.wants_data());
    bench.wait(SECOND);
}

#[test]
fn a_refused_record_is_convicted_alone_and_becomes_a_dead_letter_in_its_place() {
    let mut bench = Bench::new();
    bench.transaction(200, &["a", "b", "c"]);
    let _ = bench.published().expect("the batch");
    let refused =
        |indexes: &[usize]| Outcome::Refused { indexes: indexes.to_vec(), message: "too large".into() };
    bench.engine.handle_outcome(bench.now, refused(&[0, 1, 2])).expect("it can be mended");
    let again = bench.published().expect("the same batch, one by one");
    assert!(again.one_by_one);
    assert_eq!(again.records.iter().filter(|record| &*record.topic == "dead-letter").count(), 0);
    bench.engine.handle_outcome(bench.now, refused(&[1])).expect("it can be mended");
    let mended = bench.published().expect("with a dead letter");
    let topics: Vec<&str> = mended.records.iter().map(|record| &*record.topic).collect();
    assert_eq!(topics, ["users.created", "dead-letter", "tailrace.parked.users", "users.created"]);
    assert_eq!(mended.position, at(210));
    let error =
        bench.engine.handle_outcome(bench.now, refused(&[1])).expect_err("not even the reason passes");
    assert!(matches!(error, EngineError::DeadLetterRefused(_)));
}

#[test]
fn a_drain_publishes_what_is_complete_and_leaves_the_rest_to_the_next_run() {
    let mut bench = Bench::new();
    bench.transaction(200, &["a"]);
    bench.send(begin(220));
    bench.send(insert(RELATION_OID, "b", "users.created.v1", 10));
    bench.engine.drain();
    assert!(!bench.engine.wants_data());
    assert!(!bench.engine.is_drained());
    assert_eq!(bench.published().map(|batch| batch.position), Some(at(210)));
    bench.committed();
    assert_eq!(bench.published(), None);
    assert!(bench.engine.is_drained());
    assert_eq!(bench.engine.status(bench.now).flush, Lsn::new(210));
}

#[test]
fn a_silent_server_is_asked_and_then_given_up() {
    let mut bench = Bench::new();
    bench.wait(30 * SECOND);
    assert_eq!(bench.status().map(|status| status.reply), Some(true), "asked for a sign of life");
    bench.now.monotonic += 30 * SECOND;
    assert!(matches!(bench.engine.handle_timeout(bench.now), Err(EngineError::Silence(_))));
}

#[test]
fn a_stream_out_of_order_is_an_error() {
    type Frames = Vec<Vec<u8>>;
    let cases: [(&str, Frames); 5] = [
        ("a row outside a transaction", vec![insert(RELATION_OID, "a", "users.created.v1", 1)]),
        ("COMMIT outside", vec![commit(200, 210)]),
        ("BEGIN inside", vec![begin(200), begin(220)]),
        ("not described", vec![begin(200), insert(99, "a", "users.created.v1", 1)]),
        ("COMMIT of another", vec![begin(200), commit(220, 230)]),
    ];
    for (words, frames) in cases {
        let mut bench = Bench::new();
        let error = frames.into_iter().find_map(|frame| bench.try_send(frame).err()).expect(words);
        assert!(error.to_string().contains(words), "{error} does not say {words:?}");
    }
}

#[test]
fn progress_tells_what_waits_since_when() {
    let mut bench = Bench::new();
    bench.transaction(200, &["a", "b"]);
    let _ = bench.published();
    bench.transaction(220, &["c"]);
    let progress = bench.engine.progress();
    assert_eq!((progress.in_flight_events, progress.waiting_events), (2, 1));
    assert!(progress.oldest_committed_at_us.is_some());
    bench.committed();
    let _ = bench.published();
    bench.committed();
    let progress = bench.engine.progress();
    assert_eq!((progress.published_events, progress.oldest_committed_at_us), (3, None));
}

#[test]
fn frames_that_cannot_be_read_are_an_error_and_unknown_ones_are_not() {
    let mut bench = Bench::new();
    assert!(bench.engine.handle_copy_data(bench.now, Bytes::from_static(b"z")).is_ok());
    assert!(bench.try_send(vec![b'z', 1, 2]).is_ok());
    assert!(bench.try_send(vec![b'B', 1]).is_err());
}
