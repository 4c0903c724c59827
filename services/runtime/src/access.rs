//! Who may call what: one table over every RPC of the contract, and the guard that enforces it before a handler runs.
//!
//! ```text
//! call ─► guard ─► no row: refused ─► a row: anyone? else token ─► what the row gives the caller ─► handler
//! ```
//!
//! The guard says no to whoever may do nothing at all, and tells the handler how far the caller reaches: his own things or
//! everyone's. What is not his own does not exist for him: the handler answers `NOT_FOUND`, never `PERMISSION_DENIED`.
//!
//! The services of this workspace that keep things serve through the guard. Relay and gateway ask [`crate::auth::Verifier`]
//! by themselves, because streams outlive the check; their rows say what they hold to.

mod guard;

use tonic::{Code, Request, Status};

pub(crate) use self::guard::{Guard, is_open};
use crate::{auth::Principal, error::Problem};

/// How far a caller reaches.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reach {
    /// What is his own.
    Own,
    /// Everything.
    All,
}

/// A row of the table: what callers may do with one RPC. None: nothing.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// The RPC, `package.Service/Method`.
    pub rpc: &'static str,
    /// Somebody without a token.
    pub anyone: Option<Reach>,
    /// Somebody with a token.
    pub user: Option<Reach>,
    /// Somebody whose token makes him an operator.
    pub operator: Option<Reach>,
}

const fn rule(rpc: &'static str, [anyone, user, operator]: [Option<Reach>; 3]) -> Rule {
    Rule { rpc, anyone, user, operator }
}

const NOTHING: Option<Reach> = None;
const OWN: Option<Reach> = Some(Reach::Own);
const ALL: Option<Reach> = Some(Reach::All);

/// The table. Columns: anyone, user, operator.
#[rustfmt::skip]
pub const TABLE: &[Rule] = &[
    rule("tailrace.auth.v1.AuthService/Login",                          [OWN,     OWN,     OWN]),
    rule("tailrace.auth.v1.AuthService/RefreshToken",                   [OWN,     OWN,     OWN]),
    rule("tailrace.auth.v1.AuthService/Logout",                         [OWN,     OWN,     OWN]),
    rule("tailrace.auth.v1.AuthService/ChangePassword",                 [NOTHING, OWN,     OWN]),
    rule("tailrace.auth.v1.AuthService/ListSigningKeys",                [ALL,     ALL,     ALL]),
    rule("tailrace.user.v1.UserService/CreateUser",                     [OWN,     OWN,     OWN]),
    rule("tailrace.user.v1.UserService/GetUser",                        [NOTHING, OWN,     ALL]),
    rule("tailrace.user.v1.UserService/ListUsers",                      [NOTHING, NOTHING, ALL]),
    rule("tailrace.user.v1.UserService/UpdateUser",                     [NOTHING, OWN,     ALL]),
    rule("tailrace.user.v1.UserService/DeleteUser",                     [NOTHING, OWN,     ALL]),
    rule("tailrace.user.v1.UserService/UndeleteUser",                   [NOTHING, NOTHING, ALL]),
    rule("tailrace.order.v1.OrderService/CreateOrder",                  [NOTHING, OWN,     OWN]),
    rule("tailrace.order.v1.OrderService/GetOrder",                     [NOTHING, OWN,     ALL]),
    rule("tailrace.order.v1.OrderService/ListOrders",                   [NOTHING, OWN,     ALL]),
    rule("tailrace.order.v1.OrderService/CancelOrder",                  [NOTHING, OWN,     ALL]),
    rule("tailrace.stream.v1.EventStreamService/Watch",                 [NOTHING, OWN,     ALL]),
    rule("tailrace.relay.v1.RelayService/ListSources",                  [NOTHING, NOTHING, ALL]),
    rule("tailrace.relay.v1.RelayService/GetSource",                    [NOTHING, NOTHING, ALL]),
    rule("tailrace.relay.v1.RelayService/ListDeadLetters",              [NOTHING, NOTHING, ALL]),
    rule("tailrace.relay.v1.RelayService/RedriveDeadLetter",            [NOTHING, NOTHING, ALL]),
    rule("tailrace.relay.v1.RelayService/DiscardDeadLetter",            [NOTHING, NOTHING, ALL]),
];

