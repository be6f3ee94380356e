//! The library inside real programs. Needs root, a C compiler, binutils, python3, setpriv, and Debian's
//! libsocket-wrapper and libresolv-wrapper; and the library as it is shipped: `cargo build --release -p libpacketmark`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

#[test]
fn the_three_families_are_marked_and_no_other() {
    for (value, mark) in [("1", 1), ("0x1", 1), ("4294967295", u32::MAX), ("0x10/0xf0", 16), ("0", 0)] {
        let said = good(python(FAMILIES).env("LIBPACKETMARK_MARK", value));
        assert_eq!(said, format!("inet {mark}\ninet6 {mark}\npacket {mark}\nunix 0\nnetlink 0\n"), "{value}");
    }
}

#[test]
fn without_the_variable_nothing_is_marked_and_nothing_said() {
    let output = python(FAMILIES).env("LIBPACKETMARK_STRICT", "1").output().expect("python3 starts");
    assert_eq!(text(&output.stdout), "inet 0\ninet6 0\npacket 0\nunix 0\nnetlink 0\n");
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn what_is_no_mark_is_refused_aloud_and_once() {
    for value in ["", "one", "0x", "-1", "1/0", "4294967296"] {
        let output = python(FAMILIES).env("LIBPACKETMARK_MARK", value).output().expect("python3 starts");
        assert_eq!(text(&output.stdout), "inet 0\ninet6 0\npacket 0\nunix 0\nnetlink 0\n");
        let said = text(&output.stderr);
        assert!(said.contains(&format!("LIBPACKETMARK_MARK={value} is no mark")), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        let script = "
import errno
for family in AF_INET, AF_INET6, AF_PACKET:
    try: socket(family, SOCK_DGRAM)
    except OSError as error: assert error.errno == errno.EINVAL
    else: raise Exception('a socket')
socket(AF_UNIX)";
        good(python(script).envs([("LIBPACKETMARK_MARK", value), ("LIBPACKETMARK_STRICT", "1")]));
    }
}

#[test]
fn what_the_kernel_refuses_is_said_once_a_process_and_errno_is_kept() {
    let folder = Folder::new();
    let program = folder.compile(
        &[],
        "refused",
        r#"
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
int main(void) {
    for (int i = 0; i < 3; i++) {
        errno = 1234;
        if (socket(AF_INET, SOCK_DGRAM, 0) < 0 || errno != 1234) return 1;
    }
    if (fork() == 0) return socket(AF_INET6, SOCK_STREAM, 0) < 0;
    int status;
    wait(&status);
    return status != 0;
}"#,
    );
    let output = unprivileged(&folder, &program).output().expect("setpriv starts");
    assert!(output.status.success());
    let said = text(&output.stderr);
    assert_eq!(said.lines().count(), 2, "one for the parent, one for the child: {said}");
    let line = "libpacketmark: a socket could not be marked 0x1: Operation not permitted; ";
    assert!(said.lines().all(|said| said.starts_with(line)), "{said}");
}

#[test]
fn strict_means_no_socket_and_no_descriptor_lost() {
    let folder = Folder::new();
    let program = folder.compile(
        &[],
        "strict",
        r#"
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>
int main(void) {
    int before = dup(0);
    close(before);
    for (int i = 0; i < 3; i++) {
        errno = 0;
        if (socket(AF_INET, SOCK_DGRAM, 0) != -1 || errno != EPERM) return 1;
    }
    errno = 0;
    if (socket(AF_INET, 99, 0) != -1 || errno == EPERM) return 2; /* what fails by itself says why */
    if (socket(AF_UNIX, SOCK_DGRAM, 0) != before) return 3;
    return 0;
}"#,
    );
    let output =
        unprivileged(&folder, &program).env("LIBPACKETMARK_STRICT", "1").output().expect("setpriv starts");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("(strict: no socket)"));
}

#[test]
fn the_line_is_kept_back_where_it_would_do_harm() {
    let folder = Folder::new();
    // Descriptor 2 becomes a connected datagram socket: the line must not become a packet.
    let packet = folder.compile(
        &[],
        "packet",
        r#"
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>
int main(void) {
    struct sockaddr_in at = { .sin_family = AF_INET };
    socklen_t len = sizeof at;
    char byte;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    close(2);
    int out = socket(AF_INET, SOCK_DGRAM, 0), in = socket(AF_INET, SOCK_DGRAM, 0);
    if (out != 2 || bind(in, (void *)&at, len) || getsockname(in, (void *)&at, &len)) return 1;
    if (connect(out, (void *)&at, len)) return 2;
    socket(AF_INET, SOCK_STREAM, 0);
    return recv(in, &byte, 1, MSG_DONTWAIT) != -1;
}"#,
    );
    assert_eq!(unprivileged(&folder, &packet).status().expect("setpriv starts").code(), Some(0));
    // A pipe that nobody reads would kill the program, a full one would stop it.
    let one = folder.compile(
        &[],
        "one",
        "#include <sys/socket.h>\nint main(void) { return socket(AF_INET, SOCK_DGRAM, 0) < 0; }",
    );
    let (reader, closed) = std::io::pipe().expect("a pipe");
    drop(reader);
    assert_eq!(unprivileged(&folder, &one).stderr(closed).status().expect("setpriv starts").code(), Some(0));
    let (_reader, full) = std::io::pipe().expect("a pipe");
    let mut fill = Command::new("timeout");
    fill.args(["1", "cat", "/dev/zero"]).stdout(full.try_clone().expect("a descriptor"));
    assert_eq!(fill.status().expect("timeout starts").code(), Some(124));
    assert_eq!(unprivileged(&folder, &one).stderr(full).status().expect("setpriv starts").code(), Some(0));
}

#[test]
fn the_programs_own_mark_wins() {
    let script = "s = socket(); s.setsockopt(SOL_SOCKET, 36, 7); print(s.getsockopt(SOL_SOCKET, 36))";
    assert_eq!(good(python(script).env("LIBPACKETMARK_MARK", "1")), "7\n");
}

#[test]
fn threads_forks_vforks_and_spawned_programs_are_marked() {
    let folder = Folder::new();
    let program = folder.compile(
        &["-pthread"],
        "many",
        r#"
#include <pthread.h>
#include <spawn.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
extern char **environ;
static int marked(void) {
    unsigned mark = 0;
    socklen_t len = sizeof mark;
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    int good = fd >= 0 && getsockopt(fd, SOL_SOCKET, SO_MARK, &mark, &len) == 0 && mark == 1;
    close(fd);
    return good;
}
static void *thread(void *nothing) {
    for (int i = 0; i < 500; i++) if (!marked()) return thread;
    return nothing;
}
static int child_is_bad(pid_t child) {
    int status;
    return child < 0 || waitpid(child, &status, 0) != child || status != 0;
}
int main(int count, char **words) {
    pthread_t threads[8];
    void *bad;
    if (count > 1) return !marked();
    for (int i = 0; i < 8; i++) pthread_create(&threads[i], 0, thread, 0);
    for (int i = 0; i < 8; i++) { pthread_join(threads[i], &bad); if (bad) return 1; }
    pid_t child = fork();
    if (child == 0) _exit(!marked());
    if (child_is_bad(child)) return 2;
    child = vfork();
    if (child == 0) _exit(!marked());
    if (child_is_bad(child) || !marked()) return 3;
    char *again[] = { words[0], "x", 0 };
    if (posix_spawn(&child, words[0], 0, 0, again, environ) || child_is_bad(child)) return 4;
    return 0;
}"#,
    );
    good(with_library(Command::new(program)).env("LIBPACKETMARK_MARK", "1"));
}

#[test]
fn a_socket_made_in_a_constructor_before_ours_is_marked() {
    let folder = Folder::new();
    let early = folder.compile(
        &["-shared", "-fPIC"],
        "early.so",
        r#"
#include <stdio.h>
#include <sys/socket.h>
__attribute__((constructor)) static void early(void) {
    unsigned mark = 0;
    socklen_t len = sizeof mark;
    getsockopt(socket(AF_INET, SOCK_DGRAM, 0), SOL_SOCKET, SO_MARK, &mark, &len);
    printf("%u\n", mark);
}"#,
    );
    for order in [format!("{}:{early}", library()), format!("{early}:{}", library())] {
        let mut command = Command::new("true");
        assert_eq!(good(command.env("LD_PRELOAD", order).env("LIBPACKETMARK_MARK", "1")), "1\n");
    }
}

#[test]
fn preloads_before_and_behind_get_their_calls_and_af_unix_costs_none() {
    let folder = Folder::new();
    let counter = folder.compile(
        &["-shared", "-fPIC"],
        "counter.so",
        r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <sys/socket.h>
static int made, set;
int socket(int family, int kind, int protocol) {
    made++;
    return ((int (*)(int, int, int))dlsym(RTLD_NEXT, "socket"))(family, kind, protocol);
}
int setsockopt(int fd, int level, int name, const void *value, socklen_t len) {
    set += name == SO_MARK;
    return ((int (*)(int, int, int, const void *, socklen_t))dlsym(RTLD_NEXT, "setsockopt"))(fd, level, name, value, len);
}
__attribute__((destructor)) static void tell(void) { printf("%d made, %d marked\n", made, set); }"#,
    );
    let program = folder.compile(
        &[],
        "mixed",
        r#"
#include <sys/socket.h>
int main(void) {
    for (int i = 0; i < 5; i++) if (socket(AF_UNIX, SOCK_STREAM, 0) < 0) return 1;
    for (int i = 0; i < 2; i++) if (socket(AF_INET6, SOCK_STREAM, 0) < 0) return 2;
    return 0;
}"#,
    );
    for order in [format!("{counter}:{}", library()), format!("{}:{counter}", library())] {
        let mut command = Command::new(&program);
        let said = good(command.env("LD_PRELOAD", &order).env("LIBPACKETMARK_MARK", "1"));
        assert_eq!(said, "7 made, 2 marked\n", "{order}");
        let said = good(Command::new(&program).env("LD_PRELOAD", &order));
        assert_eq!(said, "7 made, 0 marked\n", "without the variable");
    }
}

#[test]
fn it_works_with_the_wrappers_of_cwrap() {
    let folder = Folder::new();
    let echo = "
import threading
server = create_server(('127.0.0.10', 7)); client = create_connection(('127.0.0.10', 7), 5)
peer = server.accept()[0]; client.sendall(b'x'); assert peer.recv(1) == b'x'
print(client.getpeername()[0])";
    let resolve = folder.compile(
        &["-lresolv"],
        "resolve",
        r#"
#include <arpa/nameser.h>
#include <resolv.h>
#include <sys/socket.h>
int main(void) {
    unsigned char answer[512];
    unsigned mark = 0;
    socklen_t len = sizeof mark;
    getsockopt(socket(AF_INET, SOCK_DGRAM, 0), SOL_SOCKET, SO_MARK, &mark, &len);
    return !(mark == 1 && res_query("vpn.test", ns_c_in, ns_t_a, answer, sizeof answer) > 0);
}"#,
    );
    let hosts = folder.file("hosts", "A vpn.test 192.0.2.7\n");
    for (wrapper, number) in [("libsocket_wrapper.so", 0), ("libresolv_wrapper.so", 1)] {
        for order in [format!("{wrapper}:{}", library()), format!("{}:{wrapper}", library())] {
            let mut command = if number == 0 { python(echo) } else { Command::new(&resolve) };
            command.env("LD_PRELOAD", &order).env("LIBPACKETMARK_MARK", "1");
            command.env("SOCKET_WRAPPER_DIR", folder.path()).env("SOCKET_WRAPPER_DEFAULT_IFACE", "10");
            command.env("RESOLV_WRAPPER_HOSTS", &hosts);
            let output = command.output().expect("starts");
            let error = text(&output.stderr);
            assert!(!error.contains("cannot be preloaded"), "{error}\nthis test needs Debian's {wrapper}");
            assert!(output.status.success(), "{order}: {error}");
            if number == 0 {
                assert_eq!(text(&output.stdout), "127.0.0.10\n", "{order}");
            }
        }
    }
}

#[test]
fn it_is_small_needs_libc_alone_and_exports_socket_alone() {
    let size = std::fs::metadata(library()).expect("built").len();
    assert!(size < 16 * 1024, "{size} bytes");
    let symbols = good(Command::new("nm").args(["-D", "--defined-only", "-f", "posix", &library()]));
    let names: Vec<&str> = symbols.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names.len(), 1, "{symbols}");
    assert!(names.iter().all(|name| name.split('@').next() == Some("socket")), "{symbols}");
    let dynamic = good(Command::new("readelf").args(["-dW", &library()]));
    let needed: Vec<&str> = dynamic.lines().filter(|line| line.contains("(NEEDED)")).collect();
    assert!(matches!(needed[..], [only] if only.contains("[libc.")), "{needed:?}");
}

