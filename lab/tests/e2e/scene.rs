//! The usual scene: a lab with a capture, a daemon, a fastd; and the questions that every test asks.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use narrowgate_lab::daemon::Running;
use narrowgate_lab::demo::config;
use narrowgate_lab::fastd::Start;
use narrowgate_lab::layout::{FAR_NAME, FAR4, FAR6, GATE_NAME, WAN};
use narrowgate_lab::{Capture, Host, Lab, Options, holder, wait};

/// What is dropped first stands first.
pub struct Scene {
    pub fastd: Option<Running>,
    pub daemon: Running,
    /// An ssh server's stand-in on port 22, which the household may reach, and a web server, which it may not.
    pub _server: Running,
    pub capture: Capture,
    pub lab: Lab,
}

/// How long something that is not timed may take on a busy machine.
pub const SOON: Duration = Duration::from_secs(10);
/// How long the daemon may take to be READY: far less than any wait for a network; the milliseconds are the demo's to tell.
pub const READY: Duration = Duration::from_secs(2);
/// How long silence is listened to before it counts as silence.
pub const SILENCE: Duration = Duration::from_millis(300);

impl Scene {
    /// A lab with the daemon, READY; no fastd.
    pub fn ready(options: Options) -> Self {
        Self::with(Lab::new(options).unwrap())
    }

    /// The same in a lab that is there already.
    pub fn with(lab: Lab) -> Self {
        Self::with_config(lab, &config())
    }

    /// The same with another configuration.
    pub fn with_config(lab: Lab, config: &str) -> Self {
        let capture = Capture::open(&lab).unwrap();
        let server = lab.host(Host::Node).command(holder::program().unwrap()).args(["serve", "22", "80"]);
        let server = server.log_to(&lab.log("node-serve")).unwrap().spawn().unwrap();
        let server = Running::adopt("node-serve", server);
        lab.wait_log("node-serve", "serving", 0, SOON).unwrap();
        let (daemon, _) = lab.start_narrowgate(config).unwrap();
        Self { fastd: None, daemon, _server: server, capture, lab }
    }

    /// The uplink has an address of each family that the household gives; no fastd.
    pub fn uplink_up(options: Options) -> Self {
        let scene = Self::ready(options);
        scene.wait_addresses();
        scene
    }

    /// The tunnel stands, and the mesh's default route too.
    pub fn tunnel_up(options: Options) -> Self {
        let mut scene = Self::uplink_up(options);
        scene.start_fastd(Start::InGroup);
        scene.wait_mesh();
        scene
    }

    /// Starts fastd and waits for its tunnel; returns the moment.
    pub fn start_fastd(&mut self, start: Start) -> Instant {
        let fastd = self.lab.start_fastd(start).unwrap();
        let moment = self.lab.wait_tunnel(&fastd, SOON);
        let moment = moment.unwrap_or_else(|error| panic!("{error}\n{}", self.log()));
        self.fastd = Some(fastd);
        moment
    }

    /// Waits until the WAN has its addresses.
    pub fn wait_addresses(&self) {
        let waited = wait::until("the WAN's addresses", SOON, || {
            let families = self.lab.options().household;
            let addresses = self.addresses();
            let v4 = addresses.iter().any(IpAddr::is_ipv4) || !families.v4();
            let v6 = addresses.iter().any(IpAddr::is_ipv6) || !families.v6();
            Ok((v4 && v6).then_some(()))
        });
        waited.unwrap_or_else(|error| panic!("{error}\n{}", self.log()));
    }

    /// Waits until the mesh is reached, and has given its default route.
    pub fn wait_mesh(&self) {
        self.wait_mesh_within(SOON);
    }

    /// The same, where fastd itself may need longer.
    pub fn wait_mesh_within(&self, patience: Duration) {
        let waited = wait::until("the mesh", patience, || {
            let answer = self.lab.host(Host::Node).ping(FAR6.into(), None, Duration::from_millis(500));
            let route = self.lab.run(Host::Node, "ip -6 route show default dev mesh-vpn")?;
            Ok((answer.is_ok() && route.contains("via")).then_some(()))
        });
        waited.unwrap_or_else(|error| panic!("{error}\n{}", self.log()));
    }

