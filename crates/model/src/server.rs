//! A DNS server's address.

use crate::ip::ip;
use crate::number::decimal;
use crate::text::cut;
use alloc::borrow::ToOwned;
use alloc::string::String;
use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::str::FromStr;

/// Where to ask: an address, the device it is reached by where that matters, and a port.
#[derive(Debug, Clone, Eq, PartialOrd, Ord)]
pub struct Server {
    /// The address.
    pub addr: IpAddr,
    /// The device (RFC 4007 zone): a name or an index, as it was written. Only link-local addresses need one; others have one
    /// where there are several uplinks.
    pub scope: Option<String>,
    /// The port, 53 unless written.
    pub port: u16,
}

// By hand, so that it is in the program once: what is derived is put wherever servers are looked for.
impl PartialEq for Server {
    #[inline(never)]
    fn eq(&self, other: &Server) -> bool {
        self.port == other.port && self.addr == other.addr && self.scope == other.scope
    }
}

impl Server {
    /// A server on port 53 without a scope.
    pub fn new(addr: impl Into<IpAddr>) -> Server {
        Server { addr: addr.into(), scope: None, port: 53 }
    }

    /// The same server reached by `device`, if its address is link-local and it has no scope yet.
    pub fn scoped(mut self, device: &str) -> Server {
        self.scope_to(device);
        self
    }

    /// [`scoped`](Self::scoped) in place.
    pub fn scope_to(&mut self, device: &str) {
        if self.scope.is_none() && self.is_link_local() {
            self.scope = Some(device.to_owned());
        }
    }

    /// The same server asked by `device` alone, whatever routes there are: two households may have it at the same address.
    /// One on this host is nobody's but its own.
    pub fn over(mut self, device: &str) -> Server {
        if self.scope.is_none() && !self.addr.is_loopback() {
            self.scope = Some(device.to_owned());
        }
        self
    }

    /// Whether the address means something only together with a device.
    pub fn is_link_local(&self) -> bool {
        matches!(self.addr, IpAddr::V6(a) if a.is_unicast_link_local())
    }
}

impl From<SocketAddr> for Server {
    fn from(addr: SocketAddr) -> Server {
        Server { addr: addr.ip(), scope: None, port: addr.port() }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bracket = self.port != 53 && (self.addr.is_ipv6() || self.scope.is_some());
        let (open, close) = if bracket { ("[", "]") } else { ("", "") };
        let (percent, scope) = self.scope.as_ref().map_or(("", ""), |scope| ("%", scope));
        write!(f, "{open}{}{percent}{scope}{close}", self.addr)?;
        if self.port != 53 { write!(f, ":{}", self.port) } else { Ok(()) }
    }
}

/// Why a text is no server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParseServerError {
    /// No IP address where one is needed. Names cannot be used: who would resolve them?
    Address,
    /// The port is no number between 1 and 65535.
    Port,
    /// The device behind `%` is empty, too long, or has characters that no device has.
    Scope,
}

impl ParseServerError {
    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Address => "a server is ADDR, ADDR:PORT, [ADDR%dev]:PORT or ADDR#PORT, with an IP address",
            Self::Port => "the server's port is no number from 1 to 65535",
            Self::Scope => "behind % comes the name of a device",
        }
    }
}

impl fmt::Display for ParseServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl core::error::Error for ParseServerError {}

impl FromStr for Server {
    type Err = ParseServerError;
    /// `ADDR`, `ADDR:PORT`, `[ADDR]`, `[ADDR%dev]:PORT`, `ADDR%dev`, and dnsmasq's `ADDR#PORT`.
    fn from_str(text: &str) -> Result<Server, ParseServerError> {
        let (host, port) = split_port(text)?;
        let (addr, scope) = match cut(host, b'%') {
            Some((addr, scope)) => (addr, Some(scope)),
            None => (host, None),
        };
        let addr = ip(addr).ok_or(ParseServerError::Address)?;
        let scope = match scope {
            Some(name) if !is_device_name(name) => return Err(ParseServerError::Scope),
            Some(name) => Some(name.to_owned()),
            None => None,
        };
        Ok(Server { addr, scope, port })
    }
}

