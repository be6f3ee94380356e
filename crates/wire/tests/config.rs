//! The config file: defaults, every mistake at its place, and nothing passed over in silence.

use narrowgate_model::config::{
    Config, Group, Host, Inbound, Peer, ProviderKind, Resolver, Tunnel, Uplink, Via,
};
use narrowgate_model::{Mark, Server};
use narrowgate_wire::config::{notes, read, summary};
use proptest::prelude::*;
use std::net::SocketAddr;

const CONTRACT: &str = "
config narrowgate 'globals'
	option mark '0x1/0x1'
	option table '1'

config uplink 'wan'
	option device 'eth0'
	option provider 'builtin'        # auto, builtin, netifd, networkd, static
	list interface 'wan'             # netifd only: its logical interfaces
	list dns '192.0.2.53'            # overrides what is learnt

config tunnel 'mesh_vpn'
	option group 'gluon-mesh-vpn'    # name or number
	option device 'mesh-vpn'
	list peer 'vpn.example.net:10000'

config resolver 'wan'
	list listen '127.0.0.1:54'
	list listen '[::1]:54'
	option via 'uplink'              # sends marked, to the uplinks' servers

config resolver 'mesh'               # off unless written: for a host without a first DNS daemon
	list listen '127.0.0.1:53'
	list server 'fd42::1'            # option via 'mesh', the default here: unmarked
";

const UPLINK: &str = "config uplink 'wan'\n\toption device 'eth0'\n";

fn fine(text: &str) -> Config {
    match read("narrowgate", text, None) {
        Ok(config) => config,
        Err(problems) => panic!("{text}\n{problems:#?}"),
    }
}

