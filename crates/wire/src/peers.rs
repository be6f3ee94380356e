//! The file in which the addresses that the peers' names resolved to outlive a reboot.
//!
//! ```text
//! narrowgate peers 1
//! vpn.example.net 198.51.100.1 2001:db8::1
//! sum: 90ab12cd
//! ```
//!
//! It is read by the program that wrote it, or dropped: whatever is not to the last byte as it would be written is somebody else's or damaged.

use crate::config::is_dns_name;
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;
use core::net::IpAddr;
use narrowgate_model::ip;
use narrowgate_model::peers::{MOST_ADDRESSES, MOST_NAMES, is_host};

/// A peer's name as it is in the config, and where it was found.
pub type Peer = (String, Vec<IpAddr>);

/// The longest file that is written.
pub const MAX_FILE: usize = 64 * 1024;

/// The file's text. Names and addresses beyond those that are remembered are left out, and so are names without any.
pub fn format(peers: &[Peer]) -> String {
    let mut text = HEADER.to_owned();
    for (name, addresses) in peers.iter().filter(|(_, addresses)| !addresses.is_empty()).take(MOST_NAMES) {
        text.push_str(name);
        for addr in addresses.iter().take(2 * MOST_ADDRESSES) {
            let _ = write!(text, " {addr}");
        }
        text.push('\n');
    }
    let sum = sum(text.as_bytes());
    let _ = writeln!(text, "{SUM}{sum:08x}");
    text
}

/// What the file says.
///
/// # Errors
/// What is wrong with it, in a few words. Nothing of it is to be believed then.
pub fn parse(bytes: &[u8]) -> Result<Vec<Peer>, &'static str> {
    let rest = bytes.strip_prefix(HEADER.as_bytes()).ok_or("it is of another kind or version")?;
    let read = || -> Option<Vec<Peer>> {
        let text = core::str::from_utf8(rest).ok().filter(|_| bytes.len() <= MAX_FILE)?;
        let mut peers = Vec::new();
        for line in text.lines().take_while(|line| !line.starts_with(SUM)) {
            let mut words = line.split(' ');
            let name = words.next().filter(|name| is_dns_name(name))?;
            let mut addresses = Vec::new();
            for word in words {
                addresses.push(ip(word).filter(is_host)?);
            }
            peers.push((name.to_owned(), addresses));
        }
        Some(peers)
    };
    read().filter(|peers| format(peers).as_bytes() == bytes).ok_or("it is damaged")
}

/// FNV-1a. Not against anybody who would write here, but against what a power failure leaves; no change of a single byte goes unseen.
fn sum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |sum, byte| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

const HEADER: &str = "narrowgate peers 1\n";
const SUM: &str = "sum: "; // no name has a colon
