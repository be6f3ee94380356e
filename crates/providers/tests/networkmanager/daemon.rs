//! A running NetworkManager with its D-Bus daemon.

use crate::place::Place;
use narrowgate_sys::path::PathBuf;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Both daemons; gone when dropped. The test's thread has to be in the node's namespace when they start.
pub struct Daemon {
    dir: PathBuf,
    bus: Child,
    manager: Option<Child>,
}

impl Daemon {
    /// With this connection.
    pub fn start(place: &Place, connection: &str) -> Daemon {
        let dir = place.state_dir().with_file_name("nm");
        for part in ["run", "lib", "etc/system-connections"] {
            fs::create_dir_all(dir.join(part)).unwrap();
        }
        fs::write(dir.join("etc/NetworkManager.conf"), CONFIG).unwrap();
        let socket = dir.join("bus");
        let bus_config = dir.join("bus.conf");
        fs::write(&bus_config, BUS.replace("SOCKET", socket.to_str().unwrap())).unwrap();
        let log = fs::File::create(dir.join("log")).unwrap();
        let bus = Command::new("dbus-daemon")
            .args(["--nofork", "--nopidfile", "--config-file"])
            .arg(&bus_config)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("these tests need dbus-daemon");
        let mut daemon = Daemon { dir, bus, manager: None };
        daemon.until("a bus", |_| socket.exists());
        let script = format!("#!/bin/sh\nDBUS_SYSTEM_BUS_ADDRESS={} exec nmcli \"$@\"\n", daemon.address());
        fs::write(daemon.nmcli(), script).unwrap();
        fs::set_permissions(daemon.nmcli(), fs::Permissions::from_mode(0o755)).unwrap();
        daemon.restart(connection);
        daemon
    }

    /// Starts NetworkManager (again), and waits until it answers.
    pub fn restart(&mut self, connection: &str) {
        let file = self.dir.join("etc/system-connections/wan.nmconnection");
        fs::write(&file, connection).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let log = fs::File::options().append(true).open(self.dir.join("log")).unwrap();
        // A /sys of this network namespace, read-only: so there is no udev to be waited for.
        let script = "mount --bind \"$1/run\" /run && mount --bind \"$1/etc\" /etc/NetworkManager \
            && mount --bind \"$1/lib\" /var/lib/NetworkManager && mount -t sysfs -o ro none /sys \
            && exec NetworkManager --no-daemon";
        let child = Command::new("unshare")
            .args(["--mount", "sh", "-c", script, "sh"])
            .arg(&self.dir)
            .env("DBUS_SYSTEM_BUS_ADDRESS", self.address())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("these tests need unshare (util-linux)");
        self.manager = Some(child);
        self.until("NetworkManager (Debian: network-manager)", |daemon| {
            let output = Command::new(daemon.nmcli()).args(["-t", "-f", "RUNNING", "general"]).output();
            output.is_ok_and(|output| output.stdout.starts_with(b"running"))
        });
    }

    /// Kills NetworkManager; the bus stays.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.manager.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        self.until("its end", |daemon| {
            let output = Command::new(daemon.nmcli()).args(["-t", "-f", "RUNNING", "general"]).output();
            output.is_ok_and(|output| !output.stdout.starts_with(b"running"))
        });
    }

    /// Where it keeps the devices' state.
    pub fn state(&self) -> PathBuf {
        self.dir.join("run/NetworkManager/devices")
    }

    /// A program that asks it.
    pub fn nmcli(&self) -> PathBuf {
        self.dir.join("nmcli")
    }

    fn address(&self) -> String {
        format!("unix:path={}/bus", self.dir.display())
    }

    fn until(&self, what: &str, there: impl Fn(&Daemon) -> bool) {
        let end = Instant::now() + Duration::from_secs(30);
        while !there(self) {
            assert!(Instant::now() < end, "{what}: never");
            std::thread::yield_now();
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        for child in self.manager.iter_mut().chain([&mut self.bus]) {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let log = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
            eprintln!("--- NetworkManager:\n{log}");
        }
    }
}

/// Nothing of it is this machine's business: no host name, no resolv.conf, no connection that nobody wrote.
const CONFIG: &str = "[main]
plugins=keyfile
dns=none
rc-manager=unmanaged
hostname-mode=none
auth-polkit=false
no-auto-default=*
systemd-resolved=false
[connectivity]
enabled=false
";

const BUS: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path=SOCKET</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/>
<allow send_type="method_call"/><allow send_type="signal"/><allow send_type="method_return"/><allow send_type="error"/>
<allow receive_type="method_call"/><allow receive_type="signal"/><allow receive_type="method_return"/>
<allow receive_type="error"/></policy></busconfig>
"#;
