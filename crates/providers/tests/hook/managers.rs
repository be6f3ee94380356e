//! The ready-made hooks with the managers that call them.

use crate::place::{self, Place, WAN};
use crate::{dir, dns, hand_over, provider, routes, said};
use narrowgate_model::Facts;
use narrowgate_model::facts::UplinkState;
use narrowgate_sys::path::{Path, PathBuf};
use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Child, Command, Stdio};

const PACKAGING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging/managers");

/// The snippet of docs/hook.md of that language, for this device.
fn snippet(language: &str) -> String {
    let page = include_str!("../../../../docs/hook.md");
    let text = page.split(&format!("```{language}\n")).nth(1).and_then(|rest| rest.split("```").next());
    text.expect("the page has a snippet").replace("eth0", WAN)
}

/// Directories of a test's own in the places of the system's, for a manager and what it calls.
struct System {
    root: PathBuf,
    /// The system's, and ours below `root`.
    mounts: Vec<(&'static str, &'static str)>,
}

impl System {
    fn new(place: &Place, mounts: &[(&'static str, &'static str)]) -> System {
        let root = place.state_dir().with_file_name("system");
        let mounts: Vec<_> = mounts.iter().copied().chain([("/run", "run")]).collect();
        for (_, ours) in &mounts {
            fs::create_dir_all(root.join(ours)).unwrap();
        }
        // What hooks write to /run/narrowgate/uplink the provider finds in its own directory.
        fs::create_dir_all(dir(place)).unwrap();
        fs::create_dir_all(root.join("run/narrowgate")).unwrap();
        symlink(dir(place), root.join("run/narrowgate/uplink")).unwrap();
        System { root, mounts }
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.root.join(name), text).unwrap();
    }

    fn hook(&self, from: &str, to: &str) {
        fs::copy(Path::new(PACKAGING).join(from), self.root.join(to)).unwrap();
    }

    /// A command that sees our directories, as the first process of a namespace that ends with it.
    fn command(&self, words: &[&str]) -> Command {
        let mut script = String::from("set -e; root=$1; shift; mount -t sysfs -o ro none /sys\n");
        for (system, ours) in &self.mounts {
            script += &format!("mount --bind \"$root/{ours}\" {system}\n");
        }
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c"]);
        command.arg(script + "exec \"$@\"").arg("sh").arg(&self.root).args(words).stdin(Stdio::null());
        command
    }
}

/// A running dhcpcd; gone when dropped.
struct Dhcpcd {
    log: PathBuf,
    child: Child,
}

impl Dhcpcd {
    fn start(place: &Place, config: &str) -> Dhcpcd {
        let hooks = ("/lib/dhcpcd/dhcpcd-hooks", "hooks");
        let system = System::new(place, &[hooks, ("/var/lib/dhcpcd", "lib")]);
        system.hook("dhcpcd/70-narrowgate", "hooks/70-narrowgate");
        // Its check for somebody else with the address takes 5 s.
        system.write("run/dhcpcd.conf", &format!("duid\n{config}\nnoarp\n"));
        let log = system.root.join("log");
        let out = fs::File::create(&log).unwrap();
        let child = system
            .command(&["dhcpcd", "--nobackground", "--config", "/run/dhcpcd.conf", WAN])
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .expect("these tests need unshare (util-linux) and dhcpcd (Debian: dhcpcd-base)");
        Dhcpcd { log, child }
    }
}

impl Drop for Dhcpcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- dhcpcd:\n{}", fs::read_to_string(&self.log).unwrap_or_default());
        }
    }
}

const HOUSEHOLD: [&str; 8] = [
    "--no-ping",
    "--dhcp-range=192.0.2.50,192.0.2.99,5m",
    "--dhcp-range=2001:db8:1::,ra-only,64,5m",
    "--enable-ra",
    "--dhcp-option=option:dns-server,192.0.2.53",
    "--dhcp-option=option:domain-name,home.example",
    "--dhcp-option=option6:dns-server,[fe80::],[2001:db8:1::53]",
    "--dhcp-option=121,198.51.100.0/24,192.0.2.7,0.0.0.0/0,192.0.2.1",
];

const BOTH: [&str; 5] = [
    "0.0.0.0/0 192.0.2.1",
    "192.0.2.0/24 ",
    "198.51.100.0/24 192.0.2.7",
    "2001:db8:1::/64 ",
    "::/0 a router",
];

fn complete(facts: &Facts) -> bool {
    let known = routes(facts);
    let all = BOTH.iter().all(|route| known.iter().any(|r| r == route));
    facts.state() == UplinkState::Up && all && facts.dns.len() == 3
}

