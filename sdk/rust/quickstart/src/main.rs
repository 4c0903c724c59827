//! `tailrace-quickstart USERS ORDERS RELAY GATEWAY`: runs the quick start of the README against these addresses.
#![expect(clippy::print_stdout, reason = "the quick start shows what it found")]

use std::error::Error;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let addresses: Vec<String> = std::env::args().skip(1).collect();
    if addresses.len() != 4 {
        return Err("usage: tailrace-quickstart USERS ORDERS RELAY GATEWAY".into());
    }
    include!(concat!(env!("OUT_DIR"), "/quickstart.rs"))
}
