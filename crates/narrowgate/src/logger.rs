//! How the log is written here.

use narrowgate_sys::{env, fs};

/// Logs to stderr: under systemd with the priority in front (sd-daemon(3)), else with the seconds since the start.
pub fn init() {
    log::init(stderr_is_the_journal(), env::var_os("NARROWGATE_DEBUG").is_some());
}

/// Whether stderr is the stream that systemd made for us, and not a file that somebody redirected it to (systemd.exec(5)).
fn stderr_is_the_journal() -> bool {
    let Some(stream) = env::var("JOURNAL_STREAM") else { return false };
    fs::metadata("/proc/self/fd/2").is_ok_and(|m| stream == format!("{}:{}", m.dev(), m.ino()))
}
