//! Control groups, version 2: find the tree wherever it is mounted, make a group, move into it, clear away empty ones.
//! Kernel document: Documentation/admin-guide/cgroup-v2.rst.

use crate::io;
use crate::path::{Path, PathBuf};
use alloc::borrow::ToOwned;
use alloc::ffi::CString;
use alloc::string::String;
use alloc::vec::Vec;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, inotify};

/// The tree of control groups, as far as this process sees it.
#[derive(Debug)]
pub struct Tree {
    root: OwnedFd,
    /// This process's own group, below `root`; empty is `root` itself.
    own: PathBuf,
}

impl Tree {
    /// Finds the tree: a mount of cgroup2 in /proc/self/mountinfo, and where there is none (as inside `ip netns exec`) a
    /// mount that only this descriptor knows. The mount table of the process stays as it is.
    ///
    /// # Errors
    /// ENODEV when the kernel has no cgroup2, EPERM without CAP_SYS_ADMIN when it is not mounted.
    pub fn find() -> io::Result<Tree> {
        let own = own_group(&crate::fs::read_to_string("/proc/self/cgroup")?);
        let mountinfo = crate::fs::read("/proc/self/mountinfo")?;
        for mount in mounts(&mountinfo) {
            let Some(own) = below(&own, &mount.root) else { continue };
            // Another file system may cover it, so what the table says is looked at.
            if let Ok(root) = open_directory(rustix::fs::CWD, &mount.point)
                && is_cgroup2(&root)
                && open_directory(root.as_fd(), &own).is_ok()
            {
                return Ok(Tree { root, own });
            }
        }
        let root = private_mount()?;
        // Outside our cgroup namespace the path cannot be walked; then the root of the namespace is the place.
        let own = below(&own, Path::new("/")).filter(|own| open_directory(root.as_fd(), own).is_ok());
        Ok(Tree { root, own: own.unwrap_or_default() })
    }

    /// This process's own group, as a path from the tree's root.
    pub fn own(&self) -> PathBuf {
        Path::new("/").join(&self.own)
    }

    /// Opens a group by its path from the tree's root, with or without the leading slash.
    ///
    /// # Errors
    /// ENOENT when it is not there.
    pub fn open(&self, path: impl AsRef<Path>) -> io::Result<OwnedFd> {
        let path = path.as_ref();
        open_directory(self.root.as_fd(), path.strip_prefix("/").unwrap_or(path))
    }

    /// Makes the group `prefix` + the process's number below the process's own group and moves the process there. Groups
    /// of that prefix which are empty, left by processes that have ended, are removed.
    ///
    /// # Errors
    /// EROFS or EACCES where the tree cannot be written; EOPNOTSUPP where the parent is threaded; EAGAIN where the parent
    /// has as many as it may (`cgroup.max.descendants`).
    pub fn enter_new(&self, prefix: &str) -> io::Result<Group> {
        let parent = self.open(&self.own)?;
        // Another process's sweep must not come between our mkdir and our move.
        lock(parent.as_fd());
        sweep(parent.as_fd(), prefix)?;
        let mut name = format!("{prefix}{}", crate::process::id());
        while let Err(error) = rustix::fs::mkdirat(&parent, &name, Mode::from_raw_mode(0o755)) {
            if error != rustix::io::Errno::EXIST {
                return Err(error.into());
            }
            name.push('+'); // the number came round again, and the old one's children live
        }
        let path = self.own().join(&name);
        let group = open_directory(parent.as_fd(), Path::new(&name))
            .and_then(|directory| enter(directory.as_fd()).map(|()| directory));
        let _ = rustix::fs::flock(&parent, FlockOperation::Unlock);
        match group {
            Ok(directory) => Ok(Group { directory, parent, name, path }),
            Err(error) => {
                let _ = rustix::fs::unlinkat(&parent, &name, AtFlags::REMOVEDIR);
                Err(error)
            }
        }
    }

    /// Removes every empty group whose name begins with `prefix`, in the whole tree. Returns how many.
    pub fn sweep(&self, prefix: &str) -> usize {
        sweep_below(self.root.as_fd(), prefix, 16)
    }
}

/// A group that was made, and that the process is in.
#[derive(Debug)]
pub struct Group {
    directory: OwnedFd,
    parent: OwnedFd,
    name: String,
    path: PathBuf,
}

impl Group {
    /// Its path from the tree's root.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Moves the process back to where it was and removes the group.
    ///
    /// # Errors
    /// EBUSY when another process is in it.
    pub fn leave(self) -> io::Result<()> {
        enter(self.parent.as_fd())?;
        Ok(rustix::fs::unlinkat(&self.parent, &self.name, AtFlags::REMOVEDIR)?)
    }
}

