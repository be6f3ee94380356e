//! What a process is: its user and groups, its namespaces, the program it runs.

use crate::io;
use crate::path::Path;
use alloc::borrow::ToOwned;
use alloc::ffi::CString;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::process::Pid;

/// A user, as /etc/passwd has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its name; `None` for a number that has none.
    pub name: Option<String>,
    /// Its number.
    pub uid: u32,
    /// Its primary group; that of the number where /etc/passwd does not know the user.
    pub gid: u32,
}

/// How a program ends: a number for its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExitCode(u8);

impl ExitCode {
    /// All is well.
    pub const SUCCESS: ExitCode = ExitCode(0);
    /// It is not.
    pub const FAILURE: ExitCode = ExitCode(1);

    /// As `main` of C returns it.
    pub fn number(self) -> i32 {
        self.0.into()
    }
}

impl From<u8> for ExitCode {
    fn from(number: u8) -> ExitCode {
        ExitCode(number)
    }
}

/// How a child ended, as wait(2) tells it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExitStatus(i32);

impl ExitStatus {
    pub(crate) const fn from_raw(status: i32) -> ExitStatus {
        ExitStatus(status)
    }

    /// It ended by itself and says that all is well.
    pub fn success(self) -> bool {
        self.0 == 0
    }

    /// What it ended itself with.
    pub fn code(self) -> Option<i32> {
        libc::WIFEXITED(self.0).then(|| libc::WEXITSTATUS(self.0))
    }

    /// The signal that ended it.
    pub fn signal(self) -> Option<i32> {
        libc::WIFSIGNALED(self.0).then(|| libc::WTERMSIG(self.0))
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code(), self.signal()) {
            (Some(code), _) => write!(f, "exit status: {code}"),
            (_, Some(signal)) => {
                let name = SIGNALS.iter().find(|(number, _)| *number == signal).map_or("", |(_, name)| name);
                write!(f, "signal: {signal}{name}")
            }
            _ => write!(f, "wait status: {:#x}", self.0),
        }
    }
}

/// Those that programs end by.
const SIGNALS: [(i32, &str); 12] = [
    (libc::SIGHUP, " (SIGHUP)"),
    (libc::SIGINT, " (SIGINT)"),
    (libc::SIGQUIT, " (SIGQUIT)"),
    (libc::SIGILL, " (SIGILL)"),
    (libc::SIGTRAP, " (SIGTRAP)"),
    (libc::SIGABRT, " (SIGABRT)"),
    (libc::SIGBUS, " (SIGBUS)"),
    (libc::SIGFPE, " (SIGFPE)"),
    (libc::SIGKILL, " (SIGKILL)"),
    (libc::SIGSEGV, " (SIGSEGV)"),
    (libc::SIGSYS, " (SIGSYS)"),
    (libc::SIGTERM, " (SIGTERM)"),
];

/// The number of this process.
pub fn id() -> u32 {
    rustix::process::getpid().as_raw_nonzero().get().unsigned_abs()
}

/// Ends it at once, as a crash does.
pub fn abort() -> ! {
    // SAFETY: it ends the process.
    unsafe { libc::abort() }
}

/// The number of a group that is given by name or by number. Read from /etc/group by hand, since a static program has
/// no other name services.
///
/// # Errors
/// Those of reading the file; NotFound when the group is not in it.
pub fn group(text: &str) -> io::Result<u32> {
    match number(text) {
        Some(gid) => Ok(gid),
        None => group_in(&crate::fs::read_to_string("/etc/group")?, text)
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "not in /etc/group")),
    }
}

/// A user who is given by name or by number.
///
/// # Errors
/// Those of reading /etc/passwd; NotFound when a name is not in it.
pub fn user(text: &str) -> io::Result<User> {
    match (user_in(&crate::fs::read_to_string("/etc/passwd")?, text), number(text)) {
        (Some(user), _) => Ok(user),
        (None, Some(uid)) => Ok(User { name: None, uid, gid: uid }),
        (None, None) => Err(io::Error::new(io::ErrorKind::NotFound, "not in /etc/passwd")),
    }
}

/// The groups that /etc/group lists a user in, beside the primary one.
///
/// # Errors
/// Those of reading the file.
pub fn groups_of(name: &str) -> io::Result<Vec<u32>> {
    Ok(groups_in(&crate::fs::read_to_string("/etc/group")?, name))
}

