//! A network namespace with its own mounts, and what tests do in one.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// The program that is tested.
pub const NARROWGATE: &str = env!("CARGO_BIN_EXE_narrowgate");

/// A namespace, held by a child that ends with us, however we end: it reads what we hold open.
pub struct Room {
    holder: Child,
    _stdin: ChildStdin,
}

impl Room {
    /// Makes one with loopback up, and runs the lines of a shell script in it.
    pub fn new(script: &str) -> Room {
        let script = format!("set -e; ip link set lo up; {script}\necho ready; exec cat");
        let mut holder = Command::new("unshare")
            .args(["--net", "--mount", "--", "sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare starts: this test needs util-linux");
        let mut line = String::new();
        let mut said = BufReader::new(holder.stdout.take().expect("stdout is a pipe"));
        said.read_line(&mut line).expect("the holder's stdout");
        assert_eq!(line, "ready\n", "no such room: this test needs root and namespaces; stderr says more");
        Room { _stdin: holder.stdin.take().expect("stdin is a pipe"), holder }
    }

    /// A command that runs inside.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--net", "--mount", "--target", &self.holder.id().to_string(), "--"]).args(words);
        command.stdin(Stdio::null());
        command
    }

    /// Runs a command inside to its end, which must be good, and returns what it said on stdout.
    pub fn run(&self, words: &[&str]) -> String {
        succeed(&mut self.command(words))
    }

    /// Runs `narrowgate exec` with these words inside, to its good end.
    pub fn exec(&self, words: &[&str]) -> String {
        self.run(&[&[NARROWGATE, "exec"], words].concat())
    }

    /// Does something in a thread that is inside; what sockets it makes are the namespace's.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let namespace =
            std::fs::File::open(format!("/proc/{}/ns/net", self.holder.id())).expect("the holder lives");
        std::thread::scope(|scope| {
            let work = || {
                narrowgate_sys::process::enter_namespace(namespace.as_fd())
                    .expect("setns: this test needs root");
                work()
            };
            scope.spawn(work).join().expect("the thread inside ends well")
        })
    }

    /// The number of the process that holds it: what `ip link set … netns` takes.
    pub fn pid(&self) -> u32 {
        self.holder.id()
    }

    /// Starts a DNS server on `address`, UDP and TCP, that answers every question with 192.0.2.1 or 2001:db8::1.
    pub fn resolver(&self, address: &str) {
        let address: SocketAddr = address.parse().expect("an address");
        let (udp, tcp) = self.inside(|| {
            (
                UdpSocket::bind(address).expect("UDP port is free"),
                TcpListener::bind(address).expect("TCP port is free"),
            )
        });
        // They end with the process.
        std::thread::spawn(move || {
            let mut query = [0; 1500];
            while let Ok((len, client)) = udp.recv_from(&mut query) {
                let _ = udp.send_to(&answer(&query[..len]), client);
            }
        });
        std::thread::spawn(move || tcp.incoming().flatten().for_each(|stream| drop(serve(stream))));
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// Runs a command to its end, which must be good, and returns its stdout.
pub fn succeed(command: &mut Command) -> String {
    let output = command.output().expect("the command starts");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{error}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs a command that must fail with this exit code, and returns its stderr.
pub fn refuse(command: &mut Command, code: i32) -> String {
    let output = command.output().expect("the command starts");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{command:?}\n{error}");
    error
}

/// A folder that goes away at the end.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name =
            format!("narrowgate-exec-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).expect("the folder for temporary files is writable");
        Folder(path)
    }

    /// Writes a file and returns its path.
    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).expect("writable");
        text_of(&path)
    }

    /// Its path.
    pub fn path(&self) -> String {
        text_of(&self.0)
    }

    /// Compiles a C program and returns its path.
    pub fn compile(&self, compiler: &[&str], name: &str, source: &str) -> String {
        let source = self.file(&format!("{name}.c"), source);
        let program = text_of(&self.0.join(name));
        let (compiler, options) = compiler.split_first().expect("a compiler");
        succeed(Command::new(compiler).args(options).args(["-O1", "-o", &program, &source]));
        program
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Where libpacketmark.so was built: beside the program, or by `cargo build --release`.
pub fn library() -> String {
    let beside = Path::new(NARROWGATE).with_file_name("libpacketmark.so");
    let release = Path::new(NARROWGATE)
        .parent()
        .and_then(Path::parent)
        .expect("target")
        .join("release/libpacketmark.so");
    let given = std::env::var_os("NARROWGATE_BIN_DIR").map(|dir| Path::new(&dir).join("libpacketmark.so"));
    let places = given.into_iter().chain([release, beside]);
    let found = places.into_iter().find(|path| path.is_file());
    text_of(
        &found.expect(
            "no libpacketmark.so: run cargo build --release -p libpacketmark, or set NARROWGATE_BIN_DIR",
        ),
    )
}

fn text_of(path: &Path) -> String {
    path.to_str().expect("a path in UTF-8").to_owned()
}

fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    loop {
        let mut len = [0; 2];
        stream.read_exact(&mut len)?;
        let mut query = vec![0; usize::from(u16::from_be_bytes(len))];
        stream.read_exact(&mut query)?;
        let answer = answer(&query);
        stream.write_all(&u16::try_from(answer.len()).unwrap_or(0).to_be_bytes())?;
        stream.write_all(&answer)?;
    }
}

/// The question's header and question, and one record. Questions come from our own clients: they are well formed.
fn answer(query: &[u8]) -> Vec<u8> {
    let name = 12 + query[12..].iter().position(|byte| *byte == 0).expect("a name ends") + 1;
    let mut answer = query[..name + 4].to_vec();
    answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
    answer.extend([0xc0, 12]);
    answer.extend(&query[name..name + 4]);
    answer.extend([0, 0, 0, 60]);
    if query[name + 1] == 28 {
        answer.extend([0, 16, 0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    } else {
        answer.extend([0, 4, 192, 0, 2, 1]);
    }
    answer
}
