//! The capture at the household's end of the WAN cable: every frame that the node sends, sorted as it comes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv};

use crate::error::{Context as _, Error, Result};
use crate::frame::{Content, Frame, Packet, Transport, decode};
use crate::lab::Lab;
use crate::layout::{self, Host, Household};
use crate::packet::PacketSocket;
use crate::sort::{Context, Kind, sort};
use crate::wireguard;

/// One frame of the node's.
#[derive(Debug, Clone)]
pub struct Seen {
    /// When it was read here.
    pub at: Instant,
    /// The same, for pcap files.
    pub wall: SystemTime,
    /// What it is.
    pub kind: Kind,
    /// What it says.
    pub frame: Frame,
    /// Its bytes, whole if it is a leak, else the first of them.
    pub bytes: Vec<u8>,
    /// How long it was on the cable.
    pub length: usize,
}

/// A running capture. Dropping it ends it.
#[derive(Debug)]
pub struct Capture {
    shared: Arc<Shared>,
    stop: Option<UnixStream>,
    reader: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    context: Context,
    seen: Vec<Seen>,
    heard: Vec<(Instant, Frame)>,
    counts: BTreeMap<String, usize>,
    failed: Option<String>,
}

impl Capture {
    /// Starts capturing. To see everything, start before the node's end of the cable comes up.
    pub fn open(lab: &Lab) -> Result<Self> {
        Self::open_at(lab, Host::Home, lab.network())
    }

    /// The same at the other household's end of its cable, which has to be plugged in.
    pub fn open_modem(lab: &Lab) -> Result<Self> {
        Self::open_at(lab, Host::Modem, Household::OTHER)
    }