/// The effective user of this process.
pub fn user_id() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Sets the supplementary groups.
///
/// # Errors
/// EPERM without CAP_SETGID.
pub fn set_groups(groups: &[u32]) -> io::Result<()> {
    // SAFETY: pointer and length are the slice's.
    check(unsafe { libc::setgroups(groups.len() as _, groups.as_ptr()) })
}

/// Sets the real, effective and saved group, of all threads.
///
/// # Errors
/// EPERM without CAP_SETGID.
pub fn set_group(gid: u32) -> io::Result<()> {
    // SAFETY: takes numbers.
    check(unsafe { libc::setresgid(gid, gid, gid) })
}

/// Sets the real, effective and saved user, of all threads. Capabilities go with root.
///
/// # Errors
/// EPERM without CAP_SETUID.
pub fn set_user(uid: u32) -> io::Result<()> {
    // SAFETY: takes numbers.
    check(unsafe { libc::setresuid(uid, uid, uid) })
}

/// The capabilities that are in force, a bit each (capabilities(7)).
///
/// # Errors
/// Those of reading /proc/self/status.
pub fn effective_capabilities() -> io::Result<u64> {
    capabilities("CapEff:")
}

/// The capabilities that a program keeps which another user than root executes.
///
/// # Errors
/// Those of reading /proc/self/status.
pub fn ambient_capabilities() -> io::Result<u64> {
    capabilities("CapAmb:")
}

fn capabilities(set: &str) -> io::Result<u64> {
    let status = crate::fs::read_to_string("/proc/self/status")?;
    let caps = status.lines().find_map(|line| line.strip_prefix(set));
    caps.and_then(|caps| u64::from_str_radix(caps.trim(), 16).ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no capabilities in /proc/self/status"))
}

/// CAP_NET_ADMIN, as a bit of a set of capabilities.
pub const CAP_NET_ADMIN: u64 = 1 << 12;
/// CAP_NET_RAW, as a bit of a set of capabilities.
pub const CAP_NET_RAW: u64 = 1 << 13;

/// Moves the calling thread into a namespace; `namespace` is a descriptor of /proc/PID/ns/…, or of a file it is bound to.
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN in it; EINVAL when the descriptor is no namespace.
pub fn enter_namespace(namespace: BorrowedFd<'_>) -> io::Result<()> {
    use rustix::fd::AsRawFd;
    // SAFETY: takes numbers; it changes this thread alone.
    check(unsafe { libc::setns(namespace.as_raw_fd(), 0) })
}

/// A descriptor that stands for a process, and for no other that gets its number later (Linux 5.3).
///
/// # Errors
/// ESRCH when there is no such process.
pub fn pidfd(process: u32) -> io::Result<OwnedFd> {
    Ok(rustix::process::pidfd_open(pid(process)?, rustix::process::PidfdFlags::empty())?)
}

/// A process's number as the system calls take it.
///
/// # Errors
/// ESRCH when no process can have this number.
pub fn pid(number: u32) -> io::Result<Pid> {
    let pid = i32::try_from(number).ok().and_then(Pid::from_raw);
    pid.ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))
}

/// A copy of another process's descriptor (Linux 5.6).
///
/// # Errors
/// EPERM where the process may not be traced; EBADF when it has no such descriptor.
pub fn descriptor_of(process: BorrowedFd<'_>, number: i32) -> io::Result<OwnedFd> {
    Ok(rustix::process::pidfd_getfd(process, number, rustix::process::PidfdGetfdFlags::empty())?)
}

/// Becomes another program, found along PATH as execvp(3) does, in an environment where `set` is added to this one. The
/// signal mask, and what is ignored, stay as this process got them. Returns only when that failed.
pub fn exec(arguments: &[impl AsRef<Path>], set: &[(&str, &Path)]) -> io::Error {
    let mut texts = Vec::new();
    for text in arguments {
        texts.push(CString::new(text.as_ref().as_bytes()));
    }
    for (name, value) in set {
        texts.push(CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()));
    }
    let texts: Result<Vec<CString>, _> = texts.into_iter().collect();
    let (Ok(texts), false) = (texts, arguments.is_empty()) else {
        return io::Error::from_raw_os_error(libc::EINVAL);
    };
    let (mut argv, mut envp) = (Vec::new(), Vec::new());
    let (words, added) = texts.split_at(arguments.len());
    words.iter().for_each(|text| argv.push(text.as_ptr()));
    for entry in crate::env::entries() {
        let replaced = |name: &str| {
            entry.to_bytes().strip_prefix(name.as_bytes()).is_some_and(|rest| rest.starts_with(b"="))
        };
        if !set.iter().any(|(name, _)| replaced(name)) {
            envp.push(entry.as_ptr());
        }
    }
    added.iter().for_each(|text| envp.push(text.as_ptr()));
    argv.push(core::ptr::null());
    envp.push(core::ptr::null());
    if !SIGPIPE_WAS_IGNORED.load(Ordering::Relaxed) {
        // SAFETY: the default action, which Rust's start replaced.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    }
    // SAFETY: a C string, and two arrays of C strings that end with a null pointer; all outlive the call.
    unsafe { libc::execvpe(argv[0], argv.as_ptr(), envp.as_ptr()) };
    io::Error::last_os_error()
}

