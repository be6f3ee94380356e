//! Programs and servers for the tests. All of them end with the test.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// One of this crate's examples.
pub fn example(name: &str) -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.push("examples");
    path.push(name);
    assert!(path.exists(), "{} is missing: cargo build -p narrowgate-forwarder --examples", path.display());
    path
}

/// A process that ends with the test.
pub struct Process(pub Child);

impl Process {
    pub fn start(program: &str, arguments: &[&str]) -> Process {
        let child = Command::new(program).args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).spawn();
        Process(child.unwrap_or_else(|error| panic!("{program} is needed for this test: {error}")))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An address that nobody listens on, for UDP and TCP.
pub fn free_address(host: &str) -> SocketAddr {
    loop {
        let udp = UdpSocket::bind((host, 0)).unwrap();
        let addr = udp.local_addr().unwrap();
        if TcpListener::bind(addr).is_ok() {
            return addr;
        }
    }
}

/// A real dnsmasq that knows `vpn.example`, and a TXT record `big.example` of 1400 bytes.
pub fn dnsmasq() -> (Process, SocketAddr) {
    let addr = free_address("127.0.0.1");
    let big = vec!["x".repeat(200); 7].join(",");
    let process = Process::start(
        "dnsmasq",
        &[
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--pid-file",
            "--no-hosts",
            "--no-resolv",
            "--bind-interfaces",
            "--listen-address=127.0.0.1",
            &format!("--port={}", addr.port()),
            "--local=/example/",
            "--address=/vpn.example/192.0.2.7",
            &format!("--txt-record=big.example,{big}"),
        ],
    );
    ask(addr, &query(1, "vpn.example", 1, 0));
    (process, addr)
}

/// A server in this process that answers every query with one address; how often it was asked.
pub fn server(host: &str) -> (SocketAddr, Arc<AtomicUsize>) {
    let socket = UdpSocket::bind((host, 0)).unwrap();
    let (addr, count) = (socket.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counter = count.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            counter.fetch_add(1, Ordering::SeqCst);
            let mut answer = buffer[..length].to_vec();
            answer[2] |= 0x80;
            let _ = socket.send_to(&answer, from);
        }
    });
    (addr, count)
}

/// A UDP client of that server, with a short patience.
pub fn client(server: SocketAddr) -> UdpSocket {
    let any: SocketAddr = if server.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" }.parse().unwrap();
    let socket = UdpSocket::bind(any).unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    socket
}

/// Asks as a stub resolver does, again and again for up to ten seconds; the answer.
pub fn ask(server: SocketAddr, message: &[u8]) -> Vec<u8> {
    let socket = client(server);
    let mut buffer = [0; 4096];
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(10) {
        let _ = socket.send(message);
        match socket.recv(&mut buffer) {
            Ok(length) => return buffer[..length].to_vec(),
            // A program that is not there yet says nothing when it is.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                std::thread::sleep(Duration::from_millis(5))
            }
            Err(_) => {}
        }
    }
    panic!("{server} does not answer");
}

/// Asks by TCP.
pub fn ask_tcp(server: SocketAddr, messages: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    for message in messages {
        stream.write_all(&(message.len() as u16).to_be_bytes()).unwrap();
        stream.write_all(message).unwrap();
    }
    let mut answers = Vec::new();
    for _ in messages {
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut answer).unwrap();
        answers.push(answer);
    }
    answers
}

/// A query; with an OPT if `udp` is not 0.
pub fn query(id: u16, name: &str, qtype: u16, udp: u16) -> Vec<u8> {
    let mut m = vec![(id >> 8) as u8, id as u8, 1, 0, 0, 1, 0, 0, 0, 0, 0, (udp > 0) as u8];
    for label in name.split('.') {
        m.push(label.len() as u8);
        m.extend(label.bytes());
    }
    m.push(0);
    m.extend(qtype.to_be_bytes());
    m.extend([0, 1]);
    if udp > 0 {
        m.extend([0, 0, 41, (udp >> 8) as u8, udp as u8, 0, 0, 0, 0, 0, 0]);
    }
    m
}

/// The example `resolver`, spoken to by lines.
pub struct Parent {
    pub process: Process,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    pub child: u32,
    pub addr: SocketAddr,
    /// Whether the child is to be left alone when this goes.
    pub leave: bool,
}

impl Parent {
    pub fn start(listen: &str, mark: &str) -> Parent {
        let mut process = Command::new(example("resolver"))
            .args([listen, mark])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdin, stdout) = (process.stdin.take().unwrap(), BufReader::new(process.stdout.take().unwrap()));
        let mut parent = Parent {
            process: Process(process),
            stdin,
            stdout,
            child: 0,
            addr: "127.0.0.1:0".parse().unwrap(),
            leave: false,
        };
        let line = parent.line();
        let (pid, addr) = line.split_once(' ').expect("pid and address; marks need root");
        (parent.child, parent.addr) = (pid.parse().unwrap(), addr.parse().unwrap());
        parent
    }

    pub fn say(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").unwrap();
    }

    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    pub fn tell(&mut self, line: &str) -> String {
        self.say(line);
        self.line()
    }
}

impl Drop for Parent {
    fn drop(&mut self) {
        let _ = self.process.0.kill();
        let _ = self.process.0.wait();
        if !self.leave {
            let _ = narrowgate_forwarder::parent::end_orphan(self.child);
        }
    }
}
