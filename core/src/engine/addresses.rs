//! How many connections each address has, where the options limit that: for all threads of a listener.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};

/// Connections that are taken of an address beyond its limit, to be told so with a 503: whoever has them must ask within the
/// handshake's timeout, and they cost little. Any more are closed at once.
const TOLD_AT_ONCE: usize = 4;

/// What becomes of a connection that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    Served,
    /// It is one too many, and is told so. It counts.
    Surplus,
    /// It is closed at once, and does not count.
    Closed,
}

/// Only addresses that have connections are here: so there are never more than connections.
#[derive(Debug, Default)]
pub(super) struct Addresses(Mutex<HashMap<u128, usize>>);

impl Addresses {
    /// Counts a connection from this address, unless it is to be closed at once. `tells` is whether a surplus one can be
    /// answered at little cost.
    pub(super) fn admit(&self, address: SocketAddr, limit: usize, tells: bool) -> Admission {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(key(address)).or_default();
        let admission = match *count {
            count if count < limit => Admission::Served,
            count if tells && count < limit.saturating_add(TOLD_AT_ONCE) => Admission::Surplus,
            _ => Admission::Closed,
        };
        *count += usize::from(admission != Admission::Closed);
        admission
    }

    /// A connection that counted is gone.
    pub(super) fn leave(&self, address: SocketAddr) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&key(address)) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&key(address));
                // What a crowd has left is given back.
                if counts.len() < counts.capacity() / 8 {
                    counts.shrink_to_fit();
                }
            }
        }
    }
}

/// What counts as one address: of IPv4 all of it, also where it is mapped to IPv6, of IPv6 the network.
fn key(address: SocketAddr) -> u128 {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
        IpAddr::V6(ip) => ip.to_bits() >> 64 << 64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(one: &str, other: &str) -> bool {
        let key = |ip: &str| key(SocketAddr::new(ip.parse().unwrap(), 1));
        key(one) == key(other)
    }

    #[test]
    fn an_address_is_one_of_ipv4_or_a_network_of_ipv6() {
        assert!(same("192.0.2.1", "::ffff:192.0.2.1"));
        assert!(!same("192.0.2.1", "192.0.2.2") && !same("::ffff:192.0.2.1", "::ffff:192.0.2.2"));
        assert!(same("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff"));
        assert!(!same("2001:db8::1", "2001:db8:0:1::1"));
        // The mapped ones are not one network, though they would be by their first 64 bits.
        assert!(!same("192.0.2.1", "::1"));
    }

    #[test]
    fn a_few_are_told_and_the_rest_closed_until_one_leaves() {
        let (addresses, one) = (Addresses::default(), "192.0.2.1:1".parse().unwrap());
        let admit = |tells| addresses.admit(one, 2, tells);
        assert_eq!([admit(true), admit(false)], [Admission::Served; 2]);
        assert_eq!(admit(false), Admission::Closed);
        for _ in 0..TOLD_AT_ONCE {
            assert_eq!(admit(true), Admission::Surplus);
        }
        assert_eq!(admit(true), Admission::Closed);
        assert_eq!(addresses.admit("192.0.2.2:1".parse().unwrap(), 2, true), Admission::Served);
        for _ in 0..TOLD_AT_ONCE + 1 {
            addresses.leave(one);
        }
        assert_eq!([admit(true), admit(true)], [Admission::Served, Admission::Surplus]);
    }

    #[test]
    fn whoever_is_gone_leaves_nothing() {
        let addresses = Addresses::default();
        let all = (0..1000_u32).map(|number| SocketAddr::new(std::net::Ipv4Addr::from(number).into(), 1));
        for address in all.clone() {
            addresses.admit(address, 1, true);
            addresses.admit(address, 1, false);
        }
        all.for_each(|address| addresses.leave(address));
        let counts = addresses.0.lock().unwrap();
        assert!(counts.is_empty() && counts.capacity() < 100);
    }
}
