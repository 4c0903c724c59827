//! A subscriber of the gateway that notes when each event arrives.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail};
use tailrace::event::v1::Event;
use tailrace::stream::v1::event_stream_service_client::EventStreamServiceClient;
use tailrace::stream::v1::watch_request::{Live, Start};
use tailrace::stream::v1::watch_response::Message;
use tailrace::stream::v1::{WatchRequest, WatchResponse};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Endpoint;
use tonic::{Request, Streaming};

use super::writer::seconds;

const TOPIC: &str = "orders.created";

/// An event that arrived, and the moments of its way in seconds since 1970.
#[derive(Debug, Clone)]
pub(super) struct Arrival {
    /// `topic/partition/offset`, as the page names its row.
    pub(super) key: String,
    pub(super) committed_s: f64,
    pub(super) relayed_s: f64,
    pub(super) at_gateway_s: f64,
    pub(super) arrived_s: f64,
}

/// A live stream, read by a task that stamps what comes.
pub(super) struct Subscriber {
    arrivals: mpsc::UnboundedReceiver<(String, Arrival)>,
    reader: JoinSet<Result<()>>,
}

impl Subscriber {
    /// Subscribes, and waits until what comes is live.
    pub(super) async fn start(gateway: &str, token: &MetadataValue<Ascii>) -> Result<Self> {
        let channel = Endpoint::from_shared(gateway.to_owned())?.connect().await?;
        let start = Some(Start::Live(Live {}));
        let mut request = Request::new(WatchRequest { topics: vec![TOPIC.to_owned()], start });
        request.metadata_mut().insert("authorization", token.clone());
        let response = EventStreamServiceClient::new(channel).watch(request).await;
        let mut stream = response.context("cannot watch")?.into_inner();
        while !matches!(next(&mut stream).await?.message, Some(Message::CaughtUp(_))) {}
        let (sender, arrivals) = mpsc::unbounded_channel();
        let mut reader = JoinSet::new();
        reader.spawn(read(stream, sender));
        Ok(Self { arrivals, reader })
    }

    /// Waits for so many events, by their subjects.
    pub(super) async fn take(&mut self, count: usize, limit: Duration) -> Result<HashMap<String, Arrival>> {
        let mut taken = HashMap::new();
        while taken.len() < count {
            match timeout(limit, self.arrivals.recv()).await {
                Ok(Some((subject, arrival))) => drop(taken.insert(subject, arrival)),
                Ok(None) => match self.reader.join_next().await {
                    Some(ended) => ended.context("the reader panicked")??,
                    None => bail!("the stream was read to its end before"),
                },
                Err(_) => bail!("{} of {count} events arrived, then none for {limit:?}", taken.len()),
            }
        }
        Ok(taken)
    }
}

async fn read(
    mut stream: Streaming<WatchResponse>,
    sender: mpsc::UnboundedSender<(String, Arrival)>,
) -> Result<()> {
    loop {
        let response = next(&mut stream).await?;
        let arrived_s = seconds(SystemTime::now());
        if let Some(Message::Event(event)) = response.message
            && sender.send((event.subject.clone(), arrival(&event, arrived_s)?)).is_err()
        {
            return Ok(());
        }
    }
}

async fn next(stream: &mut Streaming<WatchResponse>) -> Result<WatchResponse> {
    stream.message().await.context("the stream broke")?.context("the gateway ended the stream")
}

fn arrival(event: &Event, arrived_s: f64) -> Result<Arrival> {
    let moment = |time: &Option<pbjson_types::Timestamp>, what| {
        let time = time.as_ref().with_context(|| format!("an event without its {what} time"))?;
        anyhow::Ok(time.seconds as f64 + f64::from(time.nanos) / 1e9)
    };
    Ok(Arrival {
        key: format!("{}/{}/{}", event.topic, event.partition, event.offset),
        committed_s: moment(&event.commit_time, "commit")?,
        relayed_s: moment(&event.relay_time, "relay")?,
        at_gateway_s: moment(&event.gateway_time, "gateway")?,
        arrived_s,
    })
}
