//! The config file: UCI text to [`Config`], with every mistake in it named at its place.
//!
//! An unknown section or option is a mistake and not passed over: `option grop` would leave a tunnel's DNS unprotected without a word.

mod keys;
mod sections;
mod values;

use crate::uci::{self, File, Names, Place};
use narrowgate_model::Server;
use narrowgate_model::config::{Config, Host, Resolver, Via};
use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;

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

impl std::error::Error for Problem {}

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
    let mut reader = Reader { file: file_name, problems: Vec::new() };
    let (file, mistakes) = uci::parse(text, Names::OfEachType);
    let whole = mistakes.is_empty();
    reader.problems.extend(mistakes.into_iter().map(|m| problem(file_name, m)));
    let mut config = reader.config(&file);
    if whole && reader.problems.is_empty() && config.uplinks.is_empty() {
        reader.problem(
            Place::START,
            "no uplink: without a section `uplink` there is nothing to guard",
            "add: config uplink 'wan' and below it: option device 'eth0'",
        );
    }
    reader.problems.sort_by_key(|p| (p.line, p.column));

    if let Some((name, text)) = gluon_wan_dnsmasq {
        let mut gluon = Reader { file: name, problems: Vec::new() };
        let servers = gluon.static_servers(text, &config);
        for resolver in config.resolvers.iter_mut().filter(|r| r.via == Via::Uplink && r.servers.is_empty()) {
            resolver.servers.clone_from(&servers);
        }
        gluon.problems.sort_by_key(|p| (p.line, p.column));
        reader.problems.append(&mut gluon.problems);
    }
    if reader.problems.is_empty() { Ok(config) } else { Err(reader.problems) }
}

/// What is right for narrowgate in this file but not for OpenWrt's `uci` program, which then refuses the whole file: names that
/// sections of several types share.
pub fn notes(file_name: &str, text: &str) -> Vec<Problem> {
    let (_, ours) = uci::parse(text, Names::OfEachType);
    let (_, theirs) = uci::parse(text, Names::OfAll);
    let mut notes: Vec<Problem> =
        theirs.into_iter().filter(|m| !ours.contains(m)).map(|m| problem(file_name, m)).collect();
    for note in &mut notes {
        note.message.push_str(", so the `uci` program refuses this file, which narrowgate reads");
    }
    notes
}

