//! The little servers of the lab: one word of HTTP to whoever connects, and the same bytes back to whoever sends.

use std::io::{Read, Write};
use std::net::{Ipv6Addr, TcpListener, UdpSocket};
use std::time::Duration;

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
