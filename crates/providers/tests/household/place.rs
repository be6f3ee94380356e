//! Two network namespaces and a cable: the household with its daemons (dnsmasq, radvd, Kea), the node in which the test's
//! own thread lives.

use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The namespaces, the cable and the daemon; gone when dropped.
pub struct Place {
    home: String,
    node: String,
    dir: PathBuf,
    dnsmasq: Option<Child>,
    /// The others.
    daemons: Vec<Child>,
    /// Another station on the household's network, if there is one.
    neighbour: Option<String>,
}

/// The node's end of the cable.
pub const WAN: &str = "wan0";

impl Place {
    /// Sets it up and moves this thread into the node. The household's end is up with 192.0.2.1/24, 198.51.100.1/24,
    /// 2001:db8:1::1/64 and 2001:db8:2::1/64; the node's end is down.
    pub fn new() -> Place {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let id = format!("ngp{}x{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(&id);
        fs::create_dir(&dir).unwrap();
        let place = Place {
            home: format!("{id}h"),
            node: format!("{id}n"),
            dir,
            dnsmasq: None,
            daemons: Vec::new(),
            neighbour: None,
        };
        ip(&["netns", "add", &place.home]);
        ip(&["netns", "add", &place.node]);
        ip(&["-n", &place.home, "link", "set", "lo", "up"]);
        ip(&["-n", &place.node, "link", "set", "lo", "up"]);
        let ns = fs::File::open(Path::new("/run/netns").join(&place.node)).unwrap();
        let kind = Some(rustix::thread::LinkNameSpaceType::Network);
        rustix::thread::move_into_link_name_space(ns.as_fd(), kind).expect("these tests need root: setns(2)");
        place.plug();
        place.home_up();
        place
    }

    /// Makes the cable; both ends are down.
    pub fn plug(&self) {
        ip(&["link", "add", WAN, "type", "veth", "peer", "name", "lan0", "netns", &self.home]);
        self.home_sysctl("net/ipv6/conf/lan0/accept_dad", "0");
        for (name, value) in [("accept_ra", "0"), ("optimistic_dad", "1"), ("use_optimistic", "1")] {
            fs::write(format!("/proc/sys/net/ipv6/conf/{WAN}/{name}"), value).unwrap();
        }
    }

    /// Takes the cable away, and with it the node's device.
    pub fn unplug(&self) {
        ip(&["link", "del", WAN]);
    }

    /// Switches the household's end on (again).
    pub fn home_up(&self) {
        ip(&["-n", &self.home, "link", "set", "lan0", "up"]);
        for addr in ["192.0.2.1/24", "198.51.100.1/24"] {
            ip(&["-n", &self.home, "addr", "replace", addr, "dev", "lan0"]);
        }
        for addr in ["2001:db8:1::1/64", "2001:db8:2::1/64"] {
            ip(&["-n", &self.home, "addr", "replace", addr, "dev", "lan0", "nodad"]);
        }
    }

    /// Runs `ip` in the household.
    pub fn home(&self, args: &[&str]) -> String {
        ip(&[&["-n", &self.home], args].concat())
    }

    /// Takes the carrier away from the node.
    pub fn home_down(&self) {
        ip(&["-n", &self.home, "link", "set", "lan0", "down"]);
    }

    /// Starts the household's daemon with these options, in place of the one that runs; it has forgotten all leases.
    pub fn dnsmasq(&mut self, options: &[&str]) {
        self.stop_dnsmasq();
        let leases = self.dir.join("leases");
        let _ = fs::remove_file(&leases);
        let log = fs::File::options().create(true).append(true).open(self.dir.join("log")).unwrap();
        let child = Command::new("ip")
            .args(["netns", "exec", &self.home, "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null"])
            .args(["--no-resolv", "--no-hosts", "--port=0", "--user=root", "--pid-file=", "--interface=lan0"])
            .args(["--bind-dynamic", "--log-dhcp", "--log-facility=-"])
            .arg(format!("--dhcp-leasefile={}", leases.display()))
            .args(options)
            .stdin(Stdio::null())
            .stderr(log.try_clone().unwrap())
            .stdout(log)
            .spawn()
            .expect("these tests need dnsmasq (Debian: dnsmasq-base)");
        self.dnsmasq = Some(child);
    }

    /// Ends the household's daemon: what is asked then is not answered.
    pub fn stop_dnsmasq(&mut self) {
        if let Some(mut child) = self.dnsmasq.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Another station on the household's network, with these addresses.
    pub fn neighbour(&mut self, addresses: &[&str]) {
        let name = self.home.clone() + "2";
        ip(&["netns", "add", &name]);
        self.neighbour = Some(name.clone());
        let link =
            ["link", "add", "lan1", "link", "lan0", "netns", &name, "type", "macvlan", "mode", "bridge"];
        self.home(&link);
        ip(&["-n", &name, "link", "set", "lan1", "up"]);
        for address in addresses {
            ip(&["-n", &name, "addr", "add", address, "dev", "lan1"]);
        }
    }

    /// Starts radvd in the household, with what is to be said on its interface.
    pub fn radvd(&mut self, interface: &str) {
        self.radvd_in(&self.home.clone(), "lan0", interface);
    }

    /// Starts radvd in the neighbour, which is a second router then.
    pub fn second_router(&mut self, interface: &str) {
        let name = self.neighbour.clone().expect("a neighbour");
        self.radvd_in(&name, "lan1", interface);
    }

    fn radvd_in(&mut self, namespace: &str, device: &str, interface: &str) {
        let config = self.dir.join(format!("radvd-{device}.conf"));
        fs::write(&config, format!("interface {device} {{ AdvSendAdvert on; {interface} }};")).unwrap();
        self.sysctl(namespace, "net/ipv6/conf/all/forwarding", "1");
        let pid = self.dir.join(format!("radvd-{device}.pid"));
        self.daemon(
            namespace,
            "radvd",
            &["-n", "-m", "stderr", "-d", "1", "-C", text(&config), "-p", text(&pid)],
            &[],
        );
    }

    /// Starts one of Kea's servers with this config.
    pub fn kea(&mut self, program: &str, config: &str) {
        let file = self.dir.join(format!("{program}.conf"));
        fs::write(&file, config).unwrap();
        let dir = text(&self.dir).to_owned();
        let dirs = [("KEA_PIDFILE_DIR", dir.as_str()), ("KEA_LOCKFILE_DIR", "none")];
        self.daemon(&self.home.clone(), program, &["-c", text(&file)], &dirs);
    }

    fn daemon(&mut self, namespace: &str, program: &str, args: &[&str], env: &[(&str, &str)]) {
        let log = fs::File::options().create(true).append(true).open(self.dir.join("log")).unwrap();
        let child = Command::new("ip")
            .args(["netns", "exec", namespace, program])
            .args(args)
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stderr(log.try_clone().unwrap())
            .stdout(log)
            .spawn()
            .unwrap_or_else(|e| {
                panic!("{program}: {e} (these tests need radvd, kea-dhcp4-server, kea-dhcp6-server)")
            });
        self.daemons.push(child);
    }

    /// Ends the daemon that was started last, as an administrator would: radvd then says that it is no router any more.
    pub fn stop_second_router(&mut self) {
        let child = self.daemons.pop().expect("a second router");
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.daemons.insert(0, child);
    }

    /// Ends all daemons but dnsmasq.
    pub fn stop_daemons(&mut self) {
        for mut child in self.daemons.drain(..) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// What the household's daemon has said so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// Waits until it has said this.
    pub fn wait_for_log(&self, text: &str) {
        let end = Instant::now() + Duration::from_secs(5);
        while !self.log().contains(text) {
            assert!(Instant::now() < end, "the daemon never says {text:?}");
            std::thread::yield_now();
        }
    }

    /// A directory for the provider's state.
    pub fn state_dir(&self) -> narrowgate_sys::path::PathBuf {
        self.dir.join("state").into()
    }

    /// The household's neighbour table takes up who announces an address.
    pub fn learn_from_announcements(&self) {
        self.home_sysctl("net/ipv4/conf/lan0/arp_accept", "1");
    }

    fn home_sysctl(&self, name: &str, value: &str) {
        self.sysctl(&self.home, name, value);
    }

    fn sysctl(&self, namespace: &str, name: &str, value: &str) {
        let mut tee = Command::new("ip")
            .args(["netns", "exec", namespace, "tee", &format!("/proc/sys/{name}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        tee.stdin.take().unwrap().write_all(value.as_bytes()).unwrap();
        assert!(tee.wait().unwrap().success(), "sysctl {name}");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.stop_dnsmasq();
        self.stop_daemons();
        if std::thread::panicking() {
            eprintln!("--- the household's daemon:\n{}", self.log());
        }
        for name in [&self.home, &self.node].into_iter().chain(&self.neighbour) {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Runs `ip` in this thread's namespace.
pub fn ip(args: &[&str]) -> String {
    let out = Command::new("ip").args(args).output().expect("these tests need iproute2");
    let err = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "ip {}: {err} (these tests need root)", args.join(" "));
    String::from_utf8(out.stdout).unwrap()
}