/// Collects what is wrong with one file.
struct Reader<'a> {
    file: &'a str,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn problem(&mut self, place: Place, message: impl Into<String>, mend: impl Into<String>) {
        self.problems.push(Problem {
            file: self.file.to_owned(),
            line: place.line,
            column: place.column,
            message: message.into(),
            mend: mend.into(),
        });
    }

    fn config(&mut self, file: &File) -> Config {
        let mut config = Config { resolvers: Vec::new(), ..Config::default() };
        let mut places = Places::default();
        let mut globals: Option<Place> = None;
        for section in &file.sections {
            let place = section.kind.place;
            if !self.known(section) {
                continue;
            }
            match section.kind.text.as_str() {
                "narrowgate" => {
                    if let Some(first) = globals.replace(place) {
                        let what =
                            format!("narrowgate: a second section of this type, after line {}", first.line);
                        self.problem(place, what, "move its options into the first one");
                    }
                    self.globals(section, &mut config);
                }
                "uplink" => {
                    if let Some(uplink) = self.uplink(section) {
                        config.uplinks.push(uplink);
                        places.uplinks.push(place);
                    }
                }
                "tunnel" => {
                    if let Some(tunnel) = self.tunnel(section, config.tunnels.len()) {
                        config.tunnels.push(tunnel);
                        places.tunnels.push(place);
                    }
                }
                _ => {
                    let resolver = self.resolver(section, config.resolvers.len());
                    config.resolvers.push(resolver);
                    places.resolvers.push(place);
                }
            }
        }
        self.names(&config, &places);
        self.devices(&config, &places);
        self.scopes(&mut config, &places);
        if config.strict {
            self.strict(&config, &places);
        }
        if config.uplink_resolvers().next().is_none() {
            config.resolvers.insert(0, Resolver::default_wan());
            places.resolvers.insert(0, Place::START);
        }
        self.listeners(&config, &places);
        config
    }

    /// Two sections of a type cannot share a name; only an anonymous one, which is called after its device, gets into this.
    fn names(&mut self, config: &Config, places: &Places) {
        let uplinks = config.uplinks.iter().map(|u| u.name.as_str());
        let tunnels = config.tunnels.iter().map(|t| t.name.as_str());
        let resolvers = config.resolvers.iter().map(|r| r.name.as_str());
        self.unique("uplink", uplinks.zip(&places.uplinks));
        self.unique("tunnel", tunnels.zip(&places.tunnels));
        self.unique("resolver", resolvers.zip(&places.resolvers));
    }

    fn unique<'a>(&mut self, kind: &str, named: impl Iterator<Item = (&'a str, &'a Place)>) {
        let mut seen: HashMap<&str, Place> = HashMap::new();
        for (name, place) in named {
            if let Some(first) = seen.insert(name, *place) {
                let what = format!("{kind} `{name}`: line {} has another of this name", first.line);
                self.problem(*place, what, format!("name this one, for instance: config {kind} '{name}_2'"));
            }
        }
    }

    fn devices(&mut self, config: &Config, places: &Places) {
        let mut uplinks: HashMap<&str, Place> = HashMap::new();
        for (uplink, place) in config.uplinks.iter().zip(&places.uplinks) {
            if let Some(first) = uplinks.insert(&uplink.device, *place) {
                let what = format!(
                    "uplink `{}`: the uplink of line {} is on the same device {}",
                    uplink.name, first.line, uplink.device
                );
                self.problem(*place, what, "make them one section, with several `list interface` for netifd");
            }
        }
        for (tunnel, place) in config.tunnels.iter().zip(&places.tunnels) {
            let Some(device) = tunnel.device.as_deref() else { continue };
            if let Some(first) = uplinks.get(device) {
                let what = format!(
                    "tunnel `{}`: its device {device} is the uplink's of line {}, and nothing can be both",
                    tunnel.name, first.line
                );
                self.problem(*place, what, "write the device that the VPN makes, or leave the option out");
            }
        }
    }

    /// Gives link-local servers their device where there is but one it can be.
    fn scopes(&mut self, config: &mut Config, places: &Places) {
        let only = match config.uplinks.as_slice() {
            [uplink] => Some(uplink.device.clone()),
            _ => None,
        };
        for (resolver, place) in config.resolvers.iter_mut().zip(&places.resolvers) {
            let device = only.as_deref().filter(|_| resolver.via == Via::Uplink);
            for server in &mut resolver.servers {
                self.scope(server, device, *place);
            }
        }
    }

    fn scope(&mut self, server: &mut Server, device: Option<&str>, place: Place) {
        if let Some(device) = device {
            *server = server.clone().scoped(device);
        }
        if server.is_link_local() && server.scope.is_none() {
            let what = format!("server `{server}`: a link-local address means nothing without its device");
            self.problem(place, what, format!("write {}%DEVICE", server.addr));
        }
    }

    /// Without a peer, `strict` closes the way for good.
    fn strict(&mut self, config: &Config, places: &Places) {
        for (tunnel, place) in config.tunnels.iter().zip(&places.tunnels) {
            if tunnel.peers.is_empty() {
                let what = format!(
                    "tunnel `{}`: no peer, and with option strict only peers can be looked up and reached",
                    tunnel.name
                );
                self.problem(*place, what, "add: list peer 'vpn.example.net', or set option strict '0'");
            }
        }
    }

    fn listeners(&mut self, config: &Config, places: &Places) {
        let mut seen: HashMap<SocketAddr, Place> = HashMap::new();
        for (resolver, place) in config.resolvers.iter().zip(&places.resolvers) {
            for listen in &resolver.listen {
                if let Some(first) = seen.insert(*listen, *place).filter(|first| first != place) {
                    let other = match config.uplink_resolvers().next() {
                        Some(wan) if *wan == Resolver::default_wan() && first == Place::START => {
                            "the resolver via the uplink, which is there unless written,".to_owned()
                        }
                        _ => format!("the resolver of line {}", first.line),
                    };
                    let what = format!("resolver `{}`: {other} listens on {listen} already", resolver.name);
                    self.problem(*place, what, "give this one another port or address");
                }
            }
            let itself = |s: &&Server| resolver.listen.contains(&SocketAddr::new(s.addr, s.port));
            if let Some(server) = resolver.servers.iter().find(itself) {
                let what =
                    format!("resolver `{}`: its server {server} is the resolver itself", resolver.name);
                self.problem(*place, what, "write the server that it is to ask");
            }
        }
    }

    /// The servers of Gluon's own file.
    fn static_servers(&mut self, text: &str, config: &Config) -> Vec<Server> {
        let (file, mistakes) = uci::parse(text, Names::OfAll);
        for mistake in mistakes {
            self.problems.push(problem(self.file, mistake));
        }
        let Some(section) = file.sections.iter().find(|s| s.kind.text == "static") else { return Vec::new() };
        let mut servers = self.list(section, "server", values::uplink_server);
        let only = match config.uplinks.as_slice() {
            [uplink] => Some(uplink.device.as_str()),
            _ => None,
        };
        for server in &mut servers {
            self.scope(server, only, section.kind.place);
        }
        servers
    }
}

/// Where the sections of the [`Config`] begin, entry by entry.
#[derive(Default)]
struct Places {
    uplinks: Vec<Place>,
    tunnels: Vec<Place>,
    resolvers: Vec<Place>,
}

fn problem(file: &str, mistake: uci::Mistake) -> Problem {
    Problem {
        file: file.to_owned(),
        line: mistake.place.line,
        column: mistake.place.column,
        message: mistake.message,
        mend: mistake.mend,
    }
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
        let listen: Vec<String> = r.listen.iter().map(SocketAddr::to_string).collect();
        format!("{} on {}", r.name, listen.join(" "))
    });
    [counted("uplink", uplinks), counted("tunnel", tunnels), counted("resolver", resolvers)].join(", ")
}

fn counted(noun: &str, items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.collect();
    match items.len() {
        0 => format!("no {noun}"),
        1 => format!("1 {noun} ({})", items.join(", ")),
        n => format!("{n} {noun}s ({})", items.join(", ")),
    }
}
