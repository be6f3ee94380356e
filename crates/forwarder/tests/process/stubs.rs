//! Stub resolvers that people have, as clients: addresses of both kinds, a chain of aliases, a name that does not exist, and an answer
//! that does not fit a datagram. Over both loopback addresses, in a network namespace of this test's own; it needs root.

use crate::link_local::Namespace;
use crate::parts::{Process, ask, example, query};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// What is asked, by whom it is answered, and what the stub has to print.
const ADDRESSES: [(&str, &str, &str); 2] =
    [("one.example", "A", "192.0.2.7"), ("one.example", "AAAA", "2001:db8::7")];
const LISTENERS: [&str; 2] = ["127.0.0.1", "::1"];

#[test]
fn programs_that_ask_get_what_is_there() {
    let home = Home::new("ask");
    for server in LISTENERS {
        let at = format!("@{server}");
        for (name, qtype, address) in ADDRESSES {
            for program in ["dig", "kdig"] {
                let text = home.run(program, &[&at, "+short", name, qtype]);
                assert_eq!(
                    text.lines().collect::<Vec<_>>(),
                    ["two.example.", "real.example.", address],
                    "{program} {at}"
                );
            }
            let text = home.run("drill", &[name, &at, qtype]);
            assert!(text.contains("rcode: NOERROR") && text.contains(address), "drill {at}: {text}");
            let text = home.run("busybox", &["nslookup", name, server]);
            assert!(text.contains(&format!("Address: {address}")), "busybox {at}: {text}");
        }
        for (program, arguments) in [
            ("dig", [&at, "nothing.example", "A"]),
            ("kdig", [&at, "nothing.example", "A"]),
            ("drill", ["nothing.example", &at, "A"]),
            ("busybox", ["nslookup", "nothing.example", server]),
        ] {
            let text = home.run(program, &arguments);
            assert!(text.contains("NXDOMAIN"), "{program} {at}: {text}");
        }
        let big: [(&str, &[&str]); 3] = [
            ("dig", &[&at, "big.example", "TXT"]),
            ("kdig", &[&at, "big.example", "TXT"]),
            ("drill", &["-a", "big.example", &at, "TXT"]),
        ];
        for (program, arguments) in big {
            let text = home.run(program, arguments);
            assert_eq!(text.matches(&"x".repeat(200)).count(), 7, "{program} {at}: {text}");
        }
        let text = home.run("/usr/bin/python3", &["-c", PYTHON, server]);
        let expected = ["192.0.2.7", "2001:db8::7", "1407", "NXDOMAIN"];
        assert_eq!(text.lines().collect::<Vec<_>>(), expected, "dnspython {at}");
    }
}

