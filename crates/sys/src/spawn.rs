//! Starting a program. The standard library's `Command` is able to do more, and costs 24 KB of program for it, first of all the
//! environment as a map.

use crate::io;
use crate::path::Path;
use crate::process::ExitStatus;
use alloc::ffi::CString;
use alloc::string::String;
use alloc::vec::Vec;
use core::ptr;
use rustix::fd::{AsRawFd, BorrowedFd, RawFd};
use rustix::fs::OFlags;
use rustix::process::{Pid, Signal, WaitOptions};

/// A program to start: in the root directory, with no signal blocked, SIGPIPE as it is by default, and our standard error.
#[derive(Debug)]
pub struct Program<'a> {
    /// Where it lies.
    pub path: &'a Path,
    /// What it is given beside its name, which is its path.
    pub arguments: &'a [&'a str],
    /// Its environment, all of it.
    pub variables: &'a [(&'a str, String)],
    /// Its input; without one it is empty.
    pub input: Option<BorrowedFd<'a>>,
    /// What it writes to its standard output is thrown away. Otherwise that is ours.
    pub silent: bool,
    /// Where both what it writes and its complaints go, in place of ours.
    pub output: Option<BorrowedFd<'a>>,
    /// In a process group of its own.
    pub group: bool,
}

/// A program that was started. Dropping it lets it live.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    status: Option<ExitStatus>,
}

impl<'a> Program<'a> {
    /// With no arguments, no environment and no input.
    pub fn new(path: &'a Path) -> Program<'a> {
        Program {
            path,
            arguments: &[],
            variables: &[],
            input: None,
            silent: false,
            output: None,
            group: false,
        }
    }

    /// Starts it.
    ///
    /// # Errors
    /// Those of fork(2) and execve(2); EINVAL for a zero byte in a text.
    pub fn spawn(&self) -> io::Result<Child> {
        // All memory is made before: behind fork(2) there are only system calls, as if in a signal handler (another thread might hold
        // the allocator's lock).
        let mut arguments = vec![CString::new(self.path.as_bytes())?];
        for text in self.arguments {
            arguments.push(CString::new(*text)?);
        }
        let mut variables = Vec::new();
        for (name, value) in self.variables {
            variables.push(CString::new([name, "=", value].concat())?);
        }
        let (argv, envp) = (pointers(&arguments), pointers(&variables));
        let nothing = crate::fs::open("/dev/null", OFlags::RDWR, 0)?;
        let input = self.input.map_or(nothing.as_raw_fd(), |input| input.as_raw_fd());
        let both = self.output.map(|output| output.as_raw_fd());
        let output = both.or(self.silent.then_some(nothing.as_raw_fd()));
        // It is closed by a successful execve(2), and says why of one that failed.
        let (told, tell) = io::pipe()?;

        // SAFETY: the new process calls but `become_program`, which makes system calls, and ends.
        match unsafe { libc::fork() } {
            0 => {
                let errno = become_program(&argv, &envp, [Some(input), output, both], self.group)
                    .raw_os_error()
                    .unwrap_or(libc::EIO)
                    .to_ne_bytes();
                // SAFETY: pointer and length are the array's; _exit(2) runs nothing of ours.
                unsafe {
                    libc::write(tell.as_raw_fd(), errno.as_ptr().cast(), errno.len());
                    libc::_exit(127)
                }
            }
            number => {
                let pid = (number > 0).then(|| Pid::from_raw(number)).flatten();
                let pid = pid.ok_or_else(io::Error::last_os_error)?;
                let mut child = Child { pid, status: None };
                drop(tell);
                let mut errno = [0; 4];
                if io::read_exact(&told, &mut errno).is_err() {
                    return Ok(child);
                }
                child.wait()?;
                Err(io::Error::from_raw_os_error(i32::from_ne_bytes(errno)))
            }
        }
    }
}

/// Returns only when that failed.
fn become_program(
    argv: &[*const libc::c_char],
    envp: &[*const libc::c_char],
    first: [Option<RawFd>; 3],
    group: bool,
) -> io::Error {
    // SAFETY: descriptors and texts are valid; `argv` and `envp` are lists of texts that end with a null pointer (`pointers`).
    unsafe {
        // Descriptors 0 to 2 are always open (`runtime` sees to it), so these are others, and their copies outlive execve(2).
        if (0..).zip(first).any(|(number, from)| from.is_some_and(|from| libc::dup2(from, number) < 0))
            || group && libc::setpgid(0, 0) < 0
            || libc::chdir(c"/".as_ptr()) < 0
        {
            return io::Error::last_os_error();
        }
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        if let Err(error) = crate::signal::unblock_all() {
            return error;
        }
        libc::execve(argv[0], argv.as_ptr(), envp.as_ptr());
    }
    io::Error::last_os_error()
}

/// As execve(2) wants them. They point into the texts.
fn pointers(texts: &[CString]) -> Vec<*const libc::c_char> {
    texts.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect()
}

impl Child {
    /// Its process id.
    pub fn id(&self) -> u32 {
        self.pid.as_raw_pid().unsigned_abs()
    }

