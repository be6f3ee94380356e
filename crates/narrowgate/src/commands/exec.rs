//! `narrowgate exec`: becomes a command whose sockets are marked and whose DNS goes to the WAN resolver.
//! It needs neither the daemon nor a config, and leaves no process behind: the command takes its place.

mod configured;
mod options;
mod preload;

use crate::cli::Globals;
use narrowgate_kernel::cgroup::{self, Programs};
use narrowgate_sys::cgroup::{Group, Tree};
use narrowgate_sys::io;
use narrowgate_sys::process;
use options::{Options, Parsed, Via};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsFd;
use std::process::ExitCode;

pub use options::{HELP, VALUE_OPTIONS};

/// Runs the command with the arguments behind the word `exec`. Returns only when the command was not started: 2 usage,
/// 1 it cannot be marked, 126 it cannot be executed, 127 it is not there.
pub fn main(globals: &Globals, args: &[OsString]) -> ExitCode {
    let mut options = match options::parse(args) {
        Ok(Parsed::Help) => {
            let _ = io::stdout(HELP.as_bytes());
            return ExitCode::SUCCESS;
        }
        Ok(Parsed::Options(options)) => options,
        Err(usage) => return fail("exec", usage, 2),
    };
    if let Err(refusal) = configured::fill(&mut options, globals) {
        return fail("exec", refusal, 2);
    }
    match run(&options) {
        Ok(code) => code,
        Err(refusal) => fail("exec", refusal, 1),
    }
}

/// `gluon-wan-dns CMD…` and `gluon-wan CMD…`, Gluon's wrappers: the command gets the mesh VPN's group, as it always did, and its
/// sockets the mark. What cannot be marked is started all the same, and told: without the mark it gets as far as the guard.
pub fn gluon_wan(name: &'static str, args: &[OsString]) -> ExitCode {
    if args.is_empty() {
        return fail(
            name,
            Refusal::new(&"usage", &"no command", &format_args!("write {name} COMMAND [ARGUMENT…]")),
            2,
        );
    }
    let identity = Identity {
        gid: Some(process::group(options::GLUON_GROUP).unwrap_or(options::GLUON_GID)),
        ..Identity::default()
    };
    let mut options = Options::new(args.to_vec());
    if let Err(refusal) = configured::fill(&mut options, &Globals::default()) {
        io::stderr(format!("narrowgate: {name}: {refusal}\n").as_bytes());
    }
    let way = by_cgroup(&options, &identity).or_else(|_| by_preload(&options, &identity)).or_else(|why| {
        io::stderr(format!("narrowgate: {name}: not marked: {why}\n").as_bytes());
        // What it starts in its turn may be reached.
        options.best_effort = true;
        by_preload(&options, &identity)
    });
    way.unwrap_or_else(|_| match identity.assume() {
        Ok(()) => start(name, args, &[]),
        Err(refusal) => fail(name, refusal, 1),
    })
}

/// Why a command was not started: the thing, the cause and the mend.
#[derive(Debug)]
struct Refusal(String);

