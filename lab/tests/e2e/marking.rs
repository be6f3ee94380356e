//! Whether the tunnel's sockets are marked, as the kernel tells it, and how they come to be: by fastd itself, or by its cgroup.

use std::fs;
use std::path::PathBuf;

use narrowgate_lab::daemon::Running;
use narrowgate_lab::fastd::Start;
use narrowgate_lab::layout::{GATE_PORT, GATE4, TUNNEL_GID, WAN};
use narrowgate_lab::place::Place;
use narrowgate_lab::snapshot::Snapshot;
use narrowgate_lab::sort::Kind;
use narrowgate_lab::{Host, Lab, Options, demo, wait};

use crate::scene::{READY, SOON, Scene};

/// `narrowgate status --sockets`: its exit code, and the table.
fn sockets(lab: &Lab) -> (i32, String) {
    let (code, out, err) = lab.narrowgate(&["status", "--sockets"]).unwrap();
    assert_eq!(err, "");
    (code, out)
}

/// The lines about a program that have this word.
fn count(table: &str, program: &str, word: &str) -> usize {
    table.lines().filter(|line| line.starts_with(program) && line.contains(word)).count()
}

/// Takes fastd's own mark out of its config.
fn forget_packet_mark(lab: &Lab, start: Start) -> PathBuf {
    let path = lab.file(&format!("node-fastd-{start:?}.conf"));
    let config = fs::read_to_string(&path).unwrap();
    let forgetful = config.replace("packet mark 1;\n", "");
    assert_ne!(config, forgetful);
    fs::write(&path, forgetful).unwrap();
    path
}

#[test]
fn a_fastd_with_its_packet_mark_and_the_resolvers_are_found_marked() {
    let scene = Scene::tunnel_up(Options::default());
    scene.assert_wan_dns_works("before the sockets are looked at");
    let (code, table) = sockets(&scene.lab);
    assert_eq!(code, 0, "{table}");
    assert!(count(&table, "fastd", " 0x1 ") > 0, "{table}");
    assert_eq!(table.matches("UNMARKED").count(), 0, "{table}");
    for owner in ["tunnel mesh_vpn", "resolver wan", "resolver mesh"] {
        assert!(table.lines().any(|line| line == owner), "{owner}: {table}");
    }
}

