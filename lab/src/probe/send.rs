//! Sending the probes, from inside a host.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::build;
use crate::error::{Context, Result};
use crate::layout::{FOREIGN4, FOREIGN6, ROUTER_LL, SERVICE_PORT, WAN};
use crate::packet::PacketSocket;

/// What a probe has to know about the host that it is sent from.
struct Here {
    router4: Ipv4Addr,
    router6: Ipv6Addr,
    address4: Option<Ipv4Addr>,
    address6: Option<Ipv6Addr>,
    /// The index of the WAN device, or 0.
    index: u32,
}

/// Sends the probes of these kinds and prints a line for each: the kind, a tab, `sent` or the error.
///
/// All of them leave from one processor, so that they arrive in order and before the barrier's marker.
pub fn run(router4: &str, router6: &str, kinds: &[String]) -> Result<()> {
    stay_on_one_cpu();
    let router4 = router4.parse().context(|| format!("{router4:?} is no IPv4 address"))?;
    let router6 = router6.parse().context(|| format!("{router6:?} is no IPv6 address"))?;
    let here = Here::look(router4, router6, address4());
    for kind in kinds {
        match here.send(kind) {
            Ok(()) => println!("{kind}\tsent"),
            Err(error) => println!("{kind}\t{error}"),
        }
    }
    Ok(())
}

/// Keeps this process on the first processor that it may use.
pub fn stay_on_one_cpu() {
    let this = Pid::from_raw(0);
    let Ok(allowed) = sched_getaffinity(this) else { return };
    let mut one = CpuSet::new();
    let first = (0..CpuSet::count()).find(|cpu| allowed.is_set(*cpu) == Ok(true));
    if first.is_some_and(|cpu| one.set(cpu).is_ok()) {
        let _ = sched_setaffinity(this, &one);
    }
}

/// Sends probes and says nothing. Makes up an IPv4 address of the WAN where one is needed.
pub fn quietly(router4: Ipv4Addr, router6: Ipv6Addr, kinds: &[&str]) {
    let here = Here::look(router4, router6, None);
    for kind in kinds {
        let _ = here.send(kind);
    }
}

impl Here {
    fn look(router4: Ipv4Addr, router6: Ipv6Addr, address4: Option<Ipv4Addr>) -> Self {
        let index = if_nametoindex(WAN.0).unwrap_or(0);
        Self { router4, router6, address4, address6: address6(), index }
    }

    fn send(&self, kind: &str) -> io::Result<()> {
        let v6 = kind.ends_with('6');
        let family = kind.trim_end_matches(['4', '6']);
        let foreign: IpAddr = if v6 { FOREIGN6.into() } else { FOREIGN4.into() };
        let router: IpAddr = if v6 { self.router6.into() } else { self.router4.into() };
        let (data, query) = (build::payload(kind), build::query(kind));
        let bound = || no_device_is_fine(self.index);
        match family {
            "udp" | "forwarded" => udp(v6)?.send_to(&data, &at(foreign, 9)).map(drop),
            "udp-connected" => {
                let socket = udp(v6)?;
                socket.connect(&at(foreign, 9))?;
                socket.send(&data).map(drop)
            }
            "dns" => udp(v6)?.send_to(&query, &at(foreign, 53)).map(drop),
            "tcp" => tcp(kind, v6, at(foreign, SERVICE_PORT), false),
            "tcp-bound-device" => tcp(kind, v6, at(foreign, SERVICE_PORT), true),
            "icmp-raw" => icmp(v6, Type::RAW)?.send_to(&build::echo(v6, kind), &at(foreign, 0)).map(drop),
            "icmp-datagram" => {
                icmp(v6, Type::DGRAM)?.send_to(&build::echo(v6, kind), &at(foreign, 0)).map(drop)
            }
            "icmp-bound-device" => {
                let socket = icmp(v6, Type::RAW)?;
                socket.bind_device(Some(WAN.0.as_bytes()))?;
                socket.send_to(&build::echo(v6, kind), &at(foreign, 0)).map(drop)
            }
            // 253 is for experiments (RFC 3692).
            "protocol-raw" => Socket::new(domain(v6), Type::RAW, Some(Protocol::from(253)))?
                .send_to(&data, &at(foreign, 0))
                .map(drop),
            "bound-address" => {
                let own = if v6 { self.address6.map(IpAddr::V6) } else { self.address4.map(IpAddr::V4) };
                let own = own.ok_or_else(|| io::Error::other("the WAN has no such address"))?;
                let socket = udp(v6)?;
                socket.bind(&at(own, 0))?;
                socket.send_to(&data, &at(foreign, 9)).map(drop)
            }
            "bound-device" => {
                let socket = udp(v6)?;
                socket.bind_device(Some(WAN.0.as_bytes()))?;
                socket.send_to(&data, &at(foreign, 9)).map(drop)
            }
            "mdns" => self.mdns(v6, &query),
            "broadcast" => broadcast(Ipv4Addr::BROADCAST, false, &data),
            "broadcast-bound-device" => broadcast(Ipv4Addr::BROADCAST, true, &data),
            "broadcast-subnet" => {
                let [a, b, c, _] = self.router4.octets();
                broadcast(Ipv4Addr::new(a, b, c, 255), false, &data)
            }
            "dns-router" => udp(v6)?.send_to(&query, &at(router, 53)).map(drop),
            "dns-router-ll" => {
                bound()?;
                let to = SocketAddrV6::new(ROUTER_LL, 53, 0, self.index);
                udp(true)?.send_to(&query, &to.into()).map(drop)
            }
            "dns-router-tcp" => tcp(kind, v6, at(router, 53), false),
            "packet-udp" => self.packet(|here| build::udp_frame(here.own(v6), foreign, 9, &data)),
            "packet-dns" => self.packet(|here| build::udp_frame(here.own(v6), router, 53, &query)),
            "arp-foreign" => {
                self.packet(|here| build::arp_frame(here.address4.unwrap_or(Ipv4Addr::UNSPECIFIED)))
            }
            _ => Err(io::Error::other("there is no such probe")),
        }
    }

