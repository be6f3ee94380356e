"""Gluon's upgrade: what /etc/config/narrowgate and the first dnsmasq are told; the links."""

from place import *

UPGRADE = f"{GLUON}/520-narrowgate"
DNSMASQ = f"{GLUON}/830-narrowgate-dnsmasq"
LINKS = f"{GLUON}/links"
TUNNELDIGGER = f"{GLUON}/tunneldigger"
FASTD = """config fastd 'mesh_vpn'
	option group 'gluon-mesh-vpn'
	option packet_mark '1'

config peer 'a'
	option net 'mesh_vpn'
	list remote '"vpn1.example.net" port 10000'
	list remote 'ipv4 "vpn1.example.net" port 10000'
	list remote '192.0.2.1:10001'

config peer 'b'
	list remote 'ipv6 "vpn2.example.net" port 10002'
	list remote '2001:db8::9 port 10003'
	list remote '[2001:db8::a]:10004'
"""
FASTD_PEERS = ["vpn1.example.net:10000", "192.0.2.1:10001", "vpn2.example.net:10002", "[2001:db8::9]:10003", "[2001:db8::a]:10004"]
DHCP = "config dnsmasq\n\tlist server 'fd42::1'\n\tlist server '/lan/127.0.0.1#5353'\n\tlist server '/other.example/192.0.2.9#54'\n"


def gluon(place, network=None, fastd=FASTD):
    place.write("config/network", network or open(f"{TREE}/crates/wire/tests/corpus/network.gluon").read())
    place.write("config/fastd", fastd)
    shutil.copy(f"{GLUON}/interfaces", place.path("interface.d", "050-narrowgate"))


def check(place):
    """The program itself has to find the config right."""
    program = os.path.join(os.environ.get("NARROWGATE_BIN_DIR", f"{TREE}/target/release"), "narrowgate")
    assert os.path.exists(program), f"{program} is not there: `make build` first, or say NARROWGATE_BIN_DIR"
    done = subprocess.run([program, "check", "--config", place.path("config/narrowgate")], capture_output=True, text=True)
    equal((done.returncode, done.stderr), (0, ""))


def test_a_gluon_node(place):
    gluon(place)
    place.run(UPGRADE)
    for path, value in {
        "globals": "narrowgate", "wan": "uplink", "wan.device": "br-wan", "wan.provider": "netifd", "wan.interface": "wan wan6",
        "mesh_vpn": "tunnel", "mesh_vpn.group": "gluon-mesh-vpn", "mesh_vpn.device": "mesh-vpn",
        "mesh_vpn.peer": " ".join(FASTD_PEERS),
    }.items():
        equal((path, place.uci("get", f"narrowgate.{path}")), (path, value))
    equal(place.uci("get", "network.wan.ip4table"), "1")
    check(place)


def test_a_node_without_a_wan_gets_what_gluon_makes(place):
    gluon(place, "config interface 'loopback'\n\toption device 'lo'\n")
    place.run(UPGRADE)
    for path, value in {
        "wan": "interface", "wan.device": "br-wan", "wan.proto": "dhcp", "wan.peerdns": "0", "wan.ip4table": "1",
        "wan6": "interface", "wan6.device": "br-wan", "wan6.proto": "dhcpv6", "wan6.peerdns": "0", "wan6.ip6table": "1",
        "wan6.sourcefilter": "0", "wan6.reqprefix": "no", "wan6_lookup.mark": "0x01/0x01", "wan6_unreachable.metric": "65535",
    }.items():
        equal((path, place.uci("get", f"network.{path}")), (path, value))
    equal(place.uci("get", "narrowgate.wan.interface"), "wan wan6")
    check(place)


def test_static_settings_of_the_user_survive_the_upgrade(place):
    own = {
        "wan": {"device": "br-wan", "proto": "static", "ipaddr": "192.0.2.7", "netmask": "255.255.255.0", "gateway": "192.0.2.1"},
        "wan6": {"device": "br-wan", "proto": "static", "ip6addr": "2001:db8::7/64", "ip6gw": "fe80::1"},
    }
    options = lambda name: "".join(f"\toption {key} '{value}'\n" for key, value in own[name].items())
    gluon(place, "".join(f"config interface '{name}'\n{options(name)}\n" for name in own))
    place.run(UPGRADE)
    for name, settings in own.items():
        for key, value in settings.items():
            equal((name, key, place.uci("get", f"network.{name}.{key}")), (name, key, value))
    check(place)


