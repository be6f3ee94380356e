//! The sockets of this network namespace with their marks, as the kernel tells them (sock_diag(7), inet_diag): what a
//! program set itself, what a preloaded library set and what a cgroup program set look alike here.
//!
//! The kernel lists what has a port: a UDP socket that has sent nothing and is bound to nothing, and a TCP socket that was
//! never connected, are not there. Nor are datagram sockets of ICMP, nor, without CONFIG_INET_RAW_DIAG, raw ones.

mod message;
#[cfg(test)]
mod tests;

use crate::Error;
use alloc::vec::Vec;
use core::net::SocketAddr;
use narrowgate_model::Gather;
use narrowgate_sys::netlink::{Protocol, Socket};

/// A socket of AF_INET or AF_INET6.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InetSocket {
    /// What it speaks.
    pub transport: Transport,
    /// Its own address, unspecified if it is not bound to one. IPv4 in an IPv6 socket is IPv4 here. The port of a raw
    /// socket is its protocol number.
    pub local: SocketAddr,
    /// To whom it is connected.
    pub remote: Option<SocketAddr>,
    /// Whether it waits for connections.
    pub listens: bool,
    /// Index of the device that it is bound to.
    pub device: Option<u32>,
    /// Its number, as in the links of /proc/PID/fd; 0 if no process has it any more.
    pub inode: u64,
    /// `SO_MARK`; `None` if the kernel does not tell us, for want of CAP_NET_ADMIN.
    pub mark: Option<u32>,
}

/// What a socket speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// Any protocol of IP (raw(7)).
    Raw,
}

/// All that the kernel lists: TCP and UDP, IPv4 and IPv6, and raw ones where it knows how.
///
/// # Errors
/// When the kernel cannot list sockets: CONFIG_INET_DIAG or CONFIG_INET_UDP_DIAG is missing.
pub fn all() -> Result<Vec<InetSocket>, Error> {
    let mut socket = Socket::open(Protocol::SockDiag)
        .map_err(|e| Error::io(format_args!("opening a netlink socket for sock_diag"), &e))?;
    let mut found = Vec::new();
    for transport in [Transport::Tcp, Transport::Udp, Transport::Raw] {
        for ipv6 in [false, true] {
            match socket.dump(message::SOCK_DIAG_BY_FAMILY, &message::request(transport, ipv6)) {
                Ok(dump) => {
                    dump.messages().filter_map(|m| message::decode(transport, m.body)).add_to(&mut found)
                }
                Err(e) if transport == Transport::Raw && e.errno == ENOENT => {} // not built in
                Err(e) => {
                    let thing = format_args!(
                        "listing sockets (CONFIG_INET_DIAG, CONFIG_INET_UDP_DIAG; OpenWrt: kmod-inet-diag)"
                    );
                    return Err(Error::refused(thing, &e));
                }
            }
        }
    }
    Ok(found)
}

const ENOENT: i32 = 2;
