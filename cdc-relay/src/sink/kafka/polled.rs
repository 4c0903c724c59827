//! A producer whose events are handled on a thread of its own.
//!
//! ```text
//!   at work   poll for 100 ms, again and again: deliveries are told as they come
//!   at rest   look each 100 ms: only errors and words about connections can be there
//! ```
//!
//! The library's `ThreadedProducer` polls at rest too, and each of its polls ends in a busy wait of nearly a millisecond:
//! a hundredth of a core for every producer that does nothing.

use std::ops::Deref;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rdkafka::config::{ClientConfig, FromClientConfigAndContext as _};
use rdkafka::producer::{BaseProducer, ProducerContext};

use super::SinkError;

/// How long one poll lasts; ending the thread waits for it.
const POLL: Duration = Duration::from_millis(100);
/// How often a producer at rest is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// How many events one look handles: a poll that does not wait takes one.
const LOOK_EVENTS: usize = 16;

/// A producer and the thread that polls it.
pub(super) struct PolledProducer<C: ProducerContext + 'static> {
    producer: Arc<BaseProducer<C>>,
    attention: Arc<Attention>,
    polling: Option<JoinHandle<()>>,
}

impl<C: ProducerContext + 'static> PolledProducer<C> {
    /// Makes it, at rest.
    pub(super) fn open(config: &ClientConfig, context: C) -> Result<Self, SinkError> {
        let producer = BaseProducer::from_config_and_context(config, context)
            .map_err(|error| SinkError::new("the Kafka properties are not usable", &error))?;
        let (producer, attention) = (Arc::new(producer), Arc::new(Attention::default()));
        let (polled, told) = (Arc::clone(&producer), Arc::clone(&attention));
        let polling = thread::Builder::new()
            .name("kafka-events".to_owned())
            .spawn(move || poll(&polled, &told))
            .map_err(SinkError::thread)?;
        Ok(Self { producer, attention, polling: Some(polling) })
    }

    /// Handles events as they come, until the answer is dropped.
    pub(super) fn at_work(&self) -> AtWork {
        self.attention.set(Mode::Work);
        AtWork(Arc::clone(&self.attention))
    }
}

impl<C: ProducerContext + 'static> Deref for PolledProducer<C> {
    type Target = BaseProducer<C>;

    fn deref(&self) -> &Self::Target {
        &self.producer
    }
}

impl<C: ProducerContext + 'static> Drop for PolledProducer<C> {
    fn drop(&mut self) {
        self.attention.set(Mode::End);
        // A panic of a callback has been told by its own thread.
        let _ = self.polling.take().map(JoinHandle::join);
    }
}

fn poll<C: ProducerContext>(producer: &BaseProducer<C>, attention: &Attention) {
    loop {
        match attention.next() {
            Mode::Work => producer.poll(POLL),
            Mode::Rest => (0..LOOK_EVENTS).for_each(|_| producer.poll(Duration::ZERO)),
            Mode::End => return,
        }
    }
}

/// A producer is at work while this is there.
pub(super) struct AtWork(Arc<Attention>);

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.set(Mode::Rest);
    }
}

/// What the thread is to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mode {
    #[default]
    Rest,
    Work,
    End,
}

#[derive(Debug, Default)]
struct Attention {
    mode: Mutex<Mode>,
    changed: Condvar,
}

impl Attention {
    fn set(&self, mode: Mode) {
        let mut current = self.mode();
        // Work may end after the producer.
        if *current != Mode::End {
            *current = mode;
            self.changed.notify_one();
        }
    }

    /// What is to be done now; rest is told once an interval.
    fn next(&self) -> Mode {
        let waited = self.changed.wait_timeout_while(self.mode(), LOOK_INTERVAL, |mode| *mode == Mode::Rest);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn mode(&self) -> MutexGuard<'_, Mode> {
        self.mode.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::Instant;

    use rdkafka::client::ClientContext;
    use rdkafka::error::KafkaError;
    use rdkafka::message::DeliveryResult;
    use rdkafka::producer::Producer as _;

    use super::super::client::QuietContext;
    use super::*;

    /// The context of a producer that only hears of its connections.
    struct Listening(QuietContext);

    impl ClientContext for Listening {
        fn error(&self, error: KafkaError, reason: &str) {
            self.0.note(&error, reason);
        }
    }

    impl ProducerContext for Listening {
        type DeliveryOpaque = ();

        fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
    }

    #[test]
    fn a_producer_at_rest_hears_of_its_connections_and_one_at_work_ends() {
        // Nobody listens any more where this one did.
        let address =
            TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("an address");
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", address.to_string());
        let producer = PolledProducer::open(&config, Listening(QuietContext::default())).expect("a producer");
        let begun = Instant::now();
        while producer.context().0.last_error().is_none() {
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "the connection is refused, and nobody says so"
            );
            thread::yield_now();
        }
        let at_work = producer.at_work();
        drop(producer);
        drop(at_work);
    }

    #[test]
    fn rest_is_told_once_an_interval_and_work_at_once() {
        let attention = Attention::default();
        let begun = Instant::now();
        assert_eq!(attention.next(), Mode::Rest);
        assert!(begun.elapsed() >= LOOK_INTERVAL);
        attention.set(Mode::Work);
        assert_eq!((attention.next(), attention.next()), (Mode::Work, Mode::Work));
        attention.set(Mode::End);
        attention.set(Mode::Rest);
        assert_eq!(attention.next(), Mode::End, "nothing comes after the end");
    }
}
