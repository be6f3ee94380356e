//! Called as Gluon's wrappers: the mesh VPN's group, the WAN's resolver, and now its route too.

use crate::room::{Folder, NARROWGATE, Room, library, refuse, succeed};
use std::process::Command;

const NAMES: [&str; 2] = ["gluon-wan-dns", "gluon-wan"];
const MARK: &str = "import socket; print(socket.socket().getsockopt(1, 36))";

/// The link that Gluon's package installs, in a folder of its own.
fn wrapper(folder: &Folder, name: &str) -> String {
    let link = format!("{}/{name}", folder.path());
    std::os::unix::fs::symlink(NARROWGATE, &link).expect("writable");
    link
}

#[test]
fn the_command_has_the_mark_the_group_and_its_own_arguments() {
    let folder = Folder::new();
    let gid = narrowgate_sys::process::group("gluon-mesh-vpn").unwrap_or(800);
    for name in NAMES {
        let link = wrapper(&folder, name);
        assert_eq!(succeed(Command::new(&link).args(["id", "-g"])), format!("{gid}\n"));
        let script = "echo -$1-; exec python3 -c \"$0\"";
        assert_eq!(succeed(Command::new(&link).args(["sh", "-c", script, MARK, "-v"])), "--v-\n1\n");
        let said = refuse(&mut Command::new(&link), 2);
        assert!(said.contains(&format!("write {name} COMMAND")), "{said}");
        refuse(Command::new(&link).arg("there-is-no-such-program"), 127);
    }
}

#[test]
fn a_static_program_is_marked_and_its_dns_goes_to_port_54() {
    let folder = Folder::new();
    let link = wrapper(&folder, "gluon-wan");
    let source = "#include <stdio.h>\n#include <sys/socket.h>\n\
        int main(void) { int mark = -1; socklen_t len = sizeof mark; int s = socket(AF_INET6, SOCK_DGRAM, 0);\n\
        getsockopt(s, SOL_SOCKET, SO_MARK, &mark, &len); printf(\"%d\\n\", mark); }";
    let fixed = folder.compile(&["cc", "-static"], "fixed", source);
    let room = Room::new("ip route add default dev lo");
    assert_eq!(room.run(&[&link, &fixed]), "1\n");
    room.resolver("127.0.0.1:54");
    let said = room.run(&[&link, "busybox", "nslookup", "-type=a", "vpn.example.net", "192.0.2.53"]);
    assert!(said.contains("192.0.2.1"), "{said}");
}

/// Without cgroups, as on a kernel that was built without BPF for them.
fn without_cgroups(link: &str, command: &[&str]) -> Command {
    let mut child = Command::new("setpriv");
    child.args(["--bounding-set", "-sys_admin,-net_admin,-bpf", link]).args(command);
    child
}

#[test]
fn without_cgroups_the_library_marks() {
    let folder = Folder::new();
    // The library lies beside the program.
    let link = format!("{}/gluon-wan-dns", folder.path());
    std::fs::copy(NARROWGATE, &link).expect("writable");
    std::fs::copy(library(), format!("{}/libpacketmark.so", folder.path())).expect("writable");
    assert_eq!(succeed(&mut without_cgroups(&link, &["python3", "-c", MARK])), "1\n");
}

#[test]
fn what_cannot_be_marked_runs_in_the_group_and_is_told() {
    let folder = Folder::new();
    let link = wrapper(&folder, "gluon-wan-dns");
    let fixed = folder.compile(
        &["cc", "-static"],
        "fixed",
        "#include <stdio.h>\n#include <unistd.h>\nint main(void) { printf(\"%d\\n\", (int)getgid()); }",
    );
    let gid = narrowgate_sys::process::group("gluon-mesh-vpn").unwrap_or(800);
    let output = without_cgroups(&link, &[&fixed]).output().expect("starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{gid}\n"), "{said}");
    assert!(said.contains("gluon-wan-dns: not marked: ") && said.lines().count() == 1, "{said}");
}
