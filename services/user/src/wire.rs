//! A user in the words of the contract: as a message, and as the payload of his events.

use tailrace::{
    event::v1::{UserCreated, UserDeleted, UserUpdated},
    user::v1::User as UserMessage,
};
use tailrace_outbox::{Event, EventError};
use tailrace_runtime::{clock, request::TraceContext, resource};

use crate::user::{COLLECTION, User};

/// The types of the events that changes of users make.
const USER_CREATED: &str = "users.created.v1";
const USER_UPDATED: &str = "users.updated.v1";
const USER_DELETED: &str = "users.deleted.v1";

pub(crate) fn message(user: &User) -> UserMessage {
    UserMessage {
        name: resource::name(COLLECTION, user.id),
        display_name: user.display_name.as_str().to_owned(),
        email: user.email.as_str().to_owned(),
        create_time: Some(clock::on_wire(user.create_time)),
        update_time: Some(clock::on_wire(user.update_time)),
        etag: resource::etag(user.version),
        delete_time: user.delete_time.map(clock::on_wire),
    }
}

pub(crate) fn created_event(user: &User, trace: &TraceContext) -> Result<Event, EventError> {
    let payload = UserCreated {
        user: resource::name(COLLECTION, user.id),
        display_name: user.display_name.as_str().to_owned(),
        email: user.email.as_str().to_owned(),
        create_time: Some(clock::on_wire(user.create_time)),
    };
    of_user(Event::new(USER_CREATED, COLLECTION, user.id, user.version, &payload)?, user, trace)
}

/// The event of a user's last change.
pub(crate) fn changed_event(user: &User, trace: &TraceContext) -> Result<Event, EventError> {
    let name = resource::name(COLLECTION, user.id);
    let event = match user.delete_time {
        Some(delete_time) => {
            let payload = UserDeleted { user: name, delete_time: Some(clock::on_wire(delete_time)) };
            Event::new(USER_DELETED, COLLECTION, user.id, user.version, &payload)?
        }
        None => {
            let payload = UserUpdated {
                user: name,
                display_name: user.display_name.as_str().to_owned(),
                email: user.email.as_str().to_owned(),
                update_time: Some(clock::on_wire(user.update_time)),
            };
            Event::new(USER_UPDATED, COLLECTION, user.id, user.version, &payload)?
        }
    };
    of_user(event, user, trace)
}

fn of_user(event: Event, user: &User, trace: &TraceContext) -> Result<Event, EventError> {
    let owned = event.owned_by(resource::name(COLLECTION, user.id));
    owned.traced(trace.traceparent.as_deref(), trace.tracestate.as_deref())
}
