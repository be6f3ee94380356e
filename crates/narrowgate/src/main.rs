//! narrowgate keeps a foreign uplink for the tunnel alone. This is the program: the command line and what each command does.
#![forbid(unsafe_code)]

mod cli;
mod commands;
mod config_file;
mod daemon;
mod logger;
mod report;
mod runtime;
mod watch;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main(std::env::args_os().collect())
}
