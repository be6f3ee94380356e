//! What must outlive the program: the secret that addresses are made with, and the last lease of every uplink.
//! Files are replaced whole, by rename, and readable by root alone.

use super::Random;
use super::dhcp4::Held;
use super::slaac::Secret;
use narrowgate_model::Time;
use narrowgate_sys::file::{self, Sync};
use narrowgate_wire::dhcp4::{self, Reply};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The secret of this installation, made if there is none yet. Where it cannot be kept it is good until the program
/// ends, and the log says so.
pub(super) fn secret(dir: &Path, random: &mut Random) -> Secret {
    let path = dir.join("secret");
    if let Some(secret) = fs::read(&path).ok().and_then(|text| unhex(text.trim_ascii_end())?.try_into().ok())
    {
        if fs::metadata(&path).is_ok_and(|m| m.permissions().mode() & 0o077 != 0) {
            let _ = fs::set_permissions(&path, fs::Permissions::from_mode(0o600));
        }
        return secret;
    }
    let mut secret = [0; 16];
    for part in secret.chunks_exact_mut(4) {
        part.copy_from_slice(&random().to_be_bytes());
    }
    if let Err(error) = replace(&path, (hex(&secret) + "\n").as_bytes()) {
        log::warn!("{}: {error}: IPv6 addresses will be others after a restart", path.display());
    }
    secret
}

/// The lease of an uplink that is kept in a file.
pub(super) struct LeaseFile {
    path: PathBuf,
    /// What the file has, if it is of this boot.
    written: Option<Held>,
}

impl LeaseFile {
    pub(super) fn new(dir: &Path, uplink: &str) -> LeaseFile {
        let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
        let name: String = uplink.chars().map(plain).collect();
        LeaseFile { path: dir.join(format!("lease-{name}")), written: None }
    }

    /// The lease that was kept for the device with this hardware address, and whether it is of this boot, so that its
    /// times mean something. A file of another version or a damaged one is as if it were not there.
    pub(super) fn load(&mut self, mac: [u8; 6]) -> Option<(Held, bool)> {
        let text = fs::read_to_string(&self.path).ok()?;
        let mut lines = text.lines();
        let [version, boot, asked, message] = std::array::from_fn(|_| lines.next().unwrap_or_default());
        if version != VERSION {
            return None;
        }
        let message = unhex(message.strip_prefix("message ")?.as_bytes())?;
        let asked = Time(asked.strip_prefix("asked ")?.parse().ok()?);
        let Ok(Reply::Ack(lease)) = dhcp4::parse(&message, dhcp4::transaction(&message)?, mac) else {
            return None;
        };
        let this_boot = boot.strip_prefix("boot ")? == boot_id();
        let held = Held { lease, asked, message };
        self.written = this_boot.then(|| held.clone());
        Some((held, this_boot))
    }

    /// Keeps a lease. One that was only extended is rewritten once in an hour, to spare the flash.
    pub(super) fn keep(&mut self, held: &Held) {
        let spared = |w: &Held| w.lease == held.lease && held.asked.since(w.asked) < REWRITE;
        if self.written.as_ref().is_some_and(spared) {
            return;
        }
        let text = format!(
            "{VERSION}\nboot {}\nasked {}\nmessage {}\n",
            boot_id(),
            held.asked.0,
            hex(&held.message)
        );
        if let Err(error) = replace(&self.path, text.as_bytes()) {
            log::warn!("{}: {error}: the lease will not be remembered", self.path.display());
        }
        self.written = Some(held.clone()); // also if that failed: to try every time would not help
    }

    /// Forgets it: it was given back or taken away.
    pub(super) fn forget(&mut self) {
        self.written = None;
        let _ = fs::remove_file(&self.path);
    }
}

/// For root alone, and without waiting for the flash, since the tunnel waits for us; what a power failure leaves behind, `secret` and `load` take for nothing.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    file::replace(path, content, file::ROOT_ALONE, Sync::DoNotWait)
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim_end().to_owned()
}

fn hex(bytes: &[u8]) -> String {
    let digit = |n: u8| char::from_digit(n.into(), 16).unwrap_or('0');
    bytes.iter().flat_map(|b| [digit(b >> 4), digit(b & 15)]).collect()
}

fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |b: u8| char::from(b).to_digit(16);
    let pair = |pair: &[u8]| match *pair {
        [high, low] => u8::try_from(digit(high)? << 4 | digit(low)?).ok(),
        _ => None,
    };
    text.chunks(2).map(pair).collect()
}

const VERSION: &str = "narrowgate-lease 1";
const REWRITE: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

    fn held() -> Held {
        let mut message = vec![0; 240];
        message[..8].copy_from_slice(&[2, 1, 6, 0, 0, 0, 0, 7]);
        message[16..20].copy_from_slice(&[192, 0, 2, 9]);
        message[28..34].copy_from_slice(&MAC);
        message[236..].copy_from_slice(&[99, 130, 83, 99]);
        message.extend([53, 1, 5, 51, 4, 0, 0, 14, 16, 54, 4, 192, 0, 2, 1, 1, 4, 255, 255, 255, 0, 255]);
        let Ok(Reply::Ack(lease)) = dhcp4::parse(&message, 7, MAC) else { panic!("no lease") };
        Held { lease, asked: Time(5000), message }
    }

    /// Times are the kernel's since it was started: they mean nothing after the next start, and no wall clock comes into it.
    #[test]
    fn a_lease_is_read_back_and_of_another_boot_only_its_address_and_of_another_version_nothing() {
        let dir = std::env::temp_dir().join(format!("narrowgate-lease-test-{}", std::process::id()));
        let load = || LeaseFile::new(&dir, "wan").load(MAC);
        LeaseFile::new(&dir, "wan").keep(&held());
        assert_eq!(load(), Some((held(), true)));
        let path = dir.join("lease-wan");
        let text = fs::read_to_string(&path).unwrap();
        let with = |from: &str, to: &str| fs::write(&path, text.replace(from, to)).unwrap();
        with(&boot_id(), "another");
        assert_eq!(load(), Some((held(), false)));
        for (from, to) in [
            ("lease 1", "lease 2"),
            ("asked", "when"),
            ("message 02", "message 0"),
            ("message 02", "message 01"),
        ] {
            with(from, to);
            assert_eq!(load(), None, "{from} {to}");
        }
        assert_eq!(LeaseFile::new(&dir, "wan").load([2, 0, 0, 0, 0, 2]), None, "another device");
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn hex_is_read_as_it_was_written_and_nothing_else_is() {
        assert_eq!(hex(&[0, 0x9f, 0xff]), "009fff");
        assert_eq!(unhex(b"009fFF"), Some(vec![0, 0x9f, 0xff]));
        assert_eq!(unhex(b"009"), None);
        assert_eq!(unhex(b"0g"), None);
    }
}
