//! What every gRPC port does, whatever it serves: gRPC-Web, reflection, health, request ids, drain.

use tailrace_runtime::telemetry;
use tokio::time::timeout;
use tokio_stream::iter;
use tonic::{Code, Request};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::{v1, v1alpha};
use tonic_types::StatusExt as _;

use service_testing::{http, told};

use crate::support::{DEADLINE, SERVICE, Server};

const CHECK: &str = "POST /grpc.health.v1.Health/Check HTTP/1.1\r\ncontent-type: application/grpc-web+proto";
/// A gRPC frame with an empty message.
const EMPTY_FRAME: &[u8] = &[0; 5];

#[tokio::test]
async fn browsers_call_over_http_1() {
    let server = Server::start(&[]).await;
    let answer = http(server.address, CHECK, EMPTY_FRAME).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("grpc-status:0"), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn a_plain_request_id_comes_back_and_any_other_is_replaced() {
    let server = Server::start(&[]).await;
    for (sent, kept) in [("order-7", true), ("a b", false)] {
        let answer = http(server.address, &format!("{CHECK}\r\nx-request-id: {sent}"), EMPTY_FRAME).await;
        let id = answer.lines().find_map(|line| line.strip_prefix("x-request-id: ")).expect("an id");
        assert_eq!(id == sent, kept, "{id}");
    }
    server.stop().await;
}

#[tokio::test]
async fn both_reflections_know_the_contract_and_the_error_details() {
    let server = Server::start(&[]).await;
    for symbol in [
        "tailrace.user.v1.UserService",
        "google.rpc.ErrorInfo",
        "google.rpc.BadRequest",
        "grpc.health.v1.Health",
    ] {
        let mut client = v1::server_reflection_client::ServerReflectionClient::new(server.channel());
        let request = v1::ServerReflectionRequest {
            host: String::new(),
            message_request: Some(v1::server_reflection_request::MessageRequest::FileContainingSymbol(
                symbol.into(),
            )),
        };
        let mut answers =
            client.server_reflection_info(iter([request])).await.expect("a stream").into_inner();
        let answer = answers.message().await.expect("an answer").and_then(|answer| answer.message_response);
        let found = matches!(
            answer,
            Some(v1::server_reflection_response::MessageResponse::FileDescriptorResponse(_))
        );
        assert!(found, "v1 {symbol}: {answer:?}");

        let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(server.channel());
        let request = v1alpha::ServerReflectionRequest {
            host: String::new(),
            message_request: Some(v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol(
                symbol.into(),
            )),
        };
        let mut answers =
            client.server_reflection_info(iter([request])).await.expect("a stream").into_inner();
        let answer = answers.message().await.expect("an answer").and_then(|answer| answer.message_response);
        let found = matches!(
            answer,
            Some(v1alpha::server_reflection_response::MessageResponse::FileDescriptorResponse(_))
        );
        assert!(found, "v1alpha {symbol}: {answer:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn reflection_lists_what_this_port_serves() {
    let server = Server::start(&[]).await;
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(server.channel());
    let request = v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1::server_reflection_request::MessageRequest::ListServices(String::new())),
    };
    let mut answers = client.server_reflection_info(iter([request])).await.expect("a stream").into_inner();
    let answer = answers.message().await.expect("an answer").and_then(|answer| answer.message_response);
    let Some(v1::server_reflection_response::MessageResponse::ListServicesResponse(list)) = answer else {
        panic!("no list: {answer:?}");
    };
    let mut names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    names.sort();
    assert_eq!(names, ["grpc.health.v1.Health", SERVICE]);
    server.stop().await;
}

#[tokio::test]
async fn without_reflection_the_port_tells_nobody_what_it_serves() {
    for (reflection, is_served) in [("true", true), ("false", false)] {
        let server = Server::start(&["--reflection", reflection]).await;
        for version in ["v1", "v1alpha"] {
            let rpc = format!("grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
            assert_eq!(call(&server, &rpc).await.is_ok(), is_served, "{rpc}");
        }
        // What other servers answer to the curious.
        for rpc in [
            "grpc.channelz.v1.Channelz/GetServers",
            "grpc.channelz.v1.Channelz/GetTopChannels",
            "grpc.admin.v1.Admin/Get",
            "grpc.reflection.v1.ServerReflection/Other",
            "grpc.health.v1.Health/List",
            "envoy.service.status.v3.ClientStatusDiscoveryService/FetchClientStatus",
        ] {
            let status = call(&server, rpc).await.expect_err(rpc);
            assert_eq!(told(&status), (Code::Unimplemented, "METHOD_UNKNOWN".to_owned()), "{rpc}");
        }
        server.stop().await;
    }
}

/// Calls with nothing.
async fn call(server: &Server, rpc: &str) -> Result<(), tonic::Status> {
    let mut client = tonic::client::Grpc::new(server.channel());
    client.ready().await.expect("a connection");
    let path = format!("/{rpc}").parse().expect("a path");
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    client.streaming(Request::new(iter([])), path, codec).await.map(drop)
}

#[tokio::test]
async fn health_follows_readiness() {
    let server = Server::start(&[]).await;
    for name in ["", SERVICE] {
        let mut health = HealthClient::new(server.channel());
        let watched = health.watch(HealthCheckRequest { service: name.to_owned() }).await.expect("a stream");
        let mut watched = watched.into_inner();
        let mut wait_for = async |wanted: ServingStatus| {
            let changed =
                async { while watched.message().await.expect("open").expect("open").status() != wanted {} };
            timeout(DEADLINE, changed).await.expect("health follows");
        };
        wait_for(ServingStatus::Serving).await;
        server.condition.fail("gone");
        wait_for(ServingStatus::NotServing).await;
        server.condition.ok();
        wait_for(ServingStatus::Serving).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn an_open_stream_ends_with_come_back_when_the_process_drains() {
    let server = Server::start(&[]).await;
    let mut health = HealthClient::new(server.channel());
    let mut stream = health.watch(HealthCheckRequest::default()).await.expect("a stream").into_inner();
    stream.message().await.expect("open").expect("a first answer");
    server.context.shutdown.request();
    let end = async {
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("it must not look complete"),
                Err(status) => return status,
            }
        }
    };
    let status = timeout(DEADLINE, end).await.expect("it ends");
    assert_eq!(status.code(), Code::Unavailable);
    let details = status.check_error_details().expect("details");
    assert_eq!(details.error_info().map(|info| info.reason.as_str()), Some("DRAINING"));
    server.stop().await;
}

#[tokio::test]
async fn calls_are_measured_and_unknown_methods_share_a_label() {
    let metrics = telemetry::metrics();
    let server = Server::start(&[]).await;
    HealthClient::new(server.channel())
        .check(Request::new(HealthCheckRequest::default()))
        .await
        .expect("healthy");
    let unknown = "POST /no.such.Service/Method HTTP/1.1\r\ncontent-type: application/grpc-web+proto";
    http(server.address, unknown, EMPTY_FRAME).await;
    server.stop().await;
    let rendered = metrics.render();
    let known = r#"rpc_server_call_duration_seconds_count{rpc_method="grpc.health.v1.Health/Check",rpc_response_status_code="OK"}"#;
    let other = r#"rpc_server_call_duration_seconds_count{rpc_method="_OTHER",rpc_response_status_code="UNIMPLEMENTED"}"#;
    assert!(rendered.contains(known) && rendered.contains(other), "{rendered}");
    assert!(!rendered.contains("no.such"), "{rendered}");
}