def test_run_again_it_writes_nothing(place):
    gluon(place)
    place.run(UPGRADE)
    first = place.read("config/narrowgate")
    os.remove(place.path("config/.log"))
    place.run(UPGRADE)
    equal(place.read("config/narrowgate"), first)
    assert not os.path.exists(place.path("config/.log")), place.read("config/.log")


def test_the_users_own_options_survive_and_the_peers_follow_the_site(place):
    gluon(place)
    place.run(UPGRADE)
    text = place.read("config/narrowgate").replace("option provider 'netifd'", "option provider 'auto'\n\tlist inbound 'none'")
    place.write("config/narrowgate", text + "\tlist peer 'old.example.net'\n\nconfig uplink 'mine'\n\toption device 'eth9'\n")
    gluon(place, fastd=FASTD.replace("vpn2", "vpn3"))
    place.run(UPGRADE)
    equal(place.uci("get", "narrowgate.wan.inbound"), "none")
    equal(place.uci("get", "narrowgate.wan.provider"), "auto")
    equal(place.uci("get", "narrowgate.mine.device"), "eth9")
    equal(place.uci("get", "narrowgate.mesh_vpn.peer"), " ".join(FASTD_PEERS).replace("vpn2", "vpn3"))
    check(place)


def test_a_modem_is_a_second_uplink(place):
    network = "config interface 'wan'\n\toption device 'br-wan'\n\nconfig interface 'wan6'\n\toption device '@wan'\n\n"
    gluon(place, network + "config interface 'cellular'\n\toption device '/dev/cdc-wdm0'\n\toption proto 'qmi'\n")
    place.run(UPGRADE)
    equal(place.uci("get", "narrowgate.wan.interface"), "wan wan6")
    equal(place.uci("get", "narrowgate.cellular.device"), "wwan0")
    equal(place.uci("get", "narrowgate.cellular.interface"), "cellular cellular_4 cellular_6")
    equal(place.uci("get", "narrowgate.cellular.metric"), "1000")
    equal(place.uci("get", "network.cellular.proto"), "qmi")
    equal(place.uci("get", "network.cellular.peerdns"), "0")
    equal(place.uci("get", "network.cellular.ip4table"), "1")
    check(place)


def test_interfaces_of_other_packages(place):
    gluon(place, "config interface 'wan'\n\toption ifname 'eth0.2 eth1'\n\toption type 'bridge'\n\nconfig interface 'dsl'\n\toption device 'dsl0.7'\n")
    # Without a newline at its end, and with a name that is in no network.
    place.write("interface.d/060-dsl", "dsl\ntether")
    place.run(UPGRADE)
    equal(place.uci("get", "narrowgate.wan.device"), "br-wan")
    equal(place.uci("get", "narrowgate.dsl.device"), "dsl0.7")
    equal(place.uci("get", "narrowgate.tether"), None)
    check(place)


def test_mesh_by_cable_on_the_uplink_is_warned_of(place):
    gluon(place)
    network = place.read("config/network")
    for options, warned in (("", True), ("\toption auto '0'\n", False), ("\toption disabled '1'\n", False)):
        place.write("config/network", network + f"\nconfig interface 'mesh_uplink'\n\toption device 'br-wan'\n{options}")
        place.run(UPGRADE)
        equal("guard drops the mesh" in place.logged(), warned)


