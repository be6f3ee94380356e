"""The hooks for other network managers under busybox ash: what they hand over, what they take away, what they leave alone."""

from place import *

DHCPCD = f"{PACKAGING}/managers/dhcpcd/70-narrowgate"
DHCLIENT = f"{PACKAGING}/managers/dhclient/narrowgate"
IFUPDOWN = f"{PACKAGING}/managers/ifupdown/narrowgate"


def handed(place):
    root = place.path("uplink")
    return {name: place.read(f"uplink/{name}") for name in sorted(os.listdir(root))} if os.path.isdir(root) else {}


def dhcpcd(place, reason, protocol="", **told):
    # As dhcpcd-run-hooks does it: sourced, with these always set.
    place.write("run-hooks", f': "${{if_up:=false}}" "${{if_down:=false}}"\n. {DHCPCD}\necho "goes on $if_up"\n')
    out = place.run(place.path("run-hooks"), NARROWGATE_UPLINK_DIR=place.path("uplink"), interface="eth0", reason=reason,
                    **({"protocol": protocol} if protocol else {}), **told)
    assert out.startswith("goes on "), out


def test_dhcpcd_leases(place):
    lease = {"new_domain_name_servers": "192.0.2.53 192.0.2.54", "new_domain_name": "home.example", "new_routers": "192.0.2.1 192.0.2.2"}
    dhcpcd(place, "PREINIT")
    dhcpcd(place, "BOUND", "dhcp", if_up="true", **lease)
    link = {"eth0:link.conf": "manager dhcpcd\n"}
    text = "manager dhcpcd\nnameserver 192.0.2.53\nnameserver 192.0.2.54\nsearch home.example\n"
    equal(handed(place), link | {"eth0:dhcp.conf": text + "gateway 192.0.2.1\ngateway 192.0.2.2\n"})
    classless = "198.51.100.0/24 192.0.2.7 0.0.0.0/0 192.0.2.9"
    dhcpcd(place, "RENEW", "dhcp", if_up="true", **lease, new_classless_static_routes=classless)
    equal(handed(place)["eth0:dhcp.conf"], text + "gateway 192.0.2.9\n")
    dhcpcd(place, "BOUND6", "dhcp6", if_up="true", new_dhcp6_name_servers="2001:db8::53")
    equal(handed(place)["eth0:dhcp6.conf"], "manager dhcpcd\nnameserver 2001:db8::53\n")
    dhcpcd(place, "EXPIRE", "dhcp", if_down="true")
    dhcpcd(place, "EXPIRE6", "dhcp6", if_down="true")
    dhcpcd(place, "NOCARRIER", "link", if_down="true")
    equal(handed(place), link)
    place.write("uplink/eth01:link.conf", "")
    dhcpcd(place, "STOPPED", "link", if_down="true")
    equal(handed(place), {"eth01:link.conf": ""})


def test_dhcpcd_advertisements(place):
    told = {"nd1_from": "fe80::1", "nd1_acquired": "100", "nd1_now": "110", "nd1_lifetime": "1800", "nd1_rdnss1_lifetime": "1800",
            "nd1_rdnss1_servers": "fe80::1%eth0 2001:db8::53", "nd1_rdnss2_lifetime": "0", "nd1_rdnss2_servers": "2001:db8::54",
            "nd2_from": "fe80::2", "nd2_acquired": "10", "nd2_now": "110", "nd2_lifetime": "100", "nd2_rdnss1_lifetime": "101",
            "nd2_rdnss1_servers": "2001:db8::55"}
    dhcpcd(place, "ROUTERADVERT", "ra", if_up="true", **told)
    # What is over is not handed over: the second router, and a server whose lifetime is 0.
    equal(handed(place), {"eth0:ra.conf": "manager dhcpcd\ngateway fe80::1\nnameserver fe80::1%eth0\nnameserver 2001:db8::53\n"
                          "nameserver 2001:db8::55\n"})


def test_a_hostile_lease_makes_no_lines_of_its_own(place):
    dhcpcd(place, "BOUND", "dhcp", if_up="true", new_domain_name="a\ngateway 203.0.113.1", new_domain_name_servers="* $(id) `id` %s",
           new_routers="-n ../x")
    lines = handed(place)["eth0:dhcp.conf"].splitlines()
    equal(lines, ["manager dhcpcd", "nameserver *", "nameserver $(id)", "nameserver `id`", "nameserver %s", "search a", "search gateway",
                  "search 203.0.113.1", "gateway -n", "gateway ../x"])


def ifupdown(place, mode, family, method, **told):
    equal(place.run(IFUPDOWN, NARROWGATE_UPLINK_DIR=place.path("uplink"), IFACE="eth0", MODE=mode, ADDRFAM=family, METHOD=method, **told), "")


def test_ifupdown(place):
    told = {"IF_DNS_NAMESERVERS": "192.0.2.53 192.0.2.54", "IF_DNS_SEARCH": "home.example", "IF_NARROWGATE_GATEWAY": "192.0.2.1",
            "IF_NARROWGATE_ROUTE": "198.51.100.0/24 192.0.2.7"}
    ifupdown(place, "start", "meta", "none", **told)
    for method in ("manual", "loopback", "dhcp", "auto"):
        ifupdown(place, "start", "inet", method)
    equal(handed(place), {})
    ifupdown(place, "start", "inet", "static", **told)
    ifupdown(place, "start", "inet6", "auto", IF_DNS_NAMESERVER="2001:db8::53")
    equal(handed(place), {
        "eth0:ifupdown-inet.conf": "manager ifupdown\nnameserver 192.0.2.53\nnameserver 192.0.2.54\nsearch home.example\n"
                                   "gateway 192.0.2.1\nroute 198.51.100.0/24 192.0.2.7\n",
        "eth0:ifupdown-inet6.conf": "manager ifupdown\nnameserver 2001:db8::53\n"})
    ifupdown(place, "stop", "inet", "static", **told)
    equal(list(handed(place)), ["eth0:ifupdown-inet6.conf"])
    ifupdown(place, "stop", "inet6", "auto")
    equal(handed(place), {})


def dhclient(place, reason, **told):
    place.write("script", f". {DHCLIENT}\necho goes on\n")
    out = place.run(place.path("script"), NARROWGATE_UPLINK_DIR=place.path("uplink"), interface="eth0", reason=reason, **told)
    equal(out, "goes on\n")


def test_dhclient(place):
    dhclient(place, "PREINIT")
    dhclient(place, "EXPIRE")
    equal(handed(place), {})
    dhclient(place, "BOUND", new_domain_name_servers="192.0.2.53 192.0.2.54", new_domain_name="home.example")
    dhclient(place, "RENEW6", new_dhcp6_name_servers="2001:db8::53")
    four = {"eth0:dhclient.conf": "manager dhclient\nnameserver 192.0.2.53\nnameserver 192.0.2.54\nsearch home.example\n"}
    equal(handed(place), four | {"eth0:dhclient6.conf": "manager dhclient\nnameserver 2001:db8::53\n"})
    dhclient(place, "STOP6")
    equal(handed(place), four)
    dhclient(place, "TIMEOUT")
    dhclient(place, "FAIL")
    equal(handed(place), {})


def test_shellcheck_of_what_is_sourced(place):
    done = subprocess.run(["shellcheck", "-s", "dash", DHCPCD, DHCLIENT], capture_output=True, text=True)
    equal((done.returncode, done.stdout), (0, ""))
