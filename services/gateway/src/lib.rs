//! The gateway: topics to subscribers.
//!
//! ```text
//!  Kafka ─► consumer ─► feed (memory, shared) ─► subscription ─► mailbox ─► gRPC stream   × subscribers
//!    └────► replay (older events) ──────────────────▲
//! ```
//!
//! It writes nothing anywhere: what a subscriber has seen is in the subscriber's cursor alone.

pub mod admission;
pub mod config;
pub mod consumer;
pub mod cursor;
pub mod ends;
pub mod error;
pub mod event;
pub mod feed;
pub mod filter;
pub mod grpc;
pub mod hub;
pub mod mailbox;
pub mod newest;
pub mod replay;
pub mod subscription;
pub mod watch;
pub mod web;
pub mod wire;

use std::sync::Arc;

use anyhow::Context as _;
use tailrace_runtime::{auth::Verifier, process::Context};
use tailrace_topics::{Consumer, Kafka};
use tokio::{net::TcpListener, sync::mpsc};
use tonic::{server::NamedService, service::Routes};

use crate::{
    admission::Admission, config::Settings, consumer::Filling, ends::Ends, feed::Feed, filter::Catalog,
    grpc::EventStream, hub::Hub, replay::Replays, watch::Surroundings, wire::EventStreamServer,
};

/// Where a gateway is reached.
#[derive(Debug)]
pub struct Listeners {
    /// gRPC and gRPC-Web.
    pub grpc: TcpListener,
    /// The page, if it is served.
    pub web: Option<TcpListener>,
}

/// Runs a gateway until shutdown is requested.
pub async fn run(
    settings: Settings,
    verifier: Verifier,
    listeners: Listeners,
    context: Context,
) -> anyhow::Result<()> {
    let catalog = Catalog::new(settings.topics.topics.clone(), settings.topics.dead_letter_topic.clone());
    let kafka = Kafka::new(&settings.topics.kafka_brokers, "tailrace-gateway");
    let hub = Arc::new(Hub::new(Feed::new(settings.topics.feed_bytes_max)));
    let consumer = Consumer {
        kafka: kafka.clone(),
        topics: catalog.all(),
        sink: Filling { hub: Arc::clone(&hub), look_back_offsets: settings.topics.look_back_offsets },
        condition: context.readiness.condition("kafka"),
        shutdown: context.shutdown.clone(),
    };
    let (running, mut streams_end) = mpsc::channel(1);
    let streams = EventStream {
        verifier: verifier.clone(),
        catalog,
        admission: Admission::new(settings.streams.streams_max, settings.streams.streams_per_principal_max),
        mailbox_bytes_max: settings.streams.mailbox_bytes_max,
        ends: Ends::new(kafka.clone(), Arc::clone(&hub)),
        surroundings: Surroundings {
            hub,
            replays: Replays::new(kafka, usize::from(settings.topics.replays_max)),
            heartbeat: settings.streams.heartbeat_interval,
            send_timeout: settings.streams.send_timeout,
            shutdown: context.shutdown.clone(),
            running,
        },
    };
    let routes = Routes::new(EventStreamServer::new(streams));
    let page = web::router(&settings.web)?;
    let shutdown = context.shutdown.clone();
    let grpc = async {
        tailrace_runtime::grpc::serve(
            verifier,
            listeners.grpc,
            &settings.grpc,
            context,
            routes,
            &[EventStreamServer::NAME],
        )
        .await
        .context("the gRPC port failed")
    };
    let web = async {
        match listeners.web {
            Some(listener) => web::serve(listener, page, shutdown).await.context("the page's port failed"),
            None => Ok(()),
        }
    };
    tokio::try_join!(grpc, web, async { consumer.run().await.map_err(anyhow::Error::from) })?;
    // Nothing is ever sent: this is the end of the last stream.
    let _ = streams_end.recv().await;
    Ok(())
}
