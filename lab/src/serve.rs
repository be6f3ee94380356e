//! The little servers of the lab: one word of HTTP to whoever connects, and the same bytes back to whoever sends.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, TcpListener, UdpSocket};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::{Context, Result};

/// Answers on these ports over TCP (HTTP/1.0 with `hello from the lab`) and on the first over UDP (echo), on every address,
/// until it is killed.
pub fn serve(ports: &[u16]) -> Result<()> {
    for &port in ports {
        let listener =
            TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).context(|| format!("TCP port {port}"))?;
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || hello(stream));
            }
        });
    }
    let port = ports.first().copied().unwrap_or(0);
    let echo = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)).context(|| format!("UDP port {port}"))?;
    eprintln!("serving on {ports:?}");
    let mut buffer = [0; 65536];
    loop {
        // An ICMP error for an earlier answer is reported here; it is not ours to care for.
        if let Ok((length, from)) = echo.recv_from(&mut buffer) {
            let _ = echo.send_to(buffer.get(..length).unwrap_or_default(), from);
        }
    }
}

fn hello(mut stream: std::net::TcpStream) {
    let mut request = [0; 512];
    let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
    let _ = stream.read(&mut request);
    let _ = stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 19\r\n\r\nhello from the lab\n");
}

/// Answers NTP (RFC 5905, server mode) on this address, so that answers come from it, with a clock that is fast by [`FAST`], until it is killed.
pub fn serve_time(addr: IpAddr) -> Result<()> {
    let socket = UdpSocket::bind((addr, 123)).context(|| format!("UDP port 123 of {addr}"))?;
    eprintln!("serving the time");
    let mut question = [0; 512];
    loop {
        let Ok((48.., from)) = socket.recv_from(&mut question) else { continue };
        let now = ntp_time();
        // No leap second, version 4, mode 4; stratum 1; the poll interval of the question; 2^-20 s.
        let mut answer = vec![0x24, 1, question[2], 0xec, 0, 0, 0, 0, 0, 0, 0, 0];
        answer.extend_from_slice(b"LAB\0");
        answer.extend_from_slice(&now); // when the clock was set
        answer.extend_from_slice(&question[40..48]); // the asker's time
        answer.extend_from_slice(&now);
        answer.extend_from_slice(&ntp_time());
        let _ = socket.send_to(&answer, from);
    }
}

/// How far ahead the lab's time server is.
pub const FAST: Duration = Duration::from_secs(1000);

/// Seconds since 1900 in 32 bits, and as many bits of a second.
fn ntp_time() -> [u8; 8] {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + FAST;
    let seconds = (now.as_secs() + 2_208_988_800) & 0xffff_ffff;
    let fraction = (u64::from(now.subsec_nanos()) << 32) / 1_000_000_000;
    (seconds << 32 | fraction).to_be_bytes()
}
