//! The limit that a forwarder can be measured against: a relay that copies datagrams from clients to one server and back by
//! one socket each, and looks at nothing but the id. `relay LISTEN SERVER`. For the benchmark only: it believes everybody.

use rustix::event::{PollFd, PollFlags, poll};
use std::net::{SocketAddr, UdpSocket};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let clients = UdpSocket::bind(&arguments[1]).unwrap();
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.connect(&arguments[2]).unwrap();
    clients.set_nonblocking(true).unwrap();
    server.set_nonblocking(true).unwrap();
    let nobody: SocketAddr = "127.0.0.1:9".parse().unwrap();
    let mut by_id = vec![nobody; 65536];
    let mut buffer = [0u8; 65536];
    loop {
        let mut ready = [PollFd::new(&clients, PollFlags::IN), PollFd::new(&server, PollFlags::IN)];
        poll(&mut ready, None).unwrap();
        while let Ok((length, from)) = clients.recv_from(&mut buffer) {
            by_id[usize::from(u16::from_be_bytes([buffer[0], buffer[1]]))] = from;
            let _ = server.send(&buffer[..length]);
        }
        while let Ok(length) = server.recv(&mut buffer) {
            let to = by_id[usize::from(u16::from_be_bytes([buffer[0], buffer[1]]))];
            let _ = clients.send_to(&buffer[..length], to);
        }
    }
}
