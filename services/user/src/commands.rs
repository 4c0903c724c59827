//! What the user service does: create, get and list users, and sign them in.
//!
//! Who may ask is decided in `grpc.rs`; how it is stored, in `store.rs`.

use tailrace::event::v1::UserCreated;
use tailrace_outbox::{Event, Remembered, Request};
use tailrace_runtime::{clock, page::Page, request::TraceContext, resource};
use uuid::Uuid;

use crate::{
    error::{Error, Kind},
    password::Hasher,
    store::{Created, Store},
    token::{AccessToken, Issuer},
    user::{COLLECTION, DisplayName, Email, Password, User},
};

/// The type of the event that a new user makes.
pub const USER_CREATED: &str = "users.created.v1";
const FIRST_VERSION: i64 = 1;

/// A user to be.
#[derive(Debug)]
pub(crate) struct NewUser {
    pub(crate) display_name: DisplayName,
    pub(crate) email: Email,
    pub(crate) password: Password,
}

/// Who signed in, and his token.
#[derive(Debug)]
pub(crate) struct SignedIn {
    pub(crate) id: Uuid,
    pub(crate) operator: bool,
    pub(crate) token: AccessToken,
}

/// The users, and everything that can be done with them.
pub struct Users {
    store: Store,
    hasher: Hasher,
    issuer: Issuer,
}

impl Users {
    pub(crate) fn new(store: Store, hasher: Hasher, issuer: Issuer) -> Self {
        Self { store, hasher, issuer }
    }

    /// Creates a user and the event that tells it. A `request` that was carried out before gives the user of then.
    pub(crate) async fn create(
        &self,
        new: NewUser,
        request: Option<Request>,
        trace: &TraceContext,
    ) -> Result<User, Error> {
        let NewUser { display_name, email, password } = new;
        if let Some(request) = &request
            && let Remembered::CarriedOut(id) = self.remembered(request).await?
        {
            return self.repeated(id, password).await;
        }
        let now = clock::now();
        let user = User {
            id: Uuid::now_v7(),
            display_name,
            email,
            version: FIRST_VERSION,
            create_time: now,
            update_time: now,
        };
        let event = created_event(&user, trace)?;
        let password_hash = self.hasher.hash(password.clone()).await?;
        match self.store.create(&user, &password_hash, request.as_ref(), &event).await? {
            Created::New => Ok(user),
            // A retry overtook this one, or somebody else has the address.
            Created::RequestSeen => match request {
                Some(request) => match self.remembered(&request).await? {
                    Remembered::CarriedOut(id) => self.repeated(id, password).await,
                    Remembered::New | Remembered::Reused => Err(Kind::EmailTaken.into()),
                },
                None => Err(Kind::EmailTaken.into()),
            },
        }
    }

    pub(crate) async fn get(&self, id: Uuid) -> Result<User, Error> {
        self.store.get(id).await?.ok_or_else(|| Kind::NotFound.into())
    }

    /// The users of a page, newest first, and the token of the next.
    pub(crate) async fn list(&self, page: &Page) -> Result<(Vec<User>, String), Error> {
        let mut users = self.store.list(page).await?;
        let next = page.cut(&mut users, |user| user.id);
        Ok((users, next))
    }

    /// Signs a user in. An unknown address and a wrong password are the same error after the same work.
    pub(crate) async fn login(&self, email: &Email, password: Password) -> Result<SignedIn, Error> {
        let credentials = self.store.credentials(email).await?;
        let stored = credentials.as_ref().map(|credentials| credentials.password_hash.clone());
        let verified = self.hasher.verify(password, stored).await?;
        let Some(credentials) = credentials.filter(|_| verified) else {
            return Err(Kind::WrongCredentials.into());
        };
        let token = self.issuer.issue(credentials.id, credentials.operator, clock::now())?;
        Ok(SignedIn { id: credentials.id, operator: credentials.operator, token })
    }

    pub(crate) fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    async fn remembered(&self, request: &Request) -> Result<Remembered, Error> {
        match self.store.remembered(request).await? {
            Remembered::Reused => Err(Kind::RequestReused.into()),
            remembered @ (Remembered::New | Remembered::CarriedOut(_)) => Ok(remembered),
        }
    }

    /// The answer to a retry. The password is no part of the request's fingerprint, so it is compared here.
    async fn repeated(&self, id: Uuid, password: Password) -> Result<User, Error> {
        let stored = self.store.password_hash(id).await?;
        if !self.hasher.verify(password, stored).await? {
            return Err(Kind::RequestReused.into());
        }
        self.get(id).await
    }
}

fn created_event(user: &User, trace: &TraceContext) -> Result<Event, Error> {
    let name = resource::name(COLLECTION, user.id);
    let payload = UserCreated {
        user: name.clone(),
        display_name: user.display_name.as_str().to_owned(),
        email: user.email.as_str().to_owned(),
        create_time: Some(clock::on_wire(user.create_time)),
    };
    Event::new(USER_CREATED, COLLECTION, user.id, user.version, &payload)
        .and_then(|event| {
            event.owned_by(name).traced(trace.traceparent.as_deref(), trace.tracestate.as_deref())
        })
        .map_err(Error::inside)
}
