//! What the laboratory promises about itself.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use narrowgate_lab::fastd::Start;
use narrowgate_lab::layout::{FAR4, FAR6, MESH_DNS};
use narrowgate_lab::rundir::{self, Process, RunDir};
use narrowgate_lab::snapshot::Snapshot;
use narrowgate_lab::{Capture, Host, Lab, Options, holder, probe, wait};

#[test]
fn the_machines_own_network_is_never_touched() {
    let before = Snapshot::here().unwrap();
    let lab = Lab::new(Options::default()).unwrap();
    lab.configure_by_hand().unwrap();
    before.assert_same(&Snapshot::here().unwrap(), "the machine's network, while a lab stands,").unwrap();
    drop(lab);
    before.assert_same(&Snapshot::here().unwrap(), "the machine's network, after a lab,").unwrap();
}

#[test]
fn a_dropped_lab_leaves_no_process_no_file_and_no_cgroup() {
    let lab = Lab::new(Options::default()).unwrap();
    let dir = RunDir::open(lab.id()).unwrap();
    let holder = dir.holder().unwrap();
    // A stray child of the test is killed with the lab, like every other process in it.
    let mut stray = lab.host(Host::Far).command("sleep").arg("infinity").spawn().unwrap();
    assert!(holder.alive());
    drop(lab);
    assert!(stray.wait().is_err(), "the lab reaps what its maker started");
    assert!(!holder.alive());
    assert!(!dir.path().exists());
    assert!(!dir.cgroup().is_some_and(|path| path.exists()));
}

#[test]
fn a_killed_run_leaves_no_process_and_the_next_run_sweeps_its_files_and_nothing_else() {
    // The run that is killed is another process: the lab's own program, holding a lab until its input ends.
    let mut run = Command::new(holder::program().unwrap());
    let mut run = run.arg("keep").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut id = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(run.stdout.take().unwrap()), &mut id).unwrap();
    let dir = RunDir::open(id.trim()).unwrap();
    let holder = dir.holder().unwrap();
    assert!(holder.alive());

    let other = Lab::new(Options::default()).unwrap();
    assert!(dir.path().exists(), "a lab that runs was swept");
    run.kill().unwrap();
    run.wait().unwrap();
    wait::until("the killed run's processes to end", Duration::from_secs(5), || {
        Ok((!holder.alive()).then_some(()))
    })
    .unwrap();
    assert!(dir.path().exists(), "who removed it? a killed process cannot");
    // Another test that runs beside this one may sweep first; gone it must be in any case.
    rundir::sweep();
    assert!(!dir.path().exists());
    assert!(!dir.cgroup().is_some_and(|path| path.exists()));
    assert!(RunDir::open(other.id()).is_ok(), "a lab that runs was swept");
    other.run(Host::Home, "ping -c 1 -W 2 203.0.113.53").unwrap();
}

#[test]
fn labs_stand_side_by_side() {
    let labs: Vec<Lab> = (0..2).map(|_| Lab::new(Options::default()).unwrap()).collect();
    for lab in &labs {
        lab.configure_by_hand().unwrap();
        lab.run(Host::Node, "ping -c 1 -W 2 203.0.113.80").unwrap();
    }
}

#[test]
fn detached_is_what_outlives_its_maker() {
    let me = Process::find(std::process::id()).unwrap();
    let lab = Lab::new(Options::default()).unwrap();
    assert!(!Lab::detached().iter().any(|dir| dir.id() == lab.id()), "{me:?}");
}

#[test]
fn by_hand_a_real_fastd_reaches_the_mesh() {
    let lab = Lab::new(Options::default()).unwrap();
    let capture = Capture::open(&lab).unwrap();
    lab.configure_by_hand().unwrap();
    let fastd = lab.start_fastd(Start::InGroup).unwrap();
    lab.wait_tunnel(&fastd, Duration::from_secs(10)).unwrap();
    wait::until("the mesh's default route", Duration::from_secs(10), || {
        let routes = lab.run(Host::Node, "ip -6 route show default dev mesh-vpn")?;
        Ok(routes.contains("via fe80").then_some(()))
    })
    .unwrap();
    for far in [IpAddr::from(FAR6), FAR4.into()] {
        // Neighbour discovery may lose its first question while the bridge at the other end still learns.
        wait::until("an answer from the mesh", Duration::from_secs(10), || {
            Ok(lab.host(Host::Node).ping(far, None, Duration::from_millis(500)).ok())
        })
        .unwrap();
    }
    let answer = lab.run(Host::Node, &format!("dig +short AAAA far.mesh.example @{MESH_DNS}")).unwrap();
    assert_eq!(answer.trim(), FAR6.to_string());
    let counts = capture.counts();
    assert!(counts.get("tunnel").is_some_and(|count| *count > 4), "{counts:?}");
    assert!(counts.get("tunnel's DNS").is_some_and(|count| *count > 0), "{counts:?}");
    assert!(counts.contains_key("neighbour discovery"), "{counts:?}");
}

/// The positive control: where no guard stands, every single kind of probe is seen, by its name.
#[test]
fn by_hand_every_probe_leaks_and_the_capture_names_it() {
    let lab = Lab::new(Options::default()).unwrap();
    let capture = Capture::open(&lab).unwrap();
    lab.configure_by_hand().unwrap();
    capture.reset();
    let results = lab.probe_all(&capture).unwrap();
    let kept: Vec<_> = results.iter().filter(|result| !result.leaked).collect();
    assert!(kept.is_empty(), "these probes were not seen: {kept:#?}\nseen:\n{}", lines(&capture));
    let sent: BTreeSet<_> = results.iter().map(|result| result.kind.as_str()).collect();
    let all: BTreeSet<_> = probe::NODE.into_iter().chain(probe::CLIENT).collect();
    assert_eq!(sent, all);

    let pcap = lab.file("leaks.pcap");
    capture.write_pcap(&pcap).unwrap();
    let read = Command::new("tcpdump").args(["-n", "-r"]).arg(&pcap).output().unwrap();
    let lines = String::from_utf8_lossy(&read.stdout).lines().count();
    assert_eq!(lines, capture.leaks().len(), "{}", String::from_utf8_lossy(&read.stderr));
}

#[test]
fn a_barrier_returns_at_once_while_the_cable_is_down() {
    let lab = Lab::new(Options::default()).unwrap();
    let capture = Capture::open(&lab).unwrap();
    lab.barrier(&capture).unwrap();
    assert_eq!(capture.frames().len(), 0);
}

fn lines(capture: &Capture) -> String {
    capture.frames().iter().map(|seen| format!("{}\n", seen.line())).collect()
}
