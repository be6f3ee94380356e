//! One lab: made whole, and gone without a trace when dropped.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use crate::error::{Context, Error, Result};
use crate::fastd::{self, Keys};
use crate::holder::{self, Holder};
use crate::layout::{self, Host, Household, TUNNEL_DEVICE, TUNNEL_GID, TUNNEL_GROUP};
use crate::options::Options;
use crate::place::{Place, Started};
use crate::rundir::{Process, RunDir, sweep};
use crate::services;
use crate::wait;

/// A running lab. Dropping it kills all that runs in it and removes its files, unless it is detached.
#[derive(Debug)]
pub struct Lab {
    dir: RunDir,
    options: Options,
    holder: Option<Holder>,
    pins: HashMap<Host, u32>,
    holder_pid: u32,
    /// The children of this process in the lab, reaped when the lab ends.
    started: Started,
    pub(crate) household: Mutex<(Household, Option<Child>)>,
}

impl Lab {
    /// Sweeps up after dead runs, then makes a lab: hosts, cables, and every daemon but the node's.
    pub fn new(options: Options) -> Result<Self> {
        if !nix::unistd::geteuid().is_root() {
            return Err(Error::new("the lab makes network namespaces and needs root: run it as root"));
        }
        sweep();
        let dir = RunDir::create()?;
        let holder = match Holder::start(options.detached) {
            Ok(holder) => holder,
            Err(error) => {
                let _ = dir.remove();
                return Err(error);
            }
        };
        dir.set_holder(holder.process)?;
        let mut lab = Self {
            holder_pid: holder.process.pid,
            holder: Some(holder),
            dir,
            options,
            pins: HashMap::new(),
            started: Started::default(),
            household: Mutex::new((Household::FIRST, None)),
        };
        // From here on an error drops the lab, which takes down what there is already, detached or not.
        if let Err(error) = lab.build() {
            lab.options.detached = false;
            return Err(error);
        }
        Ok(lab)
    }

    /// The lab with this id, made by another process; dropping it leaves it standing.
    pub fn attach(id: &str) -> Result<Self> {
        let dir = RunDir::open(id)?;
        let holder = dir.holder().filter(|holder| holder.alive());
        let holder = holder.ok_or_else(|| Error::new(format!("the lab {id} is dead")))?;
        let hosts =
            fs::read_to_string(dir.file("hosts")).context(|| format!("the lab {id} is not finished"))?;
        let pins = hosts.lines().filter_map(|line| {
            let (name, pid) = line.split_once(' ')?;
            Some((Host::by_name(name)?, pid.parse().ok()?))
        });
        Ok(Self {
            holder: None,
            holder_pid: holder.pid,
            pins: pins.collect(),
            options: Options { detached: true, ..Options::default() },
            started: Started::default(),
            household: Mutex::new((Household::FIRST, None)),
            dir,
        })
    }

    /// The detached labs that run now, oldest first.
    pub fn detached() -> Vec<RunDir> {
        let finished =
            |dir: &RunDir| dir.file("detached").exists() && dir.holder().is_some_and(Process::alive);
        RunDir::all().into_iter().filter(finished).collect()
    }

    /// Takes down a detached lab.
    pub fn down(dir: &RunDir) -> Result<()> {
        if let Some(holder) = dir.holder() {
            holder::kill(holder);
            wait::until("the lab's processes to end", Duration::from_secs(5), || {
                Ok((!holder.alive()).then_some(()))
            })?;
        }
        dir.remove()
    }

    /// The lab's id.
    pub fn id(&self) -> &str {
        self.dir.id()
    }

