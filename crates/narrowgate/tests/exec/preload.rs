//! `--via preload`: what the library would miss is refused before it starts.

use crate::room::{Folder, NARROWGATE, Room, library, refuse, succeed};
use std::process::Command;

const MARK: &str = "import socket; print(socket.socket().getsockopt(1, 36))";

fn exec(words: &[&str]) -> Command {
    let mut command = Command::new(NARROWGATE);
    command.args(["exec", "--via", "preload", "--library", &library()]).args(words);
    command
}

#[test]
fn sockets_are_marked_and_other_preloads_stay() {
    let script = format!("{MARK}; import os; print(os.environ['LD_PRELOAD'])");
    let mut command = exec(&["--no-dns", "--mark", "0x10/0xff", "python3", "-c", &script]);
    let said = succeed(command.env("LD_PRELOAD", "libm.so.6"));
    assert_eq!(said, format!("16\n{}:libm.so.6\n", library()));
}

#[test]
fn dns_needs_the_group_whose_dns_is_redirected() {
    let said = succeed(&mut exec(&["--group", "4711", "sh", "-c", "id -g"]));
    assert_eq!(said, "4711\n");
    if narrowgate_sys::process::group("gluon-mesh-vpn").is_err() {
        let said = refuse(&mut exec(&["true"]), 1);
        assert!(said.contains("write --group"), "{said}");
    }
    let said = refuse(&mut exec(&["--group", "1", "--resolver", "127.0.0.1:54", "true"]), 1);
    assert!(said.contains("--resolver"), "{said}");
}

#[test]
fn static_and_setuid_programs_are_refused_unless_told() {
    let folder = Folder::new();
    let source = "int main(void) { return 7; }";
    let fixed = folder.compile(&["cc", "-static"], "fixed", source);
    let setuid = folder.compile(&["cc"], "setuid", source);
    succeed(Command::new("chmod").args(["u+s", &setuid]));
    let script = folder.file("script", &format!("#! {fixed} -x\n"));
    succeed(Command::new("chmod").args(["+x", &script]));
    for (program, cause) in [(&fixed, "a static program"), (&setuid, "setuid"), (&script, "a static program")]
    {
        let said = refuse(&mut exec(&["--no-dns", program]), 1);
        assert!(said.contains(cause) && said.contains("use --via cgroup"), "{said}");
        let status = exec(&["--no-dns", "--best-effort", program]).status().expect("starts");
        assert_eq!(status.code(), Some(7));
    }
}

#[test]
fn a_command_that_may_not_mark_is_refused_by_preload_and_marked_by_cgroup() {
    let said = refuse(&mut exec(&["--no-dns", "--user", "nobody", "python3", "-c", MARK]), 1);
    assert!(said.contains("CAP_NET_ADMIN"), "{said}");
    let room = Room::new("");
    assert_eq!(room.exec(&["--via", "auto", "--user", "nobody", "python3", "-c", MARK]), "1\n");
}

#[test]
fn auto_takes_the_preload_where_no_program_can_be_loaded_and_says_so() {
    let library = library();
    let limited = |capabilities: &str| {
        let mut command = Command::new("setpriv");
        command.args([&format!("--bounding-set={capabilities}"), NARROWGATE, "exec", "-v", "--no-dns"]);
        command.args(["--library", &library, "python3", "-c", MARK]);
        command
    };
    let output = limited("-all,+net_raw").output().expect("setpriv starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "1\n", "{said}");
    assert!(said.contains("no cgroup: ") && said.contains("via preload "), "{said}");
    let said = refuse(&mut limited("-all"), 1);
    assert!(said.contains("neither way works") && said.contains("CAP_NET_RAW"), "{said}");
}
