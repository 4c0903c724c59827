//! Holds a service to the table: every RPC of it, called by everyone.

use tailrace_runtime::access::{Reach, TABLE};
use tonic::{Code, Request, Status, client::Grpc, codegen::http::uri::PathAndQuery, transport::Channel};
use tonic_prost::ProstCodec;

use crate::{errors::told, with_token};

/// Tokens of those who call.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// Of a user without privileges.
    pub user: String,
    /// Of an operator.
    pub operator: String,
    /// Of a user, and not valid any more.
    pub expired: String,
}

/// Calls every RPC of `service` that has a row, with an empty message, as everyone, and many that have none. Gives how many calls
/// were made.
pub async fn assert_access(channel: Channel, service: &str, tokens: &Tokens) -> usize {
    let rows =
        TABLE.iter().filter(|rule| rule.rpc.strip_prefix(service).is_some_and(|rest| rest.starts_with('/')));
    let mut calls = 0;
    for rule in rows {
        let callers: [(&str, Option<&str>, Option<Reach>); 5] = [
            ("anyone", None, rule.anyone),
            ("a forger", Some("e30.e30.e30"), rule.anyone),
            ("one who was a user", Some(&tokens.expired), rule.anyone),
            ("a user", Some(&tokens.user), rule.user),
            ("an operator", Some(&tokens.operator), rule.operator),
        ];
        for (who, token, reach) in callers {
            let outcome = call(channel.clone(), rule.rpc, token).await;
            let refused = outcome.as_ref().err().is_some_and(|status| {
                matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied)
            });
            assert_eq!(refused, reach.is_none(), "{who} calls {}: {outcome:?}", rule.rpc);
            if let (None, Err(status)) = (reach, outcome) {
                let expected = if who == "a user" { Code::PermissionDenied } else { Code::Unauthenticated };
                assert_eq!(told(&status).0, expected, "{who} calls {}", rule.rpc);
            }
            calls += 1;
        }
    }
    assert!(calls > 0, "{service} is in the table");
    calls + assert_paths(&channel, service, &tokens.operator).await
}

/// Calls what is nearly an RPC of `service`, one after the other: none is taken for it.
async fn assert_paths(channel: &Channel, service: &str, token: &str) -> usize {
    let rpcs = TABLE.iter().filter_map(|rule| rule.rpc.strip_prefix(service)?.strip_prefix('/'));
    let mut calls = 0;
    for method in rpcs {
        let (first, rest) = method.split_at(1);
        for path in [
            format!("{service}/NoSuchMethod"),
            format!("{service}/{method}/"),
            format!("{service}/{method}//"),
            format!("{service}/{method}."),
            format!("{service}/{method}%00"),
            format!("{service}/{method}%20"),
            format!("{service}/{method};a=b"),
            format!("{service}/{method}/{method}"),
            format!("{service}/%{:02X}{rest}", first.as_bytes()[0]),
            format!("{service}/{}", method.to_lowercase()),
            format!("{service}/{}", method.to_uppercase()),
            format!("{service}/"),
            format!("{service}//{method}"),
            format!("{service}/./{method}"),
            format!("{service}/../{service}/{method}"),
            format!("{service}%2F{method}"),
            format!("{service}.{method}"),
            format!("{}/{method}", service.to_lowercase()),
            format!("{}/{method}", service.replace('.', "/")),
            format!("{}/{method}", service.rsplit('.').next().unwrap_or_default()),
            format!("/{service}/{method}"),
            format!("./{service}/{method}"),
            format!("grpc.health.v1.Health/Check/../../{service}/{method}"),
            format!("grpc.reflection.v1.ServerReflection/{method}"),
            method.to_owned(),
            String::new(),
        ] {
            let status = call(channel.clone(), &path, Some(token)).await.expect_err(&path);
            assert_eq!(told(&status), (Code::Unimplemented, "METHOD_UNKNOWN".to_owned()), "{path:?}");
            calls += 1;
        }
    }
    calls
}

/// Calls with an empty message.
async fn call(channel: Channel, rpc: &str, token: Option<&str>) -> Result<(), Status> {
    let path: PathAndQuery = format!("/{rpc}").parse().expect("a path");
    let mut client = Grpc::new(channel);
    client.ready().await.expect("a connection");
    let request = token.map_or_else(|| Request::new(()), |token| with_token((), token));
    client.unary(request, path, ProstCodec::<(), ()>::default()).await.map(|_| ())
}