#[test]
fn c_libraries_get_what_is_there() {
    let home = Home::new("libc");
    let glibc = home.compile("cc", &["-DWITH_TXT", "-lresolv"]);
    let musl = home.compile("musl-gcc", &["-static"]);
    for server in LISTENERS {
        home.resolve_by(server);
        // Whatever the order that the C library prefers.
        let sorted = |text: String| {
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        let both = ["192.0.2.7", "2001:db8::7"];
        assert_eq!(sorted(home.run(&glibc, &["one.example"])), both, "glibc {server}");
        assert_eq!(sorted(home.run(&musl, &["one.example"])), both, "musl {server}");
        for (database, address) in [("ahostsv4", both[0]), ("ahostsv6", both[1])] {
            let text = home.run("getent", &[database, "one.example"]);
            assert!(text.starts_with(address), "getent {server}: {text}");
        }
        assert_eq!(home.run("getent", &["ahosts", "nothing.example"]), "");
        for program in [&glibc, &musl] {
            assert_eq!(home.run(program, &["nothing.example"]), "no such name\n", "{program} {server}");
        }
        assert_eq!(home.run(&glibc, &["big.example", "TXT"]), "1407\n", "by TCP, {server}");
    }
}

/// It is started without systemd and without D-Bus.
#[test]
fn systemd_resolved_gets_what_is_there() {
    let home = Home::new("resolved");
    for (file, line) in
        [("passwd", "systemd-resolve:x:996:996::/:/bin/false"), ("group", "systemd-resolve:x:996:")]
    {
        let there = std::fs::read_to_string(format!("/etc/{file}")).unwrap();
        home.write(file, &format!("{there}{line}\n"));
    }
    for server in LISTENERS {
        let script = format!(
            "mount -t tmpfs none /run && mkdir -p /run/systemd/resolve && chown 996:996 /run/systemd/resolve && \
             mount -t tmpfs none /etc/systemd && \
             printf '[Resolve]\\nDNS={server}\\nFallbackDNS=\\nLLMNR=no\\nMulticastDNS=no\\nDNSSEC=no\\nCache=no\\n' >/etc/systemd/resolved.conf && \
             exec {RESOLVED}"
        );
        assert!(std::path::Path::new(RESOLVED).exists(), "{RESOLVED} is missing: packaging/debian-deps");
        let _resolved = home.namespace.start("sh", &["-c", &script]);
        home.answers("127.0.0.53:53");
        for (name, qtype, address) in ADDRESSES {
            let text = home.run("dig", &["@127.0.0.53", "+short", name, qtype]);
            assert!(text.lines().any(|line| line == address), "{server}: {text}");
        }
        let text = home.run("dig", &["@127.0.0.53", "nothing.example", "A"]);
        assert!(text.contains("NXDOMAIN"), "{server}: {text}");
        let text = home.run("dig", &["@127.0.0.53", "big.example", "TXT"]);
        assert_eq!(text.matches(&"x".repeat(200)).count(), 7, "{server}: {text}");
    }
}

/// A network namespace with a server, and us before it at port 53 of both loopback addresses.
struct Home {
    namespace: Namespace,
    etc: PathBuf,
    _processes: [Process; 2],
}

impl Home {
    fn new(role: &str) -> Home {
        let namespace = Namespace::new(role);
        // Some ask only where there is a network besides the loopback, of that IP version (RFC 3493, AI_ADDRCONFIG).
        namespace.ip(&["link", "add", "wan0", "type", "veth", "peer", "name", "lan0"]);
        for device in ["wan0", "lan0"] {
            namespace.ip(&["link", "set", device, "up"]);
        }
        for address in ["198.51.100.1/24", "2001:db8:51::1/64"] {
            namespace.ip(&["addr", "add", address, "dev", "wan0", "nodad"]);
        }
        let etc = PathBuf::from(format!("/etc/netns/{}", namespace.0)); // what ip-netns(8) shows as /etc
        std::fs::create_dir_all(&etc).unwrap();
        let big = vec!["x".repeat(200); 7].join(",");
        let dnsmasq = namespace.start(
            "dnsmasq",
            &[
                "--keep-in-foreground",
                "--conf-file=/dev/null",
                "--pid-file",
                "--user=root",
                "--no-hosts",
                "--no-resolv",
                "--bind-interfaces",
                "--listen-address=127.0.0.1",
                "--port=5300",
                "--local=/example/",
                "--host-record=real.example,192.0.2.7,2001:db8::7",
                "--cname=two.example,real.example",
                "--cname=one.example,two.example",
                &format!("--txt-record=big.example,{big}"),
            ],
        );
        let program = example("forward");
        let forward = namespace.start(
            program.to_str().unwrap(),
            &["--listen", "127.0.0.1:53", "--listen", "[::1]:53", "--server", "127.0.0.1:5300"],
        );
        let home = Home { namespace, etc, _processes: [dnsmasq, forward] };
        home.write("nsswitch.conf", "hosts: dns\n");
        home.resolve_by("127.0.0.1");
        home.answers("127.0.0.1:53");
        home
    }

    fn write(&self, file: &str, text: &str) {
        std::fs::write(self.etc.join(file), text).unwrap();
    }

    fn resolve_by(&self, server: &str) {
        self.write("resolv.conf", &format!("nameserver {server}\n"));
    }

    /// Waits until that resolver does.
    fn answers(&self, resolver: &'static str) {
        let resolver = resolver.parse().unwrap();
        let start = Instant::now();
        let work = move || {
            while ask(resolver, &query(1, "real.example", 1, 0))[3] & 15 != 0 {
                assert!(start.elapsed() < Duration::from_secs(20), "{resolver} only fails");
                std::thread::sleep(Duration::from_millis(20)); // it says that it has no network yet
            }
        };
        self.namespace.inside(work).join().unwrap();
    }

    /// What a program prints. (What it says about its success differs from one to the other.)
    fn run(&self, program: &str, arguments: &[&str]) -> String {
        let all = [&["netns", "exec", &self.namespace.0, program], arguments].concat();
        let output = Command::new("ip").args(all).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!errors.contains("exec of"), "packaging/debian-deps installs {program}: {errors}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn compile(&self, compiler: &str, options: &[&str]) -> String {
        let (source, program) = (self.etc.join("stub.c"), self.etc.join(compiler));
        std::fs::write(&source, C).unwrap();
        let status = Command::new(compiler).arg("-o").arg(&program).arg(&source).args(options).status();
        assert!(status.is_ok_and(|status| status.success()), "{compiler} is needed for this test");
        program.to_str().unwrap().to_owned()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.etc);
    }
}

/// Its package would take the machine's /etc/resolv.conf over, so debian-deps takes it out of the package.
const RESOLVED: &str = "/usr/local/lib/narrowgate-tests/systemd-resolved";

const PYTHON: &str = "
import sys, dns.resolver
r = dns.resolver.Resolver(configure=False)
r.nameservers = [sys.argv[1]]
for t in 'A', 'AAAA':
    print(r.resolve('one.example', t)[0])
print(sum(len(s) + 1 for s in r.resolve('big.example', 'TXT')[0].strings))
try:
    r.resolve('nothing.example', 'A')
except dns.resolver.NXDOMAIN:
    print('NXDOMAIN')
";

const C: &str = r#"
#include <arpa/inet.h>
#include <arpa/nameser.h>
#include <netdb.h>
#include <resolv.h>
#include <stdio.h>
#include <string.h>
int main(int argc, char **argv) {
	char text[99];
#ifdef WITH_TXT
	if (argc > 2) {
		unsigned char answer[4096];
		ns_msg message;
		ns_rr record;
		int length = res_query(argv[1], 1, 16, answer, sizeof answer);
		if (ns_initparse(answer, length, &message) || ns_parserr(&message, ns_s_an, 0, &record)) return 1;
		return !printf("%d\n", ns_rr_rdlen(record));
	}
#endif
	struct addrinfo *found, hints = { .ai_socktype = SOCK_STREAM };
	int error = getaddrinfo(argv[1], 0, &hints, &found);
	if (error) return !printf(error == EAI_NONAME ? "no such name\n" : "%s\n", gai_strerror(error));
	for (; found; found = found->ai_next) {
		void *from = found->ai_family == AF_INET ? (void *)&((struct sockaddr_in *)found->ai_addr)->sin_addr
			: (void *)&((struct sockaddr_in6 *)found->ai_addr)->sin6_addr;
		puts(inet_ntop(found->ai_family, from, text, sizeof text));
	}
}
"#;
