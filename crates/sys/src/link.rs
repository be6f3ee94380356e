//! Device names and numbers, and the clock that everything here is timed by.

use crate::io;
use alloc::ffi::CString;
use alloc::string::String;
use core::ffi::CStr;

/// The index of the device called `name` in this network namespace. ENODEV if there is none.
pub fn index_of(name: &str) -> io::Result<u32> {
    let name = CString::new(name).map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))?;
    // SAFETY: the pointer is to a NUL-terminated string that outlives the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

/// The name of the device with this index in this network namespace. ENXIO or ENODEV if there is none.
pub fn name_of(index: u32) -> io::Result<String> {
    let mut name = [0u8; libc::IF_NAMESIZE];
    // SAFETY: the buffer has the IF_NAMESIZE bytes that if_indextoname(3) may write.
    if unsafe { libc::if_indextoname(index, name.as_mut_ptr().cast()) }.is_null() {
        return Err(io::Error::last_os_error());
    }
    let name = CStr::from_bytes_until_nul(&name).map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))?;
    Ok(name.to_string_lossy().into_owned())
}

/// Milliseconds of `CLOCK_BOOTTIME`: what `narrowgate_model::Time` counts.
pub fn now_ms() -> u64 {
    let (seconds, nanoseconds) = crate::time::Clock::Boottime.now();
    // It is never negative for this clock.
    (seconds as u64).saturating_mul(1000).saturating_add(u64::from(nanoseconds / 1_000_000))
}

/// Moves this thread, and the threads and processes that it starts from now on, into a new network namespace with nothing but a
/// loopback device that is off. EPERM without CAP_SYS_ADMIN.
pub fn new_network_namespace() -> io::Result<()> {
    // SAFETY: unsharing the network namespace changes what later system calls of this thread see, and no memory.
    match unsafe { libc::unshare(libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_and_its_index_lead_to_each_other() {
        let index = index_of("lo").unwrap();
        assert_eq!(name_of(index).unwrap(), "lo");
        assert_eq!(index_of("no-such-device").unwrap_err().raw_os_error(), Some(libc::ENODEV));
        assert!(index_of("a\0b").is_err());
        assert!(name_of(u32::MAX).is_err());
    }

    #[test]
    fn the_clock_does_not_run_backwards() {
        let before = now_ms();
        assert!(before > 0);
        assert!(now_ms() >= before);
    }
}
