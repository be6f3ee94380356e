//! A second VPN beside fastd: WireGuard in userland (`wireguard-go`), on the gate and on the node. It marks its sockets itself
//! (`wg set … fwmark`), and the `wg` program looks its peer's name up, with retries of its own.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::daemon::Running;
use crate::error::{Context, Error, Result};
use crate::fastd::Start;
use crate::lab::{Lab, PATIENCE};
use crate::layout::{GATE_NAME, Host};

/// WireGuard's device on node and gate.
pub const DEVICE: &str = "wg0";
/// The UDP port of the gate's.
pub const PORT: u16 = 51820;
/// The gate's address inside this tunnel (a /24). The mesh is behind it.
pub const INNER_GATE4: Ipv4Addr = Ipv4Addr::new(10, 44, 0, 1);
/// See [`INNER_GATE4`]; a /64.
pub const INNER_GATE6: Ipv6Addr = Ipv6Addr::new(0xfd44, 0, 0, 0, 0, 0, 0, 1);
/// The node's address inside this tunnel.
pub const INNER_NODE4: Ipv4Addr = Ipv4Addr::new(10, 44, 0, 2);
/// See [`INNER_NODE4`].
pub const INNER_NODE6: Ipv6Addr = Ipv6Addr::new(0xfd44, 0, 0, 0, 0, 0, 0, 2);

/// The section that tells narrowgate of this tunnel, to be added to a configuration.
pub fn config() -> String {
    format!("\nconfig tunnel 'wireguard'\n\toption device '{DEVICE}'\n\tlist peer '{GATE_NAME}:{PORT}'\n")
}

/// Both ends. Dropped, they are killed, and the devices go with them.
#[derive(Debug)]
pub struct Ends {
    /// The gate's public key, by which the node knows its peer.
    pub peer: String,
    /// The node's device.
    pub node: Running,
    /// The gate's.
    pub gate: Running,
}

/// Both ends, and who looks the node's peer up.
#[derive(Debug)]
pub struct WireGuard {
    /// When the node's peer was set: when `wg` began to look its name up.
    pub started: Instant,
    /// The gate's public key, by which the node knows its peer.
    pub peer: String,
    /// The `wg set` that looks the peer's name up and then ends.
    pub lookup: Running,
    /// The node's device.
    pub node: Running,
    /// The gate's.
    pub gate: Running,
}

impl Lab {
    /// Starts both ends, and `wg set` with the peer's name in the way that is asked for. Does not wait for the name.
    ///
    /// The node's device has addresses, and default routes behind those that fastd brings.
    pub fn start_wireguard(&self, start: Start) -> Result<WireGuard> {
        let Ends { peer, node, gate } = self.start_wireguard_ends()?;
        let lookup = self.start_wireguard_peer(start, &peer)?;
        Ok(WireGuard { started: lookup.started, peer, lookup, node, gate })
    }

    /// Starts both ends; the node's has no peer yet.
    pub fn start_wireguard_ends(&self) -> Result<Ends> {
        let (gate_keys, node_keys) = (Keys::make(self, "gate")?, Keys::make(self, "node")?);
        let gate = self.wireguard_device(Host::Gate)?;
        self.run(
            Host::Gate,
            &format!(
                "wg set {DEVICE} listen-port {PORT} private-key {} peer {} allowed-ips {INNER_NODE4}/32,{INNER_NODE6}/128",
                gate_keys.secret.display(),
                node_keys.public
            ),
        )?;
        self.batch(
            Host::Gate,
            &format!(
                "link set {DEVICE} up\naddr add {INNER_GATE4}/24 dev {DEVICE}\naddr add {INNER_GATE6}/64 dev {DEVICE} nodad\n"
            ),
        )?;
        let node = self.wireguard_device(Host::Node)?;
        self.run(
            Host::Node,
            &format!("wg set {DEVICE} fwmark 1 private-key {}", node_keys.secret.display()),
        )?;
        self.batch(
            Host::Node,
            &format!(
                "link set {DEVICE} up\naddr add {INNER_NODE4}/24 dev {DEVICE}\naddr add {INNER_NODE6}/64 dev {DEVICE} nodad\n\
                 route add default dev {DEVICE} metric 2048\nroute add ::/0 dev {DEVICE} metric 2048\n"
            ),
        )?;
        Ok(Ends { peer: gate_keys.public, node, gate })
    }

    /// Starts the `wg set` on the node that looks the gate's name up and sets the peer, as a script at boot would.
    pub fn start_wireguard_peer(&self, start: Start, peer: &str) -> Result<Running> {
        let name = "node-wg";
        let endpoint = format!("{GATE_NAME}:{PORT}");
        let log_start = self.read_log(name).len();
        let command = self.on_node(start, "wg")?.args(["set", DEVICE, "peer", peer]);
        let command = command.args(["allowed-ips", "0.0.0.0/0,::/0", "persistent-keepalive", "25"]);
        let command = command.args(["endpoint", &endpoint]).log_to(&self.log(name))?;
        Ok(Running::new(name, Instant::now(), command.spawn()?, log_start))
    }

    /// Waits until the node's WireGuard has the answer to its handshake; returns the moment.
    pub fn wait_wireguard(&self, wireguard: &WireGuard, patience: Duration) -> Result<Instant> {
        let waited = self.wait_handshake(&wireguard.node, patience);
        waited.map_err(|error| Error::new(format!("{error}\nwg said: {}", self.read_log("node-wg"))))
    }

    /// The same, of a device alone.
    pub fn wait_handshake(&self, device: &Running, patience: Duration) -> Result<Instant> {
        self.wait_logged(device, "Received handshake response", patience)?;
        Ok(Instant::now())
    }

    /// A device that a process of userland makes and serves for as long as it lives.
    fn wireguard_device(&self, host: Host) -> Result<Running> {
        let name = format!("{}-wireguard", host.name());
        let log_start = self.read_log(&name).len();
        let command = self.host(host).command("wireguard-go").args(["-f", DEVICE]);
        let command = command.env("LOG_LEVEL", "verbose").log_to(&self.log(&name))?;
        let running = Running::new(&name, Instant::now(), command.spawn()?, log_start);
        self.wait_logged(&running, "UAPI listener started", PATIENCE)?;
        Ok(running)
    }
}

/// A key pair, the secret half in a file.
struct Keys {
    secret: PathBuf,
    public: String,
}

impl Keys {
    /// Makes a pair with `wg genkey` and `wg pubkey`.
    fn make(lab: &Lab, name: &str) -> Result<Keys> {
        let secret = wg("genkey", "")?;
        let public = wg("pubkey", &secret)?.trim().to_owned();
        let secret = lab.write(&format!("{name}-wireguard.key"), &secret)?;
        restrict(&secret)?;
        Ok(Keys { secret, public })
    }
}

/// `wg` warns of keys that others can read.
fn restrict(path: &Path) -> Result<()> {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(path, mode).context(|| path.display().to_string())
}

fn wg(verb: &str, input: &str) -> Result<String> {
    let mut command = Command::new("wg");
    command.arg(verb).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut child = command.spawn().context(|| "starting wg (package wireguard-tools)".to_owned())?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        return Err(Error::new(format!("wg {verb}: {}", output.status)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
