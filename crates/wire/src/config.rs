//! The config file: UCI text to [`Config`], with every mistake in it named at its place.
//!
//! An unknown section or option is a mistake and not passed over: `option grop` would leave a tunnel's DNS unprotected without a word.

mod keys;
mod sections;
mod values;
mod whole;

pub(crate) use values::is_dns_name;

use self::keys::Key;
use crate::uci::{self, File, Mistake, Names, Place};
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write};
use narrowgate_model::config::{Config, Host, Resolver, Via};
use narrowgate_model::{Gather, Server, join};

/// A mistake in a config file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, as the caller calls it.
    pub file: String,
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
    /// `what: why`, without a full stop.
    pub message: String,
    /// What to do about it.
    pub mend: String,
}

impl fmt::Display for Problem {
    /// One line: `FILE:LINE:COLUMN: what: why; what to do`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}; {}", self.file, self.line, self.column, self.message, self.mend)
    }
}

impl core::error::Error for Problem {}

/// Reads the config. `file_name` is what the problems say.
///
/// `gluon_wan_dnsmasq` is name and text of Gluon's `/etc/config/gluon-wan-dnsmasq`, where there is one: the servers of its first
/// section of type `static` take the place of the learnt ones in every resolver via the uplink that lists none itself.
///
/// # Errors
/// All mistakes, in the order of their places, those of Gluon's file last.
pub fn read(
    file_name: &str,
    text: &str,
    gluon_wan_dnsmasq: Option<(&str, &str)>,
) -> Result<Config, Vec<Problem>> {
    let mut reader = Reader { file: file_name.to_owned(), problems: Vec::new() };
    let (file, whole) = reader.parse(text, Names::OfEachType);
    let mut config = reader.config(&file);
    if whole && reader.problems.is_empty() && config.uplinks.is_empty() {
        reader.problem(
            Place::START,
            format_args!(
                "no uplink: without a section `uplink` there is nothing to guard\n\
                 add: config uplink 'wan' and below it: option device 'eth0'"
            ),
        );
    }

    if let Some((name, text)) = gluon_wan_dnsmasq {
        let mut gluon = Reader { file: name.to_owned(), problems: Vec::new() };
        let servers = gluon.static_servers(text, &config);
        for resolver in &mut config.resolvers {
            if resolver.via == Via::Uplink && resolver.servers.is_empty() {
                resolver.servers = servers.clone();
            }
        }
        reader.problems.append(&mut gluon.problems);
    }
    if reader.problems.is_empty() { Ok(config) } else { Err(reader.problems) }
}

/// What is right for narrowgate in a file that it [`read`]s, but not for OpenWrt's `uci` program, which then refuses the whole file:
/// names that sections of several types share.
#[inline(never)]
pub fn notes(file_name: &str, text: &str) -> Vec<Problem> {
    let mut reader = Reader { file: file_name.to_owned(), problems: Vec::new() };
    reader.parse(text, Names::OfAll);
    for note in &mut reader.problems {
        note.message.push_str(", so the `uci` program refuses this file, which narrowgate reads");
    }
    reader.problems
}

/// Collects what is wrong with one file.
struct Reader {
    file: String,
    problems: Vec<Problem>,
}

impl Reader {
    /// Notes a problem, in the order of places; `lines` as [`Mistake::new`] has them.
    #[inline(never)]
    fn problem(&mut self, place: Place, lines: fmt::Arguments<'_>) {
        self.add(problem(&self.file, Mistake::new(place, lines)));
    }

    /// The text's sections, and whether they are all: its mistakes are noted.
    fn parse(&mut self, text: &str, names: Names) -> (File, bool) {
        let (file, mistakes) = uci::parse(text, names);
        let whole = mistakes.is_empty();
        mistakes.into_iter().for_each(|m| self.add(problem(&self.file, m)));
        (file, whole)
    }

    fn add(&mut self, problem: Problem) {
        let key = |p: &Problem| (p.line, p.column);
        let before = self.problems.iter().rposition(|p| key(p) <= key(&problem)).map_or(0, |n| n + 1);
        self.problems.insert(before, problem);
    }

    #[inline(never)]
    fn config(&mut self, file: &File) -> Config {
        let mut config = Config::bare();
        let mut places = Places::default();
        for section in &file.sections {
            if let Some(kind) = self.known(section) {
                (kind.read)(self, section, kind, &mut config, &mut places);
            }
        }
        self.devices(&config, &places);
        self.scopes(&mut config, &places);
        if config.strict {
            self.strict(&config, &places);
        }
        if config.uplink_resolvers().next().is_none() {
            config.resolvers.insert(0, Resolver::default_wan());
            places.resolvers.insert(0, Place::START);
        }
        self.listeners(&config, &mut places);
        config
    }

    /// The servers of Gluon's own file.
    #[inline(never)]
    fn static_servers(&mut self, text: &str, config: &Config) -> Vec<Server> {
        let (file, _) = self.parse(text, Names::OfAll);
        let mut servers = Vec::new();
        let Some(section) = file.sections.iter().find(|s| s.kind.text == "static") else { return servers };
        self.values(section, Key::Server, &mut servers);
        let only = match config.uplinks.as_slice() {
            [uplink] => Some(uplink.device.as_str()),
            _ => None,
        };
        for server in &mut servers {
            self.scope(server, only, section.kind.place);
            if config.uplink_resolvers().any(|r| whole::asks_itself(r, server)) {
                self.itself(section.kind.place, "server", server);
            }
        }
        servers
    }
}

/// Where the sections of the [`Config`] begin, entry by entry; and what no two of them may have.
#[derive(Default)]
struct Places {
    uplinks: Vec<Place>,
    tunnels: Vec<Place>,
    resolvers: Vec<Place>,
    taken: Vec<(String, Place)>,
}

fn problem(file: &str, mistake: Mistake) -> Problem {
    let Mistake { place, message, mend } = mistake;
    Problem { file: file.to_owned(), line: place.line, column: place.column, message, mend }
}

/// One line on a config that is fine, for people: `2 uplinks (wan on eth0, …), 1 tunnel (…), 1 resolver (…)`.
pub fn summary(config: &Config) -> String {
    let uplinks = config.uplinks.iter().map(|u| format!("{} on {}", u.name, u.device));
    let tunnels = config.tunnels.iter().map(|t| match t.peers.as_slice() {
        [] => t.name.clone(),
        [peer] => match &peer.host {
            Host::Name(name) => format!("{} to {name}", t.name),
            Host::Addr(addr) => format!("{} to {addr}", t.name),
        },
        peers => format!("{} to {} peers", t.name, peers.len()),
    });
    let resolvers = config.resolvers.iter().map(|r| {
        let mut text = format!("{} on", r.name);
        for listen in &r.listen {
            let _ = write!(text, " {listen}");
        }
        text
    });
    let all = [
        counted("uplink", &uplinks.gather()),
        counted("tunnel", &tunnels.gather()),
        counted("resolver", &resolvers.gather()),
    ];
    join(&all, ", ")
}

fn counted(noun: &str, items: &[String]) -> String {
    match items.len() {
        0 => format!("no {noun}"),
        1 => format!("1 {noun} ({})", join(items, ", ")),
        n => format!("{n} {noun}s ({})", join(items, ", ")),
    }
}
