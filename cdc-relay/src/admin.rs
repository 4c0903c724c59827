//! `tailrace.relay.v1.RelayService`: what the boards show, and the release of what is parked, for operators.

use tailrace::relay::v1::relay_service_server::RelayService;
use tailrace::relay::v1::{
    DeadLetter, DiscardDeadLetterRequest, DiscardDeadLetterResponse, GetSourceRequest,
    ListDeadLettersRequest, ListDeadLettersResponse, ListSourcesRequest, ListSourcesResponse,
    RedriveDeadLetterRequest, RedriveDeadLetterResponse, Source,
};
use tailrace_runtime::auth::Verifier;
use tailrace_runtime::error::{Problem, RETRY_AFTER};
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Response, Status};

use crate::board::{Board, State};
use crate::config::is_source_name;
use crate::release::{Action, Released};
use crate::requests::{Desk, NoAnswer};
use crate::transaction::EventPosition;

#[cfg(test)]
mod tests;
mod wire;

const PAGE_SIZE_DEFAULT: usize = 50;
const PAGE_SIZE_MAX: usize = 1000;

/// The service.
#[derive(Clone, Debug)]
pub(crate) struct Admin {
    sources: Vec<Shown>,
    verifier: Verifier,
}

/// A source as the service sees it.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    pub(crate) board: Board,
    pub(crate) desk: Desk,
}

impl Admin {
    pub(crate) fn new(sources: Vec<Shown>, verifier: Verifier) -> Self {
        Self { sources, verifier }
    }

    fn source(&self, name: &str) -> Result<&Shown, Status> {
        let found =
            self.sources.iter().find(|shown| name.strip_prefix("sources/") == Some(shown.board.source()));
        found.ok_or_else(|| {
            Problem::new(Code::NotFound, "SOURCE_NOT_FOUND", "This relay has no such source.")
                .metadata("name", name)
                .into_status()
        })
    }

    /// The source, while this relay streams it.
    fn streaming(&self, name: &str) -> Result<&Shown, Status> {
        let shown = self.source(name)?;
        let is_streaming = shown.board.status().state == State::Streaming;
        is_streaming.then_some(shown).ok_or_else(|| not_streaming(name))
    }

    async fn release(&self, name: &str, action: Action) -> Result<(i64, Option<DeadLetter>), Status> {
        let (source, position): (&str, EventPosition) =
            wire::parse_dead_letter_name(name).ok_or_else(|| {
                invalid("name", "must be a resource name, sources/{source}/deadLetters/{dead_letter}")
                    .into_status()
            })?;
        let parent = format!("sources/{source}");
        let shown = self.streaming(&parent)?;
        let released = shown.desk.release(position, action).await;
        match released.map_err(|NoAnswer| not_streaming(&parent))? {
            Released::Done { published, next } => {
                let published = i64::try_from(published).unwrap_or(i64::MAX);
                Ok((published, next.map(|parked| wire::dead_letter(source, parked))))
            }
            Released::StillRefused(words) => {
                let sentence = format!("The event is refused still: {words}.");
                Err(Problem::new(Code::FailedPrecondition, "DEAD_LETTER_STILL_REFUSED", sentence)
                    .metadata("name", name)
                    .into_status())
            }
            Released::NotFound => {
                let words = "No key is held by such a dead letter: it was released, or never was.";
                Err(Problem::new(Code::NotFound, "DEAD_LETTER_NOT_FOUND", words)
                    .metadata("name", name)
                    .into_status())
            }
        }
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
        let ListSourcesRequest { page_size, page_token } = request.get_ref();
        let page = Page::parse(*page_size, page_token)?;
        let (sources, next_page_token) = page.of(&self.sources)?;
        let sources = sources.iter().map(|shown| wire::source(&shown.board)).collect();
        Ok(Response::new(ListSourcesResponse { sources, next_page_token }))
    }

    async fn get_source(&self, request: Request<GetSourceRequest>) -> Result<Response<Source>, Status> {
        self.authorize(request.metadata()).await?;
        let name = check_source_name("name", &request.get_ref().name)?;
        Ok(Response::new(wire::source(&self.source(name)?.board)))
    }

    async fn list_dead_letters(
        &self,
        request: Request<ListDeadLettersRequest>,
    ) -> Result<Response<ListDeadLettersResponse>, Status> {
        self.authorize(request.metadata()).await?;
        let ListDeadLettersRequest { parent, page_size, page_token } = request.get_ref();
        let page = Page::parse(*page_size, page_token)?;
        let shown = self.streaming(check_source_name("parent", parent)?)?;
        let parked = shown.desk.list().await.map_err(|NoAnswer| not_streaming(parent))?;
        let (parked, next_page_token) = page.of(&parked)?;
        let source = shown.board.source();
        let dead_letters = parked.iter().cloned().map(|parked| wire::dead_letter(source, parked)).collect();
        Ok(Response::new(ListDeadLettersResponse { dead_letters, next_page_token }))
    }

    async fn redrive_dead_letter(
        &self,
        request: Request<RedriveDeadLetterRequest>,
    ) -> Result<Response<RedriveDeadLetterResponse>, Status> {
        self.authorize(request.metadata()).await?;
        let (published_events, next) = self.release(&request.get_ref().name, Action::Redrive).await?;
        Ok(Response::new(RedriveDeadLetterResponse { published_events, next }))
    }

    async fn discard_dead_letter(
        &self,
        request: Request<DiscardDeadLetterRequest>,
    ) -> Result<Response<DiscardDeadLetterResponse>, Status> {
        self.authorize(request.metadata()).await?;
        let (published_events, next) = self.release(&request.get_ref().name, Action::Discard).await?;
        Ok(Response::new(DiscardDeadLetterResponse { published_events, next }))
    }
}

/// A piece of a list; the token is the number of entries before it.
struct Page {
    first: usize,
    size: usize,
}

impl Page {
    fn parse(size: i32, token: &str) -> Result<Self, Status> {
        let size =
            usize::try_from(size).map_err(|_| invalid("page_size", "must not be negative").into_status())?;
        let first = match token {
            "" => 0,
            token => token.parse().map_err(|_| foreign_token())?,
        };
        let size = if size == 0 { PAGE_SIZE_DEFAULT } else { size.min(PAGE_SIZE_MAX) };
        Ok(Self { first, size })
    }

    /// The piece, and the token of the next.
    fn of<'a, T>(&self, list: &'a [T]) -> Result<(&'a [T], String), Status> {
        if self.first > 0 && self.first >= list.len() {
            return Err(foreign_token());
        }
        let end = list.len().min(self.first + self.size);
        let next = if end < list.len() { end.to_string() } else { String::new() };
        Ok((list.get(self.first..end).unwrap_or_default(), next))
    }
}

fn foreign_token() -> Status {
    invalid("page_token", "must be a next_page_token of the same list").into_status()
}

fn check_source_name<'a>(field: &str, name: &'a str) -> Result<&'a str, Status> {
    if name.strip_prefix("sources/").is_some_and(is_source_name) {
        return Ok(name);
    }
    Err(invalid(field, "must be a resource name, sources/{source}").into_status())
}

fn not_streaming(name: &str) -> Status {
    let words = "This relay does not stream the source: ask the one that does, or wait until it does.";
    Problem::new(Code::Unavailable, "SOURCE_NOT_STREAMING", words)
        .metadata("name", name)
        .retry_after(RETRY_AFTER)
        .into_status()
}

fn invalid(field: &str, words: &str) -> Problem {
    Problem::invalid_fields([(field.to_owned(), words.to_owned())])
}
