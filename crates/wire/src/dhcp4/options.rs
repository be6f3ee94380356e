//! The options of a DHCP message (RFC 2132), read leniently: what is malformed is as if it were not there.

use crate::domain::push_label;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

/// The areas of a message that hold options: the options field, and `file` and `sname` where option 52 says so.
pub(super) struct Options<'a> {
    areas: [&'a [u8]; 3],
}

impl<'a> Options<'a> {
    /// `None`: the message is too short or has no magic cookie.
    pub(super) fn new(message: &'a [u8]) -> Option<Options<'a>> {
        let field = message.get(COOKIE..)?.strip_prefix(&MAGIC)?;
        let mut options = Options { areas: [field, &[], &[]] };
        let overload = options.byte(OVERLOAD).unwrap_or(0);
        if overload & 1 != 0 {
            options.areas[1] = message.get(FILE..COOKIE)?;
        }
        if overload & 2 != 0 {
            options.areas[2] = message.get(SNAME..FILE)?;
        }
        Some(options)
    }

    /// The option's content; an option in several parts is put together (RFC 3396).
    pub(super) fn get(&self, wanted: u8) -> Option<Vec<u8>> {
        let mut found: Option<Vec<u8>> = None;
        for area in self.areas {
            let mut rest = area;
            while let Some((&code, after)) = rest.split_first() {
                rest = after;
                match code {
                    PAD => continue,
                    END => break,
                    _ => {}
                }
                let Some((&len, after)) = rest.split_first() else { break };
                let Some((content, after)) = after.split_at_checked(usize::from(len)) else { break };
                rest = after;
                if code == wanted {
                    found.get_or_insert_default().extend(content);
                }
            }
        }
        found
    }

    pub(super) fn byte(&self, code: u8) -> Option<u8> {
        match *self.get(code)? {
            [byte] => Some(byte),
            _ => None,
        }
    }

    pub(super) fn word(&self, code: u8) -> Option<u16> {
        Some(u16::from_be_bytes(self.get(code)?.try_into().ok()?))
    }

    pub(super) fn long(&self, code: u8) -> Option<u32> {
        Some(u32::from_be_bytes(self.get(code)?.try_into().ok()?))
    }

    pub(super) fn address(&self, code: u8) -> Option<Ipv4Addr> {
        Some(Ipv4Addr::from(<[u8; 4]>::try_from(self.get(code)?).ok()?))
    }

    /// A list of addresses; a last one that is cut off is not there.
    pub(super) fn addresses(&self, code: u8) -> Vec<Ipv4Addr> {
        let content = self.get(code).unwrap_or_default();
        content.chunks_exact(4).filter_map(|c| <[u8; 4]>::try_from(c).ok()).map(Ipv4Addr::from).collect()
    }

    /// A text; some servers end it with a zero byte.
    pub(super) fn name(&self, code: u8) -> Option<String> {
        let content = self.get(code)?;
        let text = content.split(|&b| b == 0).next()?;
        let mut name = String::new();
        let whole = text.split(|&b| b == b'.').filter(|l| !l.is_empty()).all(|l| push_label(&mut name, l));
        (whole && !name.is_empty()).then_some(name)
    }

    /// Domain names, compressed as in DNS with pointers into the option (RFC 3397).
    pub(super) fn names(&self, code: u8) -> Vec<String> {
        let content = self.get(code).unwrap_or_default();
        let mut names = Vec::new();
        let mut at = 0;
        while let Some((name, next)) = domain(&content, at) {
            names.push(name);
            at = next;
        }
        names
    }
}

/// The name at `at` and where the next one begins. Pointers must point backwards, so it ends.
fn domain(content: &[u8], mut at: usize) -> Option<(String, usize)> {
    let mut name = String::new();
    let mut next = None;
    loop {
        let len = usize::from(*content.get(at)?);
        match len {
            0 => return (!name.is_empty()).then(|| (name, next.unwrap_or(at + 1))),
            1..64 => {
                let label = content.get(at + 1..at + 1 + len)?;
                if !push_label(&mut name, label) {
                    return None;
                }
                at += 1 + len;
            }
            192.. => {
                let target = (len & 0x3f) << 8 | usize::from(*content.get(at + 1)?);
                if target >= at {
                    return None;
                }
                next = next.or(Some(at + 2));
                at = target;
            }
            _ => return None,
        }
    }
}

pub(super) const SNAME: usize = 44;
pub(super) const FILE: usize = 108;
pub(super) const COOKIE: usize = 236;
pub(super) const MAGIC: [u8; 4] = [99, 130, 83, 99];

const PAD: u8 = 0;
pub(super) const MASK: u8 = 1;
pub(super) const ROUTER: u8 = 3;
pub(super) const DNS: u8 = 6;
pub(super) const DOMAIN: u8 = 15;
pub(super) const MTU: u8 = 26;
pub(super) const BROADCAST: u8 = 28;
pub(super) const STATIC_ROUTES: u8 = 33;
pub(super) const REQUESTED: u8 = 50;
pub(super) const LEASE_TIME: u8 = 51;
const OVERLOAD: u8 = 52;
pub(super) const MESSAGE_TYPE: u8 = 53;
pub(super) const SERVER_ID: u8 = 54;
pub(super) const PARAMETERS: u8 = 55;
pub(super) const MAX_SIZE: u8 = 57;
pub(super) const RENEWAL: u8 = 58;
pub(super) const REBINDING: u8 = 59;
pub(super) const CLIENT_ID: u8 = 61;
pub(super) const PORTAL: u8 = 114;
pub(super) const SEARCH: u8 = 119;
pub(super) const CLASSLESS_ROUTES: u8 = 121;
pub(super) const END: u8 = 255;
