//! What a network namespace looks like, item by item, so that two moments can be compared.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::error::{Context, Error, Result};
use crate::place::Place;

/// Links, addresses, routes, rules, nftables and sysctls at one moment, one line an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot(BTreeSet<String>);

impl Snapshot {
    /// Of a host of the lab.
    pub fn of(place: &Place) -> Result<Self> {
        place.in_network(Self::here)?
    }

    /// Of the namespace that this thread is in.
    pub fn here() -> Result<Self> {
        let mut items = BTreeSet::new();
        let mut lines = |what: &str, text: String| {
            items.extend(text.lines().map(|line| format!("{what}: {}", steady(line))));
        };
        lines("link", ip(&["-d", "-o", "link", "show"])?);
        lines("address", ip(&["-o", "addr", "show"])?);
        lines("route", ip(&["-4", "-o", "route", "show", "table", "all"])?);
        lines("route", ip(&["-6", "-o", "route", "show", "table", "all"])?);
        lines("rule", ip(&["-4", "-o", "rule", "show"])?);
        lines("rule", ip(&["-6", "-o", "rule", "show"])?);
        let nft = run("nft", &["-s", "list", "ruleset"])?;
        items.extend(nft.lines().enumerate().map(|(at, line)| format!("nftables {at:04}: {line}")));
        for root in ["/proc/sys/net/ipv4", "/proc/sys/net/ipv6", "/proc/sys/net/core"] {
            sysctls(Path::new(root), &mut items);
        }
        Ok(Self(items))
    }

    /// What is only in the one (`-`) or the other (`+`).
    pub fn difference(&self, later: &Self) -> Vec<String> {
        let gone = self.0.difference(&later.0).map(|item| format!("- {item}"));
        let new = later.0.difference(&self.0).map(|item| format!("+ {item}"));
        gone.chain(new).collect()
    }

    /// Fails with the differences if there are any.
    pub fn assert_same(&self, later: &Self, what: &str) -> Result<()> {
        let difference = self.difference(later);
        if difference.is_empty() {
            return Ok(());
        }
        Err(Error::new(format!("{what} is not as it was:\n  {}", difference.join("\n  "))))
    }
}

/// A line without what changes by itself or for good: lifetimes count down.
fn steady(line: &str) -> String {
    let mut words = Vec::new();
    let mut rest = line.split_whitespace();
    while let Some(word) = rest.next() {
        match word {
            "valid_lft" | "preferred_lft" | "expires" => {
                let left = rest.next().unwrap_or_default();
                words.push(if left == "forever" { "forever" } else { "for-a-while" });
            }
            // A device that was never up has none; from then on it keeps the one that it got.
            "qdisc" => drop(rest.next()),
            _ => words.push(word),
        }
    }
    words.join(" ")
}

fn sysctls(dir: &Path, items: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            // Neighbour tables are tuned for a device that may come and go.
            sysctls(&path, items);
        } else if let Ok(value) = fs::read_to_string(&path) {
            let volatile = ["dst_entries", "random", "tcp_mem", "stable_secret"];
            if !volatile.iter().any(|name| path.to_string_lossy().contains(name)) {
                items.insert(format!("sysctl {}: {}", path.display(), value.trim()));
            }
        }
    }
}

fn ip(args: &[&str]) -> Result<String> {
    run("ip", args)
}

fn run(program: &str, args: &[&str]) -> Result<String> {
    let output = Command::new(program).args(args).output().context(|| format!("starting {program}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Error::new(format!("{program} {args:?}: {}", said.trim())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
