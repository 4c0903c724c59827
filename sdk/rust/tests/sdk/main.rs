//! The client against a server in this process, whose answers each test writes. `live` is run against a whole system by the
//! end-to-end tests.

mod calls;
mod server;
mod watch;
