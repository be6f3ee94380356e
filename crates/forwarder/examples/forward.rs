//! `narrowgate forward` without the rest of narrowgate: what the tests of this crate start.

#[macro_use]
extern crate alloc;

#[path = "../../narrowgate/src/commands"]
mod commands {
    pub mod forward;
}
#[path = "../../narrowgate/src/watch.rs"]
mod watch;
#[path = "../../narrowgate/src/words.rs"]
#[allow(dead_code)] // of which `exec` needs more
mod words;

use narrowgate_forwarder::child;
use narrowgate_sys::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).map(Into::into).collect();
    if arguments.first().is_some_and(|first: &PathBuf| first == child::ARGUMENT) {
        return child::main().into();
    }
    commands::forward::main(&arguments).into()
}
