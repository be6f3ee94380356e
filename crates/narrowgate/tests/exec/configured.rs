//! The config's mark and resolver, where the command line names none.

use crate::room::{Folder, NARROWGATE, Room, refuse, succeed};
use std::process::Command;

const MARK: &str = "import socket; print(socket.socket().getsockopt(1, 36))";
const CONFIG: &str = "
config narrowgate 'globals'
	option mark '0x20/0x20'

config uplink 'wan'
	option device 'eth0'

config resolver 'wan'
	list listen '127.0.0.1:5354'
";

fn exec(config: &str, rest: &[&str]) -> Command {
    let mut command = Command::new(NARROWGATE);
    command.args(["exec", "--via", "cgroup", "--config", config]).args(rest);
    command
}

#[test]
fn the_configs_mark_is_set_unless_another_is_said() {
    let folder = Folder::new();
    let config = folder.file("narrowgate", CONFIG);
    assert_eq!(succeed(&mut exec(&config, &["python3", "-c", MARK])), "32\n");
    assert_eq!(succeed(&mut exec(&config, &["--mark", "2", "python3", "-c", MARK])), "2\n");
}

#[test]
fn dns_goes_where_the_config_has_the_resolver_listen() {
    let folder = Folder::new();
    let config = folder.file("narrowgate", CONFIG);
    let room = Room::new("ip route add default dev lo");
    room.resolver("127.0.0.1:5354");
    let look_up = ["busybox", "nslookup", "-type=a", "vpn.example.net", "192.0.2.53"];
    let said = room.exec(&[&["--via", "cgroup", "--config", &config][..], &look_up].concat());
    assert!(said.contains("192.0.2.1"), "{said}");
}

#[test]
fn a_config_that_is_wrong_or_missing_where_it_was_said_to_be_is_no_reason_to_guess() {
    let folder = Folder::new();
    let config = folder.file("narrowgate", &CONFIG.replace("0x20/0x20", "many"));
    let said = refuse(&mut exec(&config, &["true"]), 2);
    assert!(said.contains("narrowgate:3:14: ") && said.contains("or say --mark"), "{said}");
    let said = refuse(&mut exec(&format!("{config}-not"), &["true"]), 2);
    assert!(said.contains("narrowgate-not: the config cannot be read"), "{said}");
    succeed(&mut exec(&config, &["--mark", "1", "--no-dns", "true"]));
}
