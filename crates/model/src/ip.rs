//! Addresses as people and programs write them: what the standard library's readers take, in a quarter of their code.

use crate::number::{decimal, value};
use crate::text::{cut, cut_last};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// An IP address, without a scope and without brackets.
pub fn ip(text: &str) -> Option<IpAddr> {
    match text.as_bytes().contains(&b':') {
        true => ipv6(text).map(|bits| IpAddr::V6(Ipv6Addr::from(bits))),
        false => ipv4(text).map(|bits| IpAddr::V4(Ipv4Addr::from(bits))),
    }
}

/// `ADDR:PORT`, `[ADDR]:PORT` or `[ADDR%INDEX]:PORT`.
pub fn socket_address(text: &str) -> Option<SocketAddr> {
    let (addr, port) = cut_last(text, b':')?;
    let port = decimal(port)?.try_into().ok()?;
    let Some(addr) = addr.strip_prefix('[') else {
        return Some(SocketAddr::new(Ipv4Addr::from(ipv4(addr)?).into(), port));
    };
    let addr = addr.strip_suffix(']')?;
    let (addr, scope) = match cut(addr, b'%') {
        Some((addr, scope)) => (addr, decimal(scope)?),
        None => (addr, 0),
    };
    Some(SocketAddrV6::new(Ipv6Addr::from(ipv6(addr)?), port, 0, scope).into())
}

fn ipv4(text: &str) -> Option<u32> {
    let (mut bits, mut parts) = (0, 0);
    for part in text.split('.') {
        let octal = matches!(part.as_bytes(), [b'0', _, ..]); // by some readers
        bits = bits << 8 | decimal(part).filter(|part| *part < 256 && !octal)?;
        parts += 1;
    }
    (parts == 4).then_some(bits)
}

fn ipv6(text: &str) -> Option<u128> {
    // At an end, `::` is one empty group here as it is in the middle, and `:` is none.
    let (start, end) = match text.as_bytes() {
        b"::" => (1, 1),
        [b':', b':', ..] => (1, 0),
        [.., b':', b':'] => (0, 1),
        [] | [b':', ..] | [.., b':'] => return None,
        _ => (0, 0),
    };
    let (mut bits, mut groups) = (0, 0u32);
    let mut head = None;
    let mut parts = text.get(start..text.len() - end)?.split(':');
    while let Some(part) = parts.next() {
        if part.is_empty() {
            if head.replace((bits, groups)).is_some() {
                return None;
            }
            bits = 0;
        } else if let Some(ipv4) = ipv4(part) {
            if parts.next().is_some() {
                return None;
            }
            bits = bits << 32 | u128::from(ipv4);
            groups += 2;
        } else {
            let group = value(part.as_bytes(), 16).filter(|_| part.len() <= 4)?;
            bits = bits << 16 | u128::from(group);
            groups += 1;
        }
    }
    match head {
        None => (groups == 8).then_some(bits),
        Some((head, before)) if groups < 8 => Some(bits | head.checked_shl(128 - 16 * before).unwrap_or(0)),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All short rows of these pieces, and whatever is made of longer ones.
    const PIECES: [&str; 12] =
        [":", "::", "1", "0", "fe80", ".", "1.2.3.4", "255", "00ab", "12345", "256", "%1"];

    fn same(text: &str) {
        assert_eq!(ip(text), text.parse().ok(), "{text:?}");
        for port in ["53", "", "65536", "+1", "0053"] {
            for text in [format!("{text}:{port}"), format!("[{text}]:{port}")] {
                assert_eq!(socket_address(&text), text.parse().ok(), "{text:?}");
            }
        }
    }

    #[test]
    fn what_is_read_is_what_the_standard_library_reads() {
        let mut rows = vec![String::new()];
        for _ in 0..4 {
            rows = rows.iter().flat_map(|row| PIECES.map(|piece| format!("{row}{piece}"))).collect();
            rows.iter().for_each(|row| same(row));
        }
        for text in [
            "",
            "1:2:3:4:5:6:7:8",
            "1:2:3:4:5:6:7:8:9",
            "1:2:3:4:5:6:7",
            "1:2:3:4:5:6:1.2.3.4",
            "1:2:3:4:5:6:7:1.2.3.4",
            "::1:2:3:4:5:6:7",
            "::1:2:3:4:5:6:7:8",
            "1:2:3:4:5:6:7::",
            "1:2:3:4:5:6:7:8::",
            "1::2:3:4:5:6:7",
            "1:2:3::6:7:8",
            "::1.2.3.4",
            "::ffff:192.0.2.1",
            "1::1.2.3.4:5",
            "::ffff:1.2.3",
            "ABCD::EF",
            "g::",
            " ::1",
            "::1 ",
            "fe80::1%eth0",
            "1.2.3.4.5",
            "1.2.3.",
            "01.2.3.4",
            "١.2.3.4",
            "-1.2.3.4",
            "0x1.2.3.4",
        ] {
            same(text);
        }
    }
}
