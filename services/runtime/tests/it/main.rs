//! The runtime from outside: its gRPC port, its ops port.

mod errors;
mod grpc;
mod keys;
mod ops;
mod support;
mod traces;