    /// A file in the lab's directory, seen by every host under the same path.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.file(name)
    }

    /// Writes a file of the lab's directory and returns its path.
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.file(name);
        fs::write(&path, text).context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }

    /// What the lab was made with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// A host, to run things in.
    pub fn host(&self, host: Host) -> Place {
        Place {
            name: host.name().to_owned(),
            pin: self.pins.get(&host).copied().unwrap_or(0),
            holder: self.holder_pid,
            cgroup: self.dir.cgroup().filter(|path| path.is_dir()),
            started: self.started.clone(),
        }
    }

    /// Runs a command in a host and returns its standard output. The line is split at blanks.
    pub fn run(&self, host: Host, line: &str) -> Result<String> {
        let mut words = line.split_whitespace();
        self.host(host).command(words.next().unwrap_or("true")).args(words).read()
    }

    /// Starts a daemon in a host; its outputs go to `NAME.log` in the lab's directory.
    pub fn start(&self, host: Host, name: &str, program: impl AsRef<Path>, args: &[&str]) -> Result<Child> {
        let command = self.host(host).command(program.as_ref()).args(args);
        command.log_to(&self.log(name))?.spawn()
    }

    /// The log file of a daemon.
    pub fn log(&self, name: &str) -> PathBuf {
        self.file(&format!("{name}.log"))
    }

    /// What a daemon has logged so far.
    pub fn read_log(&self, name: &str) -> String {
        fs::read(self.log(name)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Waits until a daemon's log has a line that contains `text`, after the first `skip` bytes.
    pub fn wait_log(&self, name: &str, text: &str, skip: usize, patience: Duration) -> Result<()> {
        let what = format!("{text:?} in the log of {name}");
        let waited = wait::until(&what, patience, || {
            Ok(self.read_log(name).get(skip..).filter(|log| log.contains(text)).map(drop))
        });
        waited.map_err(|error| {
            let log = self.read_log(name);
            let tail: Vec<&str> = log.lines().rev().take(12).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            Error::new(format!("{error}; the log ends:\n  {}", tail.join("\n  ")))
        })
    }

    /// Runs `ip -batch` commands in a host.
    pub fn batch(&self, host: Host, commands: &str) -> Result<()> {
        let place = self.host(host);
        // Only the network namespace is entered: process numbers in the batch are those of the outer namespace.
        let output = place.in_network(|| {
            let mut ip = Command::new("ip");
            ip.args(["-batch", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = ip.spawn()?;
            if let Some(mut stdin) = child.stdin.take() {
                std::io::Write::write_all(&mut stdin, commands.as_bytes())?;
            }
            child.wait_with_output()
        })??;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(Error::new(format!("ip -batch in {}: {}", host.name(), said.trim())))
    }

    /// The hosts of this lab.
    fn hosts(&self) -> impl Iterator<Item = Host> + use<> {
        let modem = self.options.modem;
        Host::ALL.into_iter().filter(move |host| modem || *host != Host::Modem)
    }

    fn build(&mut self) -> Result<()> {
        self.pin_hosts()?;
        for host in self.hosts() {
            self.batch(host, &layout::batch(host, Household::FIRST, |other| self.host(other).pin))?;
        }
        if self.options.modem {
            self.batch(Host::Inet, layout::MODEM_UPSTREAM)?;
        }
        self.start_daemons()?;
        let hosts: Vec<_> = self.pins.iter().map(|(host, pid)| format!("{} {pid}\n", host.name())).collect();
        self.write("hosts", &hosts.concat())?;
        if self.options.detached {
            self.write("detached", "")?;
        }
        Ok(())
    }

    /// Makes the hosts: one process each, that holds a network and a mount namespace and does nothing.
    fn pin_hosts(&mut self) -> Result<()> {
        let group = format!("{}{TUNNEL_GROUP}:x:{TUNNEL_GID}:\n", fs::read_to_string("/etc/group")?);
        self.write("group", &group)?;
        let base = Place {
            name: "the lab".to_owned(),
            pin: self.holder_pid,
            holder: self.holder_pid,
            cgroup: None,
            started: self.started.clone(),
        };
        let mut pins = Vec::new();
        for host in self.hosts() {
            let nameserver = match host {
                Host::Node => "127.0.0.1".to_owned(),
                Host::Client | Host::Far => layout::MESH_DNS.to_string(),
                Host::Home | Host::Modem | Host::Inet | Host::Gate => layout::AUTH4.to_string(),
            };
            self.write(&format!("resolv.{}", host.name()), &format!("nameserver {nameserver}\n"))?;
            let command = base.command("unshare").args([
                "--net",
                "--mount",
                "--propagation",
                "private",
                "sh",
                "-c",
                PIN,
            ]);
            let command = command.arg(host.name()).arg(self.dir.path());
            let command = command.stdio(Stdio::null(), Stdio::piped(), Stdio::inherit());
            pins.push((host, command.spawn()?));
        }
        for (host, mut pin) in pins {
            let mut said = [0; 6];
            let read = pin.stdout.take().map(|mut out| std::io::Read::read_exact(&mut out, &mut said));
            if !matches!(read, Some(Ok(()))) {
                return Err(Error::new(format!("the host {} did not come up", host.name())));
            }
            self.pins.insert(host, pin.id());
        }
        Ok(())
    }

    fn start_daemons(&self) -> Result<()> {
        self.nft(Host::Home, &services::masquerade("eth0"))?;
        if self.options.modem {
            self.nft(Host::Modem, &services::masquerade("eth0"))?;
        }
        self.nft(Host::Gate, &services::masquerade("eth0"))?;
        self.start_household(&self.options)?;

        let inet = self.write("inet.conf", &services::authoritative_dns(&self.options))?;
        self.start(Host::Inet, "inet", "dnsmasq", &["-C", &inet.to_string_lossy()])?;

        let (gate, node) = (Keys::generate()?, Keys::generate()?);
        let config = self.write("gate-fastd.conf", &fastd::gate_config(&gate, &node))?;
        self.start(Host::Gate, "gate-fastd", "fastd", &["-c", &config.to_string_lossy()])?;
        let up = self.write("mesh-up.sh", &fastd::up_script())?;
        fs::set_permissions(&up, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        for start in [fastd::Start::InGroup, fastd::Start::Plain, fastd::Start::Exec] {
            let config = fastd::node_config(&node, &gate, start, &up);
            self.write(&format!("node-fastd-{start:?}.conf"), &config)?;
        }

        let mesh = self.write("mesh.conf", &services::mesh_dns(&self.file("mesh.leases")))?;
        self.start(Host::Gate, "mesh", "dnsmasq", &["-C", &mesh.to_string_lossy()])?;
        let program = holder::program()?;
        for host in [Host::Far, Host::Inet] {
            let name = format!("serve-{}", host.name());
            self.start(host, &name, &program, &["serve"])?;
            self.wait_log(&name, "serving", 0, PATIENCE)?;
        }
        self.wait_log("inet", "started, version", 0, PATIENCE)?;
        self.wait_log("mesh", "started, version", 0, PATIENCE)?;
        wait::until("the gateway's mesh device in its bridge", PATIENCE, || {
            let links = self.run(Host::Gate, "ip -o link show master mesh")?;
            Ok(links.contains(TUNNEL_DEVICE).then_some(()))
        })
    }

    fn nft(&self, host: Host, ruleset: &str) -> Result<()> {
        let file = self.write(&format!("nat.{}", host.name()), ruleset)?;
        self.run(host, &format!("nft -f {}", file.display())).map(drop)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let Some(holder) = self.holder.as_mut().filter(|_| !self.options.detached) else { return };
        let started = self.started.clone();
        holder.end(|| started.reap());
        if std::env::var_os("NARROWGATE_LAB_KEEP").is_none() {
            let _ = self.dir.remove();
        }
    }
}

/// How long a daemon of the lab may take to start on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// What a host's first process does: `$0` is the host's name, `$1` the lab's directory. `/sys` is mounted anew, since
/// it shows the network devices of its mounter's namespace; the cgroups stay visible as they are outside.
const PIN: &str = r#"set -e
mkdir -p /mnt
mount -t tmpfs -o mode=755 lab /mnt
mkdir /mnt/lab /mnt/cgroup /mnt/run
mount --bind "$1" /mnt/lab
mount --rbind /sys/fs/cgroup /mnt/cgroup
mount -t sysfs sysfs /sys
mount --rbind /mnt/cgroup /sys/fs/cgroup
mount -t tmpfs -o mode=755 run /mnt/run
mkdir -p "/mnt/run/${1#/run/}" /mnt/run/netns /mnt/run/lock
mount --bind "$1" "/mnt/run/${1#/run/}"
mount --rbind /mnt/run /run
umount -l /mnt
mount --bind "$1/resolv.$0" "$(readlink -f /etc/resolv.conf)"
mount --bind "$1/group" /etc/group
mount -t proc proc /proc
echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad
echo "0 2147483647" >/proc/sys/net/ipv4/ping_group_range
case $0 in
home|modem|inet|gate|node)
	echo 1 >/proc/sys/net/ipv4/ip_forward
	echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
esac
echo ready
exec sleep infinity"#;
