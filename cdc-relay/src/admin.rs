//! `tailrace.relay.v1.RelayService`: what the board shows, for operators.

use tailrace::relay::v1::relay_service_server::RelayService;
use tailrace::relay::v1::{
    GetSourceRequest, ListSourcesRequest, ListSourcesResponse, ReplicationSlot, Source, source,
};
use tailrace_runtime::auth::Verifier;
use tailrace_runtime::error::Problem;
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Response, Status};

use crate::board::{Board, Slot, State};
use crate::clock;
use crate::dead_letter::timestamp;

const PAGE_SIZE_DEFAULT: usize = 50;
const PAGE_SIZE_MAX: usize = 1000;

/// The service.
#[derive(Clone, Debug)]
pub(crate) struct Admin {
    boards: Vec<Board>,
    verifier: Verifier,
}

impl Admin {
    pub(crate) fn new(boards: Vec<Board>, verifier: Verifier) -> Self {
        Self { boards, verifier }
    }

    async fn authorize(&self, metadata: &MetadataMap) -> Result<(), Status> {
        self.verifier.authenticate(metadata).await?.require_operator()
    }
}

#[tonic::async_trait]
impl RelayService for Admin {
    async fn list_sources(
        &self,
        request: Request<ListSourcesRequest>,
    ) -> Result<Response<ListSourcesResponse>, Status> {
        self.authorize(request.metadata()).await?;
        let page = Page::parse(request.get_ref(), self.boards.len())?;
        let sources = self.boards.iter().skip(page.first).take(page.size).map(wire_source).collect();
        let next = page.first + page.size;
        let next_page_token = if next < self.boards.len() { next.to_string() } else { String::new() };
        Ok(Response::new(ListSourcesResponse { sources, next_page_token }))
    }

    async fn get_source(&self, request: Request<GetSourceRequest>) -> Result<Response<Source>, Status> {
        self.authorize(request.metadata()).await?;
        let name = request.get_ref().name.as_str();
        let wanted = name
            .strip_prefix("sources/")
            .filter(|name| !name.is_empty())
            .ok_or_else(|| invalid("name", "expected sources/{source}").into_status())?;
        let board = self.boards.iter().find(|board| board.source() == wanted).ok_or_else(|| {
            Problem::new(Code::NotFound, "SOURCE_NOT_FOUND", "this relay has no such source")
                .metadata("name", name)
                .into_status()
        })?;
        Ok(Response::new(wire_source(board)))
    }
}

struct Page {
    first: usize,
    size: usize,
}

impl Page {
    fn parse(request: &ListSourcesRequest, count: usize) -> Result<Self, Status> {
        let size = usize::try_from(request.page_size)
            .map_err(|_| invalid("page_size", "must not be negative").into_status())?;
        let first = match request.page_token.as_str() {
            "" => 0,
            token => token
                .parse()
                .ok()
                .filter(|first| *first < count)
                .ok_or_else(|| invalid("page_token", "not a token of this service").into_status())?,
        };
        let size = if size == 0 { PAGE_SIZE_DEFAULT } else { size.min(PAGE_SIZE_MAX) };
        Ok(Self { first, size })
    }
}

fn invalid(field: &str, words: &str) -> Problem {
    Problem::invalid_fields([(field.to_owned(), words.to_owned())])
}

fn wire_source(board: &Board) -> Source {
    let status = board.status();
    let now_us = clock::now().unix_us;
    let progress = status.progress;
    let lag = status.lag(now_us);
    Source {
        name: format!("sources/{}", board.source()),
        state: wire_state(status.state).into(),
        problem: status.problem.clone(),
        position: progress.map_or_else(String::new, |progress| progress.durable.to_string()),
        wal_end: status.wal_end().to_string(),
        lag_bytes: i64::try_from(status.lag_bytes()).unwrap_or(i64::MAX),
        lag: Some(lag.into()),
        oldest_unpublished_time: progress.and_then(|progress| progress.oldest_committed_at_us).map(timestamp),
        in_flight_events: progress.map_or(0, |progress| progress.in_flight_events as i64),
        published_events: i64::try_from(status.published_events()).unwrap_or(i64::MAX),
        dead_letters: i64::try_from(status.dead_letters()).unwrap_or(i64::MAX),
        retries: i64::try_from(status.retries).unwrap_or(i64::MAX),
        slot: status.slot.as_ref().map(wire_slot),
    }
}

fn wire_state(state: State) -> source::State {
    match state {
        State::Starting => source::State::Starting,
        State::Streaming => source::State::Streaming,
        State::Standby => source::State::Standby,
        State::Waiting => source::State::Waiting,
        State::Halted => source::State::Halted,
    }
}

fn wire_slot(slot: &Slot) -> ReplicationSlot {
    let row = &slot.row;
    let text = |lsn: Option<replication_protocol::Lsn>| lsn.map_or_else(String::new, |lsn| lsn.to_string());
    ReplicationSlot {
        slot_name: slot.name.clone(),
        active: row.active,
        wal_status: row.wal_status.clone().unwrap_or_default(),
        confirmed_flush_lsn: text(row.confirmed_flush_lsn),
        restart_lsn: text(row.restart_lsn),
        retained_bytes: row.restart_lsn.map_or(0, |restart| slot.wal_end.bytes_since(restart) as i64),
        safe_wal_bytes: row.safe_wal_size_bytes,
        publication_covers_outbox: slot.publication_covers_outbox(),
    }
}
