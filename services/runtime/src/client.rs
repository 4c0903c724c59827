//! The address that a call comes from: the one notion of it, for limits and throttles.
//!
//! ```text
//! caller ─► proxy ─► proxy ─► port                     TAILRACE_TRUSTED_PROXIES=2
//!   x-forwarded-for: anything, caller, first proxy     each proxy writes at the right end whom it was called by
//!                              └ the second from the right
//! ```
//!
//! What stands further left came with the call and may say anything. Where the entry is missing or no address, and without proxies, it is the
//! peer of the connection: who forges or leaves out the header counts together with everybody else who does.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use clap::ValueEnum;
use http::{Extensions, HeaderMap, HeaderName, header};
use tonic::{Request, transport::server::TcpConnectInfo};

use crate::settings::ProxySettings;

/// The header in which proxies say whom they were called by.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`, a list of addresses.
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// Whom an address stands for, as far as callers are told apart by it: one with IPv6 has a whole /64 to choose from.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct ClientAddress(IpAddr);

impl ClientAddress {
    /// Of this address.
    pub fn new(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(address.into()),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Self(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into())
            }
        }
    }

    /// Of the caller, as the port found it.
    pub fn of<T>(request: &Request<T>) -> Self {
        request.extensions().get().copied().unwrap_or_else(Self::unknown)
    }

    /// Every connection of a port has an address; calls over one without it would share this.
    fn unknown() -> Self {
        Self::new(Ipv6Addr::UNSPECIFIED.into())
    }
}

/// What stands in front of a port.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Proxies {
    trusted: usize,
    header: ForwardedHeader,
}

impl Proxies {
    pub(crate) fn new(settings: &ProxySettings) -> Self {
        Self { trusted: settings.trusted_proxies, header: settings.forwarded_header }
    }

    /// Where a call comes from.
    pub(crate) fn client(self, headers: &HeaderMap, extensions: &Extensions) -> ClientAddress {
        let forwarded = self.trusted.checked_sub(1).and_then(|before| self.entry(headers, before));
        let peer = || extensions.get::<TcpConnectInfo>()?.remote_addr().map(|address| address.ip());
        forwarded.or_else(peer).map_or_else(ClientAddress::unknown, ClientAddress::new)
    }

    /// The address in the entry with so many others at its right.
    fn entry(self, headers: &HeaderMap, before: usize) -> Option<IpAddr> {
        let name: HeaderName = match self.header {
            ForwardedHeader::XForwardedFor => HeaderName::from_static("x-forwarded-for"),
            ForwardedHeader::Forwarded => header::FORWARDED,
        };
        let lines = headers.get_all(name).iter().rev();
        let entry = lines.flat_map(|line| FromRight::new(line.as_bytes(), b',')).nth(before)?;
        match self.header {
            ForwardedHeader::XForwardedFor => address(std::str::from_utf8(entry).ok()?),
            ForwardedHeader::Forwarded => forwarded_for(entry),
        }
    }
}

/// The parts of a list, the last first; a separator in quotation marks parts nothing. It is read from the right because a mark without
/// its match, at the left, then cannot swallow what a proxy wrote.
struct FromRight<'a> {
    rest: Option<&'a [u8]>,
    separator: u8,
}

impl<'a> FromRight<'a> {
    fn new(list: &'a [u8], separator: u8) -> Self {
        Self { rest: Some(list), separator }
    }
}

impl<'a> Iterator for FromRight<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest.take()?;
        let mut is_quoted = false;
        for (index, byte) in rest.iter().enumerate().rev() {
            let (before, part) = (&rest[..index], &rest[index + 1..]);
            if *byte == b'"' && !is_escaped(before) {
                is_quoted = !is_quoted;
            } else if *byte == self.separator && !is_quoted {
                self.rest = Some(before);
                return Some(part);
            }
        }
        Some(rest)
    }
}

