//! Little clients that run on a thread inside a host: an echo request, a DNS question, a web page. They need no program
//! of the machine's, and say at once what came back.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::error::{Context, Error, Result};
use crate::place::Place;
use crate::wait;

impl Place {
    /// Sends one echo request, with a mark if one is given, and waits for its reply. Returns the round trip.
    pub fn ping(&self, to: IpAddr, mark: Option<u32>, patience: Duration) -> Result<Duration> {
        let answered = self.in_network(|| ping(to, mark, patience))?;
        answered.context(|| format!("ping {to} from {}", self.name))
    }

    /// Asks a DNS server over UDP, and returns the addresses in its answer; fails on an error code.
    pub fn ask(&self, server: SocketAddr, name: &str, v6: bool, patience: Duration) -> Result<Vec<IpAddr>> {
        let answered = self.exchange(server, name, v6, patience)?;
        addresses(&answered).context(|| format!("asking {server} for {name} from {}", self.name))
    }

    /// Asks a DNS server over UDP, with EDNS, and returns its answer whole.
    pub fn exchange(&self, server: SocketAddr, name: &str, v6: bool, patience: Duration) -> Result<Vec<u8>> {
        let answered = self.in_network(|| ask_udp(server, name, v6, patience))?;
        answered.context(|| format!("asking {server} for {name} from {}", self.name))
    }

    /// Asks a DNS server over UDP from a marked socket; fails on an error code.
    pub fn ask_marked(
        &self,
        server: SocketAddr,
        name: &str,
        mark: u32,
        patience: Duration,
    ) -> Result<Vec<IpAddr>> {
        let asked = self.in_network(|| {
            let socket = Socket::new(Domain::for_address(server), Type::DGRAM, None)?;
            socket.set_mark(mark)?;
            addresses(&exchange(&socket.into(), server, name, false, patience)?)
        })?;
        asked.context(|| format!("asking {server}, marked, for {name} from {}", self.name))
    }

    /// Asks over TCP, and returns the addresses in the answer; fails on an error code.
    pub fn ask_tcp(
        &self,
        server: SocketAddr,
        name: &str,
        v6: bool,
        patience: Duration,
    ) -> Result<Vec<IpAddr>> {
        let answered = self.in_network(|| ask_tcp(server, name, v6, patience))?;
        answered.context(|| format!("asking {server} over TCP for {name} from {}", self.name))
    }

    /// Asks again and again until there is an answer with an address.
    pub fn ask_until(
        &self,
        server: SocketAddr,
        name: &str,
        v6: bool,
        patience: Duration,
    ) -> Result<Vec<IpAddr>> {
        wait::until(&format!("an answer from {server} for {name}"), patience, || {
            let asked = self.ask(server, name, v6, Duration::from_millis(500));
            Ok(asked.ok().filter(|addresses| !addresses.is_empty()))
        })
    }

    /// Gets the page of one of the lab's servers over TCP.
    pub fn http(&self, to: SocketAddr, patience: Duration) -> Result<String> {
        let got = self.in_network(|| http(to, patience))?;
        got.context(|| format!("http://{to}/ from {}", self.name))
    }
}

/// `narrowgate-lab ask udp|tcp SERVER NAME`: asks from the process itself, whatever its group, and prints the addresses.
pub fn ask_here(tcp: bool, server: SocketAddr, name: &str) -> Result<Vec<IpAddr>> {
    let patience = Duration::from_secs(5);
    if tcp {
        ask_tcp(server, name, false, patience)
    } else {
        addresses(&ask_udp(server, name, false, patience)?)
    }
}

/// Whether an answer is there is decided by the deadline alone; ICMP errors end the waiting at once.
fn ping(to: IpAddr, mark: Option<u32>, patience: Duration) -> Result<Duration> {
    let (domain, protocol, kind) = match to {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, 8),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, 128),
    };
    let socket = Socket::new(domain, Type::DGRAM, Some(protocol))?;
    if let Some(mark) = mark {
        socket.set_mark(mark)?;
    }
    socket.set_read_timeout(Some(patience))?;
    socket.connect(&SocketAddr::new(to, 0).into())?;
    let start = Instant::now();
    socket.send(&[kind, 0, 0, 0, 0, 0, 0, 1, b'n', b'g'])?;
    let mut buffer = [0; 64];
    if (&socket).read(&mut buffer)? == 0 {
        return Err(Error::new("an empty reply"));
    }
    Ok(start.elapsed())
}

