//! The sockets of the builtin provider: open only as long as they are needed, never a reason to stop.

use super::dhcp4::{Phase, Send};
use alloc::{
    borrow::ToOwned,
    string::{String, ToString},
    vec::Vec,
};
use core::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use narrowgate_model::Mark;
use narrowgate_model::config::Uplink;
use narrowgate_model::net::Link;
use narrowgate_sys::io;
use narrowgate_sys::packet::{Interest, PacketSocket, Received, marked_udp};
use narrowgate_wire::dhcp4::{self, CLIENT_PORT, SERVER_PORT};
use narrowgate_wire::dhcp6;
use narrowgate_wire::ra::{self, RouterAdvert};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

/// All of them, and what went wrong with them.
pub(super) struct Sockets {
    uplink: String,
    device: String,
    mark: Mark,
    /// Whether the device has Ethernet addresses.
    ethernet: bool,
    adverts: Option<PacketSocket>,
    dhcp: Option<PacketSocket>,
    /// With the address that it is bound to.
    extend: Option<(Ipv4Addr, OwnedFd)>,
    dhcp6: Option<(SocketAddrV6, OwnedFd)>,
    arp: Option<(Ipv4Addr, PacketSocket)>,
    dropped: u64,
    /// What does not work now, and why.
    troubles: Vec<(&'static str, String)>,
}

/// What the machines want to hear.
pub(super) struct Needs {
    /// The DHCPv4 client's phase.
    pub(super) dhcp: Phase,
    /// The link-local address that DHCPv6 is to be spoken from.
    pub(super) dhcp6: Option<Ipv6Addr>,
    /// The leased IPv4 address that is watched for conflicts.
    pub(super) arp: Option<Ipv4Addr>,
}

impl Sockets {
    pub(super) fn new(uplink: &Uplink, mark: Mark) -> Sockets {
        Sockets {
            uplink: uplink.name.clone(),
            device: uplink.device.clone(),
            mark,
            ethernet: false,
            adverts: None,
            dhcp: None,
            extend: None,
            dhcp6: None,
            arp: None,
            dropped: 0,
            troubles: Vec::new(),
        }
    }

    /// Closes all: the device is another one.
    pub(super) fn close(&mut self) {
        self.adverts = None;
        self.dhcp = None;
        self.extend = None;
        self.dhcp6 = None;
        self.arp = None;
    }

    /// Opens and closes them as the link and the machines want it.
    pub(super) fn keep(&mut self, link: Option<&Link>, needs: Needs) {
        let phase = needs.dhcp;
        self.ethernet = link.is_some_and(|l| l.mac.is_some());
        let up = link.filter(|l| l.up).map(|l| l.index);
        let asking = !matches!(phase, Phase::Idle | Phase::Bound | Phase::Renewing);
        for (wanted, interest) in
            [(up, Interest::RouterAdverts), (up.filter(|_| asking), Interest::DhcpClient)]
        {
            let socket = match interest {
                Interest::RouterAdverts => &mut self.adverts,
                _ => &mut self.dhcp,
            };
            match wanted {
                None => *socket = None,
                Some(index) if socket.is_none() => {
                    let opened = PacketSocket::open(index, interest).map(|open| *socket = Some(open));
                    self.outcome("packet socket (needs CAP_NET_RAW)", opened);
                }
                Some(_) => {}
            }
        }
        if !matches!(phase, Phase::Renewing | Phase::Rebinding) {
            self.extend = None;
        }
        let local = needs
            .dhcp6
            .zip(up)
            .map(|(address, index)| SocketAddrV6::new(address, dhcp6::CLIENT_PORT, 0, index));
        if self.dhcp6.as_ref().map(|(local, _)| *local) != local {
            self.dhcp6 = None;
            if let Some(local) = local {
                // The scope of a link-local address binds it to the device. It is unmarked: housekeeping.
                let opened = narrowgate_sys::socket::udp(local.into())
                    .map(|socket| self.dhcp6 = Some((local, socket)));
                self.outcome("DHCPv6 socket", opened);
            }
        }
        let watched = needs.arp.zip(up).filter(|_| self.ethernet);
        if self.arp.as_ref().map(|(address, _)| *address) != watched.map(|(address, _)| address) {
            self.arp = None;
            if let Some((address, index)) = watched {
                let opened = PacketSocket::open(index, Interest::ArpFrom(address))
                    .map(|open| self.arp = Some((address, open)));
                self.outcome("ARP socket (needs CAP_NET_RAW)", opened);
            }
        }
    }

