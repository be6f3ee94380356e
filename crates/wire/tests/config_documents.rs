//! The examples and the manual page say what the program does.

use narrowgate_model::config::{Config, Group, ProviderKind, Resolver, Tunnel, Uplink, Via};
use narrowgate_wire::config::{notes, read};

const NODE: &str = include_str!("../../../docs/examples/node.conf");
const MINIMAL: &str = include_str!("../../../docs/examples/minimal.conf");
const GLUON: &str = include_str!("../../../docs/examples/gluon.conf");
const MANUAL: &str = include_str!("../../../docs/man/narrowgate-config.5");

#[test]
fn the_minimal_example_has_all_defaults() {
    let tunnel = Tunnel {
        name: "vpn".into(),
        group: Some(Group::Name("gluon-mesh-vpn".into())),
        device: None,
        peers: vec![],
        cgroup: None,
    };
    let uplinks = vec![Uplink::new("wan", "eth0")];
    assert_eq!(fine(MINIMAL), Config { uplinks, tunnels: vec![tunnel], ..Config::default() });
    assert_eq!(notes("F", MINIMAL), []);
}

#[test]
fn the_nodes_example_is_read_as_it_says() {
    let config = fine(NODE);
    assert!(config.strict);
    let uplinks: Vec<_> = config.uplinks.iter().map(|u| (u.device.as_str(), u.provider, u.metric)).collect();
    assert_eq!(uplinks, [("eth0", ProviderKind::Builtin, 512), ("eth1", ProviderKind::Static, 600)]);
    assert_eq!(config.peer_names().collect::<Vec<_>>(), ["vpn1.example.net", "vpn2.example.net"]);
    assert_eq!(config.resolvers[0], Resolver::default_wan());
    let mesh = &config.resolvers[1];
    assert_eq!(
        (mesh.via, mesh.servers.as_slice(), mesh.cache),
        (Via::Mesh, &["fd42::1".parse().unwrap()][..], 65536)
    );
    assert_eq!(notes("F", NODE), []);
}

#[test]
fn the_gluon_example_is_read_as_it_says_and_by_uci_too() {
    let config = fine(GLUON);
    assert_eq!(config.uplinks[0].interfaces, ["wan", "wan6"]);
    assert_eq!(config.uplinks[1].interfaces, ["cellular", "cellular_4"]);
    assert!(config.uplinks.iter().all(|u| u.provider == ProviderKind::Netifd));
    assert_eq!(config.resolvers, [Resolver::default_wan()]);
    assert_eq!(notes("F", GLUON), []);
}

#[test]
fn the_manuals_examples_are_fine() {
    let blocks =
        MANUAL.split(".Bd -literal").skip(1).filter_map(|b| b.split_once('\n')?.1.split(".Ed").next());
    let examples: Vec<&str> = blocks.filter(|b| b.starts_with("config uplink")).collect();
    assert_eq!(examples.len(), 3);
    for example in examples {
        assert_eq!(fine(example).tunnels.len(), 1);
        assert_eq!(notes("F", example), []);
    }
}

/// Every option that the reader takes has its item in the manual, below its section's heading, and the manual has no other.
#[test]
fn the_manual_has_every_option_and_no_other() {
    let mut documented: Vec<(String, String, String)> = Vec::new();
    let mut kind = String::new();
    for line in MANUAL.lines() {
        if let Some(rest) = line.strip_prefix(".Ss config ") {
            kind = rest.split(' ').next().unwrap_or_default().to_owned();
        }
        for command in ["option", "list"] {
            if let Some(rest) = line.strip_prefix(&format!(".It Cm {command} ")) {
                let name = rest.split(' ').next().unwrap_or_default();
                documented.push((kind.clone(), command.to_owned(), name.to_owned()));
            }
        }
    }
    assert!(documented.len() > 15, "{documented:?}");
    for (kind, command, name) in &documented {
        // With two entries, an `option` complains of the second, a `list` does not; an unknown name complains of itself.
        let text = format!("config {kind} 'x'\n\t{command} {name} '\u{1}'\n\t{command} {name} '\u{1}'\n");
        let lines = refused(&text);
        assert!(
            !lines.iter().any(|l| l.contains("has none of this name") || l.contains("unknown")),
            "{lines:#?}"
        );
        let twice = lines.iter().any(|l| l.contains("written in line 2 already"));
        assert_eq!(twice, command == "option", "{kind} {name}: {lines:#?}");
    }
    // The other way round: what is there is told when something unknown is asked for.
    for kind in ["narrowgate", "uplink", "tunnel", "resolver"] {
        let lines = refused(&format!("config {kind} 'x'\n\toption zzzzzzzz '1'\n"));
        let known = lines.iter().find_map(|l| l.split("there are: ").nth(1)).unwrap();
        let of_kind: Vec<&str> =
            documented.iter().filter(|(k, ..)| k == kind).map(|(_, _, name)| name.as_str()).collect();
        assert_eq!(of_kind, known.split(", ").collect::<Vec<_>>(), "{kind}");
    }
}

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
