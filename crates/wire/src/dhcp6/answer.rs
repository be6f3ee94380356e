//! What a server answers. Read leniently: an option that makes no sense is as if it were not there.

use super::*;
use crate::ra::{domains, portal};
use alloc::string::String;
use alloc::vec::Vec;

/// An Advertise or a Reply that is for us. Times are seconds; `u32::MAX` is infinity.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// An offer (Advertise), no grant (Reply).
    pub advertise: bool,
    /// Who answers.
    pub server: Vec<u8>,
    /// [`status`] of the message as a whole.
    pub status: u16,
    /// A Solicit was granted at once.
    pub rapid_commit: bool,
    /// What is said of our identity association. One whose T1 is behind its T2 is as if it were not there.
    pub ia: Option<Ia>,
    /// DNS servers, the best first.
    pub dns: Vec<Ipv6Addr>,
    /// Search domains.
    pub search: Vec<String>,
    /// Where the API of a captive portal is asked (RFC 8910).
    pub portal: Option<String>,
    /// After how long information that came without an address should be asked for again.
    pub refresh: Option<u32>,
    /// The longest gap between two Solicits.
    pub most_solicit: Option<u32>,
    /// The longest gap between two Information-requests.
    pub most_inform: Option<u32>,
}

/// An identity association (RFC 8415, 21.4).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ia {
    /// T1: from then on to be extended by the server that lent it; 0: as the client likes.
    pub renew: u32,
    /// T2: from then on to be extended by any server; 0: as the client likes.
    pub rebind: u32,
    /// [`status`] of the association.
    pub status: u16,
    /// The addresses; those of them that can be used.
    pub addresses: Vec<Lent>,
}

/// An address with its lifetimes; preferred is not longer than valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lent {
    /// The address.
    pub address: Ipv6Addr,
    /// How long it may be used for new connections.
    pub preferred: u32,
    /// How long it is ours; 0: not any more.
    pub valid: u32,
}

/// The message is no answer to this client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Too short, not a server's, or without the server's identifier.
    Malformed,
    /// For another client, or to another question.
    Foreign,
}

/// Reads an answer to what was sent with `xid`. `client` is who asked, whom the answer has to name; none for an
/// Information-request, which does not tell.
pub fn parse(message: &[u8], xid: u32, client: Option<[u8; 6]>) -> Result<Answer, Refused> {
    let (&[kind, a, b, c], options) = message.split_first_chunk::<4>().ok_or(Refused::Malformed)?;
    let mut answer = Answer { advertise: kind == ADVERTISE, ..Answer::default() };
    if !matches!(kind, ADVERTISE | REPLY) {
        return Err(Refused::Malformed);
    }
    if u32::from_be_bytes([0, a, b, c]) != xid & 0xff_ffff {
        return Err(Refused::Foreign);
    }
    let mut named = None;
    for (code, content) in Options(options) {
        match code {
            CLIENT_ID => named = Some(content),
            SERVER_ID if (1..=MAX_ID).contains(&content.len()) => answer.server = content.to_vec(),
            STATUS => answer.status = short(content).unwrap_or_default(),
            RAPID_COMMIT => answer.rapid_commit = true,
            IA_NA if answer.ia.is_none() => {
                answer.ia = client.and_then(|mac| association(content, iaid(mac)))
            }
            DNS => {
                let addresses = content.chunks_exact(16).filter_map(|c| <[u8; 16]>::try_from(c).ok());
                answer.dns.extend(addresses.map(Ipv6Addr::from).filter(|a| askable(*a)));
            }
            SEARCH => answer.search.extend(domains(content)),
            PORTAL => answer.portal = portal(content),
            REFRESH => answer.refresh = long(content),
            MOST_SOLICIT => answer.most_solicit = long(content),
            MOST_INFORM => answer.most_inform = long(content),
            _ => {}
        }
    }
    if answer.server.is_empty() {
        return Err(Refused::Malformed);
    }
    let ours = client.is_none_or(|mac| named == Some(&duid(mac)[..]));
    if ours { Ok(answer) } else { Err(Refused::Foreign) }
}

fn association(content: &[u8], id: [u8; 4]) -> Option<Ia> {
    let (head, options) = content.split_first_chunk::<12>()?;
    let (told, times) = head.split_first_chunk::<4>()?;
    let (renew, rebind) = (long(times)?, long(times.get(4..)?)?);
    if *told != id || rebind != 0 && renew > rebind {
        return None;
    }
    let mut ia = Ia { renew, rebind, ..Ia::default() };
    for (code, content) in Options(options) {
        match code {
            STATUS => ia.status = short(content).unwrap_or_default(),
            ADDRESS if ia.addresses.len() < MAX_ADDRESSES => ia.addresses.extend(lent(content)),
            _ => {}
        }
    }
    Some(ia)
}

fn lent(content: &[u8]) -> Option<Lent> {
    let (address, times) = content.split_first_chunk::<16>()?;
    let (address, preferred, valid) = (Ipv6Addr::from(*address), long(times)?, long(times.get(4..)?)?);
    let refused = Options(times.get(8..)?)
        .any(|(code, content)| code == STATUS && short(content).is_some_and(|s| s != status::SUCCESS));
    let usable = askable(address) && !address.is_unicast_link_local() && preferred <= valid;
    (usable && !refused).then_some(Lent { address, preferred, valid })
}

/// One option after the other; one that is cut off ends them.
struct Options<'a>(&'a [u8]);

impl<'a> Iterator for Options<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (&[code_hi, code_lo, len_hi, len_lo], rest) = self.0.split_first_chunk::<4>()?;
        let (content, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([len_hi, len_lo])))?;
        self.0 = rest;
        Some((u16::from_be_bytes([code_hi, code_lo]), content))
    }
}

fn askable(addr: Ipv6Addr) -> bool {
    !(addr.is_unspecified() || addr.is_loopback() || addr.is_multicast())
}

fn short(bytes: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.first_chunk()?))
}

fn long(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.first_chunk()?))
}

const ADVERTISE: u8 = 2;
const REPLY: u8 = 7;
/// The longest identifier (RFC 8415, 11.1): a type of two bytes and 128 more.
const MAX_ID: usize = 130;
/// One is the rule.
const MAX_ADDRESSES: usize = 4;
