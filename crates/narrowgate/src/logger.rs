//! How the log is written here.

/// Logs to stderr: under systemd with the priority in front (sd-daemon(3)), else with the seconds since the start.
pub fn init() {
    log::init(stderr_is_the_journal(), std::env::var_os("NARROWGATE_DEBUG").is_some());
}

/// Whether stderr is the stream that systemd made for us, and not a file that somebody redirected it to (systemd.exec(5)).
fn stderr_is_the_journal() -> bool {
    use std::os::unix::fs::MetadataExt;
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    std::fs::metadata("/proc/self/fd/2").is_ok_and(|m| stream == format!("{}:{}", m.dev(), m.ino()))
}
