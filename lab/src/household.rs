//! The household: its router's daemon, its provider, and the cable to the node. What a test lets happen to it.

use crate::daemon::Running;
use crate::error::Result;
use crate::lab::{Lab, PATIENCE};
use crate::layout::{self, Host, Household};
use crate::options::Options;
use crate::services;
use crate::wait;

impl Lab {
    /// The network that the household uses now.
    pub fn network(&self) -> Household {
        self.household.lock().map_or(Household::FIRST, |household| household.0)
    }

    /// Plugs the WAN cable in or pulls it at the household's end. Returns when the node's kernel has noticed, which takes
    /// it a while: pulled and plugged in faster, nothing would have happened for the node.
    pub fn set_carrier(&self, on: bool) -> Result<()> {
        let (cable, state) = (layout::CABLE.0, if on { "up" } else { "down" });
        self.run(Host::Home, &format!("ip link set {cable} {state}"))?;
        if on {
            // The kernel forgets a device's IPv6 addresses when it goes down.
            let network = self.network();
            let batch = format!(
                "addr replace {}/64 dev {cable} nodad\naddr replace {}/64 dev {cable} nodad\n",
                layout::ROUTER_LL,
                network.router6
            );
            self.batch(Host::Home, &batch)?;
        }
        wait::until("the node's kernel to notice the cable", PATIENCE, || {
            let link = self.run(Host::Node, &format!("ip -o link show dev {}", layout::WAN.0))?;
            let in_use = link.contains(",UP") || link.contains("<UP");
            Ok((!in_use || link.contains("state UP") == on).then_some(()))
        })
    }

    /// Stops the household's dnsmasq: no DHCP, no RA, no DNS, until [`Self::start_household`].
    pub fn stop_household(&self) -> Result<()> {
        let child = self.household.lock().ok().and_then(|mut household| household.1.take());
        if let Some(mut child) = child {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Starts the household's dnsmasq with the given options, and with the network it has.
    pub fn start_household(&self, options: &Options) -> Result<()> {
        self.stop_household()?;
        let config = services::household_dns(options, &self.file("home.leases"));
        let config = self.write("home.conf", &config)?;
        let skip = self.read_log("home").len();
        let child = self.start(Host::Home, "home", "dnsmasq", &["-C", &config.to_string_lossy()])?;
        if let Ok(mut household) = self.household.lock() {
            household.1 = Some(child);
        }
        self.wait_log("home", "started, version", skip, PATIENCE)
    }

    /// Plugs the other household in: the node gets a device that it did not have. Its dnsmasq is returned.
    pub fn plug_modem(&self) -> Result<Running> {
        self.batch(Host::Modem, &layout::plug_modem(self.host(Host::Node).pin))?;
        let config = services::household_dns(self.options(), &self.file("modem.leases"));
        let config = self.write("modem.conf", &config)?;
        let skip = self.read_log("modem").len();
        let child = self.start(Host::Modem, "modem", "dnsmasq", &["-C", &config.to_string_lossy()])?;
        let dnsmasq = Running::adopt("modem", child);
        self.wait_log("modem", "started, version", skip, PATIENCE)?;
        Ok(dnsmasq)
    }

    /// Pulls it out: the node's device is gone.
    pub fn unplug_modem(&self, mut dnsmasq: Running) -> Result<()> {
        self.run(Host::Modem, &format!("ip link del {}", layout::CABLE.0))?;
        dnsmasq.kill()
    }

    /// Lets the household's provider renumber it: other prefixes, other addresses of router and DNS. dnsmasq sees its
    /// addresses change: it announces the new prefix, deprecates the old one, and refuses leases of the old network.
    pub fn renumber(&self, to: Household) -> Result<()> {
        let from = self.network();
        let cable = layout::CABLE.0;
        if let Ok(mut household) = self.household.lock() {
            household.0 = to;
        }
        self.batch(
            Host::Home,
            &format!(
                "addr add {}/24 brd + dev {cable}\naddr add {}/64 dev {cable} nodad\n\
                 addr del {}/24 dev {cable}\naddr del {}/64 dev {cable}\n",
                to.router4, to.router6, from.router4, from.router6
            ),
        )
    }

    /// Lets it answer again.
    pub fn unsilence_dns(&self) -> Result<()> {
        self.run(Host::Home, "nft delete table inet silence").map(drop)
    }

    /// Silences the household's DNS on some of its addresses: questions are dropped, as by a dead server.
    pub fn silence_dns(&self, addresses: &[std::net::IpAddr]) -> Result<()> {
        let mut rules = String::from("table inet silence {\nchain in {\ntype filter hook input priority 0\n");
        for address in addresses {
            let family = if address.is_ipv4() { "ip" } else { "ip6" };
            rules.push_str(&format!(
                "iifname {} {family} daddr {address} th dport 53 drop\n",
                layout::CABLE.0
            ));
        }
        rules.push_str("}\n}\n");
        let file = self.write("silence.nft", &rules)?;
        self.run(Host::Home, &format!("nft -f {}", file.display())).map(drop)
    }
}
