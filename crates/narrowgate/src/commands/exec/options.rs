//! The options of `exec`.

use super::{Refusal, refuse};
use crate::words::{Word, Words};
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::SocketAddr;
use narrowgate_model::{Mark, ParseMarkError, socket_address};
use narrowgate_sys::path::PathBuf;

/// What `narrowgate exec --help` prints.
pub const HELP: &str = "\
usage: narrowgate exec [OPTION…] [--] COMMAND [ARGUMENT…]

Runs COMMAND in its own place: its sockets are marked, and its DNS goes to the WAN resolver.

  --via WAY         cgroup: by programs in the kernel, reaches every socket of every program
                    preload: by libpacketmark.so and the group; misses static programs and more
                    auto: cgroup where that works, else preload (default)
  --group GROUP     the command's primary group, by name or number
  --user USER       the command's user, by name or number
  --mark V[/M]      the mark, decimal or 0x (default: the config's, else 1/1)
  --resolver A:P    where DNS goes, once or once a family (default: the config's, else 127.0.0.1:54 and [::1]:54)
  --no-dns          marks only; DNS stays as it is
  --dns-only        DNS only; sockets stay unmarked
  --library FILE    libpacketmark.so, where it is not beside the program or in /usr/lib
  --best-effort     by preload: starts also what it cannot reach fully
  -v, --verbose     says which way is taken

The exit status is the command's. 1: it cannot be marked, 2: usage or config, 126: it cannot be executed, 127: it is not there.
";

/// The options that take a value.
pub const VALUE_OPTIONS: &[&str] = &["--via", "--group", "--user", "--mark", "--resolver", "--library"];

/// Gluon's group of the mesh VPN.
pub(super) const GLUON_GROUP: &str = "gluon-mesh-vpn";
/// Its number, where /etc/group does not have it.
pub(super) const GLUON_GID: u32 = 800;

/// How sockets are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Via {
    Auto,
    Cgroup,
    Preload,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) via: Via,
    pub(super) group: Option<String>,
    pub(super) user: Option<String>,
    /// `None`: as the config says, or else [`Mark::DEFAULT`].
    pub(super) mark: Option<Mark>,
    pub(super) resolvers: Vec<SocketAddr>,
    pub(super) no_dns: bool,
    pub(super) dns_only: bool,
    pub(super) library: Option<PathBuf>,
    pub(super) best_effort: bool,
    pub(super) verbose: bool,
    /// Never empty.
    pub(super) command: Vec<PathBuf>,
}

impl Options {
    /// The defaults, for a command.
    pub(super) fn new(command: Vec<PathBuf>) -> Options {
        Options {
            via: Via::Auto,
            group: None,
            user: None,
            mark: None,
            resolvers: Vec::new(),
            no_dns: false,
            dns_only: false,
            library: None,
            best_effort: false,
            verbose: false,
            command,
        }
    }

    /// What the sockets get.
    pub(super) fn mark(&self) -> Mark {
        self.mark.unwrap_or(Mark::DEFAULT)
    }
}

/// Reads the arguments into `options`; whether help is wanted in place of a command. The first one that is no option begins the command.
#[inline(never)]
pub(super) fn parse(args: &[PathBuf], options: &mut Options) -> Result<bool, Refusal> {
    let mut words = Words::new("exec", args);
    while let Some(word) = words.next()? {
        if let Word::Other(program) = word {
            options.command.push(program.clone());
            options.command.extend_from_slice(words.rest());
            break;
        }
        let text = match words.option() {
            "--library" => {
                options.library = Some(words.value()?.into());
                continue;
            }
            name if VALUE_OPTIONS.contains(&name) => words.text()?,
            _ => "",
        };
        match words.option() {
            "-h" | "--help" => return Ok(true),
            "-v" | "--verbose" => options.verbose = true,
            "--no-dns" => options.no_dns = true,
            "--dns-only" => options.dns_only = true,
            "--best-effort" => options.best_effort = true,
            "--via" => options.via = via(text)?,
            "--group" => options.group = Some(text.to_owned()),
            "--user" => options.user = Some(text.to_owned()),
            "--mark" => {
                options.mark = Some(text.parse().map_err(|error: ParseMarkError| {
                    refuse(format_args!("--mark {text}: {error}; write for example 0x1/0x1"))
                })?)
            }
            "--resolver" => resolver(text, &mut options.resolvers)?,
            _ => return Err(words.unexpected(&word)),
        }
    }
    let refusal = if options.command.is_empty() {
        "COMMAND: missing; write narrowgate exec [OPTION…] [--] COMMAND [ARGUMENT…]"
    } else if options.dns_only && options.no_dns {
        "--dns-only and --no-dns: nothing is left to do; leave one of them out"
    } else {
        return Ok(false);
    };
    Err(refusal.to_owned())
}

