//! `--via preload`: where the library is, and whether it will reach the command at all. What the loader will not load it
//! into is recognised before the command runs, since afterwards nobody would notice.

use super::options::Options;
use super::{Refusal, refuse};
use narrowgate_sys::path::{Path, PathBuf};
use narrowgate_sys::process::{self, CAP_NET_ADMIN, CAP_NET_RAW};
use narrowgate_sys::{env, fs, io};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::OFlags;

/// What a preload misses in any program, in words.
pub(super) const MISSED: &str =
    "libc's own resolver, raw system calls, io_uring, static and setuid programs that it starts";

/// How the command gets the library.
pub(super) struct Plan {
    pub(super) library: PathBuf,
    pub(super) ld_preload: PathBuf,
}

/// Finds the library, and refuses a command that it would not mark, unless `--best-effort`. `uid` is the command's user;
/// `None` is ours.
pub(super) fn plan(options: &Options, uid: Option<u32>) -> Result<Plan, Refusal> {
    let library = library(options.library.as_deref())?;
    if !options.best_effort
        && let Some(command) = options.command.first()
    {
        may_mark(uid)?;
        // What is not there is for exec to say.
        if let Some(path) = find(command) {
            let reach = reach(&path, &library, 0);
            if let Ok(Err(cause)) = reach {
                return Err(refuse(format_args!(
                    "{}: {cause}; use --via cgroup, or --best-effort to start it all the same",
                    path.display()
                )));
            }
        }
    }
    let mut ld_preload = library.clone();
    if let Some(others) = env::var_os("LD_PRELOAD").filter(|others| !others.is_empty()) {
        ld_preload.append(":");
        ld_preload.append(others);
    }
    Ok(Plan { library, ld_preload })
}

#[inline(never)]
fn library(given: Option<&Path>) -> Result<PathBuf, Refusal> {
    let found = match given {
        // The command may be started elsewhere.
        Some(path) => {
            Some(fs::read_link("/proc/self/cwd").unwrap_or_default().join(path)).filter(|path| path.is_file())
        }
        None => {
            let itself = env::current_exe().unwrap_or_default();
            let places = [itself.parent(), Some(Path::new("/usr/lib")), Some(Path::new("/usr/local/lib"))];
            places.into_iter().flatten().find_map(|place| {
                let path = place.join("libpacketmark.so");
                path.is_file().then_some(path)
            })
        }
    };
    let found =
        found.ok_or_else(|| refuse(format_args!("libpacketmark.so: not found; write --library FILE")))?;
    // ld.so reads LD_PRELOAD as a list with these between.
    if found.as_os_str().as_bytes().iter().any(|byte| b": \t\n".contains(byte)) {
        return Err(refuse(format_args!(
            "{}: LD_PRELOAD cannot name a path with a blank or colon; write --library FILE",
            found.display()
        )));
    }
    Ok(found)
}

/// SO_MARK takes a capability, which the command must have.
fn may_mark(uid: Option<u32>) -> Result<(), Refusal> {
    let is_root = uid.unwrap_or_else(process::user_id) == 0;
    let capabilities =
        if is_root { process::effective_capabilities() } else { process::ambient_capabilities() }
            .unwrap_or(0);
    if capabilities & (CAP_NET_ADMIN | CAP_NET_RAW) != 0 {
        return Ok(());
    }
    Err(refuse(format_args!(
        "SO_MARK: the command has neither CAP_NET_ADMIN nor CAP_NET_RAW; use --via cgroup, which asks nothing of the command, or --best-effort"
    )))
}

/// The file that execvp would run.
#[inline(never)]
fn find(command: &Path) -> Option<PathBuf> {
    if command.as_bytes().contains(&b'/') {
        return Some(command.into());
    }
    let path = env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
    for directory in path.as_bytes().split(|byte| *byte == b':') {
        let file = Path::from_bytes(directory).join(command);
        if fs::metadata(&file).is_ok_and(|file| file.is_file() && file.mode() & 0o111 != 0) {
            return Some(file);
        }
    }
    None
}

