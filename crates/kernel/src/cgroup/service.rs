//! A service's cgroup, by its path: it is made when the service starts and removed when it stops, by another program.
//! The programs are attached to it whenever it is a new one.

use super::{AttachError, Attached, Programs, attach};
use alloc::boxed::Box;
use narrowgate_sys::cgroup::{self, Tree, Watch};
use narrowgate_sys::io;
use narrowgate_sys::path::{Path, PathBuf};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};

/// A cgroup that is followed. Its descriptor becomes readable when [`refresh`](Self::refresh) may have something to do.
#[derive(Debug)]
pub struct Service {
    path: PathBuf,
    programs: Programs,
    tree: Tree,
    watch: Watch,
    current: Option<Current>,
}

/// The cgroup that is there now.
#[derive(Debug)]
struct Current {
    id: u64,
    directory: OwnedFd,
    attached: Attached,
}

/// What [`Service::refresh`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// There is no such cgroup: the service does not run.
    Absent,
    /// The programs are attached to it already.
    Known,
    /// It was new, and the programs were attached. `processes` were in it before: the sockets that they had made by then
    /// are not marked, and the guard drops what they send.
    New {
        /// How many.
        processes: usize,
    },
}

impl Service {
    /// Follows the cgroup at `path`, as /proc/PID/cgroup shows it: `/system.slice/fastd@mesh.service`. Call
    /// [`refresh`](Self::refresh) first; nothing is attached before.
    ///
    /// # Errors
    /// When there is no cgroup2, or no inotify instance to be had.
    pub fn new(path: &Path, programs: Programs) -> io::Result<Service> {
        Ok(Service {
            path: path.to_path_buf(),
            programs,
            tree: Tree::find()?,
            watch: Watch::new()?,
            current: None,
        })
    }

    /// Looks, and attaches the programs if the cgroup is new.
    ///
    /// # Errors
    /// When the programs cannot be attached. The next call tries again.
    pub fn refresh(&mut self) -> Result<Seen, Box<AttachError>> {
        self.watch.drain();
        loop {
            // The watch first, then the look: what changes between is told.
            let watched = self.watch_above();
            let directory = match self.tree.open(&self.path) {
                Ok(directory) => directory,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.current = None; // with the cgroup, its programs are gone
                    if self.watches_deepest(&watched) {
                        return Ok(Seen::Absent);
                    }
                    continue; // more of its path has come meanwhile
                }
                Err(error) => return Err(failed(error)),
            };
            let id = cgroup::id(directory.as_fd()).map_err(failed)?;
            if self.current.as_ref().is_some_and(|current| current.id == id) {
                return Ok(Seen::Known);
            }
            let attached = attach(directory.as_fd(), &self.programs)?;
            let processes = cgroup::processes(directory.as_fd()).map_or(0, |processes| processes.len());
            self.current = Some(Current { id, directory, attached });
            return Ok(Seen::New { processes });
        }
    }

    /// Does other things to the service's sockets from now on.
    ///
    /// # Errors
    /// As [`refresh`](Self::refresh); then the old programs stay.
    pub fn set_programs(&mut self, programs: Programs) -> Result<(), Box<AttachError>> {
        if let Some(current) = &mut self.current
            && self.programs != programs
        {
            current.attached = attach(current.directory.as_fd(), &programs)?;
        }
        self.programs = programs;
        Ok(())
    }

    /// Takes the programs off. Dropping a `Service` leaves them, so that a restarted daemon finds them.
    pub fn detach(self) {
        if let Some(Current { directory, attached, .. }) = self.current {
            attached.detach(directory.as_fd());
        }
    }

    /// Watches the deepest cgroup that is there on the way to ours, and returns its path.
    fn watch_above(&mut self) -> PathBuf {
        for above in self.path.ancestors().skip(1) {
            if let Ok(directory) = self.tree.open(above)
                && self.watch.set(directory.as_fd()).is_ok()
            {
                return above.to_path_buf();
            }
        }
        PathBuf::new()
    }

    /// Whether no deeper cgroup than `watched` has come.
    fn watches_deepest(&self, watched: &Path) -> bool {
        let mut above = self.path.ancestors().skip(1);
        above.find(|path| self.tree.open(path).is_ok()).is_none_or(|deepest| deepest == watched)
    }
}

impl AsFd for Service {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watch.as_fd()
    }
}

fn failed(error: io::Error) -> Box<AttachError> {
    super::failed("look at the cgroup", error)
}