#[test]
fn dhcpcd_with_the_documented_lines_hands_over_everything_and_keeps_out_of_the_main_table() {
    let mut place = Place::new();
    place.dnsmasq(&HOUSEHOLD);
    let mut node = provider(&place);
    let dhcpcd = Dhcpcd::start(&place, &snippet("conf"));
    node.until("both families", complete);
    let facts = node.provider.facts();
    let known = dns(facts);
    for server in ["192.0.2.53", "2001:db8:1::53"] {
        assert!(known.contains(&server.to_owned()), "{known:?}");
    }
    assert!(known.iter().any(|s| s.starts_with("fe80::") && s.ends_with("%wan0")), "{known:?}");
    assert_eq!(facts.search, ["home.example"]);
    assert_eq!(said(&*node.provider, "problem"), "");
    assert!(said(&*node.provider, "handed").ends_with(" by dhcpcd"));
    for family in ["-4", "-6"] {
        let main = place::ip(&[family, "route", "show", "table", "main", "default"]);
        assert_eq!(main, "");
    }
    place.home_down();
    node.until("nothing", |facts| facts.dns.is_empty() && facts.routes.iter().all(|r| r.via.is_none()));
    place.home_up();
    node.until("up again", complete);
    drop(dhcpcd);
}

#[test]
fn a_dhcpcd_that_takes_the_main_table_is_told_to_leave_it() {
    let mut place = Place::new();
    place.dnsmasq(&HOUSEHOLD);
    let mut node = provider(&place);
    let _dhcpcd = Dhcpcd::start(&place, &snippet("conf").replace("nogateway\n", ""));
    let problem = "dhcpcd writes the default route of wan0 to the main table: tell it not to";
    node.until_all("says so", |p| said(p, "problem").starts_with(problem));
    node.until("the facts all the same", complete);
}

/// What a machine with ifupdown and dhclient has.
fn ifupdown(place: &Place, interfaces: &str) -> System {
    let mounts = [
        ("/etc/network/if-up.d", "if-up.d"),
        ("/etc/network/if-down.d", "if-down.d"),
        ("/etc/network/if-pre-up.d", "if-pre-up.d"),
        ("/etc/network/if-post-down.d", "if-post-down.d"),
        ("/etc/dhcp/dhclient-enter-hooks.d", "enter"),
        ("/etc/dhcp/dhclient-exit-hooks.d", "exit"),
        ("/var/lib/dhcp", "lib"),
    ];
    let system = System::new(place, &mounts);
    system.hook("ifupdown/narrowgate", "if-up.d/narrowgate");
    system.hook("ifupdown/narrowgate", "if-down.d/narrowgate");
    system.hook("dhclient/narrowgate", "exit/narrowgate");
    let page = include_str!("../../../../docs/hook.md");
    let own = page.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    system.write("enter/own", own);
    system.write("run/interfaces", interfaces);
    system
}

impl System {
    fn run(&self, program: &str, device: &str) {
        let words = [program, "--verbose", "--interfaces", "/run/interfaces", device];
        let output = self.command(&words).output().expect("these tests need ifupdown");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn a_lease_of_dhclient_is_handed_over_and_taken_away() {
    let mut place = Place::new();
    place.dnsmasq(&HOUSEHOLD[..HOUSEHOLD.len() - 1]); // classless routes are for a hook of dhclient's own
    let mut node = provider(&place);
    let system = ifupdown(&place, &format!("iface {WAN} inet dhcp\n"));
    system.run("ifup", WAN);
    node.until("the lease", |facts| facts.state() == UplinkState::Up && dns(facts) == ["192.0.2.53"]);
    assert_eq!(node.provider.facts().search, ["home.example"]);
    let problem = "dhclient writes the default route of wan0 to the main table: ";
    node.until_all("says so", |p| said(p, "problem").starts_with(problem));
    system.run("ifdown", WAN);
    node.until_all("gone", |p| said(p, "problem").contains("is the hook installed?"));
}

#[test]
fn ifupdown_hands_over_what_is_written_and_takes_it_away() {
    let place = Place::new();
    let mut node = provider(&place);
    let manual = "\niface lo inet loopback\niface other inet manual\n";
    let system = ifupdown(&place, &(snippet("interfaces") + manual));
    place::ip(&["link", "add", "other", "type", "veth"]);
    system.run("ifup", "other");
    assert_eq!(fs::read_dir(dir(&place)).unwrap().count(), 0, "manual is nobody's");
    system.run("ifup", WAN);
    let all = ["0.0.0.0/0 192.0.2.1", "192.0.2.0/24 ", "2001:db8:1::/64 ", "::/0 a router"];
    node.until("everything", |facts| {
        let known = routes(facts);
        known.len() == all.len() && all.iter().all(|route| known.iter().any(|r| r == route))
    });
    let facts = node.provider.facts();
    assert_eq!(
        (dns(facts), facts.search.as_slice()),
        (vec!["192.0.2.53".to_owned()], &["home.example".to_owned()][..])
    );
    assert_eq!(said(&*node.provider, "problem"), "");
    assert_eq!(place::ip(&["route", "show", "default"]), "");
    system.run("ifdown", WAN);
    node.until_all("gone", |p| said(p, "problem").contains("is the hook installed?"));
    hand_over(&dir(&place), "wan0.conf", "nameserver 192.0.2.53\n");
    node.until("by hand", |facts| facts.dns.len() == 1);
}
