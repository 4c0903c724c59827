//! The ports of a stack, held as long as it lives: those of `.env`, or free ones.

use anyhow::{Result, bail};

use super::holder;
use crate::native::port::{Port, PortLease, is_free};
use crate::settings::Settings;

/// Which ports a stack takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ports {
    /// Those of `.env`, so that URLs stay the same.
    Default,
    /// Free ones, so that several stacks run at once.
    Auto,
}

/// Every port of a stack.
#[derive(Debug)]
pub struct Addresses {
    /// user-service, gRPC.
    pub user: PortLease,
    /// user-service, ops.
    pub user_ops: PortLease,
    /// order-service, gRPC.
    pub order: PortLease,
    /// order-service, ops.
    pub order_ops: PortLease,
    /// cdc-relay, admin gRPC.
    pub relay: PortLease,
    /// cdc-relay, ops.
    pub relay_ops: PortLease,
    /// gateway, gRPC.
    pub gateway: PortLease,
    /// gateway, ops.
    pub gateway_ops: PortLease,
    /// The web page.
    pub web: PortLease,
    /// Postgres; the server takes the port itself.
    pub postgres: Port,
    /// Kafka, for clients.
    pub kafka: Port,
    /// Kafka's controller.
    pub kafka_controller: Port,
}

impl Addresses {
    /// Takes the ports.
    ///
    /// # Errors
    ///
    /// When one is taken: which, by whom, and how to change it.
    pub fn take(ports: Ports) -> Result<Self> {
        let lease = |name| server_port(ports, name)?.lease();
        Ok(Self {
            user: lease("TAILRACE_USER_PORT")?,
            user_ops: lease("TAILRACE_USER_OPS_PORT")?,
            order: lease("TAILRACE_ORDER_PORT")?,
            order_ops: lease("TAILRACE_ORDER_OPS_PORT")?,
            relay: lease("TAILRACE_RELAY_PORT")?,
            relay_ops: lease("TAILRACE_RELAY_OPS_PORT")?,
            gateway: lease("TAILRACE_GATEWAY_PORT")?,
            gateway_ops: lease("TAILRACE_GATEWAY_OPS_PORT")?,
            web: lease("TAILRACE_WEB_PORT")?,
            postgres: server_port(ports, "TAILRACE_POSTGRES_PORT")?,
            kafka: server_port(ports, "TAILRACE_KAFKA_PORT")?,
            kafka_controller: server_port(ports, "TAILRACE_KAFKA_CONTROLLER_PORT")?,
        })
    }
}

fn server_port(ports: Ports, name: &str) -> Result<Port> {
    match ports {
        Ports::Auto => Ok(Port::Free),
        Ports::Default => {
            let port = Settings::get().port(name)?;
            if !is_free(port) {
                bail!("port {port} is taken by {}: stop that, or set {name} in .env", holder::of(port));
            }
            Ok(Port::Fixed(port))
        }
    }
}
