//! `option strict`: what the tunnels' names resolve to is put into the guard's sets, before the resolver gives the answer away.
//!
//! The names are also looked up by us, whenever the uplink's resolver has come to know whom to ask: a tunnel that was up before we were (or
//! before the config became strict) may never ask again, and would be cut off.

use alloc::string::String;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use narrowgate_forwarder::engine::wire_name;
use narrowgate_kernel::Real;
use narrowgate_model::Config;
use narrowgate_model::Gather;
use narrowgate_model::nft::Set;
use narrowgate_model::peers::is_host;
use narrowgate_sys::{io, socket};
use rustix::fd::OwnedFd;
use rustix::net::SendFlags;

/// Whether the guard lets marked packets go to these addresses from now on.
pub struct Admission {
    problem: Option<String>,
}

impl Admission {
    /// Nothing has gone wrong yet.
    pub fn new() -> Admission {
        Admission { problem: None }
    }

    /// Puts them into the sets. False, and once a line in the log, if that cannot be done.
    pub fn let_in(&mut self, kernel: &mut Real, addrs: &[IpAddr]) -> bool {
        let hosts: Vec<IpAddr> = addrs.iter().copied().filter(is_host).gather();
        if hosts.is_empty() {
            return true;
        }
        let why = "strict: a peer's address cannot be let out, so its name is not answered: ";
        let problem = kernel.add_elements(&hosts, Set::TIMEOUT).err().map(|e| [why, &e.to_string()].concat());
        if let Some(message) = problem.as_ref().filter(|_| self.problem != problem) {
            log::error!("{message}");
        }
        self.problem = problem;
        self.problem.is_none()
    }

    /// What went wrong the last time.
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }
}

/// Asks the resolver that listens there for the addresses of all peers. Its answers are nobody's: what counts is that the addresses in them
/// come to [`Admission::let_in`].
pub fn look_up_peers(config: &Config, listen: SocketAddr) {
    if let Err(error) = ask_for_peers(config, listen) {
        log::debug!("strict: the peers' names cannot be looked up ahead: {error}");
    }
}

fn ask_for_peers(config: &Config, listen: SocketAddr) -> io::Result<()> {
    let socket = socket_to(listen)?;
    for name in config.peer_names().filter_map(wire_name) {
        for qtype in [A, AAAA] {
            rustix::net::send(&socket, &question(&name, qtype), SendFlags::empty())?;
        }
    }
    Ok(())
}

/// A UDP socket for this destination, for which there is a route: connect(2) looks it up, and sends nothing.
pub fn socket_to(to: SocketAddr) -> io::Result<OwnedFd> {
    let any = if to.is_ipv6() { SocketAddr::from(([0u16; 8], 0)) } else { SocketAddr::from(([0u8; 4], 0)) };
    let socket = socket::udp(any)?;
    rustix::net::connect(&socket, &to)?;
    Ok(socket)
}

/// A recursive query (RFC 1035, 4.1). Nobody but this host sees it: the id need not be random.
pub fn question(name: &[u8], qtype: u8) -> Vec<u8> {
    let mut message = vec![0, qtype, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    message.extend_from_slice(name);
    message.extend_from_slice(&[0, qtype, 0, 1]);
    message
}

/// The types of records that hold an address (RFC 1035, RFC 3596).
pub const A: u8 = 1;
/// See [`A`].
pub const AAAA: u8 = 28;

#[cfg(test)]
mod tests {
    use super::*;
    use narrowgate_forwarder::message::Query;

    #[test]
    fn the_question_is_one_that_the_resolver_takes() {
        let message = question(&wire_name("vpn.example.net").unwrap(), AAAA);
        let query = Query::parse(&message).unwrap();
        assert_eq!((query.qtype, query.class, query.question_end), (28, 1, message.len()));
    }
}
