//! `exec` is nothing but the command: arguments, environment, status, signals, descriptors; no process beside it.

use crate::room::{NARROWGATE, Room, refuse, succeed};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Command;

fn exec(words: &[&str]) -> Command {
    let mut command = Command::new(NARROWGATE);
    command.arg("exec").args(words);
    command
}

#[test]
fn arguments_and_environment_pass_through() {
    let script = r#"printf '[%s]' "$@" "$ODD"; env | grep -c -e LD_PRELOAD -e PACKETMARK || true"#;
    let said = succeed(
        exec(&["--via", "cgroup", "sh", "-c", script, "sh", "a b", "", "--", "-v"]).env("ODD", "x\ny"),
    );
    assert_eq!(said, "[a b][][--][-v][x\ny]0\n");
}

#[test]
fn the_process_stays_the_same_and_so_does_its_end() {
    let mut child = exec(&["--via", "cgroup", "sh", "-c", "exit 42"]).spawn().expect("starts");
    assert_eq!(child.wait().expect("ends").code(), Some(42));
    let status = exec(&["--via", "cgroup", "sh", "-c", "kill -TERM $$"]).status().expect("starts");
    assert_eq!(status.signal(), Some(15));
    let child =
        exec(&["--via", "cgroup", "sh", "-c", "echo $$"]).stdout(std::process::Stdio::piped()).spawn();
    let child = child.expect("starts");
    let id = child.id();
    assert_eq!(String::from_utf8_lossy(&child.wait_with_output().expect("ends").stdout), format!("{id}\n"));
}

#[test]
fn what_is_missing_is_127_and_what_is_no_program_126() {
    for via in ["cgroup", "auto"] {
        let said = refuse(&mut exec(&["--via", via, "there-is-no-such-program"]), 127);
        assert!(said.starts_with("narrowgate: exec: there-is-no-such-program: No such file"), "{said}");
        refuse(&mut exec(&["--via", via, "/etc/passwd"]), 126);
    }
    refuse(&mut exec(&["--via", "cgroup"]), 2);
}

#[test]
fn ignored_signals_stay_ignored_and_others_do_not_become_so() {
    let ignored = |prefix: &str| {
        let script =
            format!(r#"{prefix} exec "$0" exec --via cgroup grep -E 'Sig(Ign|Blk)' /proc/self/status"#);
        succeed(Command::new("sh").args(["-c", &script, NARROWGATE]))
    };
    let plain = |prefix: &str| {
        succeed(
            Command::new("sh")
                .args(["-c", &format!("{prefix} exec grep -E 'Sig(Ign|Blk)' /proc/self/status")]),
        )
    };
    for prefix in ["", "trap '' PIPE;", "trap '' HUP PIPE;"] {
        assert_eq!(ignored(prefix), plain(prefix), "{prefix:?}");
    }
}

#[test]
fn nothing_of_ours_is_open_in_the_command() {
    let script = "ls /proc/self/fd | wc -l";
    let ours = succeed(&mut exec(&["--via", "cgroup", "sh", "-c", script]));
    assert_eq!(ours, succeed(Command::new("sh").args(["-c", script])));
}

#[test]
fn group_and_user_are_the_commands() {
    let id = |words: &[&str]| {
        succeed(&mut exec(&[&["--via", "cgroup"], words, &["sh", "-c", "id -u; id -g; id -G"]].concat()))
    };
    let own = succeed(Command::new("sh").args(["-c", "id -u; id -g; id -G"]));
    assert_eq!(id(&[]), own);
    let nobody = succeed(Command::new("sh").args(["-c", "id -u nobody; id -g nobody; id -G nobody"]));
    assert_eq!(id(&["--user", "nobody"]), nobody);
    let lines = id(&["--user", "nobody", "--group", "800"]);
    assert_eq!(lines.lines().nth(1), Some("800"));
    let said = refuse(&mut exec(&["--group", "there-is-no-such-group", "true"]), 1);
    assert!(said.starts_with("narrowgate: exec: --group there-is-no-such-group: "), "{said}");
}

#[test]
fn a_cgroup_that_is_empty_is_removed_by_the_next_exec() {
    let group = || {
        let said = succeed(&mut exec(&["--via", "cgroup", "grep", "^0::", "/proc/self/cgroup"]));
        said.trim().rsplit('/').next().expect("a path").to_owned()
    };
    let first = group();
    assert!(first.starts_with("narrowgate-exec."), "{first}");
    let tree = narrowgate_sys::cgroup::Tree::find().expect("cgroup2");
    let path = tree.own().join(&first);
    group();
    assert_eq!(tree.open(&path).expect_err("it was removed").kind(), narrowgate_sys::io::ErrorKind::NotFound);
}

#[test]
fn it_works_where_cgroup2_is_not_mounted_and_nested_in_itself() {
    let room = Room::new("umount -R /sys/fs/cgroup; ! grep cgroup2 /proc/self/mountinfo");
    let script = "import socket; print(socket.socket().getsockopt(1, 36))";
    assert_eq!(room.exec(&["--via", "cgroup", "python3", "-c", script]), "1\n");
    let inner = [NARROWGATE, "exec", "--via", "cgroup", "--mark", "4/4", "python3", "-c", script];
    let said = room.exec(&[&["--via", "cgroup", "--mark", "2/2"], &inner[..]].concat());
    assert_eq!(said, "6\n", "both marks, each under its mask");
    assert!(!room.run(&["cat", "/proc/self/mountinfo"]).contains("cgroup2"), "nothing stays mounted");
}

#[test]
fn without_root_it_says_so_and_starts_nothing() {
    let mut command = exec(&["--via", "cgroup", "touch", "/tmp/narrowgate-must-not-be"]);
    let said = refuse(command.uid(65534).gid(65534), 1);
    assert!(said.contains("; run it as root"), "{said}");
    assert!(!std::path::Path::new("/tmp/narrowgate-must-not-be").exists());
}

#[test]
fn many_at_once_do_not_disturb_each_other() {
    let start = |_| exec(&["--via", "cgroup", "true"]).spawn().expect("starts");
    let children: Vec<_> = (0..20).map(start).collect();
    for mut child in children {
        assert!(child.wait().expect("ends").success());
    }
}
