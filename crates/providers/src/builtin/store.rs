//! What must outlive the program: the secret that addresses are made with, and the last leases of every uplink.
//! Files are replaced whole, by rename, and readable by root alone.

use super::Random;
use super::slaac::Secret;
use super::{dhcp4, dhcp6};
use alloc::{
    borrow::ToOwned,
    string::{String, ToString},
    vec::Vec,
};
use core::time::Duration;
use narrowgate_model::Time;
use narrowgate_sys::file::{self, Sync};
use narrowgate_sys::fs;
use narrowgate_sys::io;
use narrowgate_sys::path::{Path, PathBuf};
use narrowgate_wire::dhcp4::{Reply, parse, transaction};
use rustix::fs::Mode;

/// The secret of this installation, made if there is none yet. Where it cannot be kept it is good until the program
/// ends, and the log says so.
pub(super) fn secret(dir: &Path, random: &mut Random) -> Secret {
    let path = dir.join("secret");
    if let Some(secret) =
        file::read(&path).ok().and_then(|text| unhex(text.trim_ascii_end())?.try_into().ok())
    {
        if fs::metadata(&path).is_ok_and(|about| about.mode() & 0o077 != 0) {
            let _ = rustix::fs::chmod(&*path, Mode::from_raw_mode(0o600));
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

/// A lease of an uplink that is kept in a file: the message that gave it, as it came.
pub(super) struct LeaseFile {
    path: PathBuf,
    /// When what the file has was asked for, and what of it matters, if it is of this boot.
    written: Option<(Time, Vec<u8>)>,
}

impl LeaseFile {
    /// `kind` is the start of the file's name.
    pub(super) fn new(dir: &Path, kind: &str, uplink: &str) -> LeaseFile {
        let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
        let name: String = uplink.chars().map(plain).collect();
        LeaseFile { path: dir.join([kind, "-", &name].concat()), written: None }
    }

    /// The DHCPv4 lease that was kept for the device with this hardware address, and whether it is of this boot, so that its
    /// times mean something. A file of another version or a damaged one is as if it were not there.
    pub(super) fn load4(&mut self, mac: [u8; 6]) -> Option<(dhcp4::Held, bool)> {
        let (asked, message, this_boot) = self.read()?;
        let Ok(Reply::Ack(lease)) = parse(&message, transaction(&message)?, mac) else { return None };
        let held = dhcp4::Held { lease, asked, message };
        self.written = this_boot.then(|| (asked, essence4(&held)));
        Some((held, this_boot))
    }

    /// The same for DHCPv6; of this boot without the addresses that are over.
    pub(super) fn load6(&mut self, mac: [u8; 6], now: Time) -> Option<(dhcp6::Held, bool)> {
        let (asked, message, this_boot) = self.read()?;
        // Of another boot all addresses, whatever has become of them.
        let held = dhcp6::Held::of_kept(message, asked, mac, if this_boot { now } else { asked })?;
        self.written = this_boot.then(|| (asked, held.essence()));
        Some((held, this_boot))
    }

    /// When it was asked for, the message, and whether it is of this boot.
    fn read(&self) -> Option<(Time, Vec<u8>, bool)> {
        let text = file::text(&self.path);
        let mut lines = text.lines();
        let [version, boot, asked, message] = core::array::from_fn(|_| lines.next().unwrap_or_default());
        if version != VERSION {
            return None;
        }
        let message = unhex(message.strip_prefix("message ")?.as_bytes())?;
        let asked = Time(asked.strip_prefix("asked ")?.parse().ok()?);
        Some((asked, message, boot.strip_prefix("boot ")? == boot_id()))
    }

    /// Keeps a DHCPv4 lease.
    pub(super) fn keep4(&mut self, held: &dhcp4::Held) {
        if self.is_news(held.asked) {
            self.keep(held.asked, &held.message, essence4(held));
        }
    }

    /// Keeps a DHCPv6 lease.
    pub(super) fn keep6(&mut self, held: &dhcp6::Held) {
        if self.is_news(held.asked) {
            self.keep(held.asked, &held.message, held.essence());
        }
    }

    fn is_news(&self, asked: Time) -> bool {
        self.written.as_ref().is_none_or(|(written, _)| *written != asked)
    }

    /// One that was only extended is rewritten once in an hour, to spare the flash.
    fn keep(&mut self, asked: Time, message: &[u8], essence: Vec<u8>) {
        let spared = |(at, same): &(Time, Vec<u8>)| *same == essence && asked.since(*at) < REWRITE;
        if self.written.as_ref().is_some_and(spared) {
            return;
        }
        let lines = [
            VERSION,
            "\nboot ",
            &boot_id(),
            "\nasked ",
            &asked.0.to_string(),
            "\nmessage ",
            &hex(message),
            "\n",
        ];
        if let Err(error) = replace(&self.path, lines.concat().as_bytes()) {
            log::warn!("{}: {error}: the lease will not be remembered", self.path.display());
        }
        self.written = Some((asked, essence)); // also if that failed: to try every time would not help
    }

    /// Forgets it: it was given back or taken away.
    pub(super) fn forget(&mut self) {
        self.written = None;
        let _ = fs::remove_file(&self.path);
    }
}

/// The address and the options: all but what differs from question to question.
fn essence4(held: &dhcp4::Held) -> Vec<u8> {
    [held.message.get(16..20), held.message.get(236..)].map(Option::unwrap_or_default).concat()
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
    use narrowgate_sys::path::PathBuf;
    use std::fs;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

    fn held() -> dhcp4::Held {
        let mut message = vec![0; 240];
        message[..8].copy_from_slice(&[2, 1, 6, 0, 0, 0, 0, 7]);
        message[16..20].copy_from_slice(&[192, 0, 2, 9]);
        message[28..34].copy_from_slice(&MAC);
        message[236..].copy_from_slice(&[99, 130, 83, 99]);
        message.extend([53, 1, 5, 51, 4, 0, 0, 14, 16, 54, 4, 192, 0, 2, 1, 1, 4, 255, 255, 255, 0, 255]);
        let Ok(Reply::Ack(lease)) = parse(&message, 7, MAC) else { panic!("no lease") };
        dhcp4::Held { lease, asked: Time(5000), message }
    }

    /// Times are the kernel's since it was started: they mean nothing after the next start, and no wall clock comes into it.
    #[test]
    fn a_lease_is_read_back_and_of_another_boot_only_its_address_and_of_another_version_nothing() {
        let dir =
            PathBuf::from(std::env::temp_dir().join(format!("narrowgate-lease-test-{}", std::process::id())));
        let file = || LeaseFile::new(&dir, "lease", "wan");
        let load = || file().load4(MAC);
        file().keep4(&held());
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
        assert_eq!(file().load4([2, 0, 0, 0, 0, 2]), None, "another device");
        fs::remove_dir_all(&dir).unwrap();
    }

    /// A DHCPv6 lease of an address for 200 s; the transaction is the question's, and so differs.
    fn held6(asked: Time, xid: u8, address: u8) -> dhcp6::Held {
        let mut message = vec![7, 0, 0, xid, 0, 1, 0, 10, 0, 3, 0, 1];
        message.extend(MAC);
        message.extend([0, 2, 0, 2, 0, 9, 0, 3, 0, 40, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 24]);
        message.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, address]);
        message.extend([0, 0, 0, 100, 0, 0, 0, 200]);
        dhcp6::Held::of_kept(message, asked, MAC, asked).unwrap()
    }

    #[test]
    fn a_dhcpv6_lease_is_read_back_too_and_seldom_written() {
        let dir = PathBuf::from(
            std::env::temp_dir().join(format!("narrowgate-lease6-test-{}", std::process::id())),
        );
        let mut file = LeaseFile::new(&dir, "lease6", "wan");
        let load = |now| {
            let (held, this_boot) = LeaseFile::new(&dir, "lease6", "wan").load6(MAC, now)?;
            Some((held.list().len(), held.asked, this_boot))
        };
        let first = Time(5000);
        file.keep6(&held6(first, 7, 1));
        assert_eq!(load(first), Some((1, first, true)));
        assert_eq!(load(Time(205_000)), Some((0, first, true)), "it is over");
        file.keep6(&held6(Time(60_000), 8, 1));
        assert_eq!(load(first), Some((1, first, true)), "only extended");
        let later = first + REWRITE;
        file.keep6(&held6(later, 9, 1));
        assert_eq!(load(later), Some((1, later, true)));
        file.keep6(&held6(later + Duration::from_secs(1), 9, 2));
        assert_eq!(load(later).unwrap().1, later + Duration::from_secs(1), "another address");
        let path = dir.join("lease6-wan");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace(&boot_id(), "another")).unwrap();
        assert_eq!(load(Time(0)).map(|(count, _, this_boot)| (count, this_boot)), Some((1, false)));
        for (from, to) in [("lease 1", "lease 2"), ("message 07", "message 02"), ("asked", "when")] {
            fs::write(&path, text.replace(from, to)).unwrap();
            assert_eq!(load(later), None, "{from} {to}");
        }
        assert!(file.load6([2, 0, 0, 0, 0, 2], later).is_none(), "another device");
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