fn split_port(text: &str) -> Result<(&str, u16), ParseServerError> {
    let (host, port) = if let Some((host, port)) = cut(text, b'#') {
        (unbracket(host)?, port)
    } else if let Some(rest) = text.strip_prefix('[') {
        match cut(rest, b']').ok_or(ParseServerError::Address)? {
            (host, "") => return Ok((host, 53)),
            (host, port) => (host, port.strip_prefix(':').ok_or(ParseServerError::Address)?),
        }
    } else {
        // One colon is a port, more are an IPv6 address.
        match cut(text, b':') {
            Some((host, port)) if !port.contains(':') && !host.contains('%') => (host, port),
            _ => return Ok((text, 53)),
        }
    };
    Ok((host, parse_port(port)?))
}

fn unbracket(text: &str) -> Result<&str, ParseServerError> {
    match text.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').ok_or(ParseServerError::Address),
        None => Ok(text),
    }
}

fn parse_port(text: &str) -> Result<u16, ParseServerError> {
    match decimal(text).map(u16::try_from) {
        Some(Ok(port)) if port > 0 => Ok(port),
        _ => Err(ParseServerError::Port),
    }
}

/// Whether the kernel could have a device of this name (`dev_valid_name`, `IFNAMSIZ` 16 with its zero byte).
pub fn is_device_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() < 16
        && name != "."
        && name != ".."
        && name.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'/' | b':' | b'%' | b'[' | b']'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_a_server_is_read_and_written_back() {
        for (text, shown) in [
            ("192.0.2.53", "192.0.2.53"),
            ("192.0.2.53:5353", "192.0.2.53:5353"),
            ("192.0.2.53#5353", "192.0.2.53:5353"),
            ("192.0.2.53:53", "192.0.2.53"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:54", "[2001:db8::1]:54"),
            ("2001:db8::1#54", "[2001:db8::1]:54"),
            ("fe80::1%wan", "fe80::1%wan"),
            ("[fe80::1%wan]:54", "[fe80::1%wan]:54"),
            ("fe80::1%wan#54", "[fe80::1%wan]:54"),
            ("::1", "::1"),
        ] {
            let server: Server = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(server.to_string(), shown);
            assert_eq!(shown.parse::<Server>().unwrap(), server);
        }
    }

    #[test]
    fn what_is_no_server_is_refused_with_its_reason() {
        use ParseServerError::*;
        for (text, why) in [
            ("", Address),
            ("dns.example.net", Address),
            ("192.0.2.53:0", Port),
            ("192.0.2.53:65536", Port),
            ("192.0.2.53#x", Port),
            ("[::1]:", Port),
            ("[::1", Address),
            ("fe80::1%", Scope),
            ("fe80::1%a/b", Scope),
            ("fe80::1%averyverylongname", Scope),
            ("192.0.2.1%wan:53", Scope),
        ] {
            assert_eq!(text.parse::<Server>(), Err(why), "{text:?}");
        }
    }

    #[test]
    fn one_of_several_uplinks_is_told_for_every_server_but_this_hosts() {
        let over = |text: &str| text.parse::<Server>().unwrap().over("usb0").to_string();
        assert_eq!(over("192.168.1.1"), "192.168.1.1%usb0");
        assert_eq!(over("[2001:db8::1]:54"), "[2001:db8::1%usb0]:54");
        assert_eq!(over("fe80::1%wan"), "fe80::1%wan");
        assert_eq!(over("127.0.0.1:54"), "127.0.0.1:54");
    }

    #[test]
    fn only_link_local_servers_get_a_scope() {
        assert_eq!("fe80::1".parse::<Server>().unwrap().scoped("wan").to_string(), "fe80::1%wan");
        assert_eq!("2001:db8::1".parse::<Server>().unwrap().scoped("wan").to_string(), "2001:db8::1");
    }
}