const FAMILIES: &str = "
for name, family, kind in ('inet', AF_INET, SOCK_STREAM), ('inet6', AF_INET6, SOCK_DGRAM), ('packet', AF_PACKET, SOCK_RAW), \
('unix', AF_UNIX, SOCK_STREAM), ('netlink', AF_NETLINK, SOCK_RAW):
    print(name, socket(family, kind).getsockopt(SOL_SOCKET, 36) & 0xffffffff)";

/// Python with the library, and no variable of it.
fn python(script: &str) -> Command {
    let mut command = Command::new("python3");
    command.args(["-c", &format!("from socket import *\n{script}")]);
    with_library(command)
}

/// A program without any capability, told to mark 1. The library is copied to where nobody may read it.
fn unprivileged(folder: &Folder, program: &str) -> Command {
    let copy = folder.path().join("libpacketmark.so");
    if !copy.exists() {
        std::fs::copy(library(), &copy).expect("writable");
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--clear-groups", "--bounding-set=-all", "env"]);
    command.arg(format!("LD_PRELOAD={}", copy.display())).arg("LIBPACKETMARK_MARK=1");
    command.arg(program).stdin(Stdio::null());
    command
}

fn with_library(mut command: Command) -> Command {
    command.env("LD_PRELOAD", library()).env_remove("LIBPACKETMARK_MARK").env_remove("LIBPACKETMARK_STRICT");
    command
}

/// The library as it is shipped, newer than its sources.
fn library() -> String {
    let built = match std::env::var_os("NARROWGATE_BIN_DIR") {
        Some(folder) => PathBuf::from(folder),
        // target/debug/deps/this -> target/release
        None => std::env::current_exe().expect("a file").ancestors().nth(3).expect("target").join("release"),
    }
    .join("libpacketmark.so");
    let age = |path: &Path| path.metadata().and_then(|file| file.modified());
    let built_at = age(&built).unwrap_or_else(|error| {
        panic!("{}: {error}; run cargo build --release -p libpacketmark", built.display())
    });
    for source in ["lib.rs", "value.rs", "complaint.rs", "c.rs"] {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(source);
        let fresh = age(&source).is_ok_and(|changed| changed <= built_at);
        assert!(fresh, "{} is older than its sources; build it again", built.display());
    }
    built.to_str().expect("UTF-8").to_owned()
}

/// Runs a command to its good end and returns its stdout.
fn good(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().expect("the command starts");
    assert!(status.success(), "{command:?}: {status}\n{}", text(&stderr));
    text(&stdout)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A folder that goes away at the end, and that everybody can read.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("packetmark-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).expect("writable");
        Folder(path)
    }

    fn path(&self) -> &Path {
        &self.0
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).expect("writable");
        path.to_str().expect("UTF-8").to_owned()
    }

    fn compile(&self, options: &[&str], name: &str, source: &str) -> String {
        let source = self.file(&format!("{name}.c"), source);
        let program = self.0.join(name).to_str().expect("UTF-8").to_owned();
        good(Command::new("cc").args(["-O1", "-o", &program, &source]).args(options));
        program
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
