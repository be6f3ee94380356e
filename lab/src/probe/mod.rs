//! The probes: every kind of packet that a node might let out by mistake, each with a tag that names its kind.
//!
//! They are sent by `narrowgate-lab probe`, from inside a host; what counts is not whether sending succeeded but what the
//! capture at the other end of the cable saw.

pub mod build;
mod send;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::capture::Capture;
use crate::error::{Error, Result};
use crate::frame::Content;
use crate::holder;
use crate::lab::Lab;
use crate::layout::{Host, WAN};
use crate::wait;

pub use send::run;

/// Stands before the kind in a payload; a `;` ends it.
pub const MAGIC: &[u8] = b"narrowgate-probe:";
/// Follows the kind in the name that a DNS probe asks for.
pub const DNS_SUFFIX: &str = ".probe.narrowgate.test";
/// The foreign address that the ARP probe asks for.
pub const ARP_TARGET: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 99);

/// What the node sends, by kind. `4` and `6` at the end is the family.
pub const NODE: [&str; 36] = [
    "udp4",
    "udp6",
    "udp-connected4",
    "udp-connected6",
    "dns4",
    "dns6",
    "tcp4",
    "tcp6",
    "icmp-raw4",
    "icmp-raw6",
    "icmp-datagram4",
    "icmp-datagram6",
    "protocol-raw4",
    "protocol-raw6",
    "bound-address4",
    "bound-address6",
    "bound-device4",
    "bound-device6",
    "tcp-bound-device4",
    "tcp-bound-device6",
    "icmp-bound-device4",
    "icmp-bound-device6",
    "mdns4",
    "mdns6",
    "broadcast",
    "broadcast-bound-device",
    "broadcast-subnet",
    "dns-router4",
    "dns-router6",
    "dns-router-ll",
    "dns-router-tcp4",
    "dns-router-tcp6",
    "packet-udp4",
    "packet-udp6",
    "packet-dns4",
    "arp-foreign",
];
/// What the client behind the node sends.
pub const CLIENT: [&str; 2] = ["forwarded4", "forwarded6"];

/// The first of the TCP source ports that name a kind; below the kernel's own choice (32768 and up).
const FIRST_PORT: u16 = 20000;

/// What became of one probe.
#[derive(Debug, Clone)]
pub struct ProbeResult {
    /// Its kind.
    pub kind: String,
    /// What the system call that sent it said: `sent`, or the error.
    pub said: String,
    /// Whether a frame with its tag was seen on the cable.
    pub leaked: bool,
}

/// The TCP source port of a kind.
pub fn port(kind: &str) -> Option<u16> {
    let at = NODE.iter().position(|known| *known == kind)?;
    u16::try_from(at).ok().map(|at| FIRST_PORT + at)
}

/// The kind that uses a TCP source port.
pub fn by_port(port: u16) -> Option<&'static str> {
    NODE.get(usize::from(port.checked_sub(FIRST_PORT)?)).copied()
}

impl Lab {
    /// Sends every kind of probe, from the node and from the client behind it, and returns when all that could leave
    /// has been seen by the capture.
    pub fn probe_all(&self, capture: &Capture) -> Result<Vec<ProbeResult>> {
        let network = self.network();
        let arguments = [network.router4.to_string(), network.router6.to_string()];
        let mut lines = String::new();
        for (host, kinds) in [(Host::Node, &NODE[..]), (Host::Client, &CLIENT[..])] {
            let command = self.host(host).command(holder::program()?).arg("probe");
            lines.push_str(&command.args(&arguments).args(kinds).read()?);
        }
        self.barrier(capture)?;
        let leaks = capture.leaks();
        let seen = crate::sort::probes(leaks.iter().map(|leak| &leak.frame));
        let results = lines.lines().filter_map(|line| {
            let (kind, said) = line.split_once('\t')?;
            Some(ProbeResult { kind: kind.to_owned(), said: said.to_owned(), leaked: seen.contains(kind) })
        });
        Ok(results.collect())
    }

    /// Returns when everything that the node sent before is in the capture: a frame that every node may send, a
    /// question whether an address is taken (RFC 4862, 5.4.2), follows it and is waited for. Twice, since what waits for a
    /// neighbour's answer is sent after it. Returns at once where the device is down, since nothing gets out then.
    pub fn barrier(&self, capture: &Capture) -> Result<()> {
        for _ in 0..2 {
            // A device whose carrier has just come may swallow the first: the kernel activates its queue a little later.
            let passed = wait::until("marker on the cable", Duration::from_secs(5), || {
                let nonce = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().subsec_nanos();
                let command =
                    self.host(Host::Node).command(holder::program()?).arg("marker").arg(nonce.to_string());
                if command.read()?.trim() != "sent" {
                    return Ok(Some(false));
                }
                let wanted = build::marker_target(nonce);
                let seen = capture.wait_for("marker", Duration::from_millis(250), |seen| {
                    matches!(&seen.frame.content, Content::Ip(packet)
                        if packet.payload.get(4..20) == Some(&wanted.octets()[..]))
                });
                Ok(seen.is_ok().then_some(true))
            })?;
            if !passed {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// A thread that sends some kinds of probe without pause, so that even a short gap in the guard is seen.
#[derive(Debug)]
pub struct Flood {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Flood {
    /// Starts it on the node, for the household's network of now; returns when the first round was sent.
    pub fn start(lab: &Lab) -> Result<Self> {
        let (stop, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (place, network) = (lab.host(Host::Node), lab.network());
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&rounds));
        let thread = std::thread::spawn(move || {
            place.in_network(|| {
                send::stay_on_one_cpu();
                while !stopped.load(Ordering::Relaxed) {
                    send::quietly(network.router4, network.router6, &FLOOD);
                    count.fetch_add(1, Ordering::Relaxed);
                }
            })
        });
        let flood = Self { stop, rounds, thread: Some(thread) };
        flood.wait(1)?;
        Ok(flood)
    }

    /// Ends it once it has sent so many rounds in all.
    pub fn end_after(mut self, rounds: u64) -> Result<()> {
        self.wait(rounds)?;
        self.stop.store(true, Ordering::Relaxed);
        let joined = self.thread.take().map(JoinHandle::join);
        joined.and_then(std::result::Result::ok).unwrap_or_else(|| Err(Error::new("the flood died")))
    }

    fn wait(&self, rounds: u64) -> Result<()> {
        wait::until(&format!("{rounds} rounds of the flood"), Duration::from_secs(20), || {
            Ok((self.rounds.load(Ordering::Relaxed) >= rounds).then_some(()))
        })
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What a flood sends: what only the guard stops, and what routing stops too.
const FLOOD: [&str; 6] = ["bound-device4", "bound-device6", "udp4", "udp6", "packet-udp4", "packet-udp6"];

/// Sends the barrier's frame: `narrowgate-lab marker NONCE`. Says `down` where the device is.
pub fn mark(nonce: u32) -> Result<&'static str> {
    send::stay_on_one_cpu();
    let Ok(mut socket) = crate::packet::PacketSocket::open(WAN.0) else { return Ok("no device") };
    let state = std::fs::read_to_string(format!("/sys/class/net/{}/operstate", WAN.0)).unwrap_or_default();
    if state.trim() != "up" {
        return Ok("down");
    }
    match socket.send(&build::marker(nonce)) {
        Ok(()) => Ok("sent"),
        Err(error) if error.raw_os_error() == Some(nix::errno::Errno::ENETDOWN as i32) => Ok("down"),
        Err(error) => Err(error.into()),
    }
}
