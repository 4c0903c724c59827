//! `EventStreamService`: wire → domain, a stream, domain → wire.

use std::{
    collections::BTreeSet,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::Stream;
use tailrace::stream::v1::{WatchRequest, watch_request};
use tailrace_runtime::{auth::Verifier, shutdown::Shutdown, task};
use tonic::{Request, Response, Status};

use crate::{
    admission::Admission,
    cursor::Cursor,
    ends::Ends,
    error::{self, End},
    filter::{Catalog, Filter},
    mailbox::{Receiver, mailbox},
    newest::Newest,
    replay::Replayed,
    subscription::{Range, Start, Subscription},
    watch::{Surroundings, Watch},
    wire::{Frame, FrameStream},
};

/// What the contract allows.
const TOPICS_MAX: usize = 16;
const TOPIC_CHARS_MAX: usize = 249;
const NEWEST_MAX: i32 = 10_000;

/// The service.
#[derive(Debug)]
pub struct EventStream {
    /// Who calls.
    pub verifier: Verifier,
    /// What there is to watch.
    pub catalog: Catalog,
    /// How many may.
    pub admission: Admission,
    /// The present.
    pub ends: Ends,
    /// The most that waits for one subscriber, in bytes.
    pub mailbox_bytes_max: usize,
    /// What each stream needs.
    pub surroundings: Surroundings,
}

impl EventStream {
    /// Answers `Watch`.
    pub async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<FrameStream>, Status> {
        let principal = self.verifier.authenticate(request.metadata()).await?;
        let request = request.into_inner();
        check_topics(&request.topics)?;
        let filter = Filter::of(&principal);
        let topics = filter.topics(&request.topics, &self.catalog)?;
        let admitted = self.admission.admit(&principal.user)?;
        let subscription = self.subscribe(filter, topics, request.start).await?;
        let (sender, receiver) = mailbox(self.mailbox_bytes_max);
        let watch = Watch::new(subscription, self.surroundings.clone(), sender, admitted);
        task::spawn("watch", watch.run(principal.expires_at));
        Ok(Response::new(Box::pin(Ending::new(receiver, self.surroundings.shutdown.clone()))))
    }

    async fn subscribe(
        &self,
        filter: Filter,
        topics: BTreeSet<Arc<str>>,
        start: Option<watch_request::Start>,
    ) -> Result<Subscription, Status> {
        let hub = &self.surroundings.hub;
        if hub.read(|feed| feed.logs().next().is_none()) {
            return Err(error::not_ready());
        }
        self.ends.settle().await;
        let start = match start {
            None | Some(watch_request::Start::Live(_)) => Start::Live,
            Some(watch_request::Start::Earliest(_)) => Start::Earliest,
            Some(watch_request::Start::Cursor(token)) => Start::Cursor(Cursor::parse(&token)?),
            Some(watch_request::Start::Newest(count)) => {
                let count = usize::try_from(count).ok().filter(|_| (1..=NEWEST_MAX).contains(&count));
                let count = count.ok_or_else(|| error::invalid_field("newest", "between 1 and 10000"))?;
                self.newest(count, &filter, &topics).await?
            }
        };
        Ok(hub.read(|feed| Subscription::new(filter, topics, start, feed)))
    }

    /// Finds where the newest events start, in memory and as far as needed in Kafka.
    async fn newest(
        &self,
        count: usize,
        filter: &Filter,
        topics: &BTreeSet<Arc<str>>,
    ) -> Result<Start, Status> {
        let mut newest = self.surroundings.hub.read(|feed| Newest::in_memory(count, filter, topics, feed));
        loop {
            let wanted = newest.wanted();
            if wanted.is_empty() {
                return Ok(Start::Newest(newest.starts()));
            }
            let marks = self.look_through(&newest, &wanted).await?;
            newest.take(&wanted, &marks);
        }
    }

    async fn look_through(
        &self,
        newest: &Newest,
        wanted: &[Range],
    ) -> Result<Vec<(tailrace_topics::Partition, crate::newest::Mark)>, Status> {
        let mut replayed = self.surroundings.replays.start(wanted.to_vec()).await;
        let mut marks = Vec::new();
        loop {
            match replayed.recv().await {
                Some(Replayed::Event(index, entry)) => {
                    let mark = newest.mark(&entry);
                    marks.extend(mark.map(|mark| (wanted[index].partition.clone(), mark)));
                }
                Some(Replayed::Passed(_)) => {}
                Some(Replayed::Done) => return Ok(marks),
                Some(Replayed::Failed) | None => return Err(error::not_ready()),
            }
        }
    }
}

fn check_topics(topics: &[String]) -> Result<(), Status> {
    if topics.len() > TOPICS_MAX {
        return Err(error::invalid_field("topics", "at most 16"));
    }
    let mut seen = BTreeSet::new();
    for (index, topic) in topics.iter().enumerate() {
        let path = format!("topics[{index}]");
        if !(1..=TOPIC_CHARS_MAX).contains(&topic.chars().count()) {
            return Err(error::invalid_field(&path, "between 1 and 249 characters"));
        }
        if !seen.insert(topic) {
            return Err(error::invalid_field(&path, "each topic once"));
        }
    }
    Ok(())
}

/// A mailbox that ends with the reason to come back as soon as the process drains and nothing waits: before the port's
/// own, less telling, end of an idle stream.
struct Ending {
    receiver: Receiver,
    drain: Pin<Box<dyn Future<Output = ()> + Send>>,
    ended: bool,
}

impl Ending {
    fn new(receiver: Receiver, shutdown: Shutdown) -> Self {
        Self { receiver, drain: Box::pin(async move { shutdown.wait().await }), ended: false }
    }
}

impl Stream for Ending {
    type Item = Result<Frame, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if let Poll::Ready(item) = Pin::new(&mut self.receiver).poll_next(context) {
            return Poll::Ready(item);
        }
        if self.drain.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        self.ended = true;
        Poll::Ready(Some(Err(End::Draining.into())))
    }
}
