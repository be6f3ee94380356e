//! The coverage table: which sockets each way reaches. A cell is measured by what comes out of the WAN cable's other end,
//! not by what a program says of its socket. The same table stands in the manual page of `exec`.

use crate::room::{Folder, NARROWGATE, Room, library};
use std::fmt::Write as _;
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const EXPECTED: &str = "\
what                                    preload  cgroup  group
a glibc program                         yes      yes     no
getaddrinfo's own sockets               no       yes     yes
a static musl program                   no       yes     no
a raw system call                       no       yes     no
a socket made by io_uring               no       yes     no
Python's asyncio                        yes      yes     no
curl                                    yes      yes     no
ping, raw                               yes      yes     no
ping, datagram                          yes      yes     no
accepted sockets of a server            yes      yes     no
Multipath TCP                           yes      yes     no
accepted sockets of Multipath TCP       yes      yes     no
a program as nobody                     no       yes     no
";

#[test]
fn the_coverage_table_is_as_the_manual_says() {
    let lab = Lab::new();
    let folder = Folder::new();
    let glibc = folder.compile(&["cc"], "glibc", SEND);
    let musl = folder.compile(&["musl-gcc", "-static"], "musl", SEND);
    let raw = folder.compile(&["cc", "-DRAW"], "raw", SEND);
    let uring = folder.compile(&["cc", "-DURING"], "uring", SEND);
    // nobody must be able to read it.
    let _ = Command::new("chmod").args(["-R", "a+rX", &folder.path()]).status();
    let asyncio = "
import asyncio
async def main():
    try: await asyncio.wait_for(asyncio.open_connection('203.0.113.1', 9), 1)
    except OSError: pass
    except asyncio.TimeoutError: pass
asyncio.run(main())";
    let server = "
import socket
s = socket.socket(); s.setsockopt(1, 2, 1); s.settimeout(5)
s.bind(('198.18.0.2', 7000)); s.listen(); print('l', flush=True)
try: s.accept()[0].sendall(b'hello')
except OSError: pass";
    let multipath_server = server.replace("socket.socket()", "socket.socket(2, 1, 262)");
    let rows: [(&str, &[&str]); 13] = [
        ("a glibc program", &[&glibc]),
        ("getaddrinfo's own sockets", &["getent", "ahosts", "vpn.test"]),
        ("a static musl program", &[&musl]),
        ("a raw system call", &[&raw]),
        ("a socket made by io_uring", &[&uring]),
        ("Python's asyncio", &["python3", "-c", asyncio]),
        ("curl", &["curl", "-s", "--connect-timeout", "1", "http://203.0.113.1:9/"]),
        (
            "ping, raw",
            &["sh", "-c", "echo 1 0 > /proc/sys/net/ipv4/ping_group_range; exec ping -c1 -W1 203.0.113.1"],
        ),
        (
            "ping, datagram",
            &[
                "sh",
                "-c",
                "echo 0 2147483647 > /proc/sys/net/ipv4/ping_group_range; exec ping -c1 -W1 203.0.113.1",
            ],
        ),
        ("accepted sockets of a server", &["python3", "-c", server]),
        (
            "Multipath TCP",
            &[
                "python3",
                "-c",
                "import socket; s = socket.socket(2, 1, 262); s.settimeout(1); s.connect(('203.0.113.1', 9))",
            ],
        ),
        ("accepted sockets of Multipath TCP", &["python3", "-c", &multipath_server]),
        ("a program as nobody", &["setpriv", "--reuid", "65534", "--clear-groups", &glibc]),
    ];
    let mut table = format!("{:40}{:9}{:8}group\n", "what", "preload", "cgroup");
    for (name, command) in rows {
        let [preload, cgroup, group] = [Way::Preload, Way::Cgroup, Way::Group]
            .map(|way| if lab.reaches(name.starts_with("accepted"), way, command) { "yes" } else { "no" });
        writeln!(table, "{name:40}{preload:9}{cgroup:8}{group}").expect("a String takes it");
    }
    assert_eq!(table, EXPECTED, "measured:\n{table}");
    let manual = include_str!("../../../../docs/man/narrowgate-exec.1");
    assert!(manual.contains(&table), "the manual page has another table");
}

#[derive(Clone, Copy, PartialEq)]
enum Way {
    Preload,
    Cgroup,
    Group,
}

/// A node between a mesh that swallows everything and a household that counts what comes out of the WAN cable.
struct Lab {
    home: Room,
    node: Room,
    relay: Child,
}

