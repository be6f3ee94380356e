//! What `status` says: written by the daemon as JSON, read by the command.

pub mod json;

use alloc::string::String;
use alloc::vec::Vec;
use json::part;

part! {
    /// Everything the daemon knows of itself.
    pub struct Report {
        /// Of the program.
        pub version: String,
        /// Of the daemon.
        pub pid: u32,
        /// Milliseconds since its start.
        pub uptime_ms: u64,
        /// Where the config was read.
        pub config: String,
        /// `VALUE/MASK`.
        pub mark: String,
        /// The WAN table.
        pub table: u32,
        /// One an `uplink` section.
        pub uplinks: Vec<UplinkReport>,
        /// One a `tunnel` section.
        pub tunnels: Vec<TunnelReport>,
        /// One a `resolver` section, and the default WAN resolver.
        pub resolvers: Vec<ResolverReport>,
        /// The firewall.
        pub guard: GuardReport,
        /// How the kernel was made to look so.
        pub policy: PolicyReport,
        /// What is wrong or will be, a sentence each.
        pub problems: Vec<String>,
    }
}

part! {
    /// An uplink.
    pub struct UplinkReport {
        /// Section name.
        pub name: String,
        /// Its device.
        pub device: String,
        /// Who tells its facts.
        pub provider: String,
        /// `up`, `waiting`, `no carrier`, `down`, `no device`.
        pub state: String,
        /// Addresses that it gave us.
        pub addresses: Vec<FactReport>,
        /// Routes that it offers.
        pub routes: Vec<FactReport>,
        /// Its DNS servers.
        pub dns: Vec<FactReport>,
        /// Captive portals that it announces (RFC 8910).
        pub portals: Vec<FactReport>,
        /// NAT64 prefixes that it announces (RFC 8781).
        pub nat64: Vec<FactReport>,
        /// The IPv6 MTU that it announces, bytes.
        pub mtu: Option<u32>,
        /// What else the provider knows.
        pub details: Vec<Detail>,
    }
}

part! {
    /// One fact.
    pub struct FactReport {
        /// The fact itself.
        pub what: String,
        /// Where it was learnt.
        pub origin: String,
        /// Seconds until it ends; none if it does not.
        pub seconds_left: Option<u32>,
    }
}

part! {
    /// Something with a name.
    pub struct Detail {
        /// Name.
        pub name: String,
        /// Value.
        pub value: String,
    }
}

part! {
    /// A tunnel.
    pub struct TunnelReport {
        /// Section name.
        pub name: String,
        /// As written.
        pub group: Option<String>,
        /// Its number, if there is such a group.
        pub gid: Option<u32>,
        /// As written.
        pub device: Option<String>,
        /// `up`, `down`, `no device`.
        pub state: String,
        /// As written.
        pub peers: Vec<String>,
        /// The names among them, and where they were found last (also by a run before this one).
        pub known: Vec<Detail>,
        /// As written.
        pub cgroup: Option<String>,
        /// `marked`, `not there`, `failed`.
        pub cgroup_state: Option<String>,
    }
}

part! {
    /// A resolver.
    pub struct ResolverReport {
        /// Section name.
        pub name: String,
        /// `uplink` or `mesh`.
        pub via: String,
        /// Where it listens.
        pub listen: Vec<String>,
        /// Whom it asks, the first first.
        pub servers: Vec<String>,
        /// Its process.
        pub pid: u32,
        /// How often its process had to be started again.
        pub restarts: u32,
        /// What this kernel has not got to shut its process in with: `Landlock`, `seccomp`, or both.
        pub lacks: Option<String>,
        /// What it counted.
        pub counters: Vec<CounterReport>,
    }
}

part! {
    /// A number with a name.
    pub struct CounterReport {
        /// Name.
        pub name: String,
        /// Number.
        pub value: u64,
    }
}

part! {
    /// The guard.
    pub struct GuardReport {
        /// Its tables are as they have to be.
        pub standing: bool,
        /// Nobody else can flush it (nftables `owner`).
        pub owned: bool,
        /// It outlives us (nftables `persist`).
        pub persistent: bool,
        /// Packet sockets are guarded too (`netdev egress`).
        pub egress: bool,
        /// Its counters.
        pub counters: Vec<PacketCounter>,
        /// Its sets of peers (`option strict`), and how many addresses are in each.
        pub sets: Vec<CounterReport>,
    }
}

part! {
    /// A counter of packets.
    pub struct PacketCounter {
        /// Name.
        pub name: String,
        /// Packets.
        pub packets: u64,
        /// Bytes.
        pub bytes: u64,
    }
}

part! {
    /// What it took.
    pub struct PolicyReport {
        /// Steps taken since the start.
        pub steps: u64,
        /// Steps that failed.
        pub failed: u64,
        /// Steps that put back what somebody else had taken away.
        pub healed: u64,
        /// Microseconds that applying the first whole policy took.
        pub first_apply_us: u64,
        /// Milliseconds from the start to READY.
        pub ready_ms: u64,
    }
}

part! {
    /// What `status --sockets` says.
    pub struct SocketsReport {
        /// The mark that is to be seen, `VALUE/MASK`.
        pub mark: String,
        /// All of them, by owner and process.
        pub sockets: Vec<SocketReport>,
        /// How many are unmarked although they send, or may send, to the uplink.
        pub unmarked: u32,
        /// What was not to be found, a sentence each.
        pub notes: Vec<String>,
    }
}

part! {
    /// A socket.
    pub struct SocketReport {
        /// `tunnel NAME` or `resolver NAME`.
        pub owner: String,
        /// The number of a process that has it.
        pub process: u32,
        /// That process's name.
        pub program: String,
        /// `tcp`, `udp`, `raw`, `icmp`, `packet`, `mptcp`, `other`.
        pub protocol: String,
        /// Its own address.
        pub local: Option<String>,
        /// To whom it is connected.
        pub remote: Option<String>,
        /// The device that it is bound to.
        pub device: Option<String>,
        /// `SO_MARK`, all bits.
        pub mark: u32,
        /// `marked`, `loopback`, `listens`, `unused`, `elsewhere`, `unmarked`.
        pub verdict: String,
        /// A few words where the verdict alone does not say it.
        pub why: String,
    }
}