    /// Kills it, unless it is known to have ended.
    ///
    /// # Errors
    /// EPERM when it has another user and we have no CAP_KILL.
    pub fn kill(&self) -> io::Result<()> {
        match self.status {
            Some(_) => Ok(()),
            None => Ok(rustix::process::kill_process(self.pid, Signal::KILL)?),
        }
    }

    /// Kills all of its process group (see [`Program::group`]), unless it is known to have ended.
    pub fn kill_group(&self) {
        if self.status.is_none() {
            let _ = rustix::process::kill_process_group(self.pid, Signal::KILL);
        }
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// ECHILD when somebody else has waited for it.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        self.ended(WaitOptions::empty())?.ok_or_else(|| io::Error::from_raw_os_error(libc::ECHILD))
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.ended(WaitOptions::NOHANG)
    }

    fn ended(&mut self, options: WaitOptions) -> io::Result<Option<ExitStatus>> {
        if self.status.is_none() {
            let ended = rustix::io::retry_on_intr(|| rustix::process::waitpid(Some(self.pid), options))?;
            self.status = ended.map(|(_, status)| ExitStatus::from_raw(status.as_raw()));
        }
        Ok(self.status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    fn shell<'a>(arguments: &'a [&'a str], variables: &'a [(&'a str, String)]) -> Program<'a> {
        Program { arguments, variables, silent: true, group: true, ..Program::new(Path::new("/bin/sh")) }
    }

    #[test]
    fn a_program_has_what_it_was_given_and_nothing_else() {
        let script = r#"read -r word && [ "$word $A $PWD" = "given x=y /" ] && [ -z "$HOME" ] && exit 7"#;
        let (input, output) = io::pipe().unwrap();
        io::write_all(output.as_fd(), b"given\n").unwrap();
        let variables = [("A", "x=y".to_owned())];
        let arguments = ["-c", script];
        let program = Program { input: Some(input.as_fd()), ..shell(&arguments, &variables) };
        let mut child = program.spawn().unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(7));
        assert_eq!(child.try_wait().unwrap().and_then(|status| status.code()), Some(7), "it is remembered");
    }

    #[test]
    fn without_an_input_it_reads_an_end_and_a_signal_ends_its_group() {
        let mut child = shell(&["-c", "read -r word || exit 8"], &[]).spawn().unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(8));
        let mut child = shell(&["-c", "while :; do sleep 60; done"], &[]).spawn().unwrap();
        assert_eq!(child.try_wait().unwrap(), None);
        child.kill_group();
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
    }

    #[test]
    fn what_cannot_be_started_says_why() {
        let error = |path: &str| Program::new(Path::new(path)).spawn().unwrap_err();
        assert_eq!(error("/no/such/program").raw_os_error(), Some(libc::ENOENT));
        assert_eq!(error("/etc/passwd").raw_os_error(), Some(libc::EACCES));
        assert_eq!(error("/bin/sh\0").kind(), io::ErrorKind::InvalidInput);
    }
}
