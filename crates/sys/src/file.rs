//! Files that are replaced whole.

use crate::fs;
use crate::io;
use crate::path::Path;
use alloc::string::String;
use alloc::vec::Vec;
use rustix::fd::AsFd;
use rustix::fs::OFlags;

/// Who may read a file.
pub const ROOT_ALONE: u32 = 0o600;
/// See [`ROOT_ALONE`].
pub const EVERYBODY: u32 = 0o644;

/// Whether the content has to be on the disk before the file gets its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// Yes. It may take a flash a tenth of a second.
    Wait,
    /// No: after a power failure the file may be empty or half.
    DoNotWait,
}

/// Writes a file by way of a new one beside it and rename(2), so that a reader finds the old content or the new, whole. Its directory is made if it is not there.
///
/// # Errors
/// Those of the system calls; then the old file is as it was.
pub fn replace(path: impl AsRef<Path>, content: &[u8], mode: u32, sync: Sync) -> io::Result<()> {
    replaced(path.as_ref(), content, mode, sync)
}

fn replaced(path: &Path, content: &[u8], mode: u32, sync: Sync) -> io::Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    let mut new = path.to_path_buf();
    new.append(".new");
    let _ = fs::remove_file(&new); // of a run that died here, with its own mode
    let file = fs::open(&new, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL, mode)?;
    io::write_all(file.as_fd(), content)?;
    if sync == Sync::Wait {
        rustix::fs::fdatasync(&file)?;
    }
    fs::rename(&new, path)
}

/// Reads a file that [`replace`] has written. What else may lie there after a disaster (a pipe, a device, a file without end) is
/// refused, without waiting for it and without filling the memory with it.
///
/// # Errors
/// Those of the system calls; `InvalidData` for what is no file of ours.
pub fn read(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    read_bounded(path.as_ref())
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let file = fs::open(path, OFlags::RDONLY | OFlags::NONBLOCK, 0)?;
    let about = fs::metadata_of(file.as_fd())?;
    if !about.is_file() || about.len() > MOST {
        let what = if about.is_dir() { io::ErrorKind::IsADirectory } else { io::ErrorKind::InvalidData };
        return Err(what.into());
    }
    let mut bytes = Vec::new();
    io::read_to_end(file.as_fd(), MOST as usize, &mut bytes)?;
    Ok(bytes)
}

/// The same as text; nothing, if it is none or cannot be read.
pub fn text(path: impl AsRef<Path>) -> String {
    read(path).ok().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default()
}

/// Larger is none of ours.
const MOST: u64 = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_is_replaced_whole_with_its_mode_and_what_a_dead_run_left_is_no_hindrance() {
        let dir = std::env::temp_dir().join(format!("narrowgate-file-test-{}", std::process::id()));
        let path = dir.join("deep/peers.old");
        for (content, mode, sync) in [("one", ROOT_ALONE, Sync::Wait), ("two", EVERYBODY, Sync::DoNotWait)] {
            replace(&path, content.as_bytes(), mode, sync).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
            fs::write(dir.join("deep/peers.old.new"), "half of it, longer than what comes").unwrap();
        }
        fs::remove_file(dir.join("deep/peers.old.new")).unwrap();
        fs::create_dir(dir.join("deep/peers.old.new")).unwrap();
        replace(&path, b"three", ROOT_ALONE, Sync::Wait).unwrap_err();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two", "the old one stays");
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn what_is_no_file_of_ours_is_refused_at_once_and_costs_no_memory() {
        let dir = std::env::temp_dir().join(format!("narrowgate-read-test-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("file");
        let kind = || read(&path).map_err(|error| error.kind());
        assert_eq!(kind(), Err(io::ErrorKind::NotFound));
        fs::write(&path, "seven\n").unwrap();
        assert_eq!((kind().as_deref(), text(&path).as_str()), (Ok(&b"seven\n"[..]), "seven\n"));
        fs::write(&path, b"\xff").unwrap();
        assert_eq!(text(&path), "");
        fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(kind(), Err(io::ErrorKind::InvalidData), "a file without end");
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        assert_eq!(kind(), Err(io::ErrorKind::InvalidData), "a device");
        fs::remove_file(&path).unwrap();
        let mode = rustix::fs::Mode::RUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert_eq!(kind(), Err(io::ErrorKind::InvalidData), "a pipe that nobody writes to");
        fs::remove_dir_all(&dir).unwrap();
    }
}
