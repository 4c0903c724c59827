//! How many streams there may be: in all, and per principal.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use thiserror::Error;

/// Counts open streams.
#[derive(Clone, Debug)]
pub struct Admission(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    open: Mutex<HashMap<Box<str>, usize>>,
    streams_max: usize,
    streams_per_principal_max: usize,
}

/// No further stream.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Refused {
    /// The process serves as many as it may.
    #[error("the server holds as many streams as it may; try again later")]
    Process,
    /// The principal has as many as it may.
    #[error("you have as many streams open as you may; close one")]
    Principal,
}

/// An open stream; dropped when it ends.
#[derive(Debug)]
pub struct Admitted {
    shared: Arc<Shared>,
    principal: Box<str>,
}

impl Admission {
    /// With these limits.
    pub fn new(streams_max: usize, streams_per_principal_max: usize) -> Self {
        Self(Arc::new(Shared { open: Mutex::default(), streams_max, streams_per_principal_max }))
    }

    /// Admits one more stream of `principal`.
    pub fn admit(&self, principal: &str) -> Result<Admitted, Refused> {
        let mut open = self.0.lock();
        if open.values().sum::<usize>() >= self.0.streams_max {
            return Err(Refused::Process);
        }
        let streams = open.entry(Box::from(principal)).or_default();
        if *streams >= self.0.streams_per_principal_max {
            return Err(Refused::Principal);
        }
        *streams += 1;
        Ok(Admitted { shared: Arc::clone(&self.0), principal: Box::from(principal) })
    }

    /// How many streams are open.
    pub fn open(&self) -> usize {
        self.0.lock().values().sum()
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut open = self.shared.lock();
        if let Some(streams) = open.get_mut(&self.principal) {
            *streams -= 1;
            if *streams == 0 {
                open.remove(&self.principal);
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, usize>> {
        // A count changes in one step.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_has_its_own_limit_and_the_process_one_for_all() {
        let admission = Admission::new(3, 2);
        let first = admission.admit("a").expect("the first");
        let _second = admission.admit("a").expect("the second");
        assert_eq!(admission.admit("a").map(drop), Err(Refused::Principal));
        let _third = admission.admit("b").expect("another's");
        assert_eq!(admission.admit("c").map(drop), Err(Refused::Process));
        drop(first);
        assert_eq!(admission.open(), 2);
        assert!(admission.admit("a").is_ok());
    }
}