    /// Sends a Router Solicitation, a whole packet.
    pub(super) fn solicit(&mut self, packet: &[u8]) {
        let mac = self.ethernet.then_some(ra::packet::ALL_ROUTERS_MAC);
        if let Some(sent) = self.adverts.as_ref().map(|socket| socket.send(packet, mac)) {
            self.outcome("router solicitation", sent);
        }
    }

    /// Sends a DHCP message. The client asks again in time, whatever comes of it.
    pub(super) fn dhcp(&mut self, message: Send) {
        match message {
            Send::Broadcast(source, message) => {
                let packet = dhcp4::packet::broadcast(source, &message);
                let mac = self.ethernet.then_some([0xff; 6]);
                if let Some(sent) = self.dhcp.as_ref().map(|socket| socket.send(&packet, mac)) {
                    self.outcome("DHCP broadcast", sent);
                }
            }
            Send::Unicast(source, server, message) => {
                let sent = self.extend(source, server, &message);
                self.outcome("DHCP to the server", sent);
            }
        }
    }

    /// Sends a DHCPv6 message to all servers.
    pub(super) fn dhcp6(&mut self, message: &[u8]) {
        if let Some((local, socket)) = &self.dhcp6 {
            let to = SocketAddrV6::new(dhcp6::SERVERS, dhcp6::SERVER_PORT, 0, local.scope_id());
            let sent = rustix::net::sendto(socket, message, SEND, &to).map(|_| ()).map_err(io::Error::from);
            self.outcome("DHCPv6", sent);
        }
    }

    /// Sends an ARP packet to everybody.
    pub(super) fn arp(&mut self, packet: &[u8]) {
        if let Some((_, socket)) = &self.arp {
            let sent = socket.send(packet, Some([0xff; 6]));
            self.outcome("ARP", sent);
        }
    }

    /// By the marked socket; without the mark nothing is sent.
    fn extend(&mut self, source: Ipv4Addr, server: Ipv4Addr, message: &[u8]) -> io::Result<()> {
        let local = SocketAddrV4::new(source, CLIENT_PORT);
        let socket = match self.extend.take().filter(|(bound, _)| *bound == source) {
            Some((_, socket)) => socket,
            None => marked_udp(local, &self.device, self.mark.apply(0))?,
        };
        let (_, socket) = self.extend.insert((source, socket));
        rustix::net::sendto(socket, message, SEND, &SocketAddrV4::new(server, SERVER_PORT))?;
        Ok(())
    }

    /// Hands over the advertisements that have come.
    pub(super) fn read_adverts(&mut self, mut each: impl FnMut(Ipv6Addr, &RouterAdvert)) {
        let mut buffer = [0; BUFFER];
        for _ in 0..BATCH {
            let Some(got) = self.adverts.as_ref().and_then(|s| received(s.recv(&mut buffer))) else { return };
            let packet = buffer.get(..got.len).unwrap_or_default();
            let advert = ra::packet::open(packet, got.checksummed)
                .and_then(|(source, message)| Ok((source, ra::parse(message)?)));
            match advert {
                Ok((source, advert)) => each(source, &advert),
                Err(_) => self.dropped += 1,
            }
        }
    }

