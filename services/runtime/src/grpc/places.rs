//! How many connections a port has open, in all and for each address.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use metrics::gauge;

use crate::client::ClientAddress;

/// The places for connections; clones share them.
#[derive(Clone, Debug)]
pub(super) struct Places {
    max: u32,
    /// 0: as many as there are in all.
    per_address_max: u32,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    all: u32,
    of: HashMap<ClientAddress, u32>,
}

/// The place of one connection, free again when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    of: ClientAddress,
}

/// Why there is no place, as the metric calls it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Full {
    All,
    Address,
}

impl Full {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::All => "connections",
            Self::Address => "address",
        }
    }
}

impl Places {
    pub(super) fn new(max: u32, per_address_max: u32) -> Self {
        Self { max, per_address_max, taken: Arc::default() }
    }

    /// A place for a connection from `address`.
    pub(super) fn take(&self, address: IpAddr) -> Result<Place, Full> {
        let of = ClientAddress::new(address);
        let mut taken = self.taken();
        if taken.all >= self.max {
            return Err(Full::All);
        }
        let of_address = taken.of.entry(of).or_default();
        if self.per_address_max > 0 && *of_address >= self.per_address_max {
            return Err(Full::Address);
        }
        *of_address += 1;
        taken.all += 1;
        drop(taken);
        gauge!("rpc_server_connections").increment(1.0);
        Ok(Place { places: self.clone(), of })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        // Nothing in between can panic, so a count is never half done.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        taken.all = taken.all.saturating_sub(1);
        if let Some(of_address) = taken.of.get_mut(&self.of) {
            *of_address = of_address.saturating_sub(1);
            if *of_address == 0 {
                taken.of.remove(&self.of);
            }
        }
        gauge!("rpc_server_connections").decrement(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_place_is_free_again_when_its_connection_ends() {
        let places = Places::new(2, 0);
        let one = places.take(address("192.0.2.1")).expect("a place");
        let _two = places.take(address("192.0.2.1")).expect("a place");
        assert_eq!(places.take(address("192.0.2.2")).err(), Some(Full::All));
        drop(one);
        places.take(address("192.0.2.2")).expect("the place of the first");
    }

    #[test]
    fn an_address_takes_its_own_places_and_no_others() {
        let places = Places::new(10, 1);
        let one = places.take(address("2001:db8::1")).expect("a place");
        assert_eq!(places.take(address("2001:db8::2")).err(), Some(Full::Address), "the same /64");
        let _other = places.take(address("2001:db8:0:1::1")).expect("another /64");
        let _v4 = places.take(address("192.0.2.1")).expect("a place");
        assert_eq!(places.take(address("::ffff:192.0.2.1")).err(), Some(Full::Address), "the same address");
        drop(one);
        places.take(address("2001:db8::2")).expect("the place of the first");
        assert_eq!(places.taken().of.len(), 2, "nobody is remembered who is gone");
    }
}
