//! `narrowgate exec`: becomes a command whose sockets are marked and whose DNS goes to the WAN resolver.
//! It needs neither the daemon nor a config, and leaves no process behind: the command takes its place.

mod configured;
mod options;
mod preload;

use crate::cli::{Globals, print_out};
use alloc::borrow::ToOwned;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use narrowgate_kernel::cgroup::{self, Programs};
use narrowgate_model::join;
use narrowgate_sys::cgroup::{Group, Tree};
use narrowgate_sys::path::{Path, PathBuf};
use narrowgate_sys::process::ExitCode;
use narrowgate_sys::{io, process};
use options::{Options, Via};
use rustix::fd::AsFd;

pub use options::{HELP, VALUE_OPTIONS};

/// Runs the command with the arguments behind the word `exec`. Returns only when the command was not started: 2 usage,
/// 1 it cannot be marked, 126 it cannot be executed, 127 it is not there.
pub fn main(globals: &Globals, args: &[PathBuf]) -> ExitCode {
    let mut options = Options::new(Vec::new());
    match options::parse(args, &mut options) {
        Ok(false) => {}
        Ok(true) => {
            print_out(HELP);
            return ExitCode::SUCCESS;
        }
        Err(usage) => return fail("exec", &usage, 2),
    }
    if let Err(refusal) = configured::fill(&mut options, globals) {
        return fail("exec", &refusal, 2);
    }
    match run(&options) {
        Ok(code) => code,
        Err(refusal) => fail("exec", &refusal, 1),
    }
}

/// `gluon-wan-dns CMD…` and `gluon-wan CMD…`, Gluon's wrappers: the command gets the mesh VPN's group, as it always did, and its
/// sockets the mark. What cannot be marked is started all the same, and told: without the mark it gets as far as the guard.
pub fn gluon_wan(name: &'static str, args: &[PathBuf]) -> ExitCode {
    if args.is_empty() {
        let refusal = refuse(format_args!("usage: no command; write {name} COMMAND [ARGUMENT…]"));
        return fail(name, &refusal, 2);
    }
    let mut identity = Identity {
        gid: Some(process::group(options::GLUON_GROUP).unwrap_or(options::GLUON_GID)),
        ..Identity::default()
    };
    let mut options = Options::new(args.to_vec());
    if let Err(refusal) = configured::fill(&mut options, &Globals::default()) {
        say(name, format_args!("{refusal}"));
    }
    let way = by_either(&options, &mut identity).or_else(|why| {
        say(name, format_args!("not marked: {why}"));
        // What it starts in its turn may be reached.
        options.best_effort = true;
        by_preload(&options, &mut identity)
    });
    way.unwrap_or_else(|_| match identity.assume() {
        Ok(()) => start(name, args, &[]),
        Err(refusal) => fail(name, &refusal, 1),
    })
}

/// Why a command was not started, in one line: the thing, the cause and the mend.
type Refusal = String;

#[cold]
#[inline(never)]
fn refuse(why: fmt::Arguments<'_>) -> Refusal {
    why.to_string()
}

fn run(options: &Options) -> Result<ExitCode, Refusal> {
    let mut identity = Identity::default();
    identity.become_asked(options)?;
    match options.via {
        Via::Cgroup => by_cgroup(options, &identity),
        Via::Preload => by_preload(options, &mut identity),
        Via::Auto => by_either(options, &mut identity),
    }
}

fn by_either(options: &Options, identity: &mut Identity) -> Result<ExitCode, Refusal> {
    by_cgroup(options, identity).or_else(|cgroup| {
        if options.verbose {
            say("exec", format_args!("no cgroup: {cgroup}; trying preload"));
        }
        by_preload(options, identity).map_err(|preload| {
            refuse(format_args!("neither way works: by cgroup, {cgroup}. By preload, {preload}; mend either"))
        })
    })
}

/// In a cgroup of its own, with programs that mark and redirect. The command needs no privilege then.
fn by_cgroup(options: &Options, identity: &Identity) -> Result<ExitCode, Refusal> {
    let mark = (!options.dns_only).then_some(options.mark());
    let mut programs = Programs { mark, resolver4: None, resolver6: None };
    let mut dns = Vec::new();
    for resolver in resolvers(options) {
        dns.push(resolver.to_string());
        match resolver {
            SocketAddr::V4(addr) => programs.resolver4 = Some(*addr),
            SocketAddr::V6(addr) => programs.resolver6 = Some(*addr),
        }
    }
    let group = enter(&programs)?;
    if options.verbose {
        let (path, mark) = (group.path().display(), or(mark.as_ref().map(|mark| mark as _), "none"));
        let dns = if dns.is_empty() { "as it is".to_owned() } else { join(&dns, " and ") };
        say("exec", format_args!("via cgroup {path}, mark {mark}, DNS to {dns}"));
    }
    let code = identity.assume().map(|()| start("exec", &options.command, &[]));
    let _ = group.leave(); // as another user it may not; the next exec sweeps it up
    code
}

#[inline(never)]
fn enter(programs: &Programs) -> Result<Group, Refusal> {
    let refuse = |thing: &dyn fmt::Display, error: &dyn fmt::Display| {
        refuse(format_args!(
            "{thing}: {error}; run it as root, on a kernel with cgroup2 and CONFIG_CGROUP_BPF, or use --via preload"
        ))
    };
    let group = Tree::find()
        .and_then(|tree| tree.enter_new(CGROUP_PREFIX))
        .map_err(|error| refuse(&"a cgroup of its own", &error))?;
    if let Err(error) = cgroup::attach(group.as_fd(), programs) {
        let refusal = refuse(&group.path().display(), &error);
        let _ = group.leave();
        return Err(refusal);
    }
    Ok(group)
}

