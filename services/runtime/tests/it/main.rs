//! The runtime from outside: its gRPC port, its ops port.

mod certificates;
mod connections;
mod cors;
mod errors;
mod grpc;
mod keys;
mod ops;
mod rates;
mod support;
mod tls;
mod traces;