def test_servers_of_tunneldigger_and_wireguard(place):
    gluon(place, fastd="")
    place.write("config/tunneldigger", "config broker\n\tlist address 'td.example.net:8942'\n\tlist address 'bad name:1'\n")
    place.write("config/wgpeerselector", "config peer 'y'\n\toption enabled '1'\n\toption endpoint 'wg1.example.net:51820'\n\tlist allowed_ips 'fe80::1/128'\n")
    place.write("config/wireguard", "config peer 'x'\n\toption endpoint 'wg.example.net:51820'\n")
    place.write("config/network", "config wireguard_wg0 'p'\n\toption endpoint_host '2001:db8::5'\n\toption endpoint_port '51821'\n")
    equal(place.run(f"{GLUON}/peers").split(), ["td.example.net:8942", "wg1.example.net:51820", "wg.example.net:51820", "[2001:db8::5]:51821"])
    assert "'bad name:1' is not understood" in place.logged()


def test_values_of_the_config_are_never_commands(place):
    gluon(place, fastd="config peer 'a'\n\tlist remote \"$(touch %s/pwned)\"\n\tlist remote '`touch %s/pwned`'\n" % (place.dir, place.dir))
    equal(place.run(f"{GLUON}/peers"), "")
    assert not os.path.exists(place.path("pwned"))


def test_the_first_dnsmasq_asks_54_for_the_peers(place):
    gluon(place)
    place.write("config/dhcp", DHCP)
    place.run(DNSMASQ)
    wanted = "fd42::1 /lan/127.0.0.1#5353 /other.example/192.0.2.9#54 /vpn1.example.net/127.0.0.1#54 /vpn2.example.net/127.0.0.1#54"
    equal(place.uci("get", "dhcp.@dnsmasq[0].server"), wanted)

    os.remove(place.path("config/.log"))
    place.run(DNSMASQ)
    assert not os.path.exists(place.path("config/.log")), "run again, it writes nothing"

    place.write("config/fastd", FASTD.replace("vpn1", "vpn3"))
    place.run(DNSMASQ)
    equal(sorted(place.uci("get", "dhcp.@dnsmasq[0].server").split()), sorted(wanted.replace("vpn1", "vpn3").split()))


def test_a_node_without_dnsmasq_is_left_alone(place):
    gluon(place)
    place.run(DNSMASQ)
    assert not os.path.exists(place.path("config/.log"))


def test_both_wrappers_become_links(place):
    place.write("usr/bin/gluon-wan", "#!/usr/bin/lua\n")
    for _ in range(2):
        place.run(LINKS, NARROWGATE_ROOT=place.dir)
        for name in ("gluon-wan", "gluon-wan-dns"):
            equal(os.readlink(place.path("usr/bin", name)), "/usr/sbin/narrowgate")
        equal(sorted(os.listdir(place.path("usr/bin"))), ["gluon-wan", "gluon-wan-dns"])


def test_tunneldigger_is_started_by_exec(place):
    init = "etc/init.d/tunneldigger"
    place.run(TUNNELDIGGER, NARROWGATE_ROOT=place.dir)  # where there is none
    os.makedirs(place.path("etc/init.d"))
    start = "start-stop-daemon -S -q -b -m -c root:${group} -p ${PID} -x %s -u ${uuid} -I br-wan\n"
    place.write(init, start % "/usr/bin/tunneldigger --")
    for _ in range(2):
        place.run(TUNNELDIGGER, NARROWGATE_ROOT=place.dir)
        equal(place.read(init), start % "/usr/sbin/narrowgate -- exec -- /usr/bin/tunneldigger")
        equal(os.listdir(place.path("etc/init.d")), ["tunneldigger"])
    assert os.access(place.path(init), os.X_OK)
    equal(place.logged(), "")
    place.write(init, "procd_set_param command tunneldigger\n")
    place.run(TUNNELDIGGER, NARROWGATE_ROOT=place.dir)
    equal(place.read(init), "procd_set_param command tunneldigger\n")
    assert "start tunneldigger by `narrowgate exec`" in place.logged()


def test_reload_stops_nothing(place):
    for script in (f"{GLUON}/760-narrowgate", f"{GLUON_DNS}/760-narrowgate-dns"):
        place.write("init", "#!/bin/sh\necho \"$@\"\n")
        os.chmod(place.path("init"), 0o755)
        equal(place.run(script, NARROWGATE_INIT=place.path("init")), "reload\n")