/// Whether what follows stands behind a backslash that is none of a pair.
fn is_escaped(before: &[u8]) -> bool {
    before.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

/// The address of `for=` in an element of `Forwarded`, if it has one such parameter.
fn forwarded_for(element: &[u8]) -> Option<IpAddr> {
    let mut values = FromRight::new(element, b';').filter_map(|pair| {
        let (name, value) = std::str::from_utf8(pair).ok()?.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then_some(value)
    });
    let value = values.next().filter(|_| values.next().is_none())?.trim();
    let unquoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    address(unquoted.unwrap_or(value))
}

/// An address, perhaps in brackets, perhaps with a port.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let with_port = || text.parse().ok().map(|address: SocketAddr| address.ip());
    let in_brackets = || {
        let inner = text.strip_prefix('[')?.strip_suffix(']')?;
        inner.parse().ok().map(|address: Ipv6Addr| address.into())
    };
    text.parse().ok().or_else(with_port).or_else(in_brackets)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const PEER: &str = "10.0.0.1";

    fn client(of: &str) -> ClientAddress {
        ClientAddress::new(of.parse().expect("an address"))
    }

    fn check(header: ForwardedHeader, trusted: usize, lines: &[&[u8]], expected: &str) {
        let name = if header == ForwardedHeader::Forwarded { "forwarded" } else { "x-forwarded-for" };
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(name, HeaderValue::from_bytes(line).expect("a value"));
        }
        let mut extensions = Extensions::new();
        let peer = SocketAddr::new(PEER.parse().expect("an address"), 4711);
        extensions.insert(TcpConnectInfo { local_addr: None, remote_addr: Some(peer) });
        let found = Proxies { trusted, header }.client(&headers, &extensions);
        assert_eq!(found, client(expected), "{trusted} of {lines:?}");
    }

    #[test]
    fn an_ipv6_network_is_one_caller() {
        assert_eq!(client("2001:db8::1"), client("2001:db8::ffff:2"));
        assert_ne!(client("2001:db8::1"), client("2001:db8:0:1::1"));
        assert_eq!(client("::ffff:192.0.2.1"), client("192.0.2.1"));
        assert_ne!(client("192.0.2.1"), client("192.0.2.2"));
    }

    #[test]
    fn as_many_entries_are_believed_as_there_are_proxies() {
        let check = |trusted, lines: &[&[u8]], expected| {
            check(ForwardedHeader::XForwardedFor, trusted, lines, expected);
        };
        check(0, &[b"192.0.2.1"], PEER);
        check(1, &[b"192.0.2.1"], "192.0.2.1");
        check(1, &[b"6.6.6.6, 192.0.2.1"], "192.0.2.1");
        check(2, &[b"6.6.6.6, 192.0.2.1, 192.0.2.9"], "192.0.2.1");
        check(1, &[b"6.6.6.6", b"192.0.2.1"], "192.0.2.1");
        check(2, &[b"6.6.6.6, 192.0.2.1", b"192.0.2.9"], "192.0.2.1");
        check(1, &[b"192.0.2.1:4711"], "192.0.2.1");
        check(1, &[b"2001:db8::1"], "2001:db8::1");
        check(1, &[b"[2001:db8::1]"], "2001:db8::1");
        check(1, &[b"[2001:db8::1]:4711"], "2001:db8::1");
        check(1, &[b"::ffff:192.0.2.1"], "192.0.2.1");
        check(1, &[b"6.6.6.6,\t192.0.2.1 "], "192.0.2.1");
    }

    #[test]
    fn what_no_proxy_of_ours_wrote_counts_for_the_peer() {
        let hostile: &[&[u8]] = &[
            b"",
            b" ",
            b",",
            b"192.0.2.1,",
            b"192.0.2.1, ",
            b"unknown",
            b"localhost",
            b"example.org",
            b"192.0.2",
            b"192.0.2.256",
            b"192.0.2.01",
            b"0xc0000201",
            b"3221225985",
            b"192.0.2.1/32",
            b"192.0.2.1:",
            b"192.0.2.1:99999",
            b"192.0.2.1 6.6.6.6",
            b"192.0.2.1;6.6.6.6",
            b"\"192.0.2.1\"",
            b"'192.0.2.1'",
            b"[192.0.2.1]",
            b"[2001:db8::1",
            b"2001:db8::1]",
            b"fe80::1%eth0",
            b":::1",
            b"for=192.0.2.1",
            b"-1",
            b"192.0.2.1\xff",
            b"\xd9\xa1\xd9\xa9\xd9\xa2.0.2.1",
        ];
        for entry in hostile {
            check(ForwardedHeader::XForwardedFor, 1, &[entry], PEER);
            check(ForwardedHeader::XForwardedFor, 1, &[b"6.6.6.6", entry], PEER);
            // At the left of what a proxy wrote it does nothing.
            let behind = [entry, b", 192.0.2.1".as_slice()].concat();
            check(ForwardedHeader::XForwardedFor, 1, &[&behind], "192.0.2.1");
        }
        check(ForwardedHeader::XForwardedFor, 1, &[], PEER);
        check(ForwardedHeader::XForwardedFor, 3, &[b"6.6.6.6, 192.0.2.1"], PEER);
        check(ForwardedHeader::XForwardedFor, usize::MAX, &[b"6.6.6.6"], PEER);
        let long = b"6.6.6.6,".repeat(2000);
        check(ForwardedHeader::XForwardedFor, 1, &[&long, b"192.0.2.1"], "192.0.2.1");
    }

    #[test]
    fn the_standard_header_is_read_as_it_is_written() {
        let check = |trusted, lines: &[&[u8]], expected| {
            check(ForwardedHeader::Forwarded, trusted, lines, expected);
        };
        check(0, &[b"for=192.0.2.1"], PEER);
        check(1, &[b"for=192.0.2.1"], "192.0.2.1");
        check(1, &[b"For=\"192.0.2.1:4711\""], "192.0.2.1");
        check(1, &[b"for=\"[2001:db8::1]\";proto=https;by=203.0.113.1"], "2001:db8::1");
        check(1, &[b"proto=https; FOR = \"[2001:db8::1]:4711\""], "2001:db8::1");
        check(2, &[b"for=6.6.6.6, for=192.0.2.1", b"for=192.0.2.9"], "192.0.2.1");
        check(1, &[b"for=6.6.6.6;host=\"a, for=192.0.2.1\""], "6.6.6.6");
        check(1, &[b"for=192.0.2.1;host=\"a;for=6.6.6.6\""], "192.0.2.1");
        check(1, &[b"host=\"a\\\", for=6.6.6.6\";for=192.0.2.1"], "192.0.2.1");
        // A mark that is never matched swallows nothing that stands behind it.
        check(1, &[b"for=\"6.6.6.6, for=192.0.2.1"], "192.0.2.1");
        check(1, &[b"for=6.6.6.6;host=\"a\\\\\", for=192.0.2.1"], "192.0.2.1");
        for none in [
            b"".as_slice(),
            b"for",
            b"for=",
            b"for=unknown",
            b"for=_hidden",
            b"for=\"192.0.2.1",
            b"for=192.0.2.1;for=6.6.6.6",
            b"by=192.0.2.1",
            b"192.0.2.1",
            b"for=192.0.2.1 for=6.6.6.6",
            b"for=\"\\192.0.2.1\"",
        ] {
            check(1, &[none], PEER);
        }
    }
}