impl Refusal {
    #[inline(never)]
    fn new(thing: &dyn fmt::Display, cause: &dyn fmt::Display, mend: &dyn fmt::Display) -> Refusal {
        Refusal(format!("{thing}: {cause}; {mend}"))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn run(options: &Options) -> Result<ExitCode, Refusal> {
    let identity = Identity::of(options)?;
    match options.via {
        Via::Cgroup => by_cgroup(options, &identity),
        Via::Preload => by_preload(options, &identity),
        Via::Auto => by_cgroup(options, &identity).or_else(|cgroup| {
            if options.verbose {
                say(&format!("no cgroup: {cgroup}; trying preload"));
            }
            by_preload(options, &identity).map_err(|preload| {
                Refusal::new(
                    &"neither way works",
                    &format_args!("by cgroup, {cgroup}. By preload, {preload}"),
                    &"mend either",
                )
            })
        }),
    }
}

/// In a cgroup of its own, with programs that mark and redirect. The command needs no privilege then.
fn by_cgroup(options: &Options, identity: &Identity) -> Result<ExitCode, Refusal> {
    let (resolver4, resolver6) = resolvers(options);
    let programs = Programs { mark: (!options.dns_only).then_some(options.mark()), resolver4, resolver6 };
    let (group, tree_path) = enter(&programs)?;
    if options.verbose {
        let mark = programs.mark.map_or("none".to_owned(), |mark| mark.to_string());
        let dns = match (resolver4, resolver6) {
            (None, None) => "as it is".to_owned(),
            (Some(v4), None) => v4.to_string(),
            (None, Some(v6)) => v6.to_string(),
            (Some(v4), Some(v6)) => format!("{v4} and {v6}"),
        };
        say(&format!("via cgroup {tree_path}, mark {mark}, DNS to {dns}"));
    }
    if let Err(refusal) = identity.assume() {
        let _ = group.leave();
        return Err(refusal);
    }
    let code = start("exec", &options.command, &[]);
    let _ = group.leave(); // as another user it may not; the next exec sweeps it up
    Ok(code)
}

fn enter(programs: &Programs) -> Result<(Group, String), Refusal> {
    let mend = "run it as root, on a kernel with cgroup2 and CONFIG_CGROUP_BPF, or use --via preload";
    let group = Tree::find()
        .and_then(|tree| tree.enter_new(CGROUP_PREFIX))
        .map_err(|error| Refusal::new(&"a cgroup of its own", &error, &mend))?;
    let path = group.path().display().to_string();
    match cgroup::attach(group.as_fd(), programs) {
        Ok(_) => Ok((group, path)),
        Err(error) => {
            let _ = group.leave();
            Err(Refusal::new(&path, &error, &mend))
        }
    }
}

/// By libpacketmark and the group whose DNS the daemon's firewall redirects.
fn by_preload(options: &Options, identity: &Identity) -> Result<ExitCode, Refusal> {
    if !options.resolvers.is_empty() {
        let mend = "leave it out, or use --via cgroup";
        return Err(Refusal::new(
            &"--resolver",
            &"a preload cannot send DNS elsewhere, the daemon's redirect does",
            &mend,
        ));
    }
    let mut identity = identity.clone();
    if !options.no_dns && identity.gid.is_none() {
        match process::group(options::GLUON_GROUP) {
            Ok(gid) => identity.gid = Some(gid),
            Err(_) if options.best_effort => {}
            Err(_) => {
                let mend = "write --group with the tunnel's group, or --no-dns";
                return Err(Refusal::new(
                    &"--via preload",
                    &"DNS is redirected for a group, and none is given",
                    &mend,
                ));
            }
        }
    }
    if options.dns_only {
        identity.assume()?;
        return Ok(start("exec", &options.command, &[]));
    }
    let plan = preload::plan(options, identity.uid())?;
    if options.verbose {
        let group = identity.gid.map_or("none".to_owned(), |gid| gid.to_string());
        let library = plan.library.display();
        say(&format!(
            "via preload {library}, mark {}, group {group}; not reached: {}",
            options.mark(),
            preload::MISSED
        ));
    }
    identity.assume()?;
    let mark = options.mark().to_string();
    let mut set: Vec<(&str, &OsStr)> =
        vec![("LD_PRELOAD", &plan.ld_preload), ("LIBPACKETMARK_MARK", OsStr::new(&mark))];
    if !options.best_effort {
        set.push(("LIBPACKETMARK_STRICT", OsStr::new("1"))); // fail closed: better no socket than an unmarked one
    }
    Ok(start("exec", &options.command, &set))
}

/// Where DNS goes: where `--resolver` says, one a family; else to Gluon's place.
fn resolvers(options: &Options) -> (Option<SocketAddrV4>, Option<SocketAddrV6>) {
    if options.no_dns {
        return (None, None);
    }
    if options.resolvers.is_empty() {
        let v6 = SocketAddrV6::new(Ipv6Addr::LOCALHOST, RESOLVER_PORT, 0, 0);
        return (Some(SocketAddrV4::new(Ipv4Addr::LOCALHOST, RESOLVER_PORT)), Some(v6));
    }
    let (mut v4, mut v6) = (None, None);
    for resolver in &options.resolvers {
        match resolver {
            SocketAddr::V4(addr) => v4 = Some(*addr),
            SocketAddr::V6(addr) => v6 = Some(*addr),
        }
    }
    (v4, v6)
}

/// Who the command shall be.
#[derive(Debug, Clone, Default)]
struct Identity {
    user: Option<process::User>,
    gid: Option<u32>,
    /// Those of the user; `None` leaves them as they are.
    groups: Option<Vec<u32>>,
}

impl Identity {
    fn of(options: &Options) -> Result<Identity, Refusal> {
        let mut identity = Identity::default();
        if let Some(text) = &options.user {
            let unknown = |error: io::Error| {
                Refusal::new(&format_args!("--user {text}"), &error, &"write a user's name or number")
            };
            let user = process::user(text).map_err(unknown)?;
            let groups = user.name.as_deref().map_or(Ok(Vec::new()), process::groups_of).map_err(unknown)?;
            identity.gid = Some(user.gid);
            identity.groups = Some(groups);
            identity.user = Some(user);
        }
        if let Some(text) = &options.group {
            let unknown = |error: io::Error| {
                Refusal::new(&format_args!("--group {text}"), &error, &"write a group's name or number")
            };
            identity.gid = Some(process::group(text).map_err(unknown)?);
        }
        Ok(identity)
    }

    /// The user's number; `None` is whoever runs us.
    fn uid(&self) -> Option<u32> {
        self.user.as_ref().map(|user| user.uid)
    }

    fn assume(&self) -> Result<(), Refusal> {
        let refused =
            |what: &'static str| move |error: io::Error| Refusal::new(&what, &error, &"run it as root");
        if let Some(groups) = &self.groups {
            process::set_groups(groups).map_err(refused("the user's groups"))?;
        }
        if let Some(gid) = self.gid {
            process::set_group(gid).map_err(refused("the group"))?;
        }
        if let Some(uid) = self.uid() {
            process::set_user(uid).map_err(refused("the user"))?;
        }
        Ok(())
    }
}

/// Becomes the command. Its exit codes are those of env(1).
fn start(name: &str, command: &[OsString], set: &[(&str, &OsStr)]) -> ExitCode {
    let error = {
        let set: Vec<_> =
            set.iter().map(|(name, value)| (*name, narrowgate_sys::path::Path::new(*value))).collect();
        process::exec(command, &set)
    };
    let thing = command.first().map(|word| word.display().to_string()).unwrap_or_default();
    let (mend, code) = match error.kind() {
        io::ErrorKind::NotFound => ("write a program's path, or one that PATH finds", 127),
        _ => ("see that it is a program, and may be executed", 126),
    };
    fail(name, Refusal::new(&thing, &error, &mend), code)
}

fn fail(name: &str, refusal: Refusal, code: u8) -> ExitCode {
    // One write a line, so that lines of several processes do not mix; who has no stderr is not told.
    io::stderr(format!("narrowgate: {name}: {refusal}\n").as_bytes());
    ExitCode::from(code)
}

fn say(text: &str) {
    io::stderr(format!("narrowgate: exec: {text}\n").as_bytes());
}

/// Of the cgroups of `exec`; a number follows. The daemon removes them once they are empty.
pub const CGROUP_PREFIX: &str = "narrowgate-exec.";

const RESOLVER_PORT: u16 = 54;
