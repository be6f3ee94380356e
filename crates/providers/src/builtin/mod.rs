//! The `builtin` provider: Router Advertisements and DHCPv4 by ourselves. [`ra`] and [`dhcp4`] are machines without I/O;
//! this file has the sockets and the state directory.
//!
//! Both families listen on packet sockets. They need no address, see an advertisement though our own link-local address
//! is still tentative, and stand ahead of every firewall. A lease is extended and given back by a UDP socket with the
//! mark, which is open only for that.

pub mod dhcp4;
mod prefixes;
pub mod ra;
pub mod slaac;
mod store;

use crate::Provider;
use dhcp4::{Dhcp4, Held, Phase, Send};
use narrowgate_model::config::Uplink;
use narrowgate_model::facts::{DnsFact, Origin};
use narrowgate_model::net::{Address, Link};
use narrowgate_model::{Facts, Mark, Server, Time};
use narrowgate_sys::packet::{Interest, PacketSocket, marked_udp};
use narrowgate_wire::dhcp4 as dhcp4_wire;
use narrowgate_wire::ra as ra_wire;
use ra::Ra;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;
use store::LeaseFile;

/// A source of random numbers; from outside, so that tests can say what chance does.
pub type Random = Box<dyn FnMut() -> u32>;

/// The provider of one uplink.
pub struct Builtin {
    uplink: String,
    device: String,
    mark: Mark,
    /// `list dns`: overrides what is learnt.
    dns: Vec<Server>,
    secret: slaac::Secret,
    file: LeaseFile,
    kept: Option<Held>,
    facts: Facts,
    summary: String,
    first_carrier: Option<Time>,
    ra: Ra,
    dhcp: Option<Dhcp4>,
    ra_socket: Option<PacketSocket>,
    dhcp_socket: Option<PacketSocket>,
    extend_socket: Option<UdpSocket>,
    /// Packets that were not what the filter should let through.
    dropped: u64,
    complaint: String,
}

impl Builtin {
    /// Nothing is opened or sent before the device is told of.
    pub fn new(uplink: &Uplink, mark: Mark, state_dir: &Path, _: Time) -> Builtin {
        let secret = store::secret(state_dir, &mut system_random());
        Builtin {
            uplink: uplink.name.clone(),
            device: uplink.device.clone(),
            mark,
            dns: uplink.dns.clone(),
            secret,
            file: LeaseFile::new(state_dir, &uplink.name),
            kept: None,
            facts: Facts::default(),
            summary: String::new(),
            first_carrier: None,
            ra: Ra::new(&uplink.device, secret, system_random()),
            dhcp: None,
            ra_socket: None,
            dhcp_socket: None,
            extend_socket: None,
            dropped: 0,
            complaint: String::new(),
        }
    }

    /// Another device, or none: what was learnt on the old one is worth nothing.
    fn reset(&mut self, link: Option<&Link>, now: Time) {
        self.ra_socket = None;
        self.dhcp_socket = None;
        self.ra = Ra::new(&self.device, self.secret, system_random());
        self.reset_dhcp(link, now);
    }

    /// Another hardware address: for DHCP servers we are somebody else. Bridges change theirs as they get ports.
    fn reset_dhcp(&mut self, link: Option<&Link>, now: Time) {
        self.extend_socket = None;
        self.dhcp = link.and_then(|l| l.mac).map(|mac| {
            let loaded = self.file.load(mac);
            let wish = loaded.as_ref().map(|(held, _)| held.lease.ip());
            self.kept = loaded.filter(|(_, this_boot)| *this_boot).map(|(held, _)| held);
            Dhcp4::new(mac, wish, now, system_random())
        });
    }

    /// After every event: sockets as the phases want them, what is to be sent, the lease kept, the facts anew.
    fn act(&mut self) -> bool {
        self.sockets();
        self.send();
        self.sockets(); // what was sent may have been the last
        if let Some(held) = self.dhcp.as_ref().and_then(Dhcp4::held) {
            self.file.keep(held);
        }
        self.refresh()
    }

