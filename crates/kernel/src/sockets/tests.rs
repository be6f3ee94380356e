//! Bytes that are no message, and real sockets in a namespace: these need root.

use super::*;
use narrowgate_sys::{link, socket};
use proptest::prelude::*;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;

proptest! {
    #[test]
    fn any_bytes_are_a_socket_or_none(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for transport in [Transport::Tcp, Transport::Udp, Transport::Raw] {
            let _ = message::decode(transport, &bytes);
        }
    }

    #[test]
    fn a_mark_that_is_not_told_is_not_zero(head in prop::collection::vec(any::<u8>(), 71), mark: Option<u32>) {
        let mut bytes = vec![2];
        bytes.extend(head);
        let mut attribute = |kind: u16, value: &[u8]| {
            bytes.extend((4 + value.len() as u16).to_ne_bytes().into_iter().chain(kind.to_ne_bytes()));
            bytes.extend(value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        };
        attribute(8, &[0xff]); // INET_DIAG_SHUTDOWN
        if let Some(mark) = mark {
            attribute(15, &mark.to_ne_bytes());
        }
        prop_assert_eq!(message::decode(Transport::Udp, &bytes).map(|s| s.mark), Some(mark));
    }
}

/// The number of a socket of ours, as /proc shows it.
fn inode(fd: impl AsFd) -> u64 {
    rustix::fs::fstat(fd).expect("fstat").st_ino
}

fn find(fd: &impl AsFd) -> InetSocket {
    let inode = inode(fd);
    let found: Vec<_> = all().expect("sock_diag").into_iter().filter(|s| s.inode == inode).collect();
    let [socket] = found.as_slice() else { panic!("socket {inode}: {found:?}") };
    socket.clone()
}

#[test]
fn what_was_set_is_what_the_kernel_tells() {
    link::new_network_namespace().expect("a new network namespace: this test needs root");
    let up = std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status();
    assert!(up.is_ok_and(|status| status.success()), "this test needs iproute2");
    for ip in ["127.0.0.1", "::1"] {
        let ip: std::net::IpAddr = ip.parse().expect("an address");
        let server = UdpSocket::bind((ip, 0)).expect("loopback");
        let client = UdpSocket::bind((ip, 0)).expect("loopback");
        for mark in [0, 1, 0xdead_beef] {
            socket::set_mark(client.as_fd(), mark, u32::MAX).expect("root may mark");
            let seen = find(&client);
            assert_eq!(seen.mark, Some(mark));
            assert_eq!((seen.transport, seen.remote), (Transport::Udp, None));
            assert_eq!(seen.local, client.local_addr().expect("bound"));
        }
        client.connect(server.local_addr().expect("bound")).expect("loopback");
        assert_eq!(find(&client).remote, server.local_addr().ok());

        let server = TcpListener::bind((ip, 0)).expect("loopback");
        socket::set_mark(server.as_fd(), 6, 7).expect("root may mark");
        let client = TcpStream::connect(server.local_addr().expect("bound")).expect("loopback");
        let (accepted, _) = server.accept().expect("it connects");
        let (listening, client, accepted) = (find(&server), find(&client), find(&accepted));
        assert!(listening.listens && !client.listens && listening.remote.is_none());
        assert_eq!((listening.mark, client.mark, accepted.mark), (Some(6), Some(0), Some(6)));
        assert_eq!((client.remote, accepted.remote), (Some(accepted.local), Some(client.local)));
    }
}

#[test]
fn ipv4_in_an_ipv6_socket_is_ipv4_and_a_bound_device_is_told() {
    link::new_network_namespace().expect("a new network namespace: this test needs root");
    let up = std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status();
    assert!(up.is_ok_and(|status| status.success()), "this test needs iproute2");
    let socket = UdpSocket::bind("[::]:0").expect("any");
    assert_eq!(find(&socket).device, None);
    socket.connect("[::ffff:127.0.0.1]:9").expect("loopback");
    assert_eq!(find(&socket).remote, "127.0.0.1:9".parse().ok());
    let bound = UdpSocket::bind("[::1]:0").expect("loopback");
    assert_eq!(find(&bound).device, None);
    let scoped = narrowgate_sys::packet::marked_udp("0.0.0.0:0".parse().expect("any"), "lo", 5);
    let scoped = find(&scoped.expect("root may bind to a device"));
    assert_eq!((scoped.device, scoped.mark), (Some(1), Some(5)));
}