/// Whether the loader will load the library into a program: `Err` in it says why not. The outer error is the file's.
fn reach(path: &Path, library: &Path, depth: u8) -> io::Result<Result<(), &'static str>> {
    let file = fs::open(path, OFlags::RDONLY, 0)?;
    if fs::metadata_of(file.as_fd())?.mode() & 0o6000 != 0 {
        return Ok(Err("setuid or setgid: the loader ignores LD_PRELOAD for it"));
    }
    let mut start = [0u8; 256];
    let len = rustix::io::pread(&file, &mut start, 0)?;
    let start = start.get(..len).unwrap_or_default();
    if let Some(script) = start.strip_prefix(b"#!") {
        let line = script.split(|byte| *byte == b'\n').next().unwrap_or_default().trim_ascii();
        let interpreter = line.split(u8::is_ascii_whitespace).next().unwrap_or_default();
        return if depth < 4 { reach(Path::from_bytes(interpreter), library, depth + 1) } else { Ok(Ok(())) };
    }
    let Some(elf) = Elf::parse(start) else { return Ok(Ok(())) };
    if !elf.has_interpreter(&file) {
        return Ok(Err("a static program: there is no loader to load the library"));
    }
    let mut header = [0u8; 64];
    let len = rustix::io::pread(fs::open(library, OFlags::RDONLY, 0)?, &mut header, 0)?;
    match Elf::parse(header.get(..len).unwrap_or_default()) {
        Some(library) if library.kind() == elf.kind() => Ok(Ok(())),
        _ => Ok(Err("a program of another machine than the library's")),
    }
}

/// The header of an ELF file (elf(5)): as much as tells where the program headers are.
struct Elf {
    wide: bool,
    little: bool,
    machine: u64,
    table: u64,
    size: u64,
    count: u64,
}

impl Elf {
    fn parse(bytes: &[u8]) -> Option<Elf> {
        let [0x7f, b'E', b'L', b'F', class, data, ..] = bytes else { return None };
        let (wide, little) = (*class == 2, *data == 1);
        let number = |at: usize, len: usize| number(bytes, at, len, little);
        let machine = number(18, 2)?;
        let (table, table_len, size, count) = if wide { (32, 8, 54, 56) } else { (28, 4, 42, 44) };
        let (table, size, count) = (number(table, table_len)?, number(size, 2)?, number(count, 2)?);
        Some(Elf { wide, little, machine, table, size, count })
    }

    fn kind(&self) -> (bool, bool, u64) {
        (self.wide, self.little, self.machine)
    }

    /// Whether one of its program headers is PT_INTERP: then the kernel starts the loader.
    fn has_interpreter(&self, file: &OwnedFd) -> bool {
        const PT_INTERP: u64 = 3;
        (0..self.count).any(|n| {
            let mut kind = [0u8; 4];
            let at = self.table.saturating_add(n * self.size);
            rustix::io::pread(file, &mut kind, at).is_ok_and(|len| len == kind.len())
                && number(&kind, 0, kind.len(), self.little) == Some(PT_INTERP)
        })
    }
}

fn number(bytes: &[u8], at: usize, len: usize, little: bool) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(len)?)?;
    let mut sum = 0;
    for n in 0..len {
        let byte = if little { bytes.get(len - 1 - n) } else { bytes.get(n) };
        sum = sum << 8 | u64::from(*byte?);
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dynamic_program_is_reached() {
        let itself = std::env::current_exe().expect("this test is a file");
        let itself = PathBuf::from(itself);
        assert_eq!(reach(&itself, &itself, 0).expect("can be read"), Ok(()));
    }

    #[test]
    fn a_file_that_is_cut_short_is_no_panic() {
        let itself =
            std::fs::read(std::env::current_exe().expect("this test is a file")).expect("can be read");
        for len in 0..64 {
            assert_eq!(Elf::parse(&itself[..len]).is_some(), len >= 58, "{len}");
        }
    }
}
