//! The config file on disk, and Gluon's beside it.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use narrowgate_model::{Config, Gather};
use narrowgate_sys::path::Path;
use narrowgate_sys::{fs, io};
use narrowgate_wire::config::{self, Problem};
use rustix::fd::AsFd;
use rustix::fs::OFlags;

/// Gluon's own file, looked for in the directory of ours.
pub const GLUON: &str = "gluon-wan-dnsmasq";

/// Reads and checks the config.
///
/// # Errors
/// A line for every mistake: the file, the place in it, what is wrong, why, and what to do.
pub fn load(path: &Path) -> Result<Config, Vec<String>> {
    read(path, &mut Vec::new())
}

/// The config for a start. A mistake in Gluon's file is no reason to leave the uplink unguarded: it is told, and the file is left out.
///
/// # Errors
/// As [`load`], if ours is wrong.
pub fn load_to_start(path: &Path) -> Result<Config, Vec<String>> {
    load(path).or_else(|problems| {
        let Ok(config) = parse(path, None, &mut Vec::new()) else { return Err(problems) };
        problems.iter().for_each(|p| log::error!("{p}"));
        log::error!("{GLUON} is wrong: starting without its servers");
        Ok(config)
    })
}

/// The config; and `notes` gets what may be worth knowing about it although it is fine, a line each.
///
/// # Errors
/// As [`load`].
pub fn read(path: &Path, notes: &mut Vec<String>) -> Result<Config, Vec<String>> {
    let gluon_path = path.with_file_name(GLUON);
    let gluon_name = gluon_path.display().to_string();
    let gluon = match content(&gluon_path) {
        // Its comments are nobody's business here, in whatever encoding they are.
        Ok(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            return Err(vec![format!(
                "{gluon_name}: Gluon's DNS servers cannot be read: {error}; remove the file or mend it"
            )]);
        }
    };
    parse(path, gluon.as_deref().map(|text| (gluon_name.as_str(), text)), notes)
}

#[inline(never)]
fn parse(path: &Path, beside: Option<(&str, &str)>, notes: &mut Vec<String>) -> Result<Config, Vec<String>> {
    let name = path.display().to_string();
    let text = text(path, &name).map_err(|line| vec![line])?;
    let config = config::read(&name, &text, beside).map_err(|problems| lines(&problems))?;
    *notes = lines(&config::notes(&name, &text));
    Ok(config)
}

fn lines(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(ToString::to_string).gather()
}

fn text(path: &Path, name: &str) -> Result<String, String> {
    let error = match content(path) {
        Ok(bytes) => return utf8(name, bytes),
        Err(error) => error,
    };
    let mend = match error.kind() {
        io::ErrorKind::NotFound => "write it as narrowgate-config(5) says, or give another with --config",
        io::ErrorKind::PermissionDenied => "run as root, or make the file readable",
        _ => "give a readable file with --config",
    };
    Err(format!("{name}: the config cannot be read: {error}; {mend}"))
}

fn content(path: &Path) -> io::Result<Vec<u8>> {
    const MOST: usize = 256 << 10; // nobody writes so much config: it is a device, or a mistake
    let mut bytes = Vec::new();
    io::read_to_end(fs::open(path, OFlags::RDONLY, 0)?.as_fd(), MOST + 1, &mut bytes)?;
    match bytes.len() > MOST {
        true => Err(io::Error::other("it is larger than a config can be")),
        false => Ok(bytes),
    }
}

fn utf8(name: &str, bytes: Vec<u8>) -> Result<String, String> {
    String::from_utf8(bytes).map_err(|error| {
        let (good, bad) = error.as_bytes().split_at(error.utf8_error().valid_up_to());
        let (mut line, mut column) = (1, 1);
        for byte in good {
            match byte {
                b'\n' => (line, column) = (line + 1, 1),
                0x80..0xc0 => {} // in the middle of a character
                _ => column += 1,
            }
        }
        let byte = bad.first().copied().unwrap_or_default();
        format!("{name}:{line}:{column}: byte {byte:#04x}: this is no UTF-8 text; save the file as UTF-8")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use narrowgate_sys::path::PathBuf;

    /// A directory of this test's own, removed with it.
    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Dir {
            let path = std::env::temp_dir().join(format!("narrowgate-config-{}-{name}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Dir(path.into())
        }

        fn file(&self, name: &str, content: &[u8]) -> PathBuf {
            let path = self.0.join(name);
            std::fs::write(&path, content).unwrap();
            path
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    const UPLINK: &[u8] = b"config uplink 'wan'\n\toption device 'eth0'\n";

    fn only_line(path: &Path) -> String {
        let lines = load(path).unwrap_err();
        let [line] = lines.as_slice() else { panic!("{lines:#?}") };
        assert!(!line.contains('\n'), "{line:?}");
        line.strip_prefix(&path.display().to_string()).unwrap_or(line).to_owned()
    }

    #[test]
    fn gluons_file_is_found_beside_the_config() {
        let dir = Dir::new("beside");
        let path = dir.file("narrowgate", UPLINK);
        assert!(load(&path).unwrap().resolvers[0].servers.is_empty());
        dir.file(GLUON, b"# Gr\xfc\xdfe\nconfig static\n\tlist server '192.0.2.1'\n");
        assert_eq!(load(&path).unwrap().resolvers[0].servers, ["192.0.2.1".parse().unwrap()]);
        dir.file(GLUON, b"config static\n\tlist server 'x'\n");
        let lines = load(&path).unwrap_err();
        assert!(lines.len() == 1 && lines[0].contains("gluon-wan-dnsmasq:2:14: "), "{lines:#?}");
        assert!(load_to_start(&path).unwrap().resolvers[0].servers.is_empty());
        dir.file("narrowgate", b"config uplink\n");
        let lines = load_to_start(&path).unwrap_err();
        assert!(lines.iter().any(|line| line.contains("narrowgate:1:")), "{lines:#?}");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_told_in_one_line() {
        let dir = Dir::new("unreadable");
        assert!(only_line(&dir.0.join("none")).starts_with(": the config cannot be read: No such file"));
        assert!(only_line(&dir.0).starts_with(": the config cannot be read: Is a directory"));
        let latin = dir.file("latin1", b"# ok\n# \xc3\xa4 \xe4\n");
        assert!(only_line(&latin).starts_with(":2:5: byte 0xe4: this is no UTF-8"), "{}", only_line(&latin));
        assert!(only_line(Path::new("/dev/zero")).starts_with(": the config cannot be read: it is larger"));
    }
}
