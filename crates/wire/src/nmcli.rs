//! What `nmcli --terse device show DEVICE` prints (NetworkManager, 1.10 and later): lines of `FIELD:VALUE`, where a field of which
//! there are several has its number behind it, `IP6.DNS[2]`.
//!
//! DHCP's own options (`DHCP4.OPTION[5]:domain_name_servers = 192.0.2.53`) stand there whether or not the connection uses them.

use crate::resolv::nameserver;
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use narrowgate_model::Server;

/// What it says of a device.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Device {
    /// `GENERAL.STATE` (`NMDeviceState`): 10 unmanaged, 20 unavailable, 30 disconnected, up to 90 getting there, 100 connected, 110 and
    /// 120 on the way down.
    pub state: u32,
    /// Somebody else has set the device up, and NetworkManager only looks on.
    pub external: bool,
    /// `GENERAL.CONNECTION`: the connection that is active, if one is.
    pub connection: String,
    /// Those in use (`IP4.DNS`, `IP6.DNS`), then those that DHCP has told. Each once.
    pub dns: Vec<Server>,
    /// Domains, from the same places.
    pub search: Vec<String>,
}

impl Device {
    /// Whether NetworkManager sets the device up.
    pub fn managed(&self) -> bool {
        !self.external && !self.connection.is_empty()
    }
}

/// Reads the text. `None`: it says nothing of a device. Then [`complaint`] may find out why.
pub fn device(text: &[u8]) -> Option<Device> {
    let mut device = Device::default();
    let mut told = false;
    for line in String::from_utf8_lossy(text).lines() {
        let Some((field, value)) = line.split_once(':') else { continue };
        match field.split_once('[').map_or(field, |(name, _)| name) {
            "GENERAL.STATE" => {
                let (number, words) = value.split_once(' ').unwrap_or((value, ""));
                let Ok(state) = number.parse() else { continue };
                (told, device.state, device.external) = (true, state, words.contains("externally"));
            }
            "GENERAL.CONNECTION" if value != "--" => value.clone_into(&mut device.connection),
            "IP4.DNS" | "IP6.DNS" => device.add_dns(value),
            "IP4.DOMAIN" | "IP6.DOMAIN" => device.add_search(value),
            "DHCP4.OPTION" | "DHCP6.OPTION" => match value.split_once(" = ") {
                Some(("domain_name_servers" | "dhcp6_name_servers", value)) => device.add_dns(value),
                Some(("domain_name" | "domain_search" | "dhcp6_domain_search", value)) => {
                    device.add_search(value)
                }
                _ => {}
            },
            _ => {}
        }
    }
    told.then_some(device)
}

impl Device {
    fn add_dns(&mut self, value: &str) {
        for server in value.split_ascii_whitespace().filter_map(nameserver) {
            if !self.dns.contains(&server) {
                self.dns.push(server);
            }
        }
    }

    fn add_search(&mut self, value: &str) {
        for name in value.split_ascii_whitespace() {
            if !self.search.iter().any(|known| known == name) {
                self.search.push(name.to_owned());
            }
        }
    }
}

/// The line that says why there is nothing, without its `Error: `.
pub fn complaint(text: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(text);
    let line = text.lines().find_map(|line| line.strip_prefix("Error: "))?;
    Some(line.trim_end_matches('.').chars().take(200).collect())
}
