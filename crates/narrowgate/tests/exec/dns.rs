//! By cgroup, DNS goes to the WAN resolver, and nobody notices: not from where an answer comes, not from the peer's name.

use crate::room::{Folder, NARROWGATE, Room, refuse};

/// A room where nothing is reachable but the resolver: a stub that were not redirected would fail.
fn room() -> Room {
    let room = Room::new("");
    room.resolver("127.0.0.1:54");
    room.resolver("[::1]:54");
    room
}

/// Runs Python under `exec --via cgroup`; `ask(id)` makes a question, `id_of` tells whose an answer is.
fn python(room: &Room, options: &[&str], script: &str) {
    let script = format!(
        "from socket import *\nimport struct\n\
         def ask(id): return struct.pack('>6H', id, 0x100, 1, 0, 0, 0) + b'\\x03vpn\\x04test\\0\\0\\1\\0\\1'\n\
         def id_of(answer): return struct.unpack('>H', answer[:2])[0]\n{script}"
    );
    room.exec(&[&["--via", "cgroup"], options, &["--", "python3", "-c", &script]].concat());
}

#[test]
fn an_unconnected_socket_may_ask_several_servers() {
    python(
        &room(),
        &[],
        "
for family, servers in (AF_INET, ['192.0.2.1', '198.51.100.2', '203.0.113.3']), (AF_INET6, ['2001:db8::1', '2001:db8::2', '2001:db8::3']):
    s = socket(family, SOCK_DGRAM); s.settimeout(5)
    for round in range(3):
        for id, server in enumerate(servers): s.sendto(ask(id), (server, 53))
        for id, server in enumerate(servers):
            answer, source = s.recvfrom(512)
            assert source[:2] == (servers[id_of(answer)], 53), (id, source)
    for server in servers:
        for again in range(7): s.sendto(ask(again), (server, 53))
        for again in range(7):
            answer, source = s.recvfrom(512)
            assert source[:2] == (server, 53), (server, source)
    s.sendto(ask(1), (servers[0], 53))
    assert s.recvfrom(512, MSG_PEEK)[1][0] == servers[0]
    assert s.recvfrom(512)[1][0] == servers[0]
",
    );
}

#[test]
fn an_ipv6_socket_may_ask_over_ipv4() {
    python(
        &room(),
        &[],
        "
s = socket(AF_INET6, SOCK_DGRAM); s.settimeout(5)
s.sendto(ask(1), ('::ffff:192.0.2.1', 53))
assert s.recvfrom(512)[1][:2] == ('::ffff:192.0.2.1', 53)
for kind in SOCK_DGRAM, SOCK_STREAM:
    s = socket(AF_INET6, kind); s.settimeout(5)
    s.connect(('::ffff:192.0.2.1', 53))
    assert s.getpeername()[:2] == ('::ffff:192.0.2.1', 53), s.getpeername()
",
    );
}

#[test]
fn a_connected_socket_sees_the_peer_that_it_asked_for() {
    python(
        &room(),
        &[],
        "
for family, server, next in (AF_INET, '192.0.2.1', '192.0.2.2'), (AF_INET6, '2001:db8::1', '2001:db8::2'):
    s = socket(family, SOCK_DGRAM); s.settimeout(5)
    for server in server, next:
        s.connect((server, 53))
        assert s.getpeername()[:2] == (server, 53), s.getpeername()
        s.send(ask(1))
        assert s.recvfrom(512)[1][:2] == (server, 53)
    s = socket(family, SOCK_STREAM); s.settimeout(5)
    s.connect((server, 53))
    assert s.getpeername()[:2] == (server, 53), s.getpeername()
    s.sendall(struct.pack('>H', len(ask(7))) + ask(7))
    assert id_of(s.makefile('rb').read(4)[2:]) == 7
",
    );
}

