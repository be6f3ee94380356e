//! narrowgate keeps a foreign uplink for the tunnel alone. This is the program: the command line and what each command does.
#![forbid(unsafe_code)]

#[macro_use]
extern crate alloc;

mod cli;
mod commands;
mod config_file;
mod daemon;
mod logger;
mod report;
mod runtime;
mod watch;
mod words;

use narrowgate_model::Gather;
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Not the standard library's, whose backtraces need debug information that is not there: left-out.ld leaves its reader out.
    std::panic::set_hook(Box::new(|info| {
        let _ = writeln!(std::io::stderr(), "narrowgate: {info}");
    }));
    cli::main(std::env::args_os().map(Into::into).gather()).into()
}