    fn mdns(&self, v6: bool, query: &[u8]) -> io::Result<()> {
        no_device_is_fine(self.index)?;
        let socket = udp(v6)?;
        if v6 {
            socket.set_multicast_if_v6(self.index)?;
            let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);
            return socket.send_to(query, &at(group.into(), 5353)).map(drop);
        }
        let own = socket2::InterfaceIndexOrAddress::Index(self.index);
        // Joining chooses the device; sending then goes by IP_MULTICAST_IF, which socket2 takes by address.
        socket.join_multicast_v4_n(&Ipv4Addr::new(224, 0, 0, 251), &own)?;
        match self.address4 {
            Some(address) => socket.set_multicast_if_v4(&address)?,
            None => socket.bind_device(Some(WAN.0.as_bytes()))?,
        }
        socket.send_to(query, &at(Ipv4Addr::new(224, 0, 0, 251).into(), 5353)).map(drop)
    }

    fn packet(&self, frame: impl FnOnce(&Self) -> Vec<u8>) -> io::Result<()> {
        PacketSocket::open(WAN.0)?.send(&frame(self))
    }

    /// An address of the WAN, or one that could be.
    fn own(&self, v6: bool) -> IpAddr {
        if v6 {
            let mut guess = self.router6.segments();
            guess[7] = 0x99;
            self.address6.unwrap_or(Ipv6Addr::from(guess)).into()
        } else {
            let [a, b, c, _] = self.router4.octets();
            self.address4.unwrap_or(Ipv4Addr::new(a, b, c, 99)).into()
        }
    }
}

/// Opens a connection without waiting for it. The source port names the kind.
fn tcp(kind: &str, v6: bool, to: SockAddr, bound: bool) -> io::Result<()> {
    let socket = Socket::new(domain(v6), Type::STREAM, None)?;
    let any: IpAddr = if v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    socket.set_reuse_address(true)?;
    socket.bind(&at(any, super::port(kind).unwrap_or(0)))?;
    // An answered connection would leave a waiting state behind, and the port could not be used again for a minute.
    socket.set_linger(Some(std::time::Duration::ZERO))?;
    if bound {
        socket.bind_device(Some(WAN.0.as_bytes()))?;
    }
    socket.set_nonblocking(true)?;
    match socket.connect(&to) {
        Err(error) if error.raw_os_error() == Some(Errno::EINPROGRESS as i32) => Ok(()),
        other => other,
    }
}

fn broadcast(to: Ipv4Addr, bound: bool, data: &[u8]) -> io::Result<()> {
    let socket = udp(false)?;
    socket.set_broadcast(true)?;
    if bound {
        socket.bind_device(Some(WAN.0.as_bytes()))?;
    }
    socket.send_to(data, &at(to.into(), 9)).map(drop)
}

fn udp(v6: bool) -> io::Result<Socket> {
    Socket::new(domain(v6), Type::DGRAM, None)
}

fn icmp(v6: bool, kind: Type) -> io::Result<Socket> {
    Socket::new(domain(v6), kind, Some(if v6 { Protocol::ICMPV6 } else { Protocol::ICMPV4 }))
}

fn domain(v6: bool) -> Domain {
    if v6 { Domain::IPV6 } else { Domain::IPV4 }
}

fn at(addr: IpAddr, port: u16) -> SockAddr {
    SocketAddr::new(addr, port).into()
}

fn no_device_is_fine(index: u32) -> io::Result<()> {
    if index == 0 { Err(io::Error::other("there is no WAN device")) } else { Ok(()) }
}

/// The first IPv4 address of the WAN.
fn address4() -> Option<Ipv4Addr> {
    let output =
        std::process::Command::new("ip").args(["-4", "-o", "addr", "show", "dev", WAN.0]).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut words = text.split_whitespace().skip_while(|word| *word != "inet");
    words.nth(1)?.split('/').next()?.parse().ok()
}

/// The first global IPv6 address of the WAN (`if_inet6` of proc(5): address, index, length, scope, flags, name).
fn address6() -> Option<Ipv6Addr> {
    let text = std::fs::read_to_string("/proc/thread-self/net/if_inet6").ok()?;
    text.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let ours = fields.get(3) == Some(&"00") && fields.get(5) == Some(&WAN.0);
        ours.then(|| {
            u128::from_str_radix(fields.first().copied().unwrap_or_default(), 16).ok().map(Ipv6Addr::from)
        })?
    })
}
