//! An address with a prefix length.

use crate::ip::ip;
use crate::number::decimal;
use crate::text::cut;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

/// An address and how many of its leading bits count. The rest may be set (an interface's address) or not (a network).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    /// The address.
    pub addr: IpAddr,
    /// Leading bits: at most 32 or 128.
    pub len: u8,
}

impl Prefix {
    /// `0.0.0.0/0`.
    pub const DEFAULT_V4: Prefix = Prefix { addr: IpAddr::V4(Ipv4Addr::UNSPECIFIED), len: 0 };
    /// `::/0`.
    pub const DEFAULT_V6: Prefix = Prefix { addr: IpAddr::V6(Ipv6Addr::UNSPECIFIED), len: 0 };
    /// `fe80::/64`, the link-local prefix (RFC 4291, 2.5.6).
    pub const LINK_LOCAL: Prefix =
        Prefix { addr: IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), len: 64 };

    /// A prefix; a length beyond the family's is cut to it.
    pub fn new(addr: impl Into<IpAddr>, len: u8) -> Prefix {
        let addr = addr.into();
        Prefix { addr, len: len.min(bits(addr)) }
    }

    /// The one address alone: /32 or /128.
    pub fn host(addr: impl Into<IpAddr>) -> Prefix {
        let addr = addr.into();
        Prefix { addr, len: bits(addr) }
    }

    /// The network: the bits behind the prefix length cleared.
    #[inline(never)]
    pub fn network(self) -> Prefix {
        let addr = match self.addr {
            IpAddr::V4(addr) => {
                let mut octets = addr.octets();
                clear(&mut octets, self.len);
                IpAddr::from(octets)
            }
            IpAddr::V6(addr) => {
                let mut octets = addr.octets();
                clear(&mut octets, self.len);
                IpAddr::from(octets)
            }
        };
        Prefix { addr, len: self.len }
    }

    /// Whether `addr` is of this family and in the network.
    pub fn contains(self, addr: IpAddr) -> bool {
        self.network() == Prefix { addr, len: self.len }.network()
    }

    /// Whether this is an IPv6 prefix.
    pub fn is_ipv6(self) -> bool {
        self.addr.is_ipv6()
    }

    /// Whether this is the whole address space of its family.
    pub fn is_default(self) -> bool {
        self.len == 0
    }
}

fn bits(addr: IpAddr) -> u8 {
    if addr.is_ipv6() { 128 } else { 32 }
}

/// Clears all bits behind the first `len`.
fn clear(octets: &mut [u8], len: u8) {
    let mut left = len;
    for octet in octets {
        *octet &= !(0xff_u16 >> left.min(8)) as u8;
        left = left.saturating_sub(8);
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.len)
    }
}

impl ParsePrefixError {
    /// In words.
    pub fn as_str(self) -> &'static str {
        "a prefix is ADDRESS/LENGTH, such as 192.0.2.1/24 or 2001:db8::1/64"
    }
}

/// A text that is no prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParsePrefixError;

impl fmt::Display for ParsePrefixError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl core::error::Error for ParsePrefixError {}

impl FromStr for Prefix {
    type Err = ParsePrefixError;
    /// `ADDRESS/LENGTH`, or an address alone, which is the host.
    fn from_str(text: &str) -> Result<Prefix, ParsePrefixError> {
        let (addr, len) = match cut(text, b'/') {
            Some((addr, len)) => (addr, Some(len)),
            None => (text, None),
        };
        let addr = ip(addr).ok_or(ParsePrefixError)?;
        let most = bits(addr);
        let len = match len {
            Some(len) => decimal(len).filter(|len| *len <= u32::from(most)).ok_or(ParsePrefixError)? as u8,
            None => most,
        };
        Ok(Prefix { addr, len })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_the_address_without_its_host_bits() {
        let p: Prefix = "192.0.2.77/24".parse().unwrap();
        assert_eq!(p.network().to_string(), "192.0.2.0/24");
        let p: Prefix = "2001:db8::77/64".parse().unwrap();
        assert_eq!(p.network().to_string(), "2001:db8::/64");
        assert_eq!("::1/0".parse::<Prefix>().unwrap().network(), Prefix::DEFAULT_V6);
        for len in 0..=128u8 {
            let bits = !u128::MAX.checked_shr(u32::from(len)).unwrap_or(0);
            assert_eq!(
                Prefix::new(Ipv6Addr::from(u128::MAX), len).network().addr,
                Ipv6Addr::from(bits),
                "{len}"
            );
            let bits = !u32::MAX.checked_shr(u32::from(len)).unwrap_or(0);
            assert_eq!(
                Prefix::new(Ipv4Addr::from(u32::MAX), len).network().addr,
                Ipv4Addr::from(bits),
                "{len}"
            );
        }
        assert_eq!("10.0.0.1".parse::<Prefix>().unwrap().to_string(), "10.0.0.1/32");
    }

    #[test]
    fn a_prefix_contains_its_own_family_only() {
        assert!(Prefix::DEFAULT_V4.contains("192.0.2.1".parse().unwrap()));
        assert!(!Prefix::DEFAULT_V4.contains("::1".parse().unwrap()));
        assert!(!Prefix::LINK_LOCAL.contains("fe80:0:0:1::1".parse().unwrap()));
    }

    #[test]
    fn what_is_no_prefix_is_refused() {
        for text in ["", "x", "1.2.3.4/33", "::/129", "1.2.3.4/", "1.2.3.4/+1", "1.2.3/8"] {
            assert_eq!(text.parse::<Prefix>(), Err(ParsePrefixError), "{text:?}");
        }
    }
}