fn via(text: &str) -> Result<Via, Refusal> {
    match text {
        "auto" => Ok(Via::Auto),
        "cgroup" => Ok(Via::Cgroup),
        "preload" => Ok(Via::Preload),
        _ => Err(refuse(format_args!("--via {text}: no such way; write auto, cgroup or preload"))),
    }
}

/// One a family: the kernel's programs send all DNS of a family to one place.
#[inline(never)]
fn resolver(text: &str, resolvers: &mut Vec<SocketAddr>) -> Result<(), Refusal> {
    let wrong = match socket_address(text) {
        None => "not ADDR:PORT; write for example 127.0.0.1:54 or [::1]:54",
        Some(addr) if addr.port() == 0 => "there is no port 0; write the port that it listens on",
        Some(addr) if resolvers.iter().any(|other| other.is_ipv4() == addr.is_ipv4()) => {
            "a second one of its family; write one for IPv4 and one for IPv6"
        }
        Some(addr) => {
            resolvers.push(addr);
            return Ok(());
        }
    };
    Err(refuse(format_args!("--resolver {text}: {wrong}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(line: &str) -> Result<Options, String> {
        let args: Vec<PathBuf> = line.split_whitespace().map(PathBuf::from).collect();
        let mut options = Options::new(Vec::new());
        match parse(&args, &mut options) {
            Ok(false) => Ok(options),
            Ok(true) => Err("help".into()),
            Err(refusal) => Err(refusal),
        }
    }

    #[test]
    fn what_follows_the_command_is_the_commands() {
        let parsed = options("--via cgroup --group 800 curl -v --help -- x").expect("good");
        assert_eq!(parsed.command, ["curl", "-v", "--help", "--", "x"]);
        assert_eq!((parsed.via, parsed.verbose, parsed.group.as_deref()), (Via::Cgroup, false, Some("800")));
        assert_eq!(options("-- --odd -v").expect("good").command, ["--odd", "-v"]);
    }

    #[test]
    fn without_options_gluons_mark_is_set_in_whatever_way_works() {
        let parsed = options("true").expect("good");
        assert_eq!((parsed.via, parsed.mark(), parsed.resolvers.len()), (Via::Auto, Mark::DEFAULT, 0));
    }

    #[test]
    fn each_mistake_is_named_with_its_mend() {
        for (line, part) in [
            ("", "COMMAND: missing"),
            ("--via x true", "--via x: no such way; write auto"),
            ("--mark 0 true", "--mark 0: a mark of 0"),
            ("--resolver 127.0.0.1 true", "not ADDR:PORT"),
            ("--resolver 127.0.0.1:0 true", "no port 0"),
            ("--resolver 1.1.1.1:1 --resolver 2.2.2.2:2 true", "a second one"),
            ("--no-dns --dns-only true", "nothing is left"),
            ("--colour true", "--colour"),
            ("--group", "--group"),
        ] {
            let refusal = options(line).expect_err(line);
            assert!(refusal.contains(part), "{line:?} gave {refusal:?}");
        }
    }
}
