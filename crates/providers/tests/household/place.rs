//! Two network namespaces and a cable: the household with a real dnsmasq, the node in which the test's own thread lives.

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
        let place = Place { home: format!("{id}h"), node: format!("{id}n"), dir, dnsmasq: None };
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

    /// What the household's daemon has said so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// Waits until it has said this.
    pub fn wait_for_log(&self, text: &str) {
        let end = Instant::now() + Duration::from_secs(5);
        while !self.log().contains(text) {
            assert!(Instant::now() < end, "dnsmasq never says {text:?}");
            std::thread::yield_now();
        }
    }

    /// A directory for the provider's state.
    pub fn state_dir(&self) -> PathBuf {
        self.dir.join("state")
    }

    fn home_sysctl(&self, name: &str, value: &str) {
        let mut tee = Command::new("ip")
            .args(["netns", "exec", &self.home, "tee", &format!("/proc/sys/{name}")])
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
        if std::thread::panicking() {
            eprintln!("--- the household's daemon:\n{}", self.log());
        }
        for name in [&self.home, &self.node] {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Runs `ip` in this thread's namespace.
pub fn ip(args: &[&str]) -> String {
    let out = Command::new("ip").args(args).output().expect("these tests need iproute2");
    let err = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "ip {}: {err} (these tests need root)", args.join(" "));
    String::from_utf8(out.stdout).unwrap()
}