impl AsFd for Group {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

/// What tells one group from another that has had the same path: the kernel's number of it, never used twice.
///
/// # Errors
/// Those of fstat(2).
pub fn id(group: BorrowedFd<'_>) -> io::Result<u64> {
    Ok(rustix::fs::fstat(group)?.st_ino)
}

/// Tells when groups are made or removed in one place. The descriptor is readable then.
#[derive(Debug)]
pub struct Watch {
    inotify: OwnedFd,
    current: Option<i32>,
}

impl Watch {
    /// Watches nothing yet.
    ///
    /// # Errors
    /// EMFILE: as many instances as this user may have (fs.inotify.max_user_instances).
    pub fn new() -> io::Result<Watch> {
        let inotify = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        Ok(Watch { inotify, current: None })
    }

    /// Watches the groups directly below this one, instead of what it watched before.
    ///
    /// # Errors
    /// ENOSPC: as many watches as this user may have; ENOENT: the group is gone.
    pub fn set(&mut self, group: BorrowedFd<'_>) -> io::Result<()> {
        let path = format!("/proc/self/fd/{}", group.as_raw_fd());
        let flags =
            inotify::WatchFlags::CREATE | inotify::WatchFlags::DELETE | inotify::WatchFlags::DELETE_SELF;
        let watch = inotify::add_watch(&self.inotify, path, flags)?;
        if let Some(old) = self.current.replace(watch).filter(|old| *old != watch) {
            // The kernel has removed it already if its group is gone.
            let _ = inotify::remove_watch(&self.inotify, old);
        }
        Ok(())
    }

