//! The runtime from outside: its gRPC port, its ops port.

mod grpc;
mod keys;
mod ops;
mod support;
mod traces;