/// `runtime` ignores SIGPIPE before anything else, as Rust's own start does. What the process was given has to be asked for earlier.
static SIGPIPE_WAS_IGNORED: AtomicBool = AtomicBool::new(false);

#[used]
#[unsafe(link_section = ".init_array")]
static ASK_SIGPIPE: extern "C" fn() = {
    extern "C" fn ask() {
        let mut action = core::mem::MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: asks only; `action` has room for the answer, and zeroes are a valid value of it.
        let action = unsafe {
            libc::sigaction(libc::SIGPIPE, core::ptr::null(), action.as_mut_ptr());
            action.assume_init()
        };
        SIGPIPE_WAS_IGNORED.store(action.sa_sigaction == libc::SIG_IGN, Ordering::Relaxed);
    }
    ask
};

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A number of a user or group; the last one means "none" to the kernel.
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| digits && *number != u32::MAX)
}

/// group(5): `name:password:gid:members`.
fn group_in(file: &str, name: &str) -> Option<u32> {
    file.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1).and_then(number)).flatten()
    })
}

fn groups_in(file: &str, user: &str) -> Vec<u32> {
    let listed = |line: &str| {
        let mut fields = line.split(':');
        let gid = fields.nth(2).and_then(number)?;
        fields.next()?.split(',').any(|member| member == user).then_some(gid)
    };
    file.lines().filter_map(listed).collect()
}

/// passwd(5): `name:password:uid:gid:…`. A name that is all digits is taken as a number only when nobody is called that.
fn user_in(file: &str, text: &str) -> Option<User> {
    let users = || {
        file.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            let (uid, gid) = (fields.nth(1).and_then(number)?, fields.next().and_then(number)?);
            Some(User { name: Some(name.to_owned()), uid, gid })
        })
    };
    let by_number = || users().find(|user| Some(user.uid) == number(text));
    users().find(|user| user.name.as_deref() == Some(text)).or_else(by_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUPS: &str =
        "root:x:0:\nbroken\ngluon-mesh-vpn:x:800:fastd,nobody\nbad:x:y:fastd\nlast:x:9:fastd\n";
    const USERS: &str = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65533::/:\nbad:x::\n";

    #[test]
    fn groups_are_found_by_name_and_number() {
        assert_eq!(group_in(GROUPS, "gluon-mesh-vpn"), Some(800));
        assert_eq!(group_in(GROUPS, "bad"), None);
        assert_eq!(group_in(GROUPS, "broken"), None);
        assert_eq!(group("800").ok(), Some(800));
        assert_eq!(groups_in(GROUPS, "fastd"), [800, 9]);
        assert_eq!(groups_in(GROUPS, "fast"), []);
    }

    #[test]
    fn users_are_found_by_name_and_number() {
        let nobody = User { name: Some("nobody".into()), uid: 65534, gid: 65533 };
        assert_eq!(user_in(USERS, "nobody"), Some(nobody.clone()));
        assert_eq!(user_in(USERS, "65534"), Some(nobody));
        assert_eq!(user_in(USERS, "bad"), None);
        assert_eq!(user_in(USERS, ""), None);
    }

    #[test]
    fn a_descriptor_is_taken_from_a_process() {
        use std::io::Read;
        use std::os::fd::{AsFd, AsRawFd};
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let own = pidfd(std::process::id()).expect("this process lives");
        let copy = descriptor_of(own.as_fd(), reader.as_raw_fd()).expect("one may look at oneself");
        drop((reader, writer));
        let mut nothing = Vec::new();
        assert_eq!(std::fs::File::from(copy).read_to_end(&mut nothing).ok(), Some(0), "the pipe's other end");
        assert!(pidfd(0).is_err());
    }

    #[test]
    fn a_number_is_digits_and_not_the_kernels_none() {
        assert_eq!(number("4294967294"), Some(u32::MAX - 1));
        for text in ["", "+1", "-1", "4294967295", "4294967296", "1 "] {
            assert_eq!(number(text), None, "{text:?}");
        }
    }
}
