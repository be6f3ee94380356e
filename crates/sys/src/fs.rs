//! Files and directories by their paths.

use crate::io::{self, Error, ErrorKind};
use crate::path::{Path, PathBuf};
use alloc::string::String;
use alloc::vec::Vec;
use core::ffi::CStr;
use core::mem::MaybeUninit;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, RawMode, Stat};
use rustix::io::Errno;

/// Opens a file; close-on-exec.
///
/// # Errors
/// Those of open(2), but EINTR.
pub fn open(path: impl AsRef<Path>, flags: OFlags, mode: u32) -> io::Result<OwnedFd> {
    open_path(path.as_ref(), flags, mode)
}

#[inline(never)]
fn open_path(path: &Path, flags: OFlags, mode: u32) -> io::Result<OwnedFd> {
    let mode = Mode::from_raw_mode(mode as RawMode);
    Ok(rustix::io::retry_on_intr(|| rustix::fs::open(path, flags | OFlags::CLOEXEC, mode))?)
}

/// All of a file.
///
/// # Errors
/// Those of open(2) and read(2).
pub fn read(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    read_path(path.as_ref())
}

#[inline(never)]
fn read_path(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io::read_to_end(open_path(path, OFlags::RDONLY, 0)?.as_fd(), usize::MAX, &mut bytes)?;
    Ok(bytes)
}

/// All of a file, as text.
///
/// # Errors
/// Those of open(2) and read(2); `InvalidData` for what is no UTF-8.
pub fn read_to_string(path: impl AsRef<Path>) -> io::Result<String> {
    text(read_path(path.as_ref())?)
}

/// Bytes as text.
///
/// # Errors
/// `InvalidData` for what is no UTF-8.
pub fn text(bytes: Vec<u8>) -> io::Result<String> {
    String::from_utf8(bytes).map_err(|_| Error::new(ErrorKind::InvalidData, "it is no UTF-8"))
}

/// Makes this the content of a file, which is made with mode 0666 and the umask if it is not there.
///
/// # Errors
/// Those of open(2) and write(2).
pub fn write(path: impl AsRef<Path>, content: impl AsRef<[u8]>) -> io::Result<()> {
    let file = open_path(path.as_ref(), OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC, 0o666)?;
    io::write_all(file.as_fd(), content.as_ref())
}

/// Makes a directory, and what it lies in, with mode 0777 and the umask. One that is there will do.
///
/// # Errors
/// Those of mkdir(2).
pub fn create_dir_all(path: impl AsRef<Path>) -> io::Result<()> {
    create(path.as_ref())
}

fn create(path: &Path) -> io::Result<()> {
    if path.is_empty() {
        return Ok(());
    }
    match rustix::fs::mkdir(path, Mode::from_raw_mode(0o777)) {
        Ok(()) => Ok(()),
        Err(Errno::NOENT) => {
            create(path.parent().ok_or(Errno::NOENT)?)?;
            match rustix::fs::mkdir(path, Mode::from_raw_mode(0o777)) {
                Err(error) if !path.is_dir() => Err(error.into()),
                _ => Ok(()),
            }
        }
        Err(_) if path.is_dir() => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Removes a file.
///
/// # Errors
/// Those of unlink(2).
pub fn remove_file(path: impl AsRef<Path>) -> io::Result<()> {
    Ok(rustix::fs::unlink(path.as_ref())?)
}

/// Removes an empty directory.
///
/// # Errors
/// Those of rmdir(2).
pub fn remove_dir(path: impl AsRef<Path>) -> io::Result<()> {
    Ok(rustix::fs::rmdir(path.as_ref())?)
}

/// Gives a file another name, in place of what has that.
///
/// # Errors
/// Those of rename(2).
pub fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
    Ok(rustix::fs::rename(from.as_ref(), to.as_ref())?)
}

/// Where a symbolic link leads.
///
/// # Errors
/// Those of readlink(2).
pub fn read_link(path: impl AsRef<Path>) -> io::Result<PathBuf> {
    let mut bytes = vec![0; PATH_MAX];
    let len = rustix::fs::readlinkat_raw(CWD, path.as_ref(), bytes.as_mut_slice())?;
    bytes.truncate(len);
    Ok(PathBuf::from_vec(bytes))
}

/// As long as a link's text can be, its end included.
const PATH_MAX: usize = libc::PATH_MAX as usize;

/// The names in a directory, but `.` and `..`, in no order. Where it cannot be read any further, those until then.
///
/// # Errors
/// Those of open(2) and getdents(2).
pub fn names_in(path: impl AsRef<Path>) -> io::Result<Vec<PathBuf>> {
    let directory = open_path(path.as_ref(), OFlags::RDONLY | OFlags::DIRECTORY, 0)?;
    let mut names = Vec::new();
    let _ = each(directory, &mut |name, _| names.push(PathBuf::from(name)));
    Ok(names)
}

/// The names in a directory, but `.` and `..`, and what is called so.
#[inline(never)]
pub(crate) fn each(directory: OwnedFd, take: &mut dyn FnMut(&CStr, FileType)) -> io::Result<()> {
    let mut buffer = [MaybeUninit::uninit(); 2048];
    let mut entries = RawDir::new(directory, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            take(name, entry.file_type());
        }
    }
    Ok(())
}