#[test]
fn a_link_local_server_is_asked_by_a_connected_socket() {
    let room = Room::new(
        "ip link add d0 type veth peer name d1; ip link set d1 up; ip link set d0 up; ip addr add fe80::9/64 dev d0 nodad",
    );
    room.resolver("[::1]:54");
    python(
        &room,
        &[],
        "
link = if_nametoindex('d0')
s = socket(AF_INET6, SOCK_DGRAM); s.settimeout(5)
# Not connected, the kernel binds it to the link before a program sees it: then it goes nowhere.
try: s.sendto(ask(1), ('fe80::1', 53, 0, link))
except OSError as error: assert error.errno == 101, error
else: raise Exception('it was sent somewhere')
for kind in SOCK_DGRAM, SOCK_STREAM:
    s = socket(AF_INET6, kind); s.settimeout(5)
    s.connect(('fe80::1', 53, 0, link))
    if kind == SOCK_DGRAM: s.send(ask(1)); assert s.recvfrom(512)[1][0].startswith('fe80::1')
    assert s.getpeername()[0].startswith('fe80::1'), s.getpeername()
",
    );
}

#[test]
fn a_source_address_that_was_chosen_is_kept() {
    let room = Room::new(
        "ip link add d0 type veth peer name d1; ip link set d1 up; ip link set d0 up; ip addr add 192.0.2.9/24 dev d0; ip addr add 2001:db8::9/64 dev d0 nodad",
    );
    room.resolver("127.0.0.1:54");
    room.resolver("[::1]:54");
    python(
        &room,
        &[],
        "
for family, source, server in (AF_INET, '192.0.2.9', '192.0.2.1'), (AF_INET6, '2001:db8::9', '2001:db8::1'):
    s = socket(family, SOCK_DGRAM); s.settimeout(5); s.bind((source, 0))
    s.sendto(ask(1), (server, 53))
    assert s.recvfrom(512)[1][0] == server
",
    );
}

#[test]
fn other_ports_go_where_they_were_sent() {
    let room = Room::new("");
    room.resolver("127.0.0.1:5300");
    python(
        &room,
        &[],
        "
s = socket(AF_INET, SOCK_DGRAM); s.settimeout(5)
s.sendto(ask(1), ('127.0.0.1', 5300))
assert s.recvfrom(512)[1] == ('127.0.0.1', 5300)
s.connect(('127.0.0.1', 5300))
assert s.getpeername() == ('127.0.0.1', 5300)
",
    );
}

#[test]
fn what_asks_the_resolver_itself_sees_the_resolver() {
    python(
        &room(),
        &[],
        "
s = socket(AF_INET, SOCK_DGRAM); s.settimeout(5)
for server in ('192.0.2.1', 53), ('127.0.0.1', 54), ('192.0.2.1', 53):
    s.sendto(ask(1), server)
    assert s.recvfrom(512)[1] == server
s.connect(('192.0.2.1', 53)); s.connect(('127.0.0.1', 54))
assert s.getpeername() == ('127.0.0.1', 54)
",
    );
}

#[test]
fn a_family_without_a_resolver_is_refused_or_served_by_the_other() {
    let room = Room::new("");
    room.resolver("127.0.0.1:5300");
    python(
        &room,
        &["--resolver", "127.0.0.1:5300"],
        "
s = socket(AF_INET6, SOCK_DGRAM); s.settimeout(5)
try: s.sendto(ask(1), ('2001:db8::1', 53))
except PermissionError: pass
else: raise Exception('it was sent somewhere')
for kind in SOCK_DGRAM, SOCK_STREAM:
    s = socket(AF_INET6, kind); s.settimeout(5)
    s.connect(('2001:db8::1', 53))
    assert s.getpeername()[:2] == ('2001:db8::1', 53), s.getpeername()
",
    );
    python(
        &room,
        &["--resolver", "[::1]:5300"],
        "
s = socket(AF_INET, SOCK_DGRAM)
for send in lambda: s.sendto(ask(1), ('192.0.2.1', 53)), lambda: s.connect(('192.0.2.1', 53)):
    try: send()
    except PermissionError: pass
    else: raise Exception('it was sent somewhere')
",
    );
}