/// By libpacketmark and the group whose DNS the daemon's firewall redirects.
fn by_preload(options: &Options, identity: &mut Identity) -> Result<ExitCode, Refusal> {
    if !options.resolvers.is_empty() {
        return Err(refuse(format_args!(
            "--resolver: a preload cannot send DNS elsewhere, the daemon's redirect does; leave it out, or use --via cgroup"
        )));
    }
    if !options.no_dns && identity.gid.is_none() {
        identity.gid = process::group(options::GLUON_GROUP).ok();
        if identity.gid.is_none() && !options.best_effort {
            return Err(refuse(format_args!(
                "--via preload: DNS is redirected for a group, and none is given; write --group with the tunnel's group, or --no-dns"
            )));
        }
    }
    if options.dns_only {
        identity.assume()?;
        return Ok(start("exec", &options.command, &[]));
    }
    let plan = preload::plan(options, identity.uid)?;
    let mark = options.mark().to_string();
    if options.verbose {
        let (library, group) =
            (plan.library.display(), or(identity.gid.as_ref().map(|gid| gid as _), "none"));
        say(
            "exec",
            format_args!(
                "via preload {library}, mark {mark}, group {group}; not reached: {}",
                preload::MISSED
            ),
        );
    }
    identity.assume()?;
    let set = [
        ("LD_PRELOAD", Path::new(&plan.ld_preload)),
        ("LIBPACKETMARK_MARK", Path::new(&mark)),
        ("LIBPACKETMARK_STRICT", Path::new("1")), // fail closed: better no socket than an unmarked one
    ];
    let set = if options.best_effort { &set[..2] } else { &set };
    Ok(start("exec", &options.command, set))
}

/// A thing, or the word for none.
#[inline(never)]
fn or(thing: Option<&dyn fmt::Display>, none: &str) -> String {
    thing.unwrap_or(&none).to_string()
}

/// Where DNS goes: where `--resolver` says, one a family; else to Gluon's place.
fn resolvers(options: &Options) -> &[SocketAddr] {
    const GLUONS: &[SocketAddr] = &[
        SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), RESOLVER_PORT),
        SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), RESOLVER_PORT),
    ];
    match options.resolvers.as_slice() {
        _ if options.no_dns => &[],
        [] => GLUONS,
        given => given,
    }
}

/// Who the command shall be; `None` leaves it as it is.
#[derive(Debug, Default)]
struct Identity {
    uid: Option<u32>,
    gid: Option<u32>,
    /// Those of the user.
    groups: Option<Vec<u32>>,
}

impl Identity {
    /// Whom the options name.
    #[inline(never)]
    fn become_asked(&mut self, options: &Options) -> Result<(), Refusal> {
        let named = |option: &str, name: &str, error: io::Error| {
            refuse(format_args!("--{option} {name}: {error}; write a {option}'s name or number"))
        };
        if let Some(name) = &options.user {
            self.become_user(name).map_err(|error| named("user", name, error))?;
        }
        if let Some(name) = &options.group {
            self.gid = Some(process::group(name).map_err(|error| named("group", name, error))?);
        }
        Ok(())
    }

    fn become_user(&mut self, name: &str) -> io::Result<()> {
        let user = process::user(name)?;
        self.groups = Some(match &user.name {
            Some(name) => process::groups_of(name)?,
            None => Vec::new(),
        });
        (self.uid, self.gid) = (Some(user.uid), Some(user.gid));
        Ok(())
    }

    #[inline(never)]
    fn assume(&self) -> Result<(), Refusal> {
        let mut what = "the user's groups";
        self.set(&mut what).map_err(|error| refuse(format_args!("{what}: {error}; run it as root")))
    }

    fn set(&self, what: &mut &str) -> io::Result<()> {
        if let Some(groups) = &self.groups {
            process::set_groups(groups)?;
        }
        *what = "the group";
        if let Some(gid) = self.gid {
            process::set_group(gid)?;
        }
        *what = "the user";
        self.uid.map_or(Ok(()), process::set_user)
    }
}

/// Becomes the command. Its exit codes are those of env(1).
fn start(name: &str, command: &[PathBuf], set: &[(&str, &Path)]) -> ExitCode {
    let error = process::exec(command, set);
    let (mend, code) = match error.kind() {
        io::ErrorKind::NotFound => ("write a program's path, or one that PATH finds", 127),
        _ => ("see that it is a program, and may be executed", 126),
    };
    let thing = command.first().map(PathBuf::as_path).unwrap_or_default().display();
    fail(name, &refuse(format_args!("{thing}: {error}; {mend}")), code)
}

fn fail(name: &str, refusal: &Refusal, code: u8) -> ExitCode {
    say(name, format_args!("{refusal}"));
    ExitCode::from(code)
}

/// One write a line, so that lines of several processes do not mix; who has no stderr is not told.
fn say(name: &str, text: fmt::Arguments<'_>) {
    io::stderr(format!("narrowgate: {name}: {text}\n").as_bytes());
}

/// Of the cgroups of `exec`; a number follows. The daemon removes them once they are empty.
pub const CGROUP_PREFIX: &str = "narrowgate-exec.";

const RESOLVER_PORT: u16 = 54;