    fn open_at(lab: &Lab, host: Host, network: Household) -> Result<Self> {
        let socket = lab.host(host).in_network(|| PacketSocket::open(layout::CABLE.0))?;
        let socket = socket.context(|| format!("capturing on {}", layout::CABLE.0))?;
        let state = State {
            context: context(network),
            seen: Vec::new(),
            heard: Vec::new(),
            counts: BTreeMap::new(),
            failed: None,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let (stop, stopped) = UnixStream::pair()?;
        let reader = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                if let Err(error) = read(&socket, &stopped, &shared) {
                    shared.lock().failed = Some(error.to_string());
                    shared.changed.notify_all();
                }
            }
        });
        Ok(Self { shared, stop: Some(stop), reader: Some(reader) })
    }

    /// Changes what the sorter knows, for the frames to come.
    pub fn adjust(&self, change: impl FnOnce(&mut Context)) {
        change(&mut self.shared.lock().context);
    }

    /// Forgets all frames so far.
    pub fn reset(&self) {
        let mut state = self.shared.lock();
        state.seen.clear();
        state.heard.clear();
        state.counts.clear();
    }

    /// How many frames of each sort there were, by [`Kind::label`].
    pub fn counts(&self) -> BTreeMap<String, usize> {
        self.shared.lock().counts.clone()
    }

    /// Every frame since the start or the last reset.
    pub fn frames(&self) -> Vec<Seen> {
        self.shared.lock().seen.clone()
    }

    /// When the household last sent something that lets a node go on, before `moment`: a Router Advertisement, a DHCP
    /// acknowledgement or offer, a DNS answer.
    pub fn last_answer(&self, moment: Instant) -> Option<(Instant, Frame)> {
        let state = self.shared.lock();
        state.heard.iter().rev().find(|(at, frame)| *at <= moment && is_answer(frame)).cloned()
    }

    /// When the household first sent such a frame that `wanted` says yes to.
    pub fn first_answer(&self, wanted: impl Fn(&Frame) -> bool) -> Option<Instant> {
        let state = self.shared.lock();
        state.heard.iter().find(|(_, frame)| wanted(frame)).map(|(at, _)| *at)
    }

    /// The leaks among them.
    pub fn leaks(&self) -> Vec<Seen> {
        self.shared.lock().seen.iter().filter(|seen| seen.kind.is_leak()).cloned().collect()
    }

    /// Fails with a line for each leak if there was one, or if the capture itself failed.
    pub fn assert_no_leak(&self, when: &str) -> Result<()> {
        if let Some(failed) = &self.shared.lock().failed {
            return Err(Error::new(format!("the capture failed: {failed}")));
        }
        let lines: Vec<String> = self.leaks().iter().map(Seen::line).collect();
        if lines.is_empty() {
            return Ok(());
        }
        Err(Error::new(format!("{} leaks {when}:\n  {}", lines.len(), lines.join("\n  "))))
    }

    /// Waits until a frame is seen, or has been since the last reset, that `wanted` says yes to.
    pub fn wait_for(&self, what: &str, patience: Duration, wanted: impl Fn(&Seen) -> bool) -> Result<Seen> {
        let deadline = Instant::now() + patience;
        let mut state = self.shared.lock();
        let mut looked_at = 0;
        loop {
            // A reset may have made the list shorter.
            looked_at = looked_at.min(state.seen.len());
            if let Some(seen) = state.seen.iter().skip(looked_at).find(|seen| wanted(seen)) {
                return Ok(seen.clone());
            }
            looked_at = state.seen.len();
            if let Some(failed) = &state.failed {
                return Err(Error::new(format!("the capture failed: {failed}")));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::new(format!(
                    "no {what} on the cable within {:.1} s",
                    patience.as_secs_f32()
                )));
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Writes the leaks as a pcap file for tcpdump and Wireshark.
    pub fn write_pcap(&self, path: &Path) -> Result<()> {
        let mut file = BufWriter::new(File::create(path).context(|| path.display().to_string())?);
        // Magic, version 2.4, no zone and accuracy, the longest frame, Ethernet.
        for word in [0xa1b2_c3d4, 0x0004_0002, 0, 0, 0x0004_0000, 1u32] {
            file.write_all(&word.to_le_bytes())?;
        }
        for leak in self.leaks() {
            let wall = leak.wall.duration_since(UNIX_EPOCH).unwrap_or_default();
            let length = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
            let seconds = u32::try_from(wall.as_secs()).unwrap_or(u32::MAX);
            for word in [seconds, wall.subsec_micros(), length(leak.bytes.len()), length(leak.length)] {
                file.write_all(&word.to_le_bytes())?;
            }
            file.write_all(&leak.bytes)?;
        }
        Ok(file.flush()?)
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

impl Seen {
    /// One line for people.
    pub fn line(&self) -> String {
        match &self.kind {
            Kind::Leak(what) => {
                format!("{} -> {}: {what}", layout::mac(self.frame.from), layout::mac(self.frame.to))
            }
            kind => format!("{}: {}", kind.label(), self.frame),
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the sorter knows at first.
fn context(network: Household) -> Context {
    Context {
        households: vec![network],
        dns: servers(network),
        gate: (vec![layout::GATE4.into(), layout::GATE6.into()], vec![layout::GATE_PORT, wireguard::PORT]),
        tunnel_names: vec![layout::GATE_NAME.to_owned()],
        other_names: Vec::new(),
        inbound: vec![22],
    }
}

/// The DNS servers that a household with this network hands out.
pub fn servers(network: Household) -> Vec<std::net::IpAddr> {
    vec![network.router4.into(), network.router6.into(), layout::ROUTER_LL.into()]
}

fn read(socket: &PacketSocket, stopped: &UnixStream, shared: &Shared) -> Result<()> {
    let mut buffer = vec![0; 1 << 17];
    loop {
        let mut polled = [socket.fd.as_fd(), stopped.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        match poll(&mut polled, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            other => other.context(|| "poll".to_owned())?,
        };
        if polled.last().and_then(PollFd::any) != Some(false) {
            return Ok(());
        }
        let length =
            match recv(socket.fd.as_raw_fd(), &mut buffer, MsgFlags::MSG_TRUNC | MsgFlags::MSG_DONTWAIT) {
                Ok(length) => length,
                // The household's end went down; the socket goes on when it is up again.
                Err(Errno::ENETDOWN | Errno::EAGAIN | Errno::EINTR) => continue,
                Err(error) => return Err(error).context(|| "reading from the cable".to_owned()),
            };
        let bytes = buffer.get(..length.min(buffer.len())).unwrap_or_default();
        // What the household itself sends is seen here too. All else comes from the node, whatever it says it is.
        match decode(bytes) {
            Some(frame) if frame.from == layout::CABLE.1 => shared.hear(frame),
            Some(frame) => shared.note(frame, bytes, length),
            None => {}
        }
    }
}

/// Whether a frame of the household's is one that a node waits for while it comes up.
fn is_answer(frame: &Frame) -> bool {
    is_router_advertisement(frame) || is_dhcp_ack(frame)
}

/// Whether a frame is a Router Advertisement.
pub fn is_router_advertisement(frame: &Frame) -> bool {
    matches!(
        &frame.content,
        Content::Ip(Packet { transport: Transport::Icmp { kind: 134, .. }, protocol: 58, .. })
    )
}

/// Whether a frame is a DHCPv4 acknowledgement (RFC 2132, 9.6: option 53, message type 5).
pub fn is_dhcp_ack(frame: &Frame) -> bool {
    let Content::Ip(Packet { transport: Transport::Udp { source: 67, .. }, payload, .. }) = &frame.content
    else {
        return false;
    };
    payload.get(240..).unwrap_or_default().windows(3).any(|option| option == [53, 1, 5])
}

impl Shared {
    fn hear(&self, frame: Frame) {
        let mut state = self.lock();
        if is_answer(&frame) {
            state.heard.push((Instant::now(), frame));
        }
    }

    fn note(&self, frame: Frame, bytes: &[u8], length: usize) {
        let mut state = self.lock();
        let kind = sort(&frame, &state.context);
        let kept = if kind.is_leak() { bytes.len() } else { bytes.len().min(BRIEF) };
        let bytes = bytes.get(..kept).unwrap_or_default().to_vec();
        *state.counts.entry(kind.label().to_owned()).or_default() += 1;
        if state.seen.len() < MOST || kind.is_leak() {
            state.seen.push(Seen { at: Instant::now(), wall: SystemTime::now(), kind, frame, bytes, length });
        }
        drop(state);
        self.changed.notify_all();
    }
}

/// How many bytes are kept of a frame that is no leak.
const BRIEF: usize = 128;
/// How many frames are kept in all; leaks are always kept, and all are counted.
const MOST: usize = 200_000;