/// The row of an RPC.
pub fn rule_of(rpc: &str) -> Option<&'static Rule> {
    TABLE.iter().find(|rule| rule.rpc == rpc)
}

/// The name of an RPC as metrics have it, if any port serves it: callers make up as many others as they like.
pub(crate) fn served(rpc: &str) -> Option<&'static str> {
    let open = || guard::OPEN.iter().copied().find(|open| *open == rpc);
    rule_of(rpc).map(|rule| rule.rpc).or_else(open)
}

/// Who calls with a token, and how far he reaches, as the guard found it.
#[derive(Clone, Debug)]
pub struct Caller {
    principal: Principal,
    reach: Reach,
}

impl Caller {
    /// The caller of a call that the guard let in by its token. Without the guard nobody may do anything.
    pub fn of<T>(request: &Request<T>) -> Result<Self, Status> {
        request.extensions().get::<Self>().cloned().ok_or_else(not_allowed)
    }

    /// The user who calls, `users/{user}`.
    pub fn user(&self) -> &str {
        &self.principal.user
    }

    /// The user whose things he reaches, who is himself; none: everyone's.
    pub fn confined_to(&self) -> Option<&str> {
        match self.reach {
            Reach::All => None,
            Reach::Own => Some(&self.principal.user),
        }
    }
}

/// A refusal that no token would change.
fn not_allowed() -> Status {
    Problem::new(Code::PermissionDenied, "CALL_NOT_ALLOWED", "This may not be called.").into_status()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message as _;
    use tonic_types::StatusExt as _;

    use super::*;

    /// Every RPC of the contract.
    fn rpcs() -> BTreeSet<String> {
        let set = prost_types::FileDescriptorSet::decode(tailrace::FILE_DESCRIPTOR_SET).expect("descriptors");
        let of_file = |file: &prost_types::FileDescriptorProto| -> Vec<String> {
            let of_service = |service: &prost_types::ServiceDescriptorProto| -> Vec<String> {
                let name = format!("{}.{}", file.package(), service.name());
                service.method.iter().map(|method| format!("{name}/{}", method.name())).collect()
            };
            file.service.iter().flat_map(of_service).collect()
        };
        set.file.iter().filter(|file| file.package().starts_with("tailrace.")).flat_map(of_file).collect()
    }

    #[test]
    fn every_rpc_has_one_row_and_every_row_an_rpc() {
        let rows: Vec<String> = TABLE.iter().map(|rule| rule.rpc.to_owned()).collect();
        let distinct: BTreeSet<String> = rows.iter().cloned().collect();
        assert_eq!(distinct, rpcs());
        assert_eq!(distinct.len(), rows.len(), "no RPC has two rows");
    }

    #[test]
    fn without_the_guard_nobody_may_do_anything() {
        let status = Caller::of(&Request::new(())).expect_err("nobody let it in");
        let reason = status.get_error_details().error_info().map(|info| info.reason.clone());
        assert_eq!((status.code(), reason.as_deref()), (Code::PermissionDenied, Some("CALL_NOT_ALLOWED")));
    }

    #[test]
    fn more_rights_reach_further() {
        let rank = |reach: Option<Reach>| match reach {
            None => 0,
            Some(Reach::Own) => 1,
            Some(Reach::All) => 2,
        };
        for rule in TABLE {
            let ranks = [rule.anyone, rule.user, rule.operator].map(rank);
            assert!(ranks.is_sorted(), "{}", rule.rpc);
            assert!(rank(rule.operator) > 0, "{}: somebody may", rule.rpc);
        }
    }
}
