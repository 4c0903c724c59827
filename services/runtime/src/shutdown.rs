//! One signal that says: finish. It is set once, never taken back, and seen by every part of the process.
//!
//! It carries no deadline: that is [`crate::process`]'s.

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// The request to finish; clones see the same request.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    token: CancellationToken,
}

impl Shutdown {
    /// A shutdown nobody has asked for yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether it was asked for.
    pub fn requested(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Returns once it was asked for. Safe to drop and to call again.
    pub async fn wait(&self) {
        self.token.cancelled().await;
    }

    /// Asks for it; asking twice changes nothing.
    pub fn request(&self) {
        self.token.cancel();
    }

    /// Like [`Shutdown::wait`], for a future that outlives the borrow, such as a response body.
    pub(crate) fn wait_owned(&self) -> WaitForCancellationFutureOwned {
        self.token.clone().cancelled_owned()
    }
}
