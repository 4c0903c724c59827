//! A gRPC port without a service of its own, and HTTP/1.1 by hand, to see exactly what is on the wire.

use std::{net::SocketAddr, time::Duration};

use clap::Parser;
use tailrace_runtime::{
    grpc::{ServeError, serve},
    health::Condition,
    process::Context,
    settings::{self, GrpcSettings},
    task,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};
use tonic::{service::Routes, transport::Channel};

/// Longer than anything here takes on a loaded machine; only a failure waits for it.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
pub(crate) const SERVICE: &str = "tailrace.test.v1.TestService";

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    grpc: GrpcSettings,
}

/// A served port.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) context: Context,
    pub(crate) condition: Condition,
    running: JoinHandle<Result<(), ServeError>>,
}

impl Server {
    pub(crate) async fn start(arguments: &[&str]) -> Self {
        let arguments = ["test", "--listen", "127.0.0.1:0"].iter().chain(arguments);
        let cli: Cli = settings::parse_from(arguments, &[]).expect("a command line");
        let listener = TcpListener::bind(cli.grpc.listen).await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let context = Context::detached();
        let condition = context.readiness.condition("test");
        condition.ok();
        let served = context.clone();
        let running = task::spawn("server", async move {
            serve(listener, &cli.grpc, served, Routes::default(), &[SERVICE]).await
        });
        Self { address, context, condition, running }
    }

    pub(crate) fn channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.address)).expect("a URL").connect_lazy()
    }

    pub(crate) async fn stop(self) {
        self.context.shutdown.request();
        timeout(DEADLINE, self.running).await.expect("it drains").expect("no panic").expect("a clean end");
    }
}

/// Sends one HTTP/1.1 request and reads the answer to its end.
pub(crate) async fn http(address: SocketAddr, head: &str, body: &[u8]) -> String {
    let mut connection = TcpStream::connect(address).await.expect("it listens");
    let length = body.len();
    let head = format!("{head}\r\nhost: test\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    connection.write_all(head.as_bytes()).await.expect("sent");
    connection.write_all(body).await.expect("sent");
    let mut answer = Vec::new();
    timeout(DEADLINE, connection.read_to_end(&mut answer)).await.expect("an answer").expect("to its end");
    String::from_utf8_lossy(&answer).into_owned()
}
