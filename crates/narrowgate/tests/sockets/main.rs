//! `narrowgate status --sockets`, as a person would use it, on real sockets in a network namespace. Needs root, iproute2,
//! util-linux and python3; what is missing makes a test fail and say so.

#[allow(dead_code)]
#[path = "../exec/room.rs"]
mod room;

use room::{Folder, NARROWGATE, Room};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A node with an uplink `wan` and a mesh.
fn node() -> Room {
    Room::new(
        "ip link add wan type veth peer name home; ip link add mesh type veth peer name far\n\
         for device in wan home mesh far; do ip link set $device up; done\n\
         ip addr add 192.0.2.9/24 dev wan; ip addr add 10.42.0.2/16 dev mesh\n\
         ip addr add 2001:db8:1::9/64 dev wan nodad; ip addr add fd42::2/64 dev mesh nodad\n\
         ip route add default via 10.42.0.1; ip route add default via fd42::1\n\
         echo '0 2147483647' >/proc/sys/net/ipv4/ping_group_range",
    )
}

/// A group that no other process is in.
fn group() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    (1_000_000 + std::process::id() * 16 + COUNT.fetch_add(1, Ordering::Relaxed)).to_string()
}

/// A process in a group that runs Python and then keeps its sockets until its stdin is closed.
struct Service(Child);

impl Service {
    fn start(room: &Room, gid: &str, script: &str) -> Service {
        let script = format!("from socket import *\n{script}\nprint('made', flush=True)\ninput()");
        Service::run(room.command(&[
            "setpriv",
            "--clear-groups",
            "--regid",
            gid,
            "--",
            "python3",
            "-c",
            &script,
        ]))
    }

    fn run(mut command: Command) -> Service {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("nsenter starts");
        let mut line = String::new();
        let mut said = BufReader::new(child.stdout.take().expect("a pipe"));
        said.read_line(&mut line).expect("its stdout");
        assert_eq!(line, "made\n", "this test needs python3 and setpriv; stderr says more");
        Service(child)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.stdin.take().map(|mut stdin| stdin.write_all(b"\n"));
        let _ = self.0.wait();
    }
}

/// Exit code and a line for each socket: what it speaks, its remote address, its mark and the verdict; sorted.
fn sockets(room: &Room, folder: &Folder, tunnel: &str) -> (i32, Vec<String>) {
    let config = format!("config uplink 'wan'\n\toption device 'wan'\n\nconfig tunnel 'vpn'\n{tunnel}");
    let config = folder.file("narrowgate", &config);
    let words = [NARROWGATE, "status", "--sockets", "--config", &config, "--runtime-dir", &folder.path()];
    let output = room.command(&[&words[..], &["--json"]].concat()).output().expect("it starts");
    let json = folder.file("json", &String::from_utf8_lossy(&output.stdout));
    let script = "import json, sys\nfor s in json.load(open(sys.argv[1]))['sockets']: \
        print(s['protocol'], s['remote'] or '*', s['mark'], s['verdict'], s['device'] or '')";
    let lines = room::succeed(Command::new("python3").args(["-c", script, &json]));
    let mut lines: Vec<_> = lines.lines().map(|line| line.trim().to_owned()).collect();
    lines.sort();
    // The table says the same.
    let table = room.command(&words).output().expect("it starts");
    assert_eq!(table.status.code(), output.status.code());
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    let unmarked = lines.iter().filter(|line| line.contains("unmarked")).count();
    assert_eq!(table.matches("UNMARKED:").count(), unmarked, "{table}");
    (output.status.code().expect("an exit code"), lines)
}