    fn sockets(&mut self) {
        let up = self.facts.link.as_ref().filter(|l| l.up).map(|l| l.index);
        let phase = self.dhcp.as_ref().map_or(Phase::Idle, Dhcp4::phase);
        let asking = !matches!(phase, Phase::Idle | Phase::Bound | Phase::Renewing);
        hold(&mut self.ra_socket, up, Interest::RouterAdverts, &mut self.complaint, &self.uplink);
        hold(
            &mut self.dhcp_socket,
            up.filter(|_| asking),
            Interest::DhcpClient,
            &mut self.complaint,
            &self.uplink,
        );
        if !matches!(phase, Phase::Renewing | Phase::Rebinding) {
            self.extend_socket = None;
        }
    }

    fn send(&mut self) {
        while let Some(packet) = self.ra.solicitation() {
            if let Some(socket) = &self.ra_socket {
                let sent = socket.send(&packet, self.multicast_mac(ra_wire::packet::ALL_ROUTERS_MAC));
                self.sent("router solicitation", sent);
            }
        }
        let out = self.dhcp.as_mut().map(Dhcp4::take_out).unwrap_or_default();
        for message in out {
            match message {
                Send::Broadcast(source, message) => {
                    if let Some(socket) = &self.dhcp_socket {
                        let packet = dhcp4_wire::packet::broadcast(source, &message);
                        let sent = socket.send(&packet, self.multicast_mac([0xff; 6]));
                        self.sent("DHCP request", sent);
                    }
                }
                Send::Unicast(source, server, message) => {
                    let sent = self.extend(source, server, &message);
                    self.sent("DHCP request by the lease's address", sent);
                }
            }
        }
    }

    /// By the marked socket; without the mark nothing is sent.
    fn extend(&mut self, source: Ipv4Addr, server: Ipv4Addr, message: &[u8]) -> io::Result<()> {
        let local = SocketAddrV4::new(source, dhcp4_wire::CLIENT_PORT);
        if self.extend_socket.as_ref().is_some_and(|s| s.local_addr().ok() != Some(local.into())) {
            self.extend_socket = None;
        }
        let socket = match self.extend_socket.take() {
            Some(socket) => socket,
            None => marked_udp(local, &self.device, self.mark.apply(0))?,
        };
        let socket = self.extend_socket.insert(socket);
        socket.send_to(message, SocketAddrV4::new(server, dhcp4_wire::SERVER_PORT)).map(|_| ())
    }

    fn multicast_mac(&self, mac: [u8; 6]) -> Option<[u8; 6]> {
        self.facts.link.as_ref().and_then(|l| l.mac).map(|_| mac)
    }

    /// The machines ask again in time, so a failure is only told, and that once.
    fn sent(&mut self, what: &str, result: io::Result<()>) {
        if let Err(error) = result {
            complain(&mut self.complaint, &self.uplink, format!("{what} not sent: {error}"));
        }
    }

    fn read_ra(&mut self, now: Time) {
        let mut buffer = [0; BUFFER];
        for _ in 0..BATCH {
            let Some(socket) = &self.ra_socket else { return };
            let Some(got) = received(socket.recv(&mut buffer)) else { return };
            let packet = buffer.get(..got.len).unwrap_or_default();
            let advert = ra_wire::packet::open(packet, got.checksummed)
                .and_then(|(source, message)| Ok((source, ra_wire::parse(message)?)));
            match advert {
                Ok((source, advert)) => self.ra.receive(source, &advert, now),
                Err(_) => self.dropped += 1, // and ENETDOWN, which is told as an empty packet
            }
        }
    }

    fn read_dhcp(&mut self, now: Time) {
        let mut buffer = [0; BUFFER];
        for _ in 0..BATCH {
            let Some((socket, dhcp)) = self.dhcp_socket.as_ref().zip(self.dhcp.as_mut()) else { break };
            let Some(got) = received(socket.recv(&mut buffer)) else { break };
            match dhcp4_wire::packet::open(buffer.get(..got.len).unwrap_or_default(), got.checksummed) {
                Some(message) => dhcp.receive(message, now),
                None => self.dropped += 1,
            }
        }
        for _ in 0..BATCH {
            let Some((socket, dhcp)) = self.extend_socket.as_ref().zip(self.dhcp.as_mut()) else { return };
            match socket.recv_from(&mut buffer) {
                Ok((len, _)) => dhcp.receive(buffer.get(..len).unwrap_or_default(), now),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {} // an ICMP error: the timer asks again
            }
        }
    }

