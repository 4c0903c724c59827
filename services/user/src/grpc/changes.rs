//! Requests that change a user, from the wire to the domain.

use prost::Message as _;
use tailrace::user::v1::{DeleteUserRequest, UndeleteUserRequest, UpdateUserRequest, User as UserMessage};
use tailrace_outbox::Request as OnceRequest;
use tailrace_runtime::{
    access::Caller,
    error::{Problem, Violations},
    resource,
};
use uuid::Uuid;

use super::NAME_RULE;
use crate::{
    commands::Wanted,
    user::{COLLECTION, Change, DisplayName, Email},
};

/// The fields that a mask may name, though only the server sets them (AIP-161).
const SERVERS_OWN: &[&str] = &["name", "create_time", "update_time", "etag", "delete_time"];
const MASK_RULE: &str = "must name display_name or email, or be * or empty";

type Parsed = Result<(Wanted, Option<OnceRequest>), Problem>;

pub(super) fn update(request: UpdateUserRequest, caller: &Caller) -> Parsed {
    let mut violations = Violations::default();
    let request_id = violations.check("request_id", resource::request_id(&request.request_id));
    let asked = UpdateUserRequest { request_id: String::new(), ..request };
    let once = once(caller, "UpdateUser", request_id, &asked.encode_to_vec());
    let Some(user) = asked.user else {
        violations.add("user", "must be set");
        return Err(violations.into_problem());
    };
    let id = id(&mut violations, "user.name", &user.name);
    let paths = asked.update_mask.map(|mask| mask.paths).unwrap_or_default();
    let fields = violations.check("update_mask", Fields::named(&paths, &user));
    let etag = violations.check("user.etag", resource::given_etag(user.etag));
    let fields = fields.unwrap_or_default();
    let display_name = fields
        .display_name
        .then(|| violations.check("user.display_name", DisplayName::new(user.display_name)))
        .flatten();
    let email = fields.email.then(|| violations.check("user.email", Email::new(user.email))).flatten();
    match (id, etag, once) {
        (Some(id), Some(etag), Some(once)) if violations.is_empty() => {
            Ok((Wanted { id, change: Change::Update { display_name, email }, etag }, once))
        }
        _ => Err(violations.into_problem()),
    }
}

pub(super) fn delete(request: DeleteUserRequest, caller: &Caller) -> Parsed {
    let mut violations = Violations::default();
    let request_id = violations.check("request_id", resource::request_id(&request.request_id));
    let asked = DeleteUserRequest { request_id: String::new(), ..request };
    let once = once(caller, "DeleteUser", request_id, &asked.encode_to_vec());
    let id = id(&mut violations, "name", &asked.name);
    named(Change::Delete, id, asked.etag, once, violations)
}

pub(super) fn undelete(request: UndeleteUserRequest, caller: &Caller) -> Parsed {
    let mut violations = Violations::default();
    let request_id = violations.check("request_id", resource::request_id(&request.request_id));
    let asked = UndeleteUserRequest { request_id: String::new(), ..request };
    let once = once(caller, "UndeleteUser", request_id, &asked.encode_to_vec());
    let id = id(&mut violations, "name", &asked.name);
    named(Change::Undelete, id, asked.etag, once, violations)
}

fn named(
    change: Change,
    id: Option<Uuid>,
    etag: String,
    once: Option<Option<OnceRequest>>,
    mut violations: Violations,
) -> Parsed {
    let etag = violations.check("etag", resource::given_etag(etag));
    match (id, etag, once) {
        (Some(id), Some(etag), Some(once)) => Ok((Wanted { id, change, etag }, once)),
        _ => Err(violations.into_problem()),
    }
}

fn id(violations: &mut Violations, path: &str, name: &str) -> Option<Uuid> {
    violations.check(path, resource::id(COLLECTION, name).ok_or(NAME_RULE))
}

/// None when the id is not valid.
fn once(
    caller: &Caller,
    method: &'static str,
    request_id: Option<Option<Uuid>>,
    asked: &[u8],
) -> Option<Option<OnceRequest>> {
    Some(request_id?.map(|id| OnceRequest::new(caller.user(), method, id, asked)))
}

/// The fields to change.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Fields {
    display_name: bool,
    email: bool,
}

impl Fields {
    /// The fields that the paths of a mask name; without a path, those that are set in `user` (AIP-134).
    fn named(paths: &[String], user: &UserMessage) -> Result<Self, &'static str> {
        let mut fields = Self::default();
        if paths.is_empty() {
            fields = Self { display_name: !user.display_name.is_empty(), email: !user.email.is_empty() };
        }
        for path in paths {
            match path.as_str() {
                "display_name" => fields.display_name = true,
                "email" => fields.email = true,
                // Alone: a star among other paths is a mistake.
                "*" if paths.len() == 1 => fields = Self { display_name: true, email: true },
                other if SERVERS_OWN.contains(&other) => {}
                _ => return Err(MASK_RULE),
            }
        }
        if fields == Self::default() { Err(MASK_RULE) } else { Ok(fields) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(paths: &[&str], expected: Option<(bool, bool)>) {
        let user = UserMessage { display_name: "Ada".to_owned(), ..UserMessage::default() };
        let paths: Vec<String> = paths.iter().map(ToString::to_string).collect();
        let fields = Fields::named(&paths, &user).map(|fields| (fields.display_name, fields.email));
        assert_eq!(fields.ok(), expected, "{paths:?}");
    }

    #[test]
    fn a_mask_names_what_changes_and_an_empty_one_what_is_set() {
        check(&["display_name"], Some((true, false)));
        check(&["email", "display_name"], Some((true, true)));
        check(&["*"], Some((true, true)));
        check(&[], Some((true, false)));
        check(&["email", "update_time", "etag"], Some((false, true)));
        check(&["update_time"], None);
        check(&["*", "email"], None);
        check(&["password"], None);
        check(&["user.email"], None);
        check(&["displayName"], None);
        check(&[""], None);
    }
}