#[test]
fn a_fastd_that_forgot_its_packet_mark_is_found_and_leaks_nothing() {
    let scene = Scene::uplink_up(Options::default());
    forget_packet_mark(&scene.lab, Start::InGroup);
    let _fastd = scene.lab.start_fastd(Start::InGroup).unwrap();
    wait::until("fastd's sockets", SOON, || {
        Ok((count(&sockets(&scene.lab).1, "fastd", "UNMARKED") > 0).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", sockets(&scene.lab).1));
    assert_eq!(sockets(&scene.lab).0, 1);
    scene.capture.assert_no_leak("with a fastd that does not mark").unwrap();
}

/// As tunneldigger, started as Gluon's init script does (840-narrowgate-tunneldigger).
#[test]
fn a_vpn_that_binds_to_the_device_and_marks_nothing_gets_out_by_exec_alone() {
    let scene = Scene::uplink_up(Options::default());
    let node = scene.lab.host(Host::Node);
    let client = format!(
        "import sys, time\nfrom socket import *\ns = socket(AF_INET, SOCK_DGRAM)\ns.setsockopt(SOL_SOCKET, 25, b'{}')\n\
         sent = 0\nfor _ in range(int(sys.argv[1])):\n try: sent += s.sendto(bytes.fromhex('8073a701'), ('{GATE4}', {GATE_PORT})) > 0\n \
         except OSError: pass\n time.sleep(0.05)\nprint(sent)",
        WAN.0
    );
    let sent = node.command("python3").args(["-c", &client, "5"]).read().unwrap();
    assert_eq!(sent.trim(), "0", "the guard refuses what is not marked");
    let pid_file = scene.lab.file("client.pid").display().to_string();
    let program = narrowgate_lab::daemon::narrowgate().unwrap().display().to_string();
    let group = format!("root:{TUNNEL_GID}");
    let start = ["-S", "-q", "-b", "-m", "-c", &group, "-p", &pid_file, "-x", &program, "--"];
    let command = ["exec", "--", "python3", "-c", &client, "4000"];
    node.command("start-stop-daemon").args(start).args(command).read().unwrap();
    scene
        .capture
        .wait_for("its packet at the household", SOON, |seen| seen.kind == Kind::Tunnel)
        .unwrap_or_else(|error| panic!("{error}\n{}", scene.log()));
    let name = format!("cat /proc/$(cat {pid_file})/comm");
    let name = node.command("sh").args(["-c", &name]).read().unwrap();
    assert!(name.starts_with("python3"), "the number in the pid file is another's: {name}");
    node.command("start-stop-daemon").args(["-K", "-q", "-p", &pid_file]).read().unwrap();
    scene.capture.assert_no_leak("with a client that marks nothing").unwrap();
}

/// A service's cgroup, in that of the lab, which comes and goes with the service.
struct Unit {
    place: Place,
    directory: PathBuf,
    /// As `option cgroup` names it.
    path: String,
}

impl Unit {
    fn new(lab: &Lab) -> Unit {
        let mut place = lab.host(Host::Node);
        let above = place.cgroup.clone().expect("the lab needs cgroup v2");
        let directory = above.join("fastd@mesh.service");
        fs::create_dir(&directory).unwrap();
        place.cgroup = Some(directory.clone());
        let text = place.command("cat").arg("/proc/self/cgroup").read().unwrap();
        let path = text.lines().find_map(|line| line.strip_prefix("0::")).expect("cgroup v2").to_owned();
        let unit = Unit { place, directory, path };
        unit.remove();
        unit
    }

    /// As a service manager does when what was in it has ended.
    fn remove(&self) {
        wait::until("the cgroup to be empty", SOON, || Ok(fs::remove_dir(&self.directory).ok())).unwrap();
    }

    /// The config of the demonstration, with this cgroup in the place of the group.
    fn config(&self) -> String {
        let config = demo::config();
        let group = format!("option group '{}'", narrowgate_lab::layout::TUNNEL_GID);
        assert!(config.contains(&group));
        config.replace(&group, &format!("option cgroup '{}'", self.path))
    }

    /// The mark of a socket that is made in it now.
    fn mark(&self) -> String {
        let script = "from socket import *; print(socket(AF_INET6, SOCK_DGRAM).getsockopt(SOL_SOCKET, 36))";
        self.place.command("python3").args(["-c", script]).read().unwrap().trim().to_owned()
    }
}

#[test]
fn a_service_is_marked_by_its_cgroup_each_time_it_starts() {
    let lab = Lab::new(Options::default()).unwrap();
    let unit = Unit::new(&lab);
    let before = Snapshot::of(&lab.host(Host::Node)).unwrap();
    let mut scene = Scene::with(lab);
    scene.wait_addresses();
    scene.lab.write("narrowgate.conf", &unit.config()).unwrap();
    scene.daemon.signal(nix::sys::signal::Signal::SIGHUP).unwrap();
    scene.lab.wait_logged(&scene.daemon, "waiting for its cgroup", SOON).unwrap();
    // It neither marks its sockets nor has a group.
    let config = forget_packet_mark(&scene.lab, Start::InGroup);
    for round in 1..=2 {
        fs::create_dir(&unit.directory).unwrap();
        let said = format!("its cgroup {} is marked", unit.path);
        wait::until("the cgroup to be marked", SOON, || {
            Ok((scene.lab.read_log("narrowgate").matches(&said).count() == round).then_some(()))
        })
        .unwrap_or_else(|error| panic!("{error}\n{}", scene.log()));
        let name = format!("fastd-{round}");
        let command =
            unit.place.command("fastd").arg("-c").arg(&config).log_to(&scene.lab.log(&name)).unwrap();
        let mut fastd = Running::adopt(&name, command.spawn().unwrap());
        if round == 1 {
            // The gateway ignores a fastd that comes back within 15 s.
            scene.lab.wait_tunnel(&fastd, SOON).unwrap_or_else(|error| panic!("{error}\n{}", scene.log()));
            scene.wait_mesh();
        }
        wait::until("fastd's marked sockets", SOON, || {
            Ok((count(&sockets(&scene.lab).1, "fastd", " 0x1 ") > 0).then_some(()))
        })
        .unwrap_or_else(|error| panic!("{error}\n{}", sockets(&scene.lab).1));
        let (code, table) = sockets(&scene.lab);
        assert_eq!(code, 0, "{table}");
        let (_, status, _) = scene.lab.narrowgate(&["status"]).unwrap();
        assert!(status.contains(&format!("cgroup    {} (marked)", unit.path)), "{status}");
        fastd.terminate(SOON).unwrap();
        unit.remove();
    }
    scene.capture.assert_no_leak("while the service came and went").unwrap();

    // A killed daemon leaves the marking, and the next takes it over; one that is stopped takes it off.
    fs::create_dir(&unit.directory).unwrap();
    wait::until("the cgroup to be marked", SOON, || Ok((unit.mark() == "1").then_some(()))).unwrap();
    scene.daemon.kill().unwrap();
    assert_eq!(unit.mark(), "1");
    scene.daemon = scene.lab.start_narrowgate(&unit.config()).unwrap().0;
    scene.lab.wait_logged(&scene.daemon, "is taken over", SOON).unwrap();
    // A reload without it takes it off, and one with it brings it back.
    for (config, mark) in [(demo::config(), "0"), (unit.config(), "1")] {
        scene.lab.write("narrowgate.conf", &config).unwrap();
        scene.daemon.signal(nix::sys::signal::Signal::SIGHUP).unwrap();
        wait::until("the reload", SOON, || Ok((unit.mark() == mark).then_some(()))).unwrap();
    }
    // So does a start with another config, after a crash.
    scene.daemon.kill().unwrap();
    scene.daemon = scene.lab.start_narrowgate(&demo::config()).unwrap().0;
    assert_eq!(unit.mark(), "0");
    scene.daemon.terminate(SOON).unwrap();
    let (daemon, ready) = scene.lab.start_narrowgate(&unit.config()).unwrap();
    scene.daemon = daemon;
    assert_eq!(unit.mark(), "1", "before READY");
    assert!(ready < READY, "{ready:?}");
    assert!(scene.daemon.terminate(SOON).unwrap().success(), "{}", scene.log());
    assert_eq!(unit.mark(), "0");
    unit.remove();
    before.assert_same(&Snapshot::of(&scene.lab.host(Host::Node)).unwrap(), "the node").unwrap();
}

#[test]
fn what_exec_left_behind_is_swept_at_the_start() {
    let lab = Lab::new(Options::default()).unwrap();
    let node = lab.host(Host::Node);
    let left = node.cgroup.clone().expect("the lab needs cgroup v2").join("narrowgate-exec.0");
    fs::create_dir(&left).unwrap();
    let (_daemon, ready) = lab.start_narrowgate(&demo::config()).unwrap();
    assert!(ready < READY, "{ready:?}");
    wait::until("the sweep", SOON, || Ok((!left.exists()).then_some(()))).unwrap();
}

#[test]
fn a_cgroup_that_cannot_be_marked_is_told_and_the_rest_works() {
    let lab = Lab::new(Options::default()).unwrap();
    let config = demo::config();
    let config = config
        .replace("option device 'mesh-vpn'", "option device 'mesh-vpn'\n\toption cgroup '/cgroup.procs/x'");
    assert!(config.contains("cgroup.procs"));
    let (_daemon, _) = lab.start_narrowgate(&config).unwrap();
    let (code, status, _) = lab.narrowgate(&["status"]).unwrap();
    assert_eq!(code, 0, "{status}");
    assert!(status.contains("cgroup    /cgroup.procs/x (failed)"), "{status}");
    let told =
        status.lines().any(|line| line.starts_with("! ") && line.contains("/cgroup.procs/x are not marked"));
    assert!(told, "{status}");
}