    /// Builds the facts anew; true if they are others than before.
    fn refresh(&mut self) -> bool {
        let mut facts = Facts { link: self.facts.link.clone(), ..Facts::default() };
        self.ra.facts(&mut facts);
        if let Some(dhcp) = &self.dhcp {
            dhcp.facts(&self.device, &mut facts);
        }
        if !self.dns.is_empty() {
            let fact = |s: &Server| DnsFact {
                server: s.clone().scoped(&self.device),
                until: None,
                origin: Origin::Config,
            };
            facts.dns = self.dns.iter().map(fact).collect();
        }
        if facts == self.facts {
            return false;
        }
        self.facts = facts;
        let summary = summary(&self.facts);
        if summary != self.summary {
            log::info!("{}: {summary}", self.uplink);
            self.summary = summary;
        }
        true
    }
}

impl Provider for Builtin {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn on_link(&mut self, link: Option<&Link>, now: Time) -> bool {
        let before = self.facts.link.clone();
        let link = link.cloned();
        self.facts.link = link.clone();
        if before.as_ref().map(|l| l.index) != link.as_ref().map(|l| l.index) {
            self.reset(link.as_ref(), now);
        } else if before.as_ref().map(|l| l.mac) != link.as_ref().map(|l| l.mac) {
            self.reset_dhcp(link.as_ref(), now);
        }
        let carrier = link.as_ref().is_some_and(|l| l.up && l.carrier);
        if carrier {
            self.first_carrier.get_or_insert(now);
        }
        self.ra.on_carrier(carrier, now);
        if let Some(dhcp) = &mut self.dhcp {
            dhcp.on_carrier(carrier, now);
        }
        self.act() | (before != link)
    }

    fn on_addresses(&mut self, addresses: &[Address], now: Time) -> bool {
        self.ra.on_addresses(addresses, now);
        if let Some((dhcp, kept)) = self.dhcp.as_mut().zip(self.kept.as_ref())
            && addresses.iter().any(|a| a.prefix.addr == kept.lease.address.addr)
            && let Some(kept) = self.kept.take()
        {
            dhcp.adopt(kept, now);
        }
        self.act()
    }

    fn fds<'a>(&'a self, out: &mut Vec<BorrowedFd<'a>>) {
        out.extend(self.ra_socket.as_ref().map(AsFd::as_fd));
        out.extend(self.dhcp_socket.as_ref().map(AsFd::as_fd));
        out.extend(self.extend_socket.as_ref().map(AsFd::as_fd));
    }

    fn on_readable(&mut self, now: Time) -> bool {
        let counts = |dhcp: &Option<Dhcp4>| dhcp.as_ref().map(Dhcp4::counts).unwrap_or_default();
        let (had_router, before) = (self.ra.has_router(), counts(&self.dhcp));
        self.read_ra(now);
        self.read_dhcp(now);
        let after = counts(&self.dhcp);
        if after.naks != before.naks {
            log::warn!("{}: the DHCP server takes the address away (NAK)", self.uplink);
            self.file.forget();
        }
        // A household that answers in one family is awake: it need not be waited for in the other.
        if after.acks != before.acks {
            self.ra.nudge(now);
        }
        if !had_router
            && self.ra.has_router()
            && let Some(dhcp) = &mut self.dhcp
        {
            dhcp.nudge(now);
        }
        self.act()
    }

    fn on_timer(&mut self, now: Time) -> bool {
        self.ra.on_timer(now);
        if let Some(dhcp) = &mut self.dhcp {
            dhcp.on_timer(now);
        }
        self.act()
    }

    fn next_timeout(&self) -> Option<Time> {
        self.ra.next_timeout().into_iter().chain(self.dhcp.as_ref().and_then(Dhcp4::next_timeout)).min()
    }

    fn settled(&self, now: Time) -> bool {
        let answered = self.ra.heard() && self.dhcp.as_ref().is_none_or(|d| d.counts().acks > 0);
        answered || self.first_carrier.is_some_and(|t| now.since(t) >= LEARN)
    }

    fn stop(&mut self, now: Time) {
        if let Some(dhcp) = &mut self.dhcp {
            let released = dhcp.held().is_some();
            dhcp.stop(now);
            if released {
                self.file.forget();
            }
            self.send();
        }
        self.facts.link = None;
        self.reset(None, now);
        self.facts = Facts::default();
    }

    fn kind(&self) -> &'static str {
        "builtin"
    }

    fn describe(&self, now: Time) -> Vec<(String, String)> {
        let mut out = Vec::new();
        self.ra.describe(now, &mut out);
        if let Some(dhcp) = &self.dhcp {
            dhcp.describe(now, &mut out);
        }
        out.push(("dropped".to_owned(), self.dropped.to_string()));
        if !self.complaint.is_empty() {
            out.push(("problem".to_owned(), self.complaint.clone()));
        }
        out
    }
}

