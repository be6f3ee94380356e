//! The configuration of the real daemons: dnsmasq in the household, the internet and the mesh, and the household's
//! address translation.

use crate::layout::{AUTH4, CABLE, FAR_NAME, FAR4, FAR6, GATE_NAME, GATE4, GATE6, Household, MESH_DNS};
use crate::options::Options;

/// dnsmasq's configuration for the household's router.
///
/// DNS is always served, also to link-local clients; DHCPv4 and RA as the household has them. RDNSS names the
/// router twice: by its global address and by `fe80::1`.
pub fn household_dns(options: &Options, leases: &std::path::Path) -> String {
    let mut text = format!(
        "keep-in-foreground\nuser=root\ngroup=root\nno-resolv\nno-hosts\nno-poll\nlog-facility=-\nlog-queries\n\
         interface={cable}\nbind-dynamic\nserver={AUTH4}\ncache-size=0\ndhcp-leasefile={leases}\ndhcp-authoritative\n\
         domain=home.example\nlog-dhcp\n",
        cable = CABLE.0,
        leases = leases.display(),
    );
    if !options.dhcp_ping {
        text.push_str("no-ping\n");
    }
    if options.household.v4() {
        // Of the ranges dnsmasq takes the one that its address is in: when that changes, so do the leases.
        for network in [Household::FIRST, Household::SECOND] {
            text.push_str(&format!("dhcp-range={},{},120\n", network.host4(100), network.host4(200)));
        }
        if let Some(t1) = options.renew_after {
            let t2 = t1 + (120u32.saturating_sub(t1)) * 2 / 3;
            text.push_str(&format!("dhcp-option-force=option:T1,{t1}\ndhcp-option-force=option:T2,{t2}\n"));
        }
    }
    if options.household.v6() {
        let (interval, lifetime) = options.ra;
        let range = if options.off_link {
            format!("::1000,::1fff,constructor:{},off-link", CABLE.0)
        } else {
            format!("::,constructor:{},ra-only", CABLE.0)
        };
        let mtu = options.ra_mtu.map_or(String::new(), |mtu| format!("mtu:{mtu},"));
        text.push_str(&format!(
            "enable-ra\ndhcp-range={range},64,{valid}\nra-param={cable},{mtu}{interval},{lifetime}\n\
             dhcp-option=option6:dns-server,[::],[fe80::1]\ndhcp-option=option6:domain-search,home.example\n",
            cable = CABLE.0,
            valid = u32::from(lifetime).max(120),
        ));
    }
    text
}

/// dnsmasq's configuration for the internet's authoritative server.
pub fn authoritative_dns(options: &Options) -> String {
    let mut record = format!("host-record={GATE_NAME}");
    if options.gate_name.v4() {
        record.push_str(&format!(",{GATE4}"));
    }
    if options.gate_name.v6() {
        record.push_str(&format!(",{GATE6}"));
    }
    format!(
        "keep-in-foreground\nuser=root\ngroup=root\nno-resolv\nno-hosts\nno-poll\nlog-facility=-\nlog-queries\n\
         listen-address={AUTH4}\nbind-interfaces\nlocal=/#/\nlocal-ttl={ttl}\n{record}\n\
         host-record=www.example.org,203.0.113.80,2001:db8:f00::80\n\
         address=/any.example.org/203.0.113.80\n",
        ttl = options.dns_ttl,
    )
}

/// dnsmasq's configuration for the mesh: RA with a default route and RDNSS, and DNS with a name of its own.
pub fn mesh_dns(leases: &std::path::Path) -> String {
    format!(
        "keep-in-foreground\nuser=root\ngroup=root\nno-resolv\nno-hosts\nno-poll\nlog-facility=-\nlog-queries\n\
         interface=mesh\nbind-dynamic\nserver={AUTH4}\nhost-record={FAR_NAME},{FAR4},{FAR6}\nlocal=/mesh.example/\n\
         enable-ra\ndhcp-range=::,constructor:mesh,ra-only,64,600\nra-param=mesh,4,600\n\
         dhcp-option=option6:dns-server,[{MESH_DNS}]\ndhcp-leasefile={}\n",
        leases.display(),
    )
}

/// nftables rules that translate IPv4 (and, in the mesh, ULA) addresses on the way to the internet.
pub fn masquerade(device: &str) -> String {
    format!(
        "table inet nat {{\nchain out {{\ntype nat hook postrouting priority srcnat\n\
         oifname \"{device}\" meta nfproto ipv4 masquerade\noifname \"{device}\" ip6 saddr fc00::/7 masquerade\n}}\n}}\n"
    )
}