fn ask_udp(server: SocketAddr, name: &str, v6: bool, patience: Duration) -> Result<Vec<u8>> {
    let any: IpAddr = if server.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { [0, 0, 0, 0].into() };
    exchange(&UdpSocket::bind((any, 0))?, server, name, v6, patience)
}

fn exchange(
    socket: &UdpSocket,
    server: SocketAddr,
    name: &str,
    v6: bool,
    patience: Duration,
) -> Result<Vec<u8>> {
    socket.set_read_timeout(Some(patience))?;
    socket.connect(server)?;
    let query = query(name, v6);
    socket.send(&query)?;
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer)?;
    Ok(buffer.get(..length).unwrap_or_default().to_vec())
}

fn ask_tcp(server: SocketAddr, name: &str, v6: bool, patience: Duration) -> Result<Vec<IpAddr>> {
    let mut stream = TcpStream::connect_timeout(&server, patience)?;
    stream.set_read_timeout(Some(patience))?;
    let query = query(name, v6);
    let length = u16::try_from(query.len()).unwrap_or(0).to_be_bytes();
    stream.write_all(&[&length[..], &query].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message)?;
    addresses(&message)
}

fn http(to: SocketAddr, patience: Duration) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&to, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    Ok(page)
}

/// The response code of an answer, without EDNS's upper bits.
pub fn response_code(message: &[u8]) -> u8 {
    message.get(3).map_or(255, |flags| flags & 15)
}

/// The extended error of an answer (RFC 8914): its code and text.
pub fn extended_error(message: &[u8]) -> Option<(u16, String)> {
    let word = |at: usize| Some(u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]));
    let mut at = past_name(message, 12)? + 4;
    for _ in 0..word(6)? + word(8)? + word(10)? {
        at = past_name(message, at)?;
        let end = at + 10 + usize::from(word(at + 8)?);
        if word(at)? == 41 {
            let mut option = at + 10;
            while option + 4 <= end {
                let length = usize::from(word(option + 2)?);
                if word(option)? == 15 {
                    let text = message.get(option + 6..option + 4 + length)?;
                    return Some((word(option + 4)?, String::from_utf8_lossy(text).into_owned()));
                }
                option += 4 + length;
            }
        }
        at = end;
    }
    None
}

/// A query with recursion desired (RFC 1035, section 4.1) and EDNS for 1232 bytes (RFC 6891).
fn query(name: &str, v6: bool) -> Vec<u8> {
    let mut message = vec![0x4c, 0x42, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap_or(63));
        message.extend(label.bytes());
    }
    message.extend([0, 0, if v6 { 28 } else { 1 }, 0, 1]);
    message.extend([0, 0, 41, 4, 0xd0, 0, 0, 0, 0, 0, 0]);
    message
}

/// The addresses in an answer's records; an error code is an error.
pub fn addresses(message: &[u8]) -> Result<Vec<IpAddr>> {
    let code = response_code(message);
    if code != 0 {
        return Err(Error::new(format!("the answer has code {code}")));
    }
    read_addresses(message).ok_or_else(|| Error::new("an answer that cannot be read"))
}

fn read_addresses(message: &[u8]) -> Option<Vec<IpAddr>> {
    let count = u16::from_be_bytes([*message.get(6)?, *message.get(7)?]);
    let mut at = past_name(message, 12)? + 4;
    let mut found = Vec::new();
    for _ in 0..count {
        at = past_name(message, at)?;
        let kind = u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]);
        let length = usize::from(u16::from_be_bytes([*message.get(at + 8)?, *message.get(at + 9)?]));
        let data = message.get(at + 10..at + 10 + length)?;
        match kind {
            1 => found.push(IpAddr::from(<[u8; 4]>::try_from(data).ok()?)),
            28 => found.push(IpAddr::from(<[u8; 16]>::try_from(data).ok()?)),
            _ => {}
        }
        at += 10 + length;
    }
    Some(found)
}

/// The place behind a name, compressed or not.
fn past_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            length if length >= 0xc0 => return Some(at + 2),
            length => at += 1 + usize::from(length),
        }
    }
}
