//! The contract of Tailrace as Rust types: generated from `proto/` at build time, and nothing else.
#![allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]

/// The descriptor set of the whole contract with its imports and comments, for reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/tailrace.descriptors.bin"));

macro_rules! package {
    ($name:literal) => {
        tonic::include_proto!($name);
        include!(concat!(env!("OUT_DIR"), "/", $name, ".serde.rs"));
    };
}

/// Types of Google's public contract that ours uses.
pub mod google {
    pub mod r#type {
        package!("google.r#type");
    }
}

pub mod tailrace {
    pub mod auth {
        pub mod v1 {
            package!("tailrace.auth.v1");
        }
    }
    pub mod event {
        pub mod v1 {
            package!("tailrace.event.v1");
        }
    }
    pub mod order {
        pub mod v1 {
            package!("tailrace.order.v1");
        }
    }
    pub mod relay {
        pub mod v1 {
            package!("tailrace.relay.v1");
        }
    }
    pub mod stream {
        pub mod v1 {
            package!("tailrace.stream.v1");
        }
    }
    pub mod user {
        pub mod v1 {
            package!("tailrace.user.v1");
        }
    }
}

pub use tailrace::{auth, event, order, relay, stream, user};