/// Opens or closes a packet socket, as it is wanted on a device or not.
fn hold(
    socket: &mut Option<PacketSocket>,
    wanted: Option<u32>,
    interest: Interest,
    complaint: &mut String,
    uplink: &str,
) {
    match wanted {
        None => *socket = None,
        Some(_) if socket.is_some() => {}
        Some(index) => match PacketSocket::open(index, interest) {
            Ok(open) => *socket = Some(open),
            Err(error) => {
                complain(complaint, uplink, format!("no packet socket: {error}; it needs CAP_NET_RAW"))
            }
        },
    }
}

/// What a packet socket has: `None` if there is no more. Any other error, such as that the device went down, is an empty
/// packet: it is told once only, and there may be more behind it.
fn received(got: io::Result<narrowgate_sys::packet::Received>) -> Option<narrowgate_sys::packet::Received> {
    match got {
        Ok(got) => Some(got),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        Err(_) => Some(narrowgate_sys::packet::Received { len: 0, checksummed: true }),
    }
}

/// Logs what is not yet the last thing that was logged.
fn complain(last: &mut String, uplink: &str, text: String) {
    if *last != text {
        log::warn!("{uplink}: {text}");
        *last = text;
    }
}

/// The facts in a line, without what changes with every message.
fn summary(facts: &Facts) -> String {
    let mut parts: Vec<String> = Vec::new();
    parts.extend(facts.addresses.iter().map(|a| format!("address {} ({})", a.prefix, a.origin.as_str())));
    for route in facts.routes.iter().filter(|r| r.dst.is_default()) {
        parts.push(match route.via {
            Some(via) => format!("router {via}"),
            None => "no router needed".to_owned(),
        });
    }
    parts.extend(facts.dns.iter().map(|d| format!("DNS {} ({})", d.server, d.origin.as_str())));
    if parts.is_empty() { "nothing is known".to_owned() } else { parts.join(", ") }
}

/// The kernel's random numbers.
fn system_random() -> Random {
    Box::new(|| {
        let mut bytes = [0; 4];
        // Only a kernel without getrandom (before 3.17) or a filter could refuse; then ids can be guessed, and no more.
        let _ = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty());
        u32::from_ne_bytes(bytes)
    })
}

/// For the first minute of asking the gaps stay short, in both families: routers boot, switches learn.
const EAGER: Duration = Duration::from_secs(60);
const EAGER_GAP: Duration = Duration::from_secs(8);
/// How long after a question a sign of life is worth another.
const NUDGE: Duration = Duration::from_secs(1);
/// The largest packet that is read whole: Ethernet's and some.
const BUFFER: usize = 2048;
/// How many packets are read at a time; then others have their turn.
const BATCH: usize = 64;
/// How long the household gets to say what there is.
const LEARN: Duration = Duration::from_secs(5);