/// The lines that `check` would print.
fn refused(text: &str) -> Vec<String> {
    let problems = read("F", text, None).expect_err(text);
    problems.iter().map(ToString::to_string).collect()
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn server(text: &str) -> Server {
    text.parse().unwrap()
}

#[test]
fn the_contracts_example_is_read_as_it_says() {
    let wanted = Config {
        mark: Mark { value: 1, mask: 1 },
        table: 1,
        rule_priority: Config::RULE_PRIORITY,
        strict: false,
        uplinks: vec![Uplink {
            provider: ProviderKind::Builtin,
            interfaces: vec!["wan".into()],
            dns: vec![server("192.0.2.53")],
            ..Uplink::new("wan", "eth0")
        }],
        tunnels: vec![Tunnel {
            name: "mesh_vpn".into(),
            group: Some(Group::Name("gluon-mesh-vpn".into())),
            device: Some("mesh-vpn".into()),
            peers: vec![Peer { host: Host::Name("vpn.example.net".into()), port: Some(10000) }],
            cgroup: None,
        }],
        resolvers: vec![
            Resolver::default_wan(),
            Resolver {
                name: "mesh".into(),
                via: Via::Mesh,
                listen: vec![addr("127.0.0.1:53")],
                servers: vec![server("fd42::1")],
                cache: 0,
            },
        ],
    };
    assert_eq!(fine(CONTRACT), wanted);
}

#[test]
fn an_uplink_and_a_tunnel_are_enough() {
    let config = fine(&format!("{UPLINK}config tunnel 'vpn'\n\toption group '800'\n"));
    let tunnel =
        Tunnel { name: "vpn".into(), group: Some(Group::Id(800)), device: None, peers: vec![], cgroup: None };
    assert_eq!(
        config,
        Config { uplinks: vec![Uplink::new("wan", "eth0")], tunnels: vec![tunnel], ..Config::default() }
    );
}

#[test]
fn everything_that_can_be_written_is_read() {
    let config = fine(
        "
config narrowgate
	option mark '0x10/0xf0'
	option table '0x200'
	option priority '99'
	option strict 'yes'
config uplink
	option device 'eth1.7'
	option provider 'static'
	list address '192.0.2.2/24'
	list address '2001:db8::2/64'
	list gateway '192.0.2.1'
	list gateway 'fe80::1'
	list dns 'fe80::1'
	list dns '[2001:db8::53]:5353'
	option inbound 'ping tcp/2222 udp/161'
	option metric '7'
config uplink 'cellular'
	option device wwan0
	list inbound none
config tunnel
	option cgroup '/system.slice/vpn.service/'
	option peer 'A.example.NET. [2001:db8::1]:1194 2001:db8::2 192.0.2.9 192.0.2.9:7 b.example:10'
config resolver 'wan'
	list listen '127.0.0.53'
	list listen '::1'
	option cache '65536'
config resolver
	option via mesh
	list server '127.0.0.1:5300'
",
    );
    assert_eq!(config.mark, Mark { value: 0x10, mask: 0xf0 });
    assert_eq!((config.table, config.rule_priority, config.strict), (0x200, 99, true));
    let [first, second] = config.uplinks.as_slice() else { panic!("{config:#?}") };
    assert_eq!((first.name.as_str(), first.provider, first.metric), ("eth1.7", ProviderKind::Static, 7));
    assert_eq!(
        first.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["192.0.2.2/24", "2001:db8::2/64"]
    );
    assert_eq!(first.gateways.iter().map(ToString::to_string).collect::<Vec<_>>(), ["192.0.2.1", "fe80::1"]);
    assert_eq!(first.dns, [server("fe80::1%eth1.7"), server("[2001:db8::53]:5353")]);
    assert_eq!(first.inbound, [Inbound::Ping, Inbound::Tcp(2222), Inbound::Udp(161)]);
    assert_eq!((second.name.as_str(), second.inbound.as_slice()), ("cellular", &[][..]));
    let tunnel = &config.tunnels[0];
    assert_eq!(
        (tunnel.name.as_str(), tunnel.cgroup.as_deref()),
        ("tunnel", Some("/system.slice/vpn.service"))
    );
    let peers: Vec<(String, Option<u16>)> = tunnel
        .peers
        .iter()
        .map(|p| match &p.host {
            Host::Name(name) => (name.clone(), p.port),
            Host::Addr(addr) => (addr.to_string(), p.port),
        })
        .collect();
    let wanted = [
        ("a.example.net", None),
        ("2001:db8::1", Some(1194)),
        ("2001:db8::2", None),
        ("192.0.2.9", None),
        ("192.0.2.9", Some(7)),
        ("b.example", Some(10)),
    ];
    assert_eq!(peers, wanted.map(|(host, port)| (host.to_owned(), port)));
    let [wan, mesh] = config.resolvers.as_slice() else { panic!("{config:#?}") };
    assert_eq!((wan.via, wan.cache), (Via::Uplink, 65536));
    assert_eq!(wan.listen, [addr("127.0.0.53:54"), addr("[::1]:54")]);
    assert_eq!((mesh.via, mesh.listen.as_slice()), (Via::Mesh, &[addr("127.0.0.1:53")][..]));
}

#[test]
fn every_boolean_of_uci_is_known() {
    for (words, meant) in
        [(["1", "true", "on", "yes", "enabled"], true), (["0", "false", "off", "no", "disabled"], false)]
    {
        for word in words {
            let text = format!("config narrowgate\n\toption strict {word}\n{UPLINK}");
            assert_eq!(fine(&text).strict, meant, "{word}");
        }
    }
    assert_eq!(refused(&format!("config narrowgate\n\toption strict maybe\n{UPLINK}")).len(), 1);
}

#[test]
fn a_server_may_be_on_this_host() {
    let config =
        fine(&format!("{UPLINK}\tlist dns '127.0.0.1:853'\nconfig resolver 'wan'\n\tlist server '::1'\n"));
    assert_eq!(
        (&config.uplinks[0].dns[0], &config.resolvers[0].servers[0]),
        (&server("127.0.0.1:853"), &server("::1"))
    );
}

#[test]
fn an_empty_option_is_none() {
    let config = fine(&format!("{UPLINK}\toption provider ''\n\toption metric ''\n\toption dns ''\n"));
    assert_eq!(config.uplinks, [Uplink::new("wan", "eth0")]);
}

#[test]
fn a_mistake_is_told_in_one_line_with_place_reason_and_mend() {
    let text =
        format!("{UPLINK}config tunnel 'vpn'\n\toption grop 'gluon-mesh-vpn'\n\toption device 'vpn'\n");
    assert_eq!(
        refused(&text),
        ["F:4:9: option `grop`: a section of type tunnel has none of this name; did you mean `group`?"]
    );
}

#[test]
fn every_wrong_value_is_refused_at_its_place() {
    let cases: &[(&str, &str, &[&str])] = &[
        ("narrowgate", "option mark", &["0", "x", "2/1", "4294967296", "-1", "1/0"]),
        (
            "narrowgate",
            "option table",
            &["0", "253", "254", "255", "0xfe", "main", "local", "default", "x", "-1", "4294967296", "1.0"],
        ),
        ("narrowgate", "option priority", &["0", "32766", "x", "-1"]),
        (
            "uplink",
            "option device",
            &["a/b", "a b", "sixteen_letters_", "lo", "all", "@wan", "..", "a:1", "eth0\x7f"],
        ),
        ("uplink", "option provider", &["dhcp", "Builtin", "nmcli"]),
        ("uplink", "list interface", &["", "wan/6", "w an"]),
        (
            "uplink",
            "list dns",
            &["", "dns.example.net", "192.0.2.1:0", "192.0.2.300", "::", "ff02::1", "1.1.1.1 9.9.9.9"],
        ),
        (
            "uplink",
            "list inbound",
            &["", "http", "tcp/0", "tcp/65536", "tcp/", "tcp", "icmp/1", "SSH", "udp/x"],
        ),
        ("uplink", "option metric", &["0", "-1", "x"]),
        (
            "uplink",
            "list address",
            &["", "192.0.2.2/33", "0.0.0.0/8", "127.0.0.1/8", "x", "192.0.2.2/0", "224.0.0.1/4"],
        ),
        ("uplink", "list gateway", &["", "x", "0.0.0.0", "ff02::2", "192.0.2.1/24"]),
        ("tunnel", "option group", &["root", "0", "a b", "-x", "4294967295", "99999999999", "a/b"]),
        ("tunnel", "option device", &["a/b", "lo"]),
        (
            "tunnel",
            "list peer",
            &[
                "",
                "host:0",
                "host:x",
                "host:65536",
                ":10",
                "[::1",
                "[x]:1",
                "a..b",
                "-a.b",
                "a-.b",
                "a b",
                "http://a/",
                "192.0.2.300",
                "192.0.2:7",
                "bücher.example",
                "127.0.0.1",
                "::1",
                "0.0.0.0:7",
                "[192.0.2.1]:7",
                ".",
            ],
        ),
        ("tunnel", "option cgroup", &["vpn", "/", "/a/../b", "/a//b", "/./a", "//"]),
        (
            "resolver",
            "list listen",
            &[
                "",
                "0.0.0.0:54",
                "[::]:54",
                "192.0.2.1:54",
                "::",
                "127.0.0.1:0",
                "127.0.0.1:x",
                "localhost:54",
                "::1:54",
                "[fe80::1%lo]:54",
                ":54",
                "54",
                "::ffff:127.0.0.1",
            ],
        ),
        ("resolver", "option via", &["wan", "Uplink", "tunnel"]),
        ("resolver", "list server", &["", "x", "fd42::1#0", "0.0.0.0"]),
        ("resolver", "option cache", &["-1", "x", "64k", "99999999999", "67108865"]),
    ];
    for (kind, setting, values) in cases {
        for value in *values {
            // Everything else is right, so that one problem is left.
            let around = match (*kind, setting.split(' ').nth(1).unwrap()) {
                ("narrowgate", _) => format!("config narrowgate\n\t{setting} '{value}'\n{UPLINK}"),
                ("uplink", "device") => format!("config uplink 'wan'\n\toption device '{value}'\n"),
                ("uplink", "address") => {
                    format!(
                        "config uplink 'wan'\n\t{setting} '{value}'\n\toption device 'eth0'\n\toption provider 'static'\n"
                    )
                }
                ("uplink", "gateway") => format!(
                    "config uplink 'wan'\n\t{setting} '{value}'\n\toption device 'eth0'\n\toption provider 'static'\n\tlist address '192.0.2.2/24'\n"
                ),
                ("uplink", _) => {
                    format!("config uplink 'wan'\n\t{setting} '{value}'\n\toption device 'eth0'\n")
                }
                ("resolver", "server" | "via") => {
                    format!("config resolver 'x'\n\t{setting} '{value}'\n\tlist server 'fd42::1'\n{UPLINK}")
                }
                _ => format!("config {kind} 'wan'\n\t{setting} '{value}'\n{UPLINK}"),
            };
            let lines = refused(&around);
            assert_eq!(lines.len(), 1, "{kind} {setting} {value:?}: {lines:#?}");
            let column = 2 + setting.len() + 1;
            assert!(
                lines[0].starts_with(&format!("F:2:{column}: ")),
                "{kind} {setting} {value:?}: {lines:?}"
            );
            assert!(lines[0].contains("; "), "{lines:?}");
            assert!(!lines[0].chars().any(char::is_control), "{lines:?}");
        }
    }
}

#[test]
fn what_contradicts_itself_is_refused() {
    for (text, place, part) in [
        ("", "1:1", "no uplink"),
        ("config tunnel 'vpn'\n\toption group 'vpn'\n", "1:1", "no uplink"),
        ("config uplink 'wan'\n", "1:8", "device is missing"),
        (
            "config uplink 'a'\n\toption device 'eth0'\nconfig uplink 'b'\n\toption device 'eth0'\n",
            "3:8",
            "line 1 is on the same device eth0",
        ),
        (
            "config uplink 'eth1'\n\toption device 'eth0'\nconfig uplink\n\toption device 'eth1'\n",
            "3:8",
            "another of this name",
        ),
        (
            "config uplink 'a'\n\toption device 'eth0'\nconfig tunnel 'b'\n\toption device 'eth0'\n",
            "3:8",
            "nothing can be both",
        ),
        ("config uplink 'a'\n\toption device 'eth0'\nconfig tunnel 'b'\n", "3:8", "neither group"),
        ("config uplink 'a'\n\toption device 'eth0'\n\toption device 'eth0'\n", "3:9", "line 2 already"),
        ("config uplink 'a'\n\tlist device 'eth0'\n", "2:7", "one value"),
        (
            "config uplink 'a'\n\toption device 'eth0'\n\toption dns '192.0.2.1'\n\tlist dns '192.0.2.2'\n",
            "4:7",
            "line 3 already",
        ),
        ("config uplink 'a'\n\toption device 'eth0'\n\tlist dns 192.0.2.1#53\n", "3:11", "a comment begins"),
        ("config uplink 'a'\n\toption device 'eth0\n'\n", "2:16", "closing quote"),
        (
            "config uplink 'a'\n\toption device 'eth0'\n\toption provider 'static'\n",
            "1:8",
            "knows no address",
        ),
        (
            "config uplink 'a'\n\toption device 'eth0'\n\tlist address '192.0.2.2/24'\n",
            "3:7",
            "only the provider `static`",
        ),
        (
            "config uplink 'a'\n\toption device 'eth0'\n\tlist gateway '192.0.2.1'\n",
            "3:7",
            "only the provider `static`",
        ),
        (
            "config uplink 'a'\n\toption device 'eth0'\n\toption provider 'static'\n\tlist address '192.0.2.2/24'\n\tlist gateway 'fe80::1'\n",
            "5:7",
            "no address of this family",
        ),
        (
            "config uplink 'a'\n\toption device 'eth0'\n\tlist dns 'fe80::1%eth1'\n",
            "3:7",
            "not this uplink's device",
        ),
        (
            "config uplink 'a'\n\toption device 'eth0'\n\tlist inbound 'none'\n\tlist inbound 'ssh'\n",
            "3:7",
            "`none` together",
        ),
        ("config uplink 'a'\n\toption device 'eth0'\nconfig resolver 'mesh'\n", "3:8", "none is written"),
        (
            "config uplink 'a'\n\toption device 'eth0'\nconfig resolver 'x'\n\tlist listen '127.0.0.1:54'\n\tlist server 'fd42::1'\n",
            "3:8",
            "there unless written",
        ),
        (
            "config uplink 'a'\n\toption device 'eth0'\nconfig resolver 'wan'\nconfig resolver 'x'\n\tlist listen '127.0.0.1:54'\n\tlist server 'fd42::1'\n",
            "4:8",
            "resolver of line 3",
        ),
        (
            "config uplink 'a'\n\toption device 'eth0'\nconfig resolver 'x'\n\tlist server '127.0.0.1'\n",
            "3:8",
            "the resolver itself",
        ),
        (
            "config uplink 'a'\n\toption device 'eth0'\n\tlist dns '127.0.0.1:54'\n",
            "1:8",
            "the resolver itself",
        ),
        (
            "config uplink 'a'\n\toption device 'eth0'\nconfig resolver 'wan'\n\tlist server '::1#54'\n",
            "3:8",
            "the resolver itself",
        ),
        (
            "config uplink 'a'\n\toption device 'eth0'\nconfig resolver 'x'\n\tlist server 'fe80::1'\n",
            "3:8",
            "without its device",
        ),
        (
            "config uplink 'a'\n\toption device 'eth0'\nconfig narrowgate 'a'\nconfig narrowgate 'b'\n",
            "4:8",
            "second section",
        ),
        (
            "config uplink 'a'\n\toption device 'eth0'\nconfig narrowgate\n\toption strict 1\nconfig tunnel 'vpn'\n\toption group 'vpn'\n",
            "5:8",
            "no peer",
        ),
        ("config uplnik 'a'\n", "1:8", "section type `uplnik`"),
        ("config uplink 'a'\n\toption device 'eth0'\n\toption enabled '0'\n", "3:9", "none of this name"),
    ] {
        let lines = refused(text);
        assert_eq!(lines.len(), 1, "{text}: {lines:#?}");
        assert!(
            lines[0].starts_with(&format!("F:{place}: ")) && lines[0].contains(part),
            "{text}: {lines:#?}"
        );
    }
}

#[test]
fn all_mistakes_are_told_in_the_order_of_their_places() {
    let text = "config resolver 'x'\n\tlist listen '0.0.0.0:1'\n\tlist server 'fd42::1'\nconfig uplink 'a'\n\toption device 'lo'\n\
                \toption bad\n\toptoin x\nconfig tunnel\n\tlist peer 'a..b'\n\tlist peer ':'\n";
    let lines = refused(text);
    let places: Vec<&str> = lines.iter().map(|l| l.split(": ").next().unwrap()).collect();
    assert_eq!(places, ["F:2:14", "F:5:16", "F:6:2", "F:7:2", "F:9:12", "F:10:12"], "{lines:#?}");
}

#[test]
fn what_is_refused_is_not_called_missing_too() {
    for text in [
        "config uplink 'wan'\n\toption device 'eth0\n",
        "config uplink 'wan'\n\toption device\n",
        "config uplink 'wan'\n\toption device 'eth0'\nconfig tunnel\n\toption group\n",
        "config uplink 'wan'\n\toption device 'eth0'\nconfig resolver 'mesh'\n\tlist server\n",
        "config uplink 'wan'\n\toption device 'eth0'\n\toption provider 'static'\n\tlist address\n",
        "config uplink 'wan'\n\toption device 'lo'\nconfig tunnel\n\toption group 'vpn'\n",
    ] {
        assert_eq!(refused(text).len(), 1, "{text}: {:#?}", refused(text));
    }
}

#[test]
fn a_repeated_section_may_override_itself() {
    let config = fine(&format!("{UPLINK}\toption metric 3\nconfig uplink 'wan'\n\toption metric 5\n"));
    assert_eq!((config.uplinks.len(), config.uplinks[0].metric), (1, 5));
}

#[test]
fn gluons_own_file_is_honoured() {
    let gluon = "config static\n\tlist server '192.0.2.1'\n\tlist server 'fe80::1'\nconfig static\n\tlist server '192.0.2.9'\n";
    let with = |text: &str, gluon: &str| read("F", text, Some(("G", gluon)));
    let config = with(UPLINK, gluon).unwrap();
    assert_eq!(config.resolvers[0].servers, [server("192.0.2.1"), server("fe80::1%eth0")]);
    // What the config itself says comes first, and the mesh's resolver has nothing to do with it.
    let own = format!(
        "{CONTRACT}config resolver 'other'\n\toption via 'uplink'\n\toption listen '127.0.0.2'\n\tlist server '192.0.2.7'\n"
    );
    let config = with(&own, gluon).unwrap();
    let servers: Vec<Vec<String>> =
        config.resolvers.iter().map(|r| r.servers.iter().map(ToString::to_string).collect()).collect();
    assert_eq!(servers, [vec!["192.0.2.1", "fe80::1%eth0"], vec!["fd42::1"], vec!["192.0.2.7"]]);
    // As Gluon ships it: nothing in it.
    for empty in [
        "",
        "\nconfig static\n",
        "config static 'x'\n\toption server ''\n",
        "config other\n\tlist server 'x'\n",
    ] {
        assert_eq!(with(UPLINK, empty).unwrap(), fine(UPLINK), "{empty:?}");
    }
    let itself = with(UPLINK, "config static\n\tlist server '127.0.0.1#54'\n").unwrap_err();
    assert!(itself.len() == 1 && itself[0].message.contains("the resolver itself"), "{itself:?}");
    let lines: Vec<String> = with(UPLINK, "config static\n\tlist server 'dns.example'\n\toptoin\n")
        .unwrap_err()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert!(lines.len() == 2 && lines.iter().all(|l| l.starts_with("G:")), "{lines:#?}");
}

#[test]
fn names_that_only_narrowgate_can_tell_apart_are_noted() {
    let found = notes("F", CONTRACT);
    assert_eq!(found.iter().map(|n| (n.line, n.column)).collect::<Vec<_>>(), [(17, 17)]);
    assert!(notes("F", UPLINK).is_empty());
}

#[test]
fn a_fine_config_is_summed_up_in_one_line() {
    assert_eq!(
        summary(&fine(CONTRACT)),
        "1 uplink (wan on eth0), 1 tunnel (mesh_vpn to vpn.example.net), \
         2 resolvers (wan on 127.0.0.1:54 [::1]:54, mesh on 127.0.0.1:53)"
    );
    assert_eq!(
        summary(&fine(UPLINK)),
        "1 uplink (wan on eth0), no tunnel, 1 resolver (wan on 127.0.0.1:54 [::1]:54)"
    );
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in any::<String>(), gluon in any::<String>()) {
        sane(&text, &gluon)?;
    }

    #[test]
    fn any_change_of_a_character_is_read_or_refused(at in any::<prop::sample::Index>(), to in any::<char>()) {
        let mut text: Vec<char> = CONTRACT.chars().collect();
        let at = at.index(text.len());
        text[at] = to;
        sane(&text.into_iter().collect::<String>(), "")?;
    }

    #[test]
    fn any_settings_are_read_or_refused(
        settings in proptest::collection::vec(
            (
                prop::sample::select(vec!["option", "list"]),
                prop::sample::select(vec![
                    "mark", "table", "priority", "strict", "device", "provider", "interface", "dns", "inbound", "metric", "address", "gateway",
                    "group", "peer", "cgroup", "listen", "via", "server", "cache",
                ]),
                prop_oneof![
                    "[^']{0,12}",
                    prop::sample::select(vec!["1", "eth0", "static", "fe80::1", "192.0.2.1/24", "[::1]:54", "127.0.0.1:53", "none", "uplink", "/a"])
                        .prop_map(str::to_owned),
                ],
            ),
            0..12,
        )
    ) {
        let mut text = String::new();
        for kind in ["narrowgate", "uplink", "tunnel", "resolver"] {
            text.push_str(&format!("config {kind}\n"));
            for (command, name, value) in &settings {
                text.push_str(&format!("\t{command} {name} '{value}'\n"));
            }
        }
        sane(&text, &text.replace("config resolver", "config static"))?;
    }
}

/// What is read obeys the config's promises, what is refused lies in the text, in order, in one line each.
fn sane(text: &str, gluon: &str) -> Result<(), TestCaseError> {
    match read("F", text, Some(("G", gluon))) {
        Ok(config) => {
            prop_assert!(!config.uplinks.is_empty());
            prop_assert!(config.uplink_resolvers().next().is_some());
            prop_assert!(config.resolvers.iter().all(|r| r.listen.iter().all(|l| l.ip().is_loopback())));
            prop_assert!(!matches!(config.table, 0 | 253..=255));
            prop_assert!(!summary(&config).contains('\n'));
        }
        Err(problems) => {
            prop_assert!(!problems.is_empty());
            for p in &problems {
                let source = if p.file == "F" { text } else { gluon };
                let length = source.split('\n').nth(p.line as usize - 1).map(|l| l.chars().count());
                prop_assert!(length.is_some_and(|l| p.column as usize <= l + 1), "{p:?}");
                prop_assert!(!p.to_string().chars().any(char::is_control), "{p:?}");
            }
            let key = |p: &narrowgate_wire::config::Problem| (p.file.clone(), p.line, p.column);
            prop_assert!(problems.is_sorted_by_key(key));
        }
    }
    Ok(())
}