#[test]
fn no_dns_leaves_dns_alone_and_dns_only_leaves_the_mark_alone() {
    let room = Room::new("");
    room.resolver("127.0.0.1:53");
    let script = |mark: u32| {
        format!(
            "
s = socket(AF_INET, SOCK_DGRAM); s.settimeout(5)
assert s.getsockopt(SOL_SOCKET, 36) == {mark}
s.sendto(ask(1), ('127.0.0.1', 53))
assert s.recvfrom(512)[1] == ('127.0.0.1', 53)
"
        )
    };
    python(&room, &["--no-dns", "--mark", "5/7"], &script(5));
    let room = Room::new("");
    room.resolver("127.0.0.1:54");
    python(&room, &["--dns-only"], &script(0));
}

#[test]
fn dig_gets_its_answers_from_whom_it_asked() {
    let room = room();
    for server in ["192.0.2.1", "2001:db8::1"] {
        for transport in ["+notcp", "+tcp"] {
            let said =
                room.exec(&["--via", "cgroup", "dig", transport, &format!("@{server}"), "vpn.test", "A"]);
            assert!(said.contains(&format!("SERVER: {server}#53")) && said.contains("192.0.2.1\n"), "{said}");
        }
    }
}

#[test]
fn multipath_tcp_is_marked_and_redirected_as_well() {
    python(
        &room(),
        &[],
        "
for family, server in (AF_INET, '192.0.2.1'), (AF_INET6, '2001:db8::1'):
    s = socket(family, SOCK_STREAM, 262); s.settimeout(5)
    assert s.getsockopt(SOL_SOCKET, 36) == 1
    s.connect((server, 53))
    s.sendall(struct.pack('>H', len(ask(7))) + ask(7))
    assert id_of(s.makefile('rb').read(4)[2:]) == 7
",
    );
}

/// Resolves a name as programs do; prints the addresses.
const GETADDRINFO: &str = r#"
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <arpa/inet.h>
int main(void) {
    struct addrinfo hints, *all, *one;
    char text[64];
    memset(&hints, 0, sizeof hints);
    hints.ai_socktype = SOCK_STREAM;
    if (getaddrinfo("vpn.test", "80", &hints, &all)) return 1;
    for (one = all; one; one = one->ai_next) {
        if (one->ai_family == AF_INET) inet_ntop(AF_INET, &((struct sockaddr_in *)one->ai_addr)->sin_addr, text, 64);
        else inet_ntop(AF_INET6, &((struct sockaddr_in6 *)one->ai_addr)->sin6_addr, text, 64);
        puts(text);
    }
    return 0;
}
"#;

#[test]
fn the_stubs_of_glibc_and_musl_resolve_by_it() {
    let folder = Folder::new();
    let glibc = folder.compile(&["cc"], "glibc", GETADDRINFO);
    let musl = folder.compile(&["musl-gcc", "-static"], "musl", GETADDRINFO);
    let hosts = folder.file("nsswitch.conf", "hosts: dns\n");
    for servers in
        [&["192.0.2.1", "198.51.100.2", "203.0.113.3"], &["2001:db8::1", "192.0.2.1", "2001:db8::2"]]
    {
        let text: String = servers.iter().map(|server| format!("nameserver {server}\n")).collect();
        let servers = folder.file("resolv.conf", &text);
        let room = Room::new(&format!(
            "mount --bind {servers} /etc/resolv.conf; mount --bind {hosts} /etc/nsswitch.conf"
        ));
        room.resolver("127.0.0.1:54");
        room.resolver("[::1]:54");
        for program in [&glibc, &musl] {
            let found = room.exec(&["--via", "cgroup", "--user", "nobody", "--", program]);
            let mut found: Vec<&str> = found.lines().collect();
            found.sort_unstable();
            assert_eq!(found, ["192.0.2.1", "2001:db8::1"], "{program}");
        }
        let said = room.exec(&["--via", "cgroup", "busybox", "nslookup", "vpn.test"]);
        assert!(said.contains("192.0.2.1"), "{said}");
    }
}

#[test]
fn a_dead_resolver_is_a_refused_connection_not_a_wrong_server() {
    let room = Room::new("");
    room.resolver("127.0.0.1:53"); // the wrong one: it would answer
    let mut python = room.command(&[NARROWGATE, "exec", "--via", "cgroup", "python3", "-c"]);
    python.arg("from socket import *; s = socket(); s.connect(('127.0.0.1', 53))");
    assert!(refuse(&mut python, 1).contains("ConnectionRefusedError"));
}
