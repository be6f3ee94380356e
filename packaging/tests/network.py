"""wan-uci: what /etc/config/network becomes."""

from place import *

WAN_UCI = f"{OPENWRT}/wan-uci"
GLUON_NETWORK = f"{TREE}/crates/wire/tests/corpus/network.gluon"
NARROWGATE = """config narrowgate 'globals'
	option mark '0x1/0x1'
	option table '1'

config uplink 'wan'
	option device 'br-wan'
	list interface 'wan'
	list interface 'wan6'
"""
TABLES = {
    "network.wan_lookup": "rule", "network.wan_lookup.mark": "0x01/0x01", "network.wan_lookup.lookup": "1",
    "network.wan6_lookup": "rule6", "network.wan6_lookup.mark": "0x01/0x01", "network.wan6_lookup.lookup": "1",
    "network.wan_unreachable": "route", "network.wan_unreachable.type": "unreachable",
    "network.wan_unreachable.interface": "loopback", "network.wan_unreachable.target": "0.0.0.0/0",
    "network.wan_unreachable.table": "1", "network.wan_unreachable.metric": "65535",
    "network.wan6_unreachable": "route6", "network.wan6_unreachable.type": "unreachable",
    "network.wan6_unreachable.interface": "loopback", "network.wan6_unreachable.target": "::/0",
    "network.wan6_unreachable.gateway": "::", "network.wan6_unreachable.table": "1", "network.wan6_unreachable.metric": "65535",
}
WAN = {
    "network.wan": "interface", "network.wan.proto": "dhcp", "network.wan.peerdns": "0",
    "network.wan.ip4table": "1", "network.wan.ip6table": "1",
    "network.wan6.proto": "dhcpv6", "network.wan6.peerdns": "0", "network.wan6.ip6table": "1",
    "network.wan6.sourcefilter": "0", "network.wan6.reqprefix": "no",
}


def test_a_bare_wan_gets_all_that_gluon_writes_and_the_table_of_IPv4(place):
    place.write("config/narrowgate", NARROWGATE)
    place.write("config/network", "config interface 'wan'\n\toption device 'br-wan'\n\nconfig interface 'wan6'\n\toption device 'br-wan'\n")
    place.run(WAN_UCI)
    for path, value in (WAN | TABLES).items():
        equal((path, place.uci("get", path)), (path, value))


def test_gluons_network_keeps_all_its_lines(place):
    place.write("config/narrowgate", NARROWGATE)
    place.write("config/network", open(GLUON_NETWORK).read())
    before = place.uci("show", "network").splitlines()
    place.run(WAN_UCI)
    after = place.uci("show", "network").splitlines()
    equal([line for line in before if line not in after], [])
    for path, value in (WAN | TABLES).items():
        equal((path, place.uci("get", path)), (path, value))


def test_run_again_it_writes_nothing(place):
    place.write("config/narrowgate", NARROWGATE)
    place.write("config/network", open(GLUON_NETWORK).read())
    place.run(WAN_UCI)
    first = place.read("config/network")
    os.remove(place.path("config/.log"))
    place.run(WAN_UCI)
    equal(place.read("config/network"), first)
    assert not os.path.exists(place.path("config/.log")), place.read("config/.log")


def test_what_the_user_has_set_survives(place):
    own = {
        "network.wan.proto": "static", "network.wan.ipaddr": "192.0.2.7", "network.wan.netmask": "255.255.255.0",
        "network.wan.gateway": "192.0.2.1", "network.wan.metric": "7",
        "network.wan6.proto": "static", "network.wan6.ip6addr": "2001:db8::7/64", "network.wan6.ip6gw": "fe80::1",
    }
    place.write("config/narrowgate", NARROWGATE)
    text = ""
    for name in ("wan", "wan6"):
        text += f"config interface '{name}'\n\toption device 'br-wan'\n"
        text += "".join(f"\toption {path.split('.')[2]} '{value}'\n" for path, value in own.items() if path.split(".")[1] == name)
    place.write("config/network", text)
    place.run(WAN_UCI)
    place.run(WAN_UCI)
    for path, value in own.items():
        equal((path, place.uci("get", path)), (path, value))
    equal(place.uci("get", "network.wan6.ip6table"), "1")


def test_proto_none_survives(place):
    place.write("config/narrowgate", NARROWGATE)
    place.write("config/network", "config interface 'wan'\n\toption proto 'none'\n")
    place.run(WAN_UCI)
    equal(place.uci("get", "network.wan.proto"), "none")


def test_an_interface_that_is_not_there_is_not_made(place):
    place.write("config/narrowgate", NARROWGATE)
    place.write("config/network", "config interface 'wan'\n\toption proto 'dhcp'\n")
    place.run(WAN_UCI)
    equal(place.uci("get", "network.wan6"), None)


def test_without_an_uplink_nothing_is_written(place):
    place.write("config/narrowgate", open(f"{OPENWRT}/narrowgate.config").read())
    place.write("config/network", open(GLUON_NETWORK).read())
    place.run(WAN_UCI)
    os.remove(place.path("config/narrowgate"))
    place.run(f"{OPENWRT}/narrowgate.defaults")
    equal(place.read("config/network"), open(GLUON_NETWORK).read())
    assert not os.path.exists(place.path("config/.log"))


def test_mark_and_table_are_those_of_the_config(place):
    for written, mark in (("0x20/0xf0", "0x20/0xf0"), ("0x20", "0x20/0x20"), ("1", "0x01/0x01")):
        place.write("config/narrowgate", NARROWGATE.replace("0x1/0x1", written).replace("table '1'", "table '77'"))
        place.write("config/network", "config interface 'wan'\n")
        place.run(WAN_UCI)
        equal(place.uci("get", "network.wan6_lookup.mark"), mark)
        equal(place.uci("get", "network.wan_lookup.lookup"), "77")
        equal(place.uci("get", "network.wan_unreachable.table"), "77")
        equal(place.uci("get", "network.wan.ip4table"), "77")


def test_undo_takes_away_what_was_written_and_no_more(place):
    before = "config interface 'wan'\n\toption device 'eth1'\n\toption proto 'pppoe'\n\toption metric '3'\n\nconfig interface 'wan6'\n\toption proto 'dhcpv6'\n"
    place.write("config/narrowgate", NARROWGATE)
    place.write("config/network", before)
    shown = place.uci("show", "network")
    place.run(WAN_UCI)
    assert place.uci("show", "network") != shown
    place.run(WAN_UCI, "--undo")
    equal(place.uci("show", "network"), shown)
    os.remove(place.path("config/.log"))
    place.run(WAN_UCI, "--undo")
    assert not os.path.exists(place.path("config/.log"))
