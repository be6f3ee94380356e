//! The tunnels' groups as numbers: nftables keeps numbers, and a name may appear only later.

use alloc::string::String;
use alloc::vec::Vec;
use narrowgate_model::config::{Config, Group};

/// The tunnels' groups.
#[derive(Debug, Default)]
pub struct Groups {
    ids: Vec<u32>,
    missing: Vec<String>,
}

impl Groups {
    /// Looks all of them up.
    pub fn look_up(config: &Config) -> Groups {
        let mut groups = Groups::default();
        groups.refresh(config);
        groups
    }

    /// Looks the missing ones up again.
    pub fn refresh(&mut self, config: &Config) {
        let first = self.ids.is_empty() && self.missing.is_empty();
        if !first && self.missing.is_empty() {
            return;
        }
        let was_missing = core::mem::take(&mut self.missing);
        self.ids.clear();
        for tunnel in &config.tunnels {
            let Some(group) = &tunnel.group else { continue };
            match id(group) {
                Some(id) => self.ids.push(id),
                None => {
                    let Group::Name(name) = group else { continue };
                    if !was_missing.contains(name) {
                        log::warn!(
                            "tunnel {}: there is no group '{name}', so its DNS is not redirected; make the group (addgroup --system {name}) or write its number",
                            tunnel.name
                        );
                    }
                    self.missing.push(name.clone());
                }
            }
        }
        narrowgate_model::sort::sort(&mut self.ids);
        self.ids.dedup();
    }

    /// Those that exist, sorted.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }
}

/// The number of one group, if there is such a group.
pub fn id(group: &Group) -> Option<u32> {
    match group {
        Group::Id(id) => Some(*id),
        Group::Name(name) => narrowgate_sys::process::group(name).ok(),
    }
}