impl Lab {
    fn new() -> Lab {
        // 203.0.113.0/24 is the household's own, so that everything gets an answer at once.
        let home = Room::new("ip route add local 203.0.113.0/24 dev lo");
        let folder = Folder::new();
        let servers = folder.file("resolv.conf", "nameserver 10.9.0.53\noptions timeout:1 attempts:1\n");
        let names = folder.file("nsswitch.conf", "hosts: dns\n");
        let node = Room::new(&format!(
            "cat {servers} > /dev/null
             mount -t tmpfs none /mnt; cp {servers} {names} /mnt
             mount --bind /mnt/resolv.conf /etc/resolv.conf; mount --bind /mnt/nsswitch.conf /etc/nsswitch.conf
             for file in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 > $file; done
             ip link add wan type veth peer name home netns {home}
             ip link set wan up; ip addr add 198.18.0.2/24 dev wan noprefixroute
             ip route add 198.18.0.0/24 dev wan table 1; ip route add default via 198.18.0.1 table 1
             ip rule add fwmark 1/1 lookup 1 priority 100
             ip link add mesh type veth peer name void; ip link set void up; ip link set mesh up
             ip addr add 10.9.0.1/24 dev mesh; ip route add default via 10.9.0.2
             for host in 2 53; do ip neigh add 10.9.0.$host lladdr 02:00:00:00:00:02 dev mesh nud permanent; done
             nft 'table ip to_resolver {{ chain out {{ type nat hook output priority -100;
                meta skgid 4711 udp dport 53 dnat to 127.0.0.1:54
                }}
             }}'",
            home = home.pid()
        ));
        home.run(&[
            "sh",
            "-ec",
            "ip link set home up; ip addr add 198.18.0.1/24 dev home
            nft 'table ip cable {
                counter out { }
                chain in { type filter hook prerouting priority -300;
                iifname home ip daddr 203.0.113.0/24 counter name out
                }
            }'",
        ]);
        let mut relay =
            node.command(&["python3", "-uc", RELAY]).stdout(Stdio::piped()).spawn().expect("python3");
        let mut ready = [0; 1];
        relay.stdout.as_mut().expect("a pipe").read_exact(&mut ready).expect("the relay stands");
        Lab { home, node, relay }
    }

    /// Whether what the command sends comes out of the cable.
    fn reaches(&self, server: bool, way: Way, command: &[&str]) -> bool {
        let before = self.count();
        let library = format!("LD_PRELOAD={}", library());
        let prefix: &[&str] = match way {
            Way::Preload => &["env", &library, "LIBPACKETMARK_MARK=1"],
            Way::Cgroup => &[NARROWGATE, "exec", "--via", "cgroup", "--"],
            Way::Group => &["setpriv", "--regid", "4711", "--clear-groups"],
        };
        let mut child = self.node.command(&[prefix, command].concat());
        let mut child = child.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
        if server {
            let listens = child.stdout.as_mut().expect("a pipe").read_exact(&mut [0]);
            listens.expect("it says that it listens");
            let heard = self.home.inside(hello);
            let _ = child.kill();
            child.wait().expect("it ends");
            return heard;
        }
        child.wait_with_output().expect("it ends");
        self.count() > before
    }

    fn count(&self) -> u64 {
        let text = self.home.run(&["nft", "list", "counter", "ip", "cable", "out"]);
        let mut words = text.split_whitespace().skip_while(|word| *word != "packets");
        words.nth(1).and_then(|word| word.parse().ok()).expect("nft says how many packets")
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.relay.kill();
        let _ = self.relay.wait();
    }
}

/// Whether the node's server can be heard: SYN-ACK and data both leave by the cable.
fn hello() -> bool {
    let (server, patience) = (SocketAddr::from(([198, 18, 0, 2], 7000)), Duration::from_millis(1500));
    let Ok(mut stream) = TcpStream::connect_timeout(&server, patience) else { return false };
    let _ = stream.set_read_timeout(Some(patience));
    let mut said = [0; 5];
    stream.read_exact(&mut said).is_ok() && &said == b"hello"
}

/// The WAN resolver: asks the household's server by a marked socket, and answers at once.
const RELAY: &str = "
from socket import *
listen = socket(AF_INET, SOCK_DGRAM); listen.bind(('127.0.0.1', 54))
ask = socket(AF_INET, SOCK_DGRAM); ask.setsockopt(SOL_SOCKET, 36, 1)
print('r', end='', flush=True)
while True:
    query, client = listen.recvfrom(1500)
    try: ask.sendto(query, ('203.0.113.53', 53))
    except OSError: pass
    listen.sendto(query[:2] + b'\\x81\\x83' + query[4:], client)
";

/// Sends a datagram to 203.0.113.1, from a socket that it makes in one of three ways.
const SEND: &str = r#"
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifdef URING
/* As much of <linux/io_uring.h> as one operation takes. */
struct offsets { uint32_t head, tail, mask, entries, flags, dropped, array, padding; uint64_t address; };
struct completions { uint32_t head, tail, mask, entries, overflow, cqes, flags, padding; uint64_t address; };
struct parameters { uint32_t sq, cq, flags, cpu, idle, features, wq, reserved[3]; struct offsets s; struct completions c; };
struct operation { uint8_t code, flags; uint16_t priority; int32_t fd; uint64_t offset, address; uint32_t len, more; uint64_t rest[4]; };
static int make(void) {
    struct parameters p;
    memset(&p, 0, sizeof p);
    int ring = syscall(425, 4, &p);
    if (ring < 0) return -1;
    char *sq = mmap(0, p.s.array + p.sq * 4, PROT_READ | PROT_WRITE, MAP_SHARED, ring, 0);
    char *cq = mmap(0, p.c.cqes + p.cq * 16, PROT_READ | PROT_WRITE, MAP_SHARED, ring, 0x8000000);
    struct operation *op = mmap(0, p.sq * sizeof *op, PROT_READ | PROT_WRITE, MAP_SHARED, ring, 0x10000000);
    op->code = 45; /* IORING_OP_SOCKET */
    op->fd = AF_INET;
    op->offset = SOCK_DGRAM;
    ((uint32_t *)(sq + p.s.array))[0] = 0;
    __atomic_store_n((uint32_t *)(sq + p.s.tail), 1, __ATOMIC_RELEASE);
    if (syscall(426, ring, 1, 1, 1, 0, 0) != 1) return -1;
    return *(int32_t *)(cq + p.c.cqes + 8);
}
#elif defined RAW
static int make(void) { return syscall(SYS_socket, AF_INET, SOCK_DGRAM, 0); }
#else
static int make(void) { return socket(AF_INET, SOCK_DGRAM, 0); }
#endif

int main(void) {
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(9) };
    inet_pton(AF_INET, "203.0.113.1", &to.sin_addr);
    int fd = make();
    if (fd < 0) return 3;
    return sendto(fd, "x", 1, 0, (struct sockaddr *)&to, sizeof to) == 1 ? 0 : 4;
}
"#;
