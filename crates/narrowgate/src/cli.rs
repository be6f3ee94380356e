//! The command line: the global options, before or behind the command word, and the way to the command.

use crate::commands::{self, Command};
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;
use narrowgate_sys::eprintln;
use narrowgate_sys::path::{Path, PathBuf};
use narrowgate_sys::process::ExitCode;

/// Exit code for a wrong command line or config.
pub const USAGE: u8 = 2;

/// Options that every command understands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Globals {
    /// `--config`.
    pub config: PathBuf,
    /// `--runtime-dir`: what need not outlive a reboot.
    pub runtime_dir: PathBuf,
    /// `--state-dir`: what must.
    pub state_dir: PathBuf,
}

impl Default for Globals {
    fn default() -> Self {
        Globals {
            config: "/etc/config/narrowgate".into(),
            runtime_dir: "/run/narrowgate".into(),
            state_dir: "/var/lib/narrowgate".into(),
        }
    }
}

/// What the command line asks for.
enum Asked {
    Run(&'static Command),
    Help(Option<&'static Command>),
    Version,
}

/// Runs what the arguments ask for; the first is the name the program was called by.
pub fn main(args: Vec<PathBuf>) -> ExitCode {
    let (name, args) = match args.split_first() {
        Some((name, args)) => (name.as_path(), args),
        None => (Path::new("narrowgate"), &[][..]),
    };
    match name.file_name().and_then(Path::to_str) {
        Some("gluon-wan-dns") => return commands::exec::gluon_wan("gluon-wan-dns", args),
        Some("gluon-wan") => return commands::exec::gluon_wan("gluon-wan", args),
        _ if args.first().is_some_and(|a| a == narrowgate_forwarder::child::ARGUMENT) => {
            return narrowgate_forwarder::child::main();
        }
        _ => {}
    }
    let (mut globals, mut rest) = (Globals::default(), Vec::new());
    match parse(args, &mut globals, &mut rest) {
        Ok(Asked::Run(command)) => return (command.run)(&globals, &rest),
        Ok(Asked::Help(Some(command))) => print_out(command.help),
        Ok(Asked::Help(None)) => print_out(&overview()),
        Ok(Asked::Version) => print_out(concat!("narrowgate ", env!("CARGO_PKG_VERSION"), "\n")),
        Err(message) => {
            eprintln!("narrowgate: {message}");
            return ExitCode::from(USAGE);
        }
    }
    ExitCode::SUCCESS
}

/// Takes the global options out of the arguments; `rest` is what else stands behind the command word.
#[inline(never)]
fn parse(args: &[PathBuf], globals: &mut Globals, rest: &mut Vec<PathBuf>) -> Result<Asked, String> {
    let mut command: Option<&'static Command> = None;
    let mut at = 0;
    while let Some(arg) = args.get(at) {
        let is_option = arg.as_bytes().starts_with(b"-");
        if command.is_some_and(|c| arg == "--" || (c.stops_at_word && !is_option)) {
            break;
        }
        match global(globals, args, &mut at)? {
            Taken::Yes => continue,
            Taken::Help => return Ok(Asked::Help(command)),
            Taken::Version => return Ok(Asked::Version),
            Taken::No => at += 1,
        }
        if let Some(command) = command {
            rest.push(arg.clone());
            if let Some(value) = args.get(at)
                && command.value_options.iter().any(|option| arg == *option)
            {
                rest.push(value.clone());
                at += 1;
            }
            continue;
        }
        command = commands::TABLE.iter().find(|c| arg == c.name);
        if command.is_none() {
            let (what, quote) = if is_option { ("option", "") } else { ("command", "'") };
            return Err(format!("unknown {what} {quote}{}{quote}; see narrowgate --help", arg.display()));
        }
    }
    rest.extend_from_slice(args.get(at..).unwrap_or_default());
    command.map(Asked::Run).ok_or_else(|| "no command given; see narrowgate --help".to_owned())
}

enum Taken {
    Yes,
    No,
    Help,
    Version,
}

/// Takes one global option at `at`, `--name VALUE` or `--name=VALUE`, if there is one.
fn global(globals: &mut Globals, args: &[PathBuf], at: &mut usize) -> Result<Taken, String> {
    let Some(arg) = args.get(*at) else { return Ok(Taken::No) };
    let bytes = arg.as_bytes();
    let (name, inline) = match bytes.iter().position(|b| *b == b'=') {
        Some(cut) if bytes.starts_with(b"--") => (&bytes[..cut], Some(&bytes[cut + 1..])),
        _ => (bytes, None),
    };
    let target = match str::from_utf8(name).unwrap_or_default() {
        "--config" => &mut globals.config,
        "--runtime-dir" => &mut globals.runtime_dir,
        "--state-dir" => &mut globals.state_dir,
        "--help" | "-h" => return Ok(Taken::Help),
        "--version" | "-V" => return Ok(Taken::Version),
        _ => return Ok(Taken::No),
    };
    let value = match inline {
        Some(value) => Path::from_bytes(value),
        None => {
            *at += 1;
            args.get(*at).map(PathBuf::as_path).unwrap_or_default()
        }
    };
    if value.is_empty() {
        return Err(format!("option {} needs a value", String::from_utf8_lossy(name)));
    }
    *target = value.into();
    *at += 1;
    Ok(Taken::Yes)
}

fn overview() -> String {
    let mut text = String::from(
        "narrowgate keeps a foreign uplink for the tunnel alone.\n\nusage: narrowgate [OPTION…] COMMAND …\n\n",
    );
    for command in commands::TABLE {
        let _ = writeln!(text, "  {:<10}{}", command.name, command.summary);
    }
    text.push_str(
        "\noptions, before or behind the command:\n\
         \x20 --config FILE       default /etc/config/narrowgate\n\
         \x20 --runtime-dir DIR   default /run/narrowgate\n\
         \x20 --state-dir DIR     default /var/lib/narrowgate\n\
         \x20 --help, --version\n\n\
         exit: 0 fine, 1 found something or failed, 2 wrong usage or config\n",
    );
    text
}

/// Prints to stdout; a reader that has gone away is no error of ours.
pub fn print_out(text: &str) {
    let _ = narrowgate_sys::io::stdout(text.as_bytes());
}

/// Refuses arguments that a command does not take: `Some` is the exit code to leave with.
pub fn no_more_arguments(command: &str, args: &[PathBuf]) -> Option<ExitCode> {
    let arg = args.first()?;
    eprintln!(
        "narrowgate: {command}: unexpected argument '{}'; see narrowgate {command} --help",
        arg.display()
    );
    Some(ExitCode::from(USAGE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<(&'static str, Globals, Vec<String>), String> {
        let args: Vec<PathBuf> = line.split(' ').map(PathBuf::from).collect();
        let (mut g, mut rest) = (Globals::default(), Vec::new());
        match parse(&args, &mut g, &mut rest)? {
            Asked::Run(c) => Ok((c.name, g, rest.iter().map(|a| a.display().to_string()).collect())),
            _ => Err("help".to_owned()),
        }
    }

    #[test]
    fn global_options_stand_before_or_behind_the_command() {
        for line in ["--config /x run", "run --config /x", "--config=/x run", "run --config=/x"] {
            let (name, globals, rest) = parsed(line).unwrap();
            assert_eq!((name, globals.config.to_str().unwrap(), rest.len()), ("run", "/x", 0), "{line}");
        }
    }

    #[test]
    fn what_is_behind_the_command_of_exec_is_not_ours() {
        let (_, globals, rest) = parsed("exec --group x --config /a -- cmd --config /b --help").unwrap();
        assert_eq!(globals.config.to_str().unwrap(), "/a");
        assert_eq!(rest.join(" "), "--group x -- cmd --config /b --help");
        let (_, globals, rest) = parsed("exec --group x cmd --config /b").unwrap();
        assert_eq!(globals, Globals::default());
        assert_eq!(rest.join(" "), "--group x cmd --config /b");
    }

    #[test]
    fn mistakes_are_named() {
        assert!(parsed("nonsense").unwrap_err().contains("nonsense"));
        assert!(parsed("--nonsense run").unwrap_err().contains("--nonsense"));
        assert!(parsed("run --config").unwrap_err().contains("--config"));
        assert!(parsed("--config= run").unwrap_err().contains("--config"));
    }
}
