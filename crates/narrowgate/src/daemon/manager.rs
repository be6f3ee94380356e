//! The service manager hears how far we are (sd_notify(3)), if there is one.

use narrowgate_sys::{env, io};
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType};

/// All is set up, or read again.
pub const READY: &str = "READY=1\n";
/// The config is being read again.
pub const RELOADING: &str = "RELOADING=1\n";
/// All is being taken down.
pub const STOPPING: &str = "STOPPING=1\n";

/// Sends a line.
///
/// # Errors
/// Those of socket(2) and sendto(2): nobody is at the address that we were given.
pub fn notify(line: &str) -> io::Result<()> {
    let Some(place) = env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let to = match place.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddrUnix::new_abstract_name(name)?,
        None => SocketAddrUnix::new(&*place)?,
    };
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    rustix::net::sendto(&socket, line.as_bytes(), SendFlags::NOSIGNAL, &to)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_service_manager_nobody_is_told() {
        if env::var_os("NOTIFY_SOCKET").is_none() {
            notify(READY).unwrap();
        }
    }
}
