//! The node configured by hand, as a plain Linux host behind a router is: no separation of any kind. With it the
//! lab is proved before there is a daemon to test, and it is the probes' positive control: here they must leak.

use std::fs;
use std::time::Duration;

use crate::error::Result;
use crate::lab::Lab;
use crate::layout::{Host, ROUTER_LL, WAN};
use crate::wait;

impl Lab {
    /// Brings the WAN up with static addresses, default routes in the main table, and the router as nameserver.
    pub fn configure_by_hand(&self) -> Result<()> {
        let network = self.network();
        let mut segments = network.router6.segments();
        segments[7] = 0x50;
        let (own4, own6) = (network.host4(50), std::net::Ipv6Addr::from(segments));
        let wan = WAN.0;
        let mut batch = format!("link set {wan} up\n");
        let families = self.options().household;
        if families.v4() {
            batch.push_str(&format!(
                "addr add {own4}/24 brd + dev {wan}\nroute add default via {} dev {wan}\n",
                network.router4
            ));
        }
        if families.v6() {
            batch.push_str(&format!(
                "addr add {own6}/64 dev {wan} nodad\nroute add default via {ROUTER_LL} dev {wan}\n"
            ));
        }
        self.batch(Host::Node, &batch)?;
        // The first packets wait for the router's hardware address; probes shall not.
        let routers = [
            families.v4().then_some(network.router4.into()),
            families.v6().then_some(network.router6.into()),
        ];
        for router in routers.into_iter().flatten() {
            // One that is sent before both ends have their addresses is lost.
            let node = self.host(Host::Node);
            let answered = || Ok(node.ping(router, None, Duration::from_millis(500)).ok());
            wait::until("the router", Duration::from_secs(10), answered)?;
        }
        let server = if families.v4() { network.router4.to_string() } else { network.router6.to_string() };
        self.set_nameserver(&server)
    }

    /// Sets the nameserver in the node's `/etc/resolv.conf`.
    pub fn set_nameserver(&self, server: &str) -> Result<()> {
        // The file is bind-mounted in the host: it has to stay the same file.
        Ok(fs::write(self.file("resolv.node"), format!("nameserver {server}\n"))?)
    }
}
