//! The tunnel: a real fastd on both ends, and the ways in which the node's is started.

use std::path::Path;
use std::process::Command;

use crate::error::{Context, Error, Result};
use crate::layout::{GATE_NAME, GATE_PORT, GATE4, GATE6, MESH_NODE4, TUNNEL_DEVICE, TUNNEL_GROUP};

/// How the node's fastd is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Already in its group.
    InGroup,
    /// As root; it drops to its group by itself, once it has looked its server up.
    Plain,
    /// Through `narrowgate exec --group`.
    Exec,
}

/// A key pair of fastd's.
#[derive(Debug, Clone)]
pub struct Keys {
    /// What only its owner knows.
    pub secret: String,
    /// What the other end is told.
    pub public: String,
}

impl Keys {
    /// Makes a pair with `fastd --generate-key`.
    pub fn generate() -> Result<Self> {
        let output = Command::new("fastd").arg("--generate-key").output();
        let output = output.context(|| "starting fastd (package fastd)".to_owned())?;
        let text = String::from_utf8_lossy(&output.stdout);
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.map(|value| value.trim().to_owned())
                .ok_or_else(|| Error::new(format!("fastd --generate-key printed no {name}")))
        };
        Ok(Self { secret: field("Secret:")?, public: field("Public:")? })
    }
}

/// What fastd logs when a tunnel stands.
pub const ESTABLISHED: &str = "established";

/// The gateway's configuration.
pub fn gate_config(own: &Keys, node: &Keys) -> String {
    format!(
        "log level verbose;\ninterface \"{TUNNEL_DEVICE}\";\nmode tap;\nmtu {MTU};\nmethod \"{METHOD}\";\n\
         bind {GATE4}:{GATE_PORT};\nbind [{GATE6}]:{GATE_PORT};\nsecret \"{}\";\n\
         peer \"node\" {{ key \"{}\"; }}\n\
         on up \"ip link set {TUNNEL_DEVICE} master mesh up\";\n",
        own.secret, node.public
    )
}

/// The node's configuration. `up` is the script that configures the device.
pub fn node_config(own: &Keys, gate: &Keys, start: Start, up: &Path) -> String {
    let group = match start {
        Start::Plain => format!("group \"{TUNNEL_GROUP}\";\n"),
        Start::InGroup | Start::Exec => String::new(),
    };
    format!(
        "log level verbose;\ninterface \"{TUNNEL_DEVICE}\";\nmode tap;\nmtu {MTU};\nmethod \"{METHOD}\";\n\
         packet mark 1;\n{group}secret \"{}\";\n\
         peer \"gate\" {{ key \"{}\"; remote \"{GATE_NAME}\" port {GATE_PORT}; }}\n\
         on up \"{}\";\n",
        own.secret,
        gate.public,
        up.display()
    )
}

/// The node's script: the kernel takes the mesh's RA (also where the node forwards), and IPv4 is static.
pub fn up_script() -> String {
    format!(
        "#!/bin/sh\nset -e\n\
         echo 2 >/proc/sys/net/ipv6/conf/{TUNNEL_DEVICE}/accept_ra\n\
         ip link set {TUNNEL_DEVICE} up\n\
         ip addr add {MESH_NODE4}/16 dev {TUNNEL_DEVICE}\n\
         ip route add default via 10.42.0.1 dev {TUNNEL_DEVICE} metric 512\n"
    )
}

/// Small enough that a tunnelled frame is never fragmented on a 1500-byte link, over IPv6 neither.
const MTU: u16 = 1364;
const METHOD: &str = "salsa2012+umac";
