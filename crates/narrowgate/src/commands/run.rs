//! `narrowgate run`: the daemon, see [`crate::daemon`].

use crate::cli::{Globals, no_more_arguments};
use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the command.
pub fn main(globals: &Globals, args: &[OsString]) -> ExitCode {
    if let Some(exit) = no_more_arguments("run", args) {
        return exit;
    }
    crate::logger::init();
    crate::daemon::run(globals)
}