    /// Forgets what was told so far.
    pub fn drain(&self) {
        let mut events = [0u8; 4096];
        while rustix::io::read(&self.inotify, &mut events).is_ok_and(|len| len > 0) {}
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

/// Moves this process into a group.
///
/// # Errors
/// EBUSY when the group hands controllers down (only leaves hold processes then); EACCES.
pub fn enter(group: BorrowedFd<'_>) -> io::Result<()> {
    let procs = rustix::fs::openat(group, "cgroup.procs", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    io::write_all(procs.as_fd(), b"0")
}

/// The processes in a group, not those in groups below it.
///
/// # Errors
/// ENODEV when the group has been removed.
pub fn processes(group: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let procs = rustix::fs::openat(group, "cgroup.procs", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut text = Vec::new();
    io::read_to_end(procs.as_fd(), usize::MAX, &mut text)?;
    let text = crate::fs::text(text)?;
    Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
}

/// Removes the empty groups directly below `parent` whose name begins with `prefix`. Returns how many.
///
/// # Errors
/// Those of reading the directory. A group that cannot be removed is in use, and stays.
pub fn sweep(parent: BorrowedFd<'_>, prefix: &str) -> io::Result<usize> {
    let mut removed = 0;
    for name in groups_in(parent)? {
        if name.to_bytes().starts_with(prefix.as_bytes()) {
            // What an `exec` inside this one has left would keep it.
            if let Ok(group) = open_directory(parent, Path::new(&*name)) {
                removed += sweep(group.as_fd(), prefix)?;
            }
            // EBUSY says that somebody is in it, so there is no race between a look and the removal.
            removed += usize::from(rustix::fs::unlinkat(parent, &name, AtFlags::REMOVEDIR).is_ok());
        }
    }
    Ok(removed)
}

/// Takes the lock of a group's directory, but does not wait for it for ever: anybody who can read the directory can hold it.
/// Without it, another's sweep may remove the group that we are about to enter; then entering fails, and nothing else.
fn lock(group: BorrowedFd<'_>) {
    for _ in 0..100 {
        if rustix::fs::flock(group, FlockOperation::NonBlockingLockExclusive).is_ok() {
            return;
        }
        crate::time::sleep(core::time::Duration::from_millis(10));
    }
}

fn sweep_below(parent: BorrowedFd<'_>, prefix: &str, depth: usize) -> usize {
    let locked = rustix::fs::flock(parent, FlockOperation::NonBlockingLockExclusive).is_ok();
    let mut removed = if locked { sweep(parent, prefix).unwrap_or(0) } else { 0 };
    let _ = rustix::fs::flock(parent, FlockOperation::Unlock);
    for name in if depth == 0 { Vec::new() } else { groups_in(parent).unwrap_or_default() } {
        if let Ok(group) = open_directory(parent, Path::new(&*name)) {
            removed += sweep_below(group.as_fd(), prefix, depth - 1);
        }
    }
    removed
}

#[allow(clippy::unnecessary_cast)] // the type of f_type differs between machines
fn is_cgroup2(directory: &OwnedFd) -> bool {
    rustix::fs::fstatfs(directory).is_ok_and(|stat| stat.f_type as i64 == CGROUP2_SUPER_MAGIC)
}

fn groups_in(parent: BorrowedFd<'_>) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    // A descriptor of its own, which reads from the beginning.
    crate::fs::each(open_directory(parent, Path::new("."))?, &mut |name, kind| {
        if kind == rustix::fs::FileType::Directory {
            names.push(name.to_owned());
        }
    })?;
    Ok(names)
}

fn open_directory(at: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    let path = if path.is_empty() { Path::new(".") } else { path };
    Ok(rustix::fs::openat(at, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// A mount of cgroup2 that is nowhere in the file system (fsmount(2), Linux 5.2): gone with its descriptor.
fn private_mount() -> io::Result<OwnedFd> {
    const CLOEXEC: libc::c_long = 1; // FSOPEN_CLOEXEC and FSMOUNT_CLOEXEC
    const CMD_CREATE: libc::c_long = 6; // FSCONFIG_CMD_CREATE
    let none = core::ptr::null::<libc::c_char>();
    // SAFETY: the name is a C string.
    let context = descriptor(unsafe { libc::syscall(libc::SYS_fsopen, c"cgroup2".as_ptr(), CLOEXEC) })?;
    let fd = libc::c_long::from(context.as_raw_fd());
    // SAFETY: this command takes no key and no value.
    if unsafe { libc::syscall(libc::SYS_fsconfig, fd, CMD_CREATE, none, none, 0 as libc::c_long) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: numbers only.
    descriptor(unsafe { libc::syscall(libc::SYS_fsmount, fd, CLOEXEC, 0 as libc::c_long) })
}

fn descriptor(fd: libc::c_long) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the system call that gave this number made the descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// The path in the line of version 2, `0::/path`, of /proc/PID/cgroup.
fn own_group(text: &str) -> PathBuf {
    text.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/").into()
}

/// `path` as seen from a mount whose root is `root`; `None` when it is not below it.
fn below(path: &Path, root: &Path) -> Option<PathBuf> {
    let path = path.strip_prefix(root)?;
    (!path.as_bytes().split(|byte| *byte == b'/').any(|part| part == b"..")).then(|| path.to_path_buf())
}

#[derive(Debug, PartialEq, Eq)]
struct Mount {
    root: PathBuf,
    point: PathBuf,
}

/// The writable mounts of cgroup2 in a mountinfo (proc(5)): `ID PARENT DEV ROOT POINT OPTIONS… - TYPE SOURCE SUPER`.
fn mounts(mountinfo: &[u8]) -> Vec<Mount> {
    let mount = |line: &[u8]| {
        let mut fields = line.split(|byte| *byte == b' ');
        let (root, point) = (fields.nth(3)?, fields.next()?);
        let options = fields.next()?;
        let writable = options.split(|byte| *byte == b',').all(|option| option != b"ro");
        let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
        let mount = || Mount { root: unescaped(root), point: unescaped(point) };
        (kind == b"cgroup2" && writable).then(mount)
    };
    mountinfo.split(|byte| *byte == b'\n').filter_map(mount).collect()
}

/// Blanks, tabs, newlines and backslashes in mountinfo are `\` and three octal digits.
fn unescaped(mut field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    while let [first, rest @ ..] = field {
        field = match field {
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', rest @ ..] => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest
            }
            _ => {
                bytes.push(*first);
                rest
            }
        };
    }
    PathBuf::from_vec(bytes)
}

const CGROUP2_SUPER_MAGIC: i64 = 0x6367_7270;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroup2_is_found_wherever_it_is_mounted() {
        let text = b"31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
            40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n\
            42 31 0:38 /a\\040b /mnt/c\\134d rw - cgroup2 none rw\n\
            43 31 0:38 / /mnt/readonly ro,nosuid - cgroup2 none rw\n";
        let expected = [("/", "/sys/fs/cgroup/unified"), ("/a b", "/mnt/c\\d")];
        let expected = expected.map(|(root, point)| Mount { root: root.into(), point: point.into() });
        assert_eq!(mounts(text), expected);
        assert_eq!(mounts(b"\n - \n1 2 3\n\\ \\0 - cgroup2"), []);
    }

    #[test]
    fn ones_own_group_is_told_from_the_root_of_the_mount() {
        let own = own_group("4:memory:/m\n0::/system.slice/x.service\n");
        assert_eq!(own, Path::new("/system.slice/x.service"));
        assert_eq!(below(&own, Path::new("/")), Some("system.slice/x.service".into()));
        assert_eq!(below(&own, Path::new("/system.slice")), Some("x.service".into()));
        assert_eq!(below(&own, &own), Some("".into()));
        assert_eq!(below(&own, Path::new("/user.slice")), None);
        assert_eq!(below(Path::new("/../x"), Path::new("/")), None);
    }
}
