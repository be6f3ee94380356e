//! The `networkmanager` provider: what NetworkManager knows of an uplink, asked by its program `nmcli`. [`nmcli`] runs it; this file
//! says when. Routes come from the kernel.
//!
//! NetworkManager tells nobody but D-Bus's listeners when only DNS servers change, and what it knows comes piece by piece: so after every hint
//! it is asked at once and again ever later, until the gap is the slow poll's.

mod nmcli;

use crate::auto::Claim;
use crate::foreign::{Foreign, POLL, Source, Told};
use alloc::{
    borrow::ToOwned,
    boxed::Box,
    string::{String, ToString},
    vec::Vec,
};
use core::time::Duration;
use narrowgate_model::Time;
use narrowgate_model::config::{ProviderKind, Uplink};
use narrowgate_model::facts::Origin;
use narrowgate_model::net::Link;
use narrowgate_sys::path::{Path, PathBuf};
use narrowgate_wire::nmcli::{Device, complaint, device};
use nmcli::{Asking, Progress};
use rustix::fd::BorrowedFd;

/// The provider of one uplink. `dir` is where NetworkManager keeps its state, watched for hints; `nmcli` the program, looked up in the path if
/// it has no slash.
pub fn open(uplink: &Uplink, dir: &Path, nmcli: &Path, now: Time) -> Foreign {
    let manager = NetworkManager {
        device: uplink.device.clone(),
        dir: dir.to_owned(),
        nmcli: nmcli.to_owned(),
        index: None,
        known: None,
        trouble: None,
        asking: None,
        asked: None,
        again: false,
        ask_at: None,
        gap: GAP,
    };
    Foreign::new(uplink, Box::new(manager), now)
}

struct NetworkManager {
    device: String,
    dir: PathBuf,
    nmcli: PathBuf,
    index: Option<u32>,
    /// The last answer.
    known: Option<Device>,
    /// Why there is no newer one.
    trouble: Option<String>,
    asking: Option<Asking>,
    asked: Option<Time>,
    /// Something happened while an answer was awaited, which may or may not be in it.
    again: bool,
    ask_at: Option<Time>,
    /// How long until it is asked again without a hint.
    gap: Duration,
}

impl NetworkManager {
    /// NetworkManager's file about the device. It outlives the daemon.
    fn file(&self) -> Option<PathBuf> {
        Some(self.dir.join(self.index?.to_string()))
    }

    fn answer(&mut self, text: &[u8], now: Time) {
        match device(text) {
            Some(device) => (self.known, self.trouble) = (Some(device), None),
            None => {
                let why = complaint(text).unwrap_or_else(|| "no answer".to_owned());
                self.trouble = Some(format!("nmcli: {why}"));
            }
        }
        let pause = if core::mem::take(&mut self.again) { GAP } else { self.gap };
        self.gap = (self.gap * 2).min(POLL);
        self.ask_at = Some(now + pause);
    }

    fn begin(&mut self, now: Time) {
        (self.ask_at, self.asked) = (None, Some(now));
        match Asking::begin(&self.nmcli, &self.device, now) {
            Ok(asking) => self.asking = Some(asking),
            Err(error) => {
                self.trouble = Some(format!("{} cannot be run: {error}", self.nmcli.display()));
                self.ask_at = Some(now + POLL);
            }
        }
    }
}

impl Source for NetworkManager {
    fn kind(&self) -> ProviderKind {
        ProviderKind::NetworkManager
    }

    fn origin(&self) -> Origin {
        Origin::NetworkManager
    }

    fn dirs(&self) -> Vec<PathBuf> {
        vec![self.dir.clone()]
    }

    fn ask(&mut self, link: Option<&Link>, hint: bool, now: Time) {
        let index = link.map(|link| link.index);
        if self.index != index {
            // Another device, or none: what was learnt on the old one's cable is worth nothing.
            self.index = index;
            self.stop();
        }
        let Some(link) = link.filter(|_| hint) else { return }; // else it is asked in its own rhythm
        self.device.clone_from(&link.name); // somebody may have given it another
        self.gap = GAP;
        if self.asking.is_some() {
            self.again = true;
            return;
        }
        let earliest = self.asked.map_or(now, |asked| asked + GAP).max(now);
        self.ask_at = Some(self.ask_at.map_or(earliest, |at| at.min(earliest)));
    }

    fn told(&self) -> Result<Told, String> {
        let silent = || format!("NetworkManager tells nothing about {}", self.device);
        let Some(known) = &self.known else { return Err(self.trouble.clone().unwrap_or_else(silent)) };
        if !known.managed() {
            return Err(format!(
                "NetworkManager has no connection active on {0} (state {1}): `nmcli device set {0} managed yes`, `nmcli device connect {0}`",
                self.device, known.state
            ));
        }
        let (dns, search) = (known.dns.clone(), known.search.clone());
        Ok(Told { dns, search, problem: self.trouble.clone(), ..Told::default() })
    }

    fn claim(&self) -> Claim {
        match &self.known {
            Some(known) if known.managed() => Claim::Managed(format!(
                "NetworkManager manages {} by its connection '{}'",
                self.device, known.connection
            )),
            None if self.trouble.is_none() && self.file().is_some_and(|file| file.exists()) => Claim::Silent,
            _ => Claim::None,
        }
    }

    fn done(&self) -> bool {
        self.known.as_ref().is_some_and(|known| known.state == CONNECTED && !known.dns.is_empty())
    }

    fn describe(&self, out: &mut Vec<(String, String)>) {
        if let Some(known) = &self.known {
            out.push(("connection".to_owned(), format!("{} (state {})", known.connection, known.state)));
        }
    }

    fn mend(&self) -> (String, String) {
        let name = self.known.as_ref().map_or("NAME", |known| &known.connection);
        let mend = format!("nmcli connection modify '{name}' ipv4.route-table 1 ipv6.route-table 1");
        ("NetworkManager".to_owned(), mend)
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.asking.as_ref().map(Asking::fd)
    }

    fn proceed(&mut self, now: Time) -> bool {
        let mut news = false;
        if let Some(asking) = &mut self.asking {
            match asking.proceed(now) {
                Progress::Waiting => return false,
                Progress::Done(text) => {
                    self.asking = None;
                    self.answer(&text, now);
                }
                Progress::Late => {
                    self.asking = None;
                    self.answer(b"Error: it does not answer", now);
                }
            }
            news = true;
        }
        if self.ask_at.is_some_and(|at| at <= now) {
            self.begin(now);
            news |= self.asking.is_none();
        }
        news
    }

    fn next_timeout(&self) -> Option<Time> {
        self.asking.as_ref().map(Asking::patience).or(self.ask_at)
    }

    fn stop(&mut self) {
        (self.known, self.trouble, self.asking, self.ask_at) = (None, None, None, None);
    }
}

/// `NM_DEVICE_STATE_ACTIVATED`
const CONNECTED: u32 = 100;
/// The first pause between two questions, and the shortest.
const GAP: Duration = Duration::from_millis(250);
