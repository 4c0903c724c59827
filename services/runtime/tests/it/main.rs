//! The runtime from outside: its gRPC port, its ops port.

mod grpc;
mod ops;
mod support;
mod traces;
