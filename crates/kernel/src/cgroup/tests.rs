//! The programs in a real cgroup. Needs root, cgroup2 and python3.

use super::*;
use narrowgate_sys::cgroup::Tree;
use narrowgate_sys::path::{Path, PathBuf};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A cgroup that goes away at the end.
struct Place {
    parent: OwnedFd,
    path: PathBuf,
}

impl Place {
    fn new() -> Place {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let tree = Tree::find().expect("this test needs cgroup2 and root");
        let name =
            format!("narrowgate-test.{}.{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let place =
            Place { parent: tree.open(tree.own()).expect("our own cgroup"), path: tree.own().join(name) };
        place.make();
        place
    }

    fn make(&self) {
        std::fs::create_dir(self.file("")).expect("this test needs root, and a cgroup2 that can be written");
    }

    fn remove(&self) {
        // What was in it has ended, but the kernel may take a moment to see it off.
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        while std::fs::remove_dir(self.file(""))
            .is_err_and(|error| error.kind() == std::io::ErrorKind::ResourceBusy)
        {
            assert!(std::time::Instant::now() < deadline, "the cgroup stays busy");
            std::thread::yield_now();
        }
    }

    fn open(&self) -> OwnedFd {
        Tree::find().and_then(|tree| tree.open(&self.path)).expect("it was made")
    }

    /// By the descriptor of its parent, as the tree need not be mounted anywhere.
    fn file(&self, name: &str) -> PathBuf {
        let process = std::process::id();
        let own = self.path.file_name().expect("a name");
        Path::new(&format!("/proc/{process}/fd/{}", self.parent.as_raw_fd())).join(own).join(name)
    }

    /// The mark of a socket that a process makes which has moved into the cgroup.
    fn mark(&self) -> u32 {
        self.mark_after("s = socket()")
    }

    /// The mark of `s` at the end of a Python script.
    fn mark_after(&self, script: &str) -> u32 {
        let script = format!("from socket import *; {script}; print(s.getsockopt(SOL_SOCKET, 36))");
        let output = self.shell(&format!("exec python3 -c '{script}'")).output().expect("sh starts");
        String::from_utf8_lossy(&output.stdout).trim().parse().expect("this test needs python3")
    }

    fn shell(&self, script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("echo 0 > {} && {script}", self.file("cgroup.procs").display())]);
        command
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(self.file(""));
    }
}

fn marking(mark: &str) -> Programs {
    Programs { mark: Some(mark.parse().expect("a mark")), resolver4: None, resolver6: None }
}

fn everything(mark: &str) -> Programs {
    let v4 = "127.0.0.1:54".parse().expect("an address");
    Programs { resolver4: Some(v4), resolver6: "[::1]:54".parse().ok(), ..marking(mark) }
}

#[test]
fn attaching_again_replaces_and_detaching_leaves_nothing() {
    let place = Place::new();
    let cgroup = place.open();
    attach(cgroup.as_fd(), &everything("1")).expect("attached");
    assert_eq!(place.mark(), 1);
    assert_eq!(ours(cgroup.as_fd()).expect("asked").programs.len(), 13);
    attach(cgroup.as_fd(), &marking("6/7")).expect("attached");
    assert_eq!(place.mark(), 6, "1 would be left if the first were");
    assert_eq!(ours(cgroup.as_fd()).expect("asked").programs.len(), 5);
    assert_eq!(detach(cgroup.as_fd()).expect("asked"), 5);
    assert_eq!(place.mark(), 0);
    assert_eq!(detach(cgroup.as_fd()).expect("asked"), 0);
}

#[test]
fn other_peoples_programs_stay_and_their_bits_survive() {
    let place = Place::new();
    let cgroup = place.open();
    let theirs = bpf::load(Hook::SocketCreate, "theirs", &mark::program("0x100".parse().expect("a mark")));
    let theirs = theirs.expect("loaded");
    bpf::attach(cgroup.as_fd(), theirs.as_fd(), Hook::SocketCreate).expect("attached");
    let attached = attach(cgroup.as_fd(), &marking("1")).expect("attached");
    assert_eq!(place.mark(), 0x101);
    attached.detach(cgroup.as_fd());
    assert_eq!(place.mark(), 0x100);
}

