//! `narrowgate run`: the daemon, see [`crate::daemon`].

use crate::cli::{Globals, no_more_arguments};
use narrowgate_sys::path::PathBuf;
use narrowgate_sys::process::ExitCode;

/// Runs the command.
pub fn main(globals: &Globals, args: &[PathBuf]) -> ExitCode {
    if let Some(exit) = no_more_arguments("run", args) {
        return exit;
    }
    crate::logger::init();
    crate::daemon::run(globals)
}
