//! The command line: one function a command.

use std::ffi::OsString;
use std::process::{ExitCode, Stdio};

use narrowgate_lab::error::{Context, Error, Result};
use narrowgate_lab::layout::{self, Host};
use narrowgate_lab::{Lab, Options, client, demo, holder, probe, rundir, serve};

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let command = args.next().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
    let rest: Vec<OsString> = args.collect();
    let done = match command.as_str() {
        "up" => up(),
        "shell" => return exit_with(shell(&rest)),
        "down" => down(),
        "demo" => run_demo(&rest),
        "list" | "status" => list(),
        "hold" => holder::hold(rest.iter().any(|arg| arg == "--detached")).map(|()| ExitCode::SUCCESS),
        "ask" => ask(&rest),
        "keep" => keep(),
        "probe" => probes(&rest),
        "marker" => marker(&rest),
        "serve" => serve_ports(&rest),
        "time" => serve::serve_time(layout::FOREIGN4.into()).map(|()| ExitCode::SUCCESS),
        "--help" | "-h" | "help" => {
            print!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
        "--version" => {
            println!("narrowgate-lab {}", env!("CARGO_PKG_VERSION"));
            Ok(ExitCode::SUCCESS)
        }
        _ => {
            eprint!("{USAGE}");
            Ok(ExitCode::from(2))
        }
    };
    exit_with(done)
}

fn exit_with(done: Result<ExitCode>) -> ExitCode {
    done.unwrap_or_else(|error| {
        eprintln!("narrowgate-lab: {error}");
        ExitCode::FAILURE
    })
}

fn up() -> Result<ExitCode> {
    if let Some(lab) = Lab::detached().last() {
        return Err(Error::new(format!("the lab {} is up already: use it, or take it down first", lab.id())));
    }
    let lab = Lab::new(Options { detached: true, ..Options::default() })?;
    println!("lab {} is up; its files and logs are in {}", lab.id(), lab.file("").display());
    print!("{}", layout::describe());
    println!("narrowgate-lab shell HOST [CMD…] enters a host, narrowgate-lab down ends it all");
    Ok(ExitCode::SUCCESS)
}

fn shell(args: &[OsString]) -> Result<ExitCode> {
    let name = args.first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let host = Host::by_name(&name).ok_or_else(|| {
        let names: Vec<_> = Host::ALL.iter().map(|host| host.name()).collect();
        Error::new(format!("shell: there is no host {name:?}; there are {}", names.join(", ")))
    })?;
    let dir = Lab::detached()
        .pop()
        .ok_or_else(|| Error::new("no lab is up: start one with `narrowgate-lab up`"))?;
    let lab = Lab::attach(dir.id())?;
    let mut command = args.get(1..).unwrap_or_default().to_vec();
    if command.is_empty() {
        command.push(std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into()));
    }
    let (program, args) = command.split_first().ok_or_else(|| Error::new("shell: no command"))?;
    let child = lab.host(host).command(program).args(args).env("PS1", format!("{name}# "));
    let status = child.stdio(Stdio::inherit(), Stdio::inherit(), Stdio::inherit()).spawn()?.wait()?;
    Ok(ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1)))
}

fn down() -> Result<ExitCode> {
    let labs = Lab::detached();
    if labs.is_empty() {
        println!("no lab is up");
    }
    for dir in labs {
        Lab::down(&dir)?;
        println!("lab {} is gone", dir.id());
    }
    rundir::sweep();
    Ok(ExitCode::SUCCESS)
}

fn run_demo(args: &[OsString]) -> Result<ExitCode> {
    let compare = !args.iter().any(|arg| arg == "--no-comparison");
    Ok(if demo::demo(compare)? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn list() -> Result<ExitCode> {
    for dir in rundir::RunDir::all() {
        let kind = match (dir.alive(), dir.file("detached").exists()) {
            (false, _) => "dead, to be swept by the next run",
            (true, true) => "up",
            (true, false) => "of a running test or demo",
        };
        println!("{}  {kind}", dir.id());
    }
    Ok(ExitCode::SUCCESS)
}

fn ask(args: &[OsString]) -> Result<ExitCode> {
    let words: Vec<String> = args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
    let [transport, server, name] = words.as_slice() else {
        return Err(Error::new("ask: say udp|tcp SERVER:PORT NAME"));
    };
    let server = server.parse().context(|| format!("ask: {server:?} is no address with a port"))?;
    for address in client::ask_here(transport == "tcp", server, name)? {
        println!("{address}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Holds a lab until standard input ends: for the test that kills its run.
fn keep() -> Result<ExitCode> {
    let lab = Lab::new(Options::default())?;
    println!("{}", lab.id());
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(ExitCode::SUCCESS)
}

fn probes(args: &[OsString]) -> Result<ExitCode> {
    let words: Vec<String> = args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
    let [router4, router6, kinds @ ..] = words.as_slice() else {
        return Err(Error::new("probe: say ROUTER4 ROUTER6 KIND…"));
    };
    probe::run(router4, router6, kinds).map(|()| ExitCode::SUCCESS)
}

fn marker(args: &[OsString]) -> Result<ExitCode> {
    let nonce = args.first().and_then(|arg| arg.to_string_lossy().parse().ok()).unwrap_or(0);
    println!("{}", probe::mark(nonce)?);
    Ok(ExitCode::SUCCESS)
}

fn serve_ports(args: &[OsString]) -> Result<ExitCode> {
    let mut ports = Vec::new();
    for arg in args {
        let text = arg.to_string_lossy();
        ports.push(text.parse().context(|| format!("serve: {text:?} is no port"))?);
    }
    if ports.is_empty() {
        ports.push(layout::SERVICE_PORT);
    }
    serve::serve(&ports).map(|()| ExitCode::SUCCESS)
}

const USAGE: &str = "\
narrowgate-lab: a household, an internet, a VPN gateway and a bare node, in network namespaces

  narrowgate-lab up                 makes a lab that stays, and says what is where
  narrowgate-lab shell HOST [CMD…]  runs a command (a shell) in one of its hosts
  narrowgate-lab demo               a node comes up, and every frame on its WAN cable is accounted for;
                                    --no-comparison leaves the original's way out
  narrowgate-lab list               the labs of this machine
  narrowgate-lab down               ends the lab that `up` made
";
