//! Who else writes a sysctl. No netlink message tells of it; inotify(7) does, for writers that see the same `/proc`. One in
//! another container is found out with the next event of another kind.

use alloc::ffi::CString;
use alloc::string::String;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;

/// The files that are watched.
#[derive(Debug)]
pub(crate) struct Watch {
    /// None: no more inotify instances are to be had.
    fd: Option<OwnedFd>,
}

impl Watch {
    pub(crate) fn new() -> Watch {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK);
        if let Err(error) = &fd {
            log::info!("sysctls that others change are found out later only: inotify: {error}");
        }
        Watch { fd: fd.ok() }
    }

    /// Watches these as well. Those that are watched already stay as they are, and what cannot be watched is left out.
    #[inline(never)]
    pub(crate) fn add(&self, paths: &[String]) {
        let Some(fd) = &self.fd else { return };
        for path in paths {
            let Some(place) = super::place(path).ok().and_then(|place| CString::new(place).ok()) else {
                continue;
            };
            if let Err(error) = inotify::add_watch(fd, &*place, WatchFlags::MODIFY) {
                log::debug!("watching {path}: {error}");
            }
        }
    }

    /// Whether one was written since the last time.
    pub(crate) fn drain(&self) -> bool {
        let Some(fd) = &self.fd else { return false };
        let mut buffer = [0; 1024];
        let mut any = false;
        loop {
            match rustix::io::read(fd, &mut buffer) {
                Ok(_) => any = true,
                Err(Errno::INTR) => {}
                Err(_) => return any,
            }
        }
    }

    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().map(AsFd::as_fd)
    }
}
