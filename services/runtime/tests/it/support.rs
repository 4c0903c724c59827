//! A gRPC port without a service of its own.

use std::{net::SocketAddr, time::Duration};

use clap::Parser;
use tailrace_runtime::{
    auth::Verifier,
    grpc::{ServeError, serve},
    health::Condition,
    process::Context,
    settings::{self, GrpcSettings},
    task,
};
use tokio::{net::TcpListener, task::JoinHandle, time::timeout};
use tonic::{service::Routes, transport::Channel};

/// Longer than anything here takes on a loaded machine; only a failure waits for it.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
pub(crate) const SERVICE: &str = "tailrace.test.v1.TestService";

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    grpc: GrpcSettings,
}

/// The settings of a port of its own.
pub(crate) fn grpc_settings(arguments: &[&str]) -> GrpcSettings {
    let arguments = ["test", "--listen", "127.0.0.1:0"].iter().chain(arguments);
    let cli: Cli = settings::parse_from(arguments, &[]).expect("a command line");
    cli.grpc
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
        Self::start_with(Routes::default(), arguments).await
    }

    pub(crate) async fn start_with(routes: Routes, arguments: &[&str]) -> Self {
        let grpc = grpc_settings(arguments);
        let listener = TcpListener::bind(grpc.listen).await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let context = Context::detached();
        let condition = context.readiness.condition("test");
        condition.ok();
        let served = context.clone();
        let running = task::spawn("server", async move {
            serve(Verifier::fixed([]), listener, &grpc, served, routes, &[SERVICE]).await
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