/// What stat(2) says of a file.
#[derive(Debug, Clone, Copy)]
pub struct Metadata(Stat);

/// What a path leads to.
///
/// # Errors
/// Those of stat(2).
pub fn metadata(path: impl AsRef<Path>) -> io::Result<Metadata> {
    Ok(Metadata(rustix::fs::statat(CWD, path.as_ref(), AtFlags::empty())?))
}

/// What a descriptor is of.
///
/// # Errors
/// Those of fstat(2).
pub fn metadata_of(file: BorrowedFd<'_>) -> io::Result<Metadata> {
    Ok(Metadata(rustix::fs::fstat(file)?))
}

#[allow(clippy::unnecessary_cast, reason = "the fields' types differ between machines")]
impl Metadata {
    /// The number of its device.
    pub fn dev(&self) -> u64 {
        self.0.st_dev as u64
    }

    /// Its number on that.
    pub fn ino(&self) -> u64 {
        self.0.st_ino as u64
    }

    /// Its type and permissions (inode(7)).
    pub fn mode(&self) -> u32 {
        self.0.st_mode as u32
    }

    /// Its size in bytes.
    pub fn len(&self) -> u64 {
        self.0.st_size as u64
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its owner.
    pub fn uid(&self) -> u32 {
        self.0.st_uid as u32
    }

    /// When it was last written, in seconds since 1970 by the machine's clock.
    pub fn modified(&self) -> i64 {
        self.0.st_mtime as i64
    }

    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        FileType::from_raw_mode(self.0.st_mode as RawMode) == FileType::RegularFile
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        FileType::from_raw_mode(self.0.st_mode as RawMode) == FileType::Directory
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_directories_come_and_go() {
        let dir = std::env::temp_dir().join(format!("narrowgate-fs-test-{}", std::process::id()));
        let dir = PathBuf::from(dir.to_str().unwrap());
        let deep = dir.join("a/b//c/");
        create_dir_all(&deep).unwrap();
        create_dir_all(&deep).unwrap();
        let file = deep.join("file");
        assert_eq!(read(&file).unwrap_err().kind(), ErrorKind::NotFound);
        write(&file, "one, and longer").unwrap();
        write(&file, "two").unwrap();
        assert_eq!(read_to_string(&file).unwrap(), "two");
        assert_eq!(create_dir_all(file.join("d")).unwrap_err().raw_os_error(), Some(libc::ENOTDIR));
        assert!(create_dir_all(&file).is_err(), "a file is in its place");
        rename(&file, deep.join("other")).unwrap();
        assert_eq!(names_in(&deep).unwrap(), [PathBuf::from("other")]);
        let about = metadata(deep.join("other")).unwrap();
        assert!(about.is_file() && !about.is_dir() && about.len() == 3 && metadata(&deep).unwrap().is_dir());
        write(deep.join("other"), b"\xff").unwrap();
        assert_eq!(read_to_string(deep.join("other")).unwrap_err().kind(), ErrorKind::InvalidData);
        std::os::unix::fs::symlink("else/where", dir.join("link").to_str().unwrap()).unwrap();
        assert_eq!(read_link(dir.join("link")).unwrap(), "else/where");
        assert!(remove_dir(&deep).is_err());
        remove_file(deep.join("other")).unwrap();
        remove_dir(&deep).unwrap();
        assert!(!deep.exists() && dir.join("a").is_dir());
        std::fs::remove_dir_all(dir.to_str().unwrap()).unwrap();
    }
}
