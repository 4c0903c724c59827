//! What the user service does: create, get, list and change users. Signing in is in `sign_in.rs`.
//!
//! Who may ask is decided in `grpc.rs`; how it is stored, in `store.rs`.

use prost::Message as _;
use tailrace::user::v1::User as UserMessage;
use tailrace_outbox::{Remembered, Request};
use tailrace_runtime::{clock, page::Page, request::TraceContext};
use uuid::Uuid;

use crate::{
    error::{Error, Kind},
    password::Hasher,
    store::{NewRow, Store, Written},
    user::{Change, DisplayName, Email, FIRST_VERSION, Password, User},
    wire,
};

/// How often a change starts over because another one came between its reading and its writing.
const ATTEMPTS_MAX: usize = 3;

/// A user to be.
#[derive(Debug)]
pub(crate) struct NewUser {
    pub(crate) display_name: DisplayName,
    pub(crate) email: Email,
    pub(crate) password: Password,
}

/// A change of a user.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) id: Uuid,
    pub(crate) change: Change,
    /// What the user's etag must be; none: anything.
    pub(crate) etag: Option<String>,
}

/// The users, and everything that can be done with them.
pub struct Users {
    store: Store,
    hasher: Hasher,
}

impl Users {
    pub(crate) fn new(store: Store, hasher: Hasher) -> Self {
        Self { store, hasher }
    }

    /// Creates a user and the event that tells it. A `request` that was carried out before gives the answer of then.
    pub(crate) async fn create(
        &self,
        new: NewUser,
        request: Option<Request>,
        trace: &TraceContext,
    ) -> Result<UserMessage, Error> {
        let NewUser { display_name, email, password } = new;
        if let Some(request) = &request
            && let Some(first) = self.remembered(request).await?
        {
            return self.repeated(first, password).await;
        }
        let now = clock::now();
        let user = User {
            id: Uuid::now_v7(),
            display_name,
            email,
            version: FIRST_VERSION,
            create_time: now,
            update_time: now,
            delete_time: None,
        };
        let event = wire::created_event(&user, trace).map_err(Error::inside)?;
        let password_hash = self.hasher.hash(password.clone()).await?;
        let request = request.map(|request| request.with_secret(password_hash.clone()));
        let answer = wire::message(&user);
        let stored = NewRow { user: &user, password_hash: &password_hash, answer: &answer.encode_to_vec() };
        match self.store.create(stored, request.as_ref(), &event).await? {
            Written::Done => Ok(answer),
            // A retry overtook this one, or somebody else has the address.
            Written::RequestSeen | Written::Overtaken => match request {
                Some(request) => match self.remembered(&request).await? {
                    Some(first) => self.repeated(first, password).await,
                    None => Err(Kind::EmailTaken.into()),
                },
                None => Err(Kind::EmailTaken.into()),
            },
        }
    }

    pub(crate) async fn get(&self, id: Uuid) -> Result<User, Error> {
        self.store.get(id).await?.ok_or_else(|| Kind::NotFound.into())
    }

    /// The users of a page, newest first, and the token of the next.
    pub(crate) async fn list(&self, page: &Page, show_deleted: bool) -> Result<(Vec<User>, String), Error> {
        let mut users = self.store.list(page, show_deleted).await?;
        let next = page.cut(&mut users, |user| user.id);
        Ok((users, next))
    }

    /// Changes a user and writes the event that tells it. A `request` that was carried out before gives the answer of then.
    pub(crate) async fn change(
        &self,
        wanted: &Wanted,
        request: Option<&Request>,
        trace: &TraceContext,
    ) -> Result<UserMessage, Error> {
        match self.changed(wanted, request, trace).await {
            // A retry finds the user as the first try left him. What that one remembered was committed with it, so it is
            // to be seen by now.
            Err(error) if error.is_refusal() => match request {
                Some(request) => self.remembered(request).await?.map(|first| first.answer).ok_or(error),
                None => Err(error),
            },
            outcome => outcome,
        }
    }

    async fn changed(
        &self,
        wanted: &Wanted,
        request: Option<&Request>,
        trace: &TraceContext,
    ) -> Result<UserMessage, Error> {
        for _ in 0..ATTEMPTS_MAX {
            let before = self.get(wanted.id).await?;
            let after = before.changed(&wanted.change, wanted.etag.as_deref(), clock::now())?;
            let event = wire::changed_event(&after, trace).map_err(Error::inside)?;
            let answer = wire::message(&after);
            let keep_sign_ins = matches!(wanted.change, Change::Update { .. });
            let encoded = answer.encode_to_vec();
            match self.store.update(&after, keep_sign_ins, request, &encoded, &event).await? {
                Written::Done => return Ok(answer),
                // What the first try made is told by `change`.
                Written::RequestSeen => return Err(Kind::Contended.into()),
                Written::Overtaken => {}
            }
        }
        Err(Kind::Contended.into())
    }

    /// What a request made that was carried out before, and its answer; none when it is new.
    async fn remembered(&self, request: &Request) -> Result<Option<First>, Error> {
        match self.store.remembered(request).await? {
            Remembered::CarriedOut { answer, secret_hash, .. } => {
                let answer = UserMessage::decode(answer.as_slice()).map_err(Error::inside)?;
                Ok(Some(First { password_hash: secret_hash, answer }))
            }
            Remembered::New => Ok(None),
            Remembered::Reused => Err(Kind::RequestReused.into()),
        }
    }

    /// The answer to a retry of a creation. The password is no part of the request's fingerprint, so it is compared here;
    /// with that of then, for the user may have another by now.
    async fn repeated(&self, first: First, password: Password) -> Result<UserMessage, Error> {
        if !self.hasher.verify(password, first.password_hash).await? {
            return Err(Kind::RequestReused.into());
        }
        Ok(first.answer)
    }
}

/// What came of the first of several requests with one id.
struct First {
    /// Of the password that the request gave, if it gave one.
    password_hash: Option<String>,
    answer: UserMessage,
}
