//! The original's way to do the same, set up by hand in a lab, to be measured beside ours: a mark's rule and table 1, a
//! second dnsmasq on `127.0.0.1:54` with a resolv-file under libpacketmark, a redirect by group, a first dnsmasq that knows the
//! mesh's DNS alone, and a fastd that is started plainly.

use std::process::Child;
use std::time::{Duration, Instant};

use crate::daemon::{Running, libpacketmark};
use crate::error::Result;
use crate::fastd::Start;
use crate::lab::Lab;
use crate::layout::{Host, MESH_DNS, ROUTER_LL, TUNNEL_GID, WAN};

/// A node that runs the original's way.
#[derive(Debug)]
pub struct Original {
    /// Its fastd.
    pub fastd: Running,
    /// When the WAN was brought up.
    pub started: Instant,
    _resolvers: Resolvers,
}

/// The two dnsmasq of the original's way; they end when dropped.
#[derive(Debug)]
pub struct Resolvers(Vec<Child>);

impl Drop for Resolvers {
    fn drop(&mut self) {
        for resolver in &mut self.0 {
            let _ = resolver.kill();
            let _ = resolver.wait();
        }
    }
}

/// Sets it up and starts fastd. The WAN's facts are given rather than learnt, which favours the original: it
/// has its addresses and servers at once.
pub fn original_way(lab: &Lab) -> Result<Original> {
    let started = Instant::now();
    let resolvers = original_node(lab)?;
    let fastd = lab.start_fastd(Start::Plain)?;
    Ok(Original { fastd, started, _resolvers: resolvers })
}

/// The same without a VPN.
pub fn original_node(lab: &Lab) -> Result<Resolvers> {
    let network = lab.network();
    let wan = WAN.0;
    let mut segments = network.router6.segments();
    segments[7] = 0x50;
    let (own4, own6) = (network.host4(50), std::net::Ipv6Addr::from(segments));
    lab.batch(
        Host::Node,
        &format!(
            "link set {wan} up\n\
             addr add {own4}/24 brd + noprefixroute dev {wan}\n\
             addr add {own6}/64 nodad noprefixroute dev {wan}\n\
             route add {prefix4}/24 dev {wan} table 1\n\
             route add default via {router4} dev {wan} src {own4} table 1\n\
             route add default via {ROUTER_LL} dev {wan} table 1\n\
             route add unreachable default table 1 metric 65535\n\
             rule add fwmark 1/1 lookup 1 priority 100\n",
            prefix4 = network.host4(0),
            router4 = network.router4,
        ),
    )?;
    lab.run(Host::Node, "ip -6 rule add fwmark 1/1 lookup 1 priority 100")?;
    let rules = format!(
        "table ip wandns {{\nchain out {{\ntype nat hook output priority -100\n\
         meta skgid {TUNNEL_GID} oifname lo ip daddr 127.0.0.1 udp dport 53 redirect to :54\n}}\n}}\n"
    );
    let rules = lab.write("original.nft", &rules)?;
    lab.run(Host::Node, &format!("nft -f {}", rules.display()))?;

    let servers = format!("nameserver {}\nnameserver {ROUTER_LL}%{wan}\n", network.router4);
    let servers = lab.write("original-wan.resolv", &servers)?;
    let resolv = format!("--resolv-file={}", servers.display());
    let node = lab.host(Host::Node);
    let common = [
        "--keep-in-foreground",
        "--log-facility=-",
        "--log-queries",
        "--user=root",
        "--no-hosts",
        "--bind-interfaces",
        "--listen-address=127.0.0.1",
        "--pid-file=", // none: every laboratory has the machine's /run
    ];
    let second =
        node.command("dnsmasq").args(common).args(["--conf-file=/dev/null", "--port=54", resolv.as_str()]);
    let second = second.env("LD_PRELOAD", libpacketmark()?).env("LIBPACKETMARK_MARK", "1");
    let second = second.log_to(&lab.log("original-second"))?.spawn()?;
    let mesh = format!("--server={MESH_DNS}");
    let first = node.command("dnsmasq").args(common).args([
        "--conf-file=/dev/null",
        "--port=53",
        "--no-resolv",
        mesh.as_str(),
    ]);
    let first = first.log_to(&lab.log("original-first"))?.spawn()?;
    let resolvers = Resolvers(vec![second, first]);
    for name in ["original-first", "original-second"] {
        lab.wait_log(name, "started, version", 0, Duration::from_secs(10))?;
    }
    Ok(resolvers)
}