#[test]
fn a_mark_of_the_programs_own_stays() {
    let place = Place::new();
    let attached = attach(place.open().as_fd(), &marking("1")).expect("attached");
    let connect = r#"s.bind(("127.0.0.1", 0)); s.connect(s.getsockname())"#;
    let script = |mark: u32| {
        format!("s = socket(AF_INET, SOCK_DGRAM); s.setsockopt(SOL_SOCKET, 36, {mark}); {connect}")
    };
    assert_eq!(place.mark_after(&script(16)), 16);
    assert_eq!(
        place.mark_after(&script(0)),
        1,
        "but none is no mark: such are the sockets that it brought along"
    );
    attached.detach(place.open().as_fd());
}

#[test]
fn every_choice_of_resolvers_passes_the_verifier() {
    let place = Place::new();
    let cgroup = place.open();
    let (v4, v6) = ("192.0.2.1:53".parse().ok(), "[2001:db8::1]:53".parse().ok());
    for (resolver4, resolver6) in [(v4, v6), (v4, None), (None, v6), (None, None)] {
        let programs = Programs { mark: None, resolver4, resolver6 };
        let attached =
            attach(cgroup.as_fd(), &programs).unwrap_or_else(|error| panic!("{programs:?}: {}", error.log));
        attached.detach(cgroup.as_fd());
    }
}

#[test]
fn a_service_is_marked_again_when_it_restarts() {
    let place = Place::new();
    place.remove();
    let mut service = Service::new(&place.path, marking("1")).expect("followed");
    assert_eq!(service.refresh().expect("looked"), Seen::Absent);
    for _ in 0..3 {
        place.make();
        wait(&service);
        assert_eq!(service.refresh().expect("attached"), Seen::New { processes: 0 });
        assert_eq!(service.refresh().expect("looked"), Seen::Known);
        assert_eq!(place.mark(), 1);
        place.remove();
        wait(&service);
        assert_eq!(service.refresh().expect("looked"), Seen::Absent);
    }
    place.make();
    wait(&service);
    let mut child = running(&place);
    assert_eq!(service.refresh().expect("attached"), Seen::New { processes: 1 });
    service.set_programs(marking("2")).expect("attached");
    assert_eq!(place.mark(), 2);
    drop(child.stdin.take());
    child.wait().expect("it ends");
    service.detach();
    assert_eq!(place.mark(), 0);
}

#[test]
fn a_service_is_found_although_its_slice_comes_later() {
    let place = Place::new();
    place.remove();
    let mut service = Service::new(&place.path.join("slice/x.service"), marking("1")).expect("followed");
    assert_eq!(service.refresh().expect("looked"), Seen::Absent);
    for (name, seen) in
        [("", Seen::Absent), ("slice", Seen::Absent), ("slice/x.service", Seen::New { processes: 0 })]
    {
        std::fs::create_dir(place.file(name)).expect("writable");
        wait(&service);
        assert_eq!(service.refresh().expect("looked"), seen, "{name:?}");
    }
    for name in ["slice/x.service", "slice"] {
        std::fs::remove_dir(place.file(name)).expect("empty");
    }
}

/// Waits until the service's descriptor says that there is something to do.
fn wait(service: &Service) {
    let (done, ended) = std::sync::mpsc::channel();
    let copy = service.as_fd().try_clone_to_owned().expect("a descriptor");
    // poll(2) without unsafe code: a child that waits for its stdin.
    let script = "import select; select.select([0], [], [])";
    let mut child = Command::new("python3").args(["-c", script]).stdin(copy).spawn().expect("python3 starts");
    let id = child.id();
    std::thread::spawn(move || done.send(child.wait().is_ok_and(|status| status.success())));
    let told = ended.recv_timeout(Duration::from_secs(5));
    if told.is_err() {
        let _ = Command::new("kill").arg(id.to_string()).status();
    }
    assert_eq!(told, Ok(true), "nothing was told");
}

/// A process that has moved into the cgroup, and stays until its stdin is closed.
fn running(place: &Place) -> Child {
    let mut command = place.shell("echo in && exec cat");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("sh starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("it says that it is in");
    child
}
