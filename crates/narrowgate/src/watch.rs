//! A file that is watched by inotify(7). Its directory is, in fact: the file is replaced by rename, may be absent, and may come later.

use alloc::borrow::ToOwned;
use core::mem::MaybeUninit;
use narrowgate_sys::io;
use narrowgate_sys::path::{Path, PathBuf};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

/// See the module's head. The descriptor is readable when something has happened in the directory.
#[derive(Debug)]
pub struct FileWatch {
    name: PathBuf,
    inotify: OwnedFd,
}

/// The file has been written, replaced or taken away, as a whole.
pub const DONE: WatchFlags = WatchFlags::CLOSE_WRITE
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::DELETE);

impl FileWatch {
    /// Watches for `what` happens to the file at `path`.
    ///
    /// # Errors
    /// The kernel's: its directory is not there, or there are no more watches to be had.
    pub fn new(path: &Path, what: WatchFlags) -> io::Result<FileWatch> {
        let folder = match path.parent() {
            Some(folder) if !folder.is_empty() => folder,
            _ => Path::new("."),
        };
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        inotify::add_watch(&inotify, folder, what | WatchFlags::ONLYDIR)?;
        Ok(FileWatch { name: path.file_name().unwrap_or_default().to_owned(), inotify })
    }

    /// Whether something has happened to the file since the last time.
    pub fn changed(&self) -> bool {
        let mut space = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.inotify, &mut space);
        let mut changed = false;
        while let Ok(event) = reader.next() {
            let name = event.file_name().map(|name| Path::from_bytes(name.to_bytes()));
            // Without a name: events were lost. Then anything may have happened.
            changed |= name.is_none_or(|name| *name == self.name);
        }
        changed
    }
}

impl AsFd for FileWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}