    /// Hands over the messages that have come to the DHCP client's port.
    pub(super) fn read_dhcp(&mut self, mut each: impl FnMut(&[u8])) {
        let mut buffer = [0; BUFFER];
        for _ in 0..BATCH {
            let Some(got) = self.dhcp.as_ref().and_then(|s| received(s.recv(&mut buffer))) else { break };
            let packet = buffer.get(..got.len).unwrap_or_default();
            match dhcp4::packet::open(packet, got.checksummed) {
                Some(message) => each(message),
                None => self.dropped += 1,
            }
        }
        for _ in 0..BATCH {
            let Some((_, socket)) = &self.extend else { return };
            let Some(len) = datagram(socket, &mut buffer) else { return };
            buffer.get(..len).into_iter().for_each(&mut each);
        }
    }

    /// Hands over the messages that have come to the DHCPv6 client's port.
    pub(super) fn read_dhcp6(&self, mut each: impl FnMut(&[u8])) {
        let mut buffer = [0; BUFFER];
        for _ in 0..BATCH {
            let Some((_, socket)) = &self.dhcp6 else { return };
            let Some(len) = datagram(socket, &mut buffer) else { return };
            buffer.get(..len).into_iter().for_each(&mut each);
        }
    }

    /// Hands over the ARP packets from the watched address.
    pub(super) fn read_arp(&self, mut each: impl FnMut(&[u8])) {
        let mut buffer = [0; 64];
        for _ in 0..BATCH {
            let Some(got) = self.arp.as_ref().and_then(|(_, s)| received(s.recv(&mut buffer))) else {
                return;
            };
            each(buffer.get(..got.len).unwrap_or_default());
        }
    }

    /// What to poll for reading.
    pub(super) fn fds<'a>(&'a self, out: &mut Vec<BorrowedFd<'a>>) {
        out.extend(self.adverts.as_ref().map(AsFd::as_fd));
        out.extend(self.dhcp.as_ref().map(AsFd::as_fd));
        out.extend(self.extend.as_ref().map(|(_, socket)| socket.as_fd()));
        out.extend(self.dhcp6.as_ref().map(|(_, socket)| socket.as_fd()));
        out.extend(self.arp.as_ref().map(|(_, socket)| socket.as_fd()));
    }

    /// For `status`.
    pub(super) fn describe(&self, out: &mut Vec<(String, String)>) {
        out.push(("dropped".to_owned(), self.dropped.to_string()));
        let problems =
            self.troubles.iter().map(|(what, why)| ("problem".to_owned(), format!("{what}: {why}")));
        out.extend(problems);
    }

    /// Remembers what does not work, and logs it when it begins or changes.
    fn outcome(&mut self, what: &'static str, result: io::Result<()>) {
        let known = self.troubles.iter().position(|(known, _)| *known == what);
        match (result, known) {
            (Ok(()), None) => {}
            (Ok(()), Some(known)) => {
                self.troubles.remove(known);
            }
            (Err(error), known) => {
                let why = error.to_string();
                if known.and_then(|k| self.troubles.get(k)).is_some_and(|(_, before)| *before == why) {
                    return;
                }
                log::warn!("{}: {what}: {why}", self.uplink);
                self.troubles.retain(|(known, _)| *known != what);
                self.troubles.push((what, why));
            }
        }
    }
}

/// What a packet socket has: `None` if there is no more. Any other error, such as that the device went down, is an empty
/// packet: it is told once only, and there may be more behind it.
fn received(got: io::Result<Received>) -> Option<Received> {
    match got {
        Ok(got) => Some(got),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        Err(_) => Some(Received { len: 0, checksummed: true }),
    }
}

/// What a UDP socket has: `None` if there is no more. An ICMP error is an empty message: the timer asks again.
fn datagram(socket: &OwnedFd, buffer: &mut [u8]) -> Option<usize> {
    match rustix::net::recv(socket, buffer, RecvFlags::DONTWAIT) {
        Ok((_, len)) => Some(len),
        Err(Errno::AGAIN) => None,
        Err(_) => Some(0),
    }
}

const SEND: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);
/// The largest packet that is read whole: Ethernet's and some.
const BUFFER: usize = 2048;
/// How many packets are read at a time; then others have their turn.
const BATCH: usize = 64;
