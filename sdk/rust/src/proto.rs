//! The generated code, and nothing else: `cargo xtask generate` writes it.
#![allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]

/// Types of Google's public contract that ours uses.
pub mod google {
    pub mod r#type {
        include!("generated/google.r#type.rs");
    }
}

pub mod tailrace {
    pub mod auth {
        pub mod v1 {
            include!("generated/tailrace.auth.v1.rs");
        }
    }
    pub mod event {
        pub mod v1 {
            include!("generated/tailrace.event.v1.rs");
        }
    }
    pub mod order {
        pub mod v1 {
            include!("generated/tailrace.order.v1.rs");
        }
    }
    pub mod relay {
        pub mod v1 {
            include!("generated/tailrace.relay.v1.rs");
        }
    }
    pub mod stream {
        pub mod v1 {
            include!("generated/tailrace.stream.v1.rs");
        }
    }
    pub mod user {
        pub mod v1 {
            include!("generated/tailrace.user.v1.rs");
        }
    }
}