    /// The global addresses of the WAN.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let text = self
            .lab
            .run(Host::Node, &format!("ip -o addr show dev {} scope global", WAN.0))
            .unwrap_or_default();
        let mut found = Vec::new();
        for line in text.lines().filter(|line| !line.contains("deprecated") && !line.contains("tentative")) {
            let address = line.split_whitespace().skip_while(|word| !word.starts_with("inet")).nth(1);
            found.extend(address.and_then(|address| address.split('/').next()?.parse::<IpAddr>().ok()));
        }
        found
    }

    /// Sends every kind of probe; none may be seen on the cable.
    pub fn assert_no_leak(&self, when: &str) {
        let results = self.lab.probe_all(&self.capture).unwrap();
        assert!(results.len() > 30, "the probes were not sent: {results:?}");
        self.capture.assert_no_leak(when).unwrap_or_else(|error| panic!("{error}\n{}", self.log()));
    }

    /// What must work whenever the uplink is up: marked packets, and ssh and ping from the household, of each family.
    pub fn assert_uplink_works(&self, when: &str) {
        let network = self.lab.network();
        let node = self.lab.host(Host::Node);
        let families = self.lab.options().household;
        let mut routers: Vec<IpAddr> = Vec::new();
        routers.extend(families.v4().then_some(IpAddr::from(network.router4)));
        routers.extend(families.v6().then_some(IpAddr::from(network.router6)));
        // A ping is no tunnel's packet: the sorter would call it a leak, so this is asked of the router over DNS.
        for router in routers {
            let server = SocketAddr::new(router, 53);
            // An address that is still optimistic finds no on-link neighbour (EINVAL), and what waits for one may be dropped.
            let ask = || Ok(node.ask_marked(server, GATE_NAME, 1, Duration::from_secs(1)).ok());
            let asked = wait::until("an answer from the router", SOON, ask);
            asked.unwrap_or_else(|error| panic!("marked, {when}: {error}\n{}", self.log()));
        }
        let home = self.lab.host(Host::Home);
        for address in self.addresses() {
            let pinged = home.ping(address, None, SOON);
            pinged.unwrap_or_else(|error| panic!("ping from the household, {when}: {error}\n{}", self.log()));
            let page = home.http(SocketAddr::new(address, 22), SOON);
            page.unwrap_or_else(|error| panic!("ssh from the household, {when}: {error}\n{}", self.log()));
        }
    }

    /// The WAN resolver finds the gateway.
    pub fn assert_wan_dns_works(&self, when: &str) {
        let node = self.lab.host(Host::Node);
        for server in ["127.0.0.1:54", "[::1]:54"] {
            let asked = node.ask_until(server.parse().unwrap(), GATE_NAME, self.gate_v6(), SOON);
            asked.unwrap_or_else(|error| panic!("{when}: {error}\n{}", self.log()));
        }
    }

    /// The mesh is reached, and its DNS answers.
    pub fn assert_mesh_works(&self, when: &str) {
        let node = self.lab.host(Host::Node);
        for far in [IpAddr::from(FAR6), FAR4.into()] {
            let pinged = node.ping(far, None, SOON);
            pinged.unwrap_or_else(|error| panic!("{when}: {error}\n{}", self.log()));
        }
        let resolver = SocketAddr::from(([127, 0, 0, 1], 53));
        let asked = node.ask_until(resolver, FAR_NAME, true, SOON);
        assert_eq!(
            asked.unwrap_or_else(|error| panic!("{when}: {error}\n{}", self.log())),
            [IpAddr::from(FAR6)]
        );
    }

    /// Whether the gateway's name has an IPv6 address and no other.
    fn gate_v6(&self) -> bool {
        !self.lab.options().gate_name.v4()
    }

    /// The daemon's log, for a failed test.
    pub fn log(&self) -> String {
        format!("the daemon's log:\n{}", self.lab.read_log("narrowgate"))
    }
}