#[test]
fn the_kernels_marks_are_told_whoever_set_them_and_an_unmarked_one_is_found() {
    let (room, folder, gid) = (node(), Folder::new(), group());
    let tunnel = format!("\toption group '{gid}'\n");
    let good = "
def made(family, kind, mark, protocol=0):
    s = socket(family, kind, protocol)
    if mark: s.setsockopt(SOL_SOCKET, 36, mark)
    return s
keep = [made(AF_INET, SOCK_DGRAM, 1), made(AF_INET6, SOCK_DGRAM, 0x103), made(AF_INET, SOCK_STREAM, 1)]
keep[0].bind(('', 0)); keep[1].connect(('2001:db8:1::1', 10000))
keep[2].bind(('', 0)); keep[2].listen()
keep += [made(AF_INET, SOCK_DGRAM, 0), made(AF_INET6, SOCK_DGRAM, 0), made(AF_INET, SOCK_STREAM, 0)]
keep[3].connect(('127.0.0.1', 54)); keep[4].connect(('fd42::77', 9)); keep[5].bind(('', 0)); keep[5].listen()
keep += [made(AF_INET, SOCK_DGRAM, 0), socketpair()[0]]
keep += [made(AF_INET, SOCK_RAW, 1, 1), made(AF_INET6, SOCK_DGRAM, 1, 58)]";
    let good_lines = [
        "icmp * 1 marked",
        "raw * 1 marked",
        "tcp * 0 listens",
        "tcp * 1 marked",
        "udp * 0 unused",
        "udp * 1 marked",
        "udp 127.0.0.1:54 0 loopback",
        "udp [2001:db8:1::1]:10000 259 marked",
        "udp [fd42::77]:9 0 elsewhere",
    ];
    let _service = Service::start(&room, &gid, good);
    assert_eq!(sockets(&room, &folder, &tunnel), (0, good_lines.map(str::to_owned).to_vec()));

    // Its mark is another program's: the tunnel's bit is not in it.
    let bad = "
keep = [socket(AF_INET, SOCK_DGRAM), socket(AF_INET6, SOCK_DGRAM), socket(AF_INET, SOCK_DGRAM), socket(AF_INET6, SOCK_DGRAM)]
keep[0].bind(('', 0)); keep[1].connect(('2001:db8:1::1', 123))
keep[2].setsockopt(SOL_SOCKET, 36, 2); keep[2].connect(('198.51.100.7', 10000))
keep[3].connect(('fe80::1', 123, 0, if_nametoindex('wan')))
keep += [socket(AF_INET, SOCK_DGRAM), socket(AF_INET, SOCK_RAW, 89), socket(AF_PACKET, SOCK_DGRAM)]
keep[4].setsockopt(SOL_SOCKET, SO_BINDTODEVICE, b'wan\\0'); keep[4].bind(('', 0)); keep[6].bind(('wan', 0x800))";
    let bad_lines = [
        "packet * 0 unmarked wan",
        "raw * 0 unmarked",
        "udp * 0 unmarked",
        "udp * 0 unmarked wan",
        "udp 198.51.100.7:10000 2 unmarked",
        "udp [2001:db8:1::1]:123 0 unmarked",
    ];
    let service = Service::start(&room, &gid, bad);
    let (code, lines) = sockets(&room, &folder, &tunnel);
    assert_eq!(code, 1, "{lines:#?}");
    for line in bad_lines {
        assert!(lines.iter().any(|l| l == line), "{line}: {lines:#?}");
    }
    // The kernel writes the scope as it likes.
    assert!(lines.iter().any(|l| l.starts_with("udp [fe80::1%") && l.contains(" 0 unmarked")), "{lines:#?}");
    assert_eq!(lines.len(), good_lines.len() + bad_lines.len() + 1);
    drop(service);
    assert_eq!(sockets(&room, &folder, &tunnel).0, 0, "the bad ones are gone");
}

#[test]
fn a_supplementary_group_makes_a_process_the_tunnels_and_another_group_does_not() {
    let (room, folder, gid) = (node(), Folder::new(), group());
    let script = "from socket import *; s = socket(AF_INET, SOCK_DGRAM); s.bind(('', 0)); print('made', flush=True); input()";
    let groups = format!("4,{gid}");
    let _service =
        Service::run(room.command(&["setpriv", "--groups", &groups, "--", "python3", "-c", script]));
    let find = |gid: &str| sockets(&room, &folder, &format!("\toption group '{gid}'\n"));
    assert_eq!(find(&gid), (1, vec!["udp * 0 unmarked".to_owned()]));
    assert_eq!(find(&group()), (0, Vec::new()));
}

#[test]
fn what_exec_marks_by_cgroup_is_marked_and_its_cgroup_makes_a_process_the_tunnels() {
    let (room, folder) = (node(), Folder::new());
    let script = "from socket import *; s = socket(AF_INET, SOCK_DGRAM); s.bind(('', 0)); print('made', flush=True); input()";
    let service =
        Service::run(room.command(&[NARROWGATE, "exec", "--via", "cgroup", "--", "python3", "-c", script]));
    let cgroup = std::fs::read_to_string(format!("/proc/{}/cgroup", service.0.id())).expect("it runs");
    let cgroup = cgroup.lines().find_map(|line| line.strip_prefix("0::")).expect("cgroup v2");
    let found = sockets(&room, &folder, &format!("\toption cgroup '{cgroup}'\n"));
    assert_eq!(found, (0, vec!["udp * 1 marked".to_owned()]));
}

#[test]
fn without_the_right_to_see_marks_it_fails_and_says_so() {
    let (room, folder, gid) = (node(), Folder::new(), group());
    let config = folder.file(
        "narrowgate",
        &format!(
            "config uplink 'wan'\n\toption device 'wan'\n\nconfig tunnel 'vpn'\n\toption group '{gid}'\n"
        ),
    );
    let mut command =
        room.command(&["setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin", "--"]);
    command.args([NARROWGATE, "status", "--sockets", "--config", &config]);
    let said = room::refuse(&mut command, 1);
    assert!(said.contains("CAP_NET_ADMIN"), "{said}");
    let mut command = room.command(&[NARROWGATE, "status", "--sockets", "--prometheus", "--config", &config]);
    assert!(room::refuse(&mut command, 2).contains("--prometheus"));
    let bad = folder.file("bad", "config uplink 'wan'\n");
    let mut command = room.command(&[NARROWGATE, "status", "--sockets", "--config", &bad]);
    assert!(room::refuse(&mut command, 2).contains("bad:1:"));
}
