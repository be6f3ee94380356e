"""resolv.conf for other programs, and the forwarder's service."""

from place import *

RESOLV_CONF = f"{OPENWRT}/resolv-conf"
HOTPLUG = f"{OPENWRT}/narrowgate.hotplug"
FILE = "var/gluon/resolv.conf"
LEARNT = "nameserver 192.168.77.1\nnameserver fe80::1%wan\nnameserver fe80::8c01:12ff:fed1:d752%wan\n"


def netifd(place):
    shutil.copy(f"{GLUON}/interfaces", place.path("interface.d", "050-narrowgate"))
    place.fixture("wan", "wan.up.json")
    place.fixture("wan6", "wan6.up.json")


def test_what_netifd_has_learnt(place):
    netifd(place)
    place.run(RESOLV_CONF)
    equal(place.read(FILE), LEARNT)
    equal(os.listdir(place.path("var/gluon")), ["resolv.conf"])


def test_written_by_rename_and_only_on_change(place):
    netifd(place)
    place.run(RESOLV_CONF)
    before = os.stat(place.path(FILE))
    held = open(place.path(FILE))
    place.run(RESOLV_CONF)
    after = os.stat(place.path(FILE))
    equal((after.st_ino, after.st_mtime_ns), (before.st_ino, before.st_mtime_ns))
    place.fixture("wan6", "wan.carrier-lost.json")
    place.run(RESOLV_CONF)
    equal(place.read(FILE), "nameserver 192.168.77.1\n")
    equal(held.read(), LEARNT)
    held.close()


def test_servers_of_the_config_take_the_place_of_the_learnt(place):
    netifd(place)
    place.write("config/gluon-wan-dnsmasq", "config static\n\tlist server '192.0.2.53'\n\tlist server '2001:db8::53'\n\tlist server 'fe80::9%wan'\n\tlist server 'no;server'\n")
    place.run(RESOLV_CONF)
    equal(place.read(FILE), "nameserver 192.0.2.53\nnameserver 2001:db8::53\nnameserver fe80::9%wan\n")


def test_the_config_as_shipped_takes_nothing_s_place(place):
    netifd(place)
    shutil.copy(f"{GLUON}/gluon-wan-dnsmasq.config", place.path("config/gluon-wan-dnsmasq"))
    place.run(RESOLV_CONF)
    equal(place.read(FILE), LEARNT)


def test_active_servers_come_last_and_none_twice(place):
    netifd(place)
    place.write("ubus/network.interface.wan.status", '{"device": "br-wan", "dns-server": ["192.0.2.2", "192.0.2.1"], "inactive": {"dns-server": ["192.0.2.1"]}}')
    place.write("ubus/network.interface.wan6.status", '{"device": "br-wan", "inactive": {"dns-server": ["fe80::2", "febf::3", "fec0::4"]}}')
    place.run(RESOLV_CONF)
    equal(place.read(FILE).split()[1::2], ["192.0.2.1", "192.0.2.2", "fe80::2%br-wan", "febf::3%br-wan", "fec0::4"])


def test_garbage_is_no_server(place):
    netifd(place)
    place.write("ubus/network.interface.wan6.status", '{"l3_device": "wan", "inactive": {"dns-server": ["x", "1.2.3.4; rm", "1.2.3.4 5", "", "$(reboot)"]}}')
    place.write("ubus/network.interface.cellular.status", "no json {")
    place.run(RESOLV_CONF)
    equal(place.read(FILE), "nameserver 192.168.77.1\n")


def test_without_ubusd_the_last_servers_stay(place):
    netifd(place)
    place.run(RESOLV_CONF)
    place.write("ubus/network.interface.wan.status", "")
    place.run(RESOLV_CONF, fails=True)
    equal(place.read(FILE), LEARNT)
    assert "netifd does not answer" in place.logged()
    place.run(RESOLV_CONF, fails=True, UBUS_DIR=place.path("nowhere"))
    equal(place.read(FILE), LEARNT)


def test_where_the_daemon_runs_it_writes_the_file_itself(place):
    netifd(place)
    place.write("narrowgate/lock", f"{os.getpid()}\n")
    place.run(RESOLV_CONF)
    assert not os.path.exists(place.path(FILE))
    for left_behind in ("", "4194305\n"):
        place.write("narrowgate/lock", left_behind)
        place.run(RESOLV_CONF)
        equal(place.read(FILE), LEARNT)
        os.remove(place.path(FILE))


def test_no_uplink_is_an_empty_file(place):
    netifd(place)
    place.run(RESOLV_CONF)
    for name in ("wan", "wan6"):
        place.fixture(name, "wan.carrier-lost.json")
    place.run(RESOLV_CONF)
    equal(place.read(FILE), "")


def test_names_come_from_the_config_and_from_the_packages(place):
    place.write("config/narrowgate", "config uplink 'u'\n\tlist interface 'usb'\n\tlist interface 'wan'\n")
    place.write("interface.d/050", "wan\nwan6")
    place.write("interface.d/060", "dsl\n\n; reboot\n")
    equal(place.run(RESOLV_CONF, "--interfaces").split(), ["usb", "wan", "wan6", "dsl"])


def test_hotplug_looks_at_uplinks_only(place):
    netifd(place)
    for action, interface in (("ifup", "client"), ("ifup", "wa"), ("ifup", ""), ("add", "wan")):
        place.run(HOTPLUG, ACTION=action, INTERFACE=interface)
        assert not os.path.exists(place.path(FILE)), (action, interface)
    place.run(HOTPLUG, ACTION="ifup", INTERFACE="wan")
    equal(place.read(FILE), LEARNT)
    place.fixture("wan6", "wan.carrier-lost.json")
    place.run(HOTPLUG, ACTION="ifdown", INTERFACE="wan6")
    equal(place.read(FILE), "nameserver 192.168.77.1\n")


def test_the_forwarder_stands_in_for_dnsmasq(place):
    netifd(place)
    place.init(f"{GLUON_DNS}/narrowgate-dns.init", "start")
    told = place.told()
    command = f"command /usr/sbin/narrowgate forward --listen 127.0.0.1:54 --listen [::1]:54 --mark 0x1/0x1 --resolv-file {place.path(FILE)}"
    assert command in told, told
    assert "respawn 3600 1 0" in told and "reload_trigger gluon-wan-dnsmasq" in told
    equal(place.read(FILE), LEARNT)


def test_firewall3_is_told_of_the_redirect_and_firewall4_is_not(place):
    script = f"{GLUON_DNS}/530-narrowgate-dns"
    place.write("config/firewall", "config defaults\n")
    for _ in range(2):
        place.run(script, NARROWGATE_FW3="/bin/true")
    equal(place.read("config/.log").count("commit"), 1)
    equal([place.uci("get", f"firewall.narrowgate_dns.{o}") for o in ("type", "path", "reload")], ["script", "/lib/narrowgate/redirect.fw3", "1"])
    for _ in range(2):
        place.run(script, NARROWGATE_FW3="/none")
    equal(place.uci("get", "firewall.narrowgate_dns"), None)
    equal(place.read("config/.log").count("commit"), 2)
