"""The redirects on the real kernel, each in a network namespace of its own."""

from place import *

FW3 = f"{GLUON_DNS}/redirect.fw3"
NFT = f"{GLUON_DNS}/redirect.nft"
ALL = {f"{family} {protocol}" for family in ("127.0.0.1", "::1") for protocol in ("udp", "tcp")}


def probe(place, setup):
    """Who reaches port 54 by asking port 53, after `setup`: (in the group, not in the group)."""
    script = f"ip link set lo up && {setup} && {setup} && exec python3 {HERE}/probe.py"
    done = subprocess.run(["unshare", "--net", "bash", "-c", script], env=place.env, capture_output=True, text=True, timeout=180)
    equal((done.returncode, done.stderr), (0, ""))
    inside, outside = done.stdout.splitlines()
    return {w for w in inside.split(",") if w}, {w for w in outside.split(",") if w}


def test_without_a_redirect_nobody_gets_there(place):
    equal(probe(place, "true"), (set(), set()))


def test_firewall4(place):
    equal(probe(place, f"nft -f {NFT}"), (ALL, set()))


def test_firewall3(place):
    equal(probe(place, f"busybox ash {FW3}"), (ALL, set()))


def test_loaded_twice_each_rule_stands_once(place):
    for setup, show, word, count in (
        (f"nft -f {NFT}", "nft list ruleset", "redirect to", 2),
        (f"busybox ash {FW3}", "iptables -t nat -S; ip6tables -t nat -S", "REDIRECT", 4),
    ):
        done = subprocess.run(["unshare", "--net", "bash", "-c", f"{setup} && {setup} && {show}"], env=place.env, capture_output=True, text=True)
        equal((done.returncode, done.stdout.count(word)), (0, count))


def test_firewall3_takes_the_groups_number_from_the_file(place):
    place.write("group", "root:x:0:\ngluon-mesh-vpn:x:1234:\n")
    done = subprocess.run(["unshare", "--net", "bash", "-c", f"busybox ash {FW3} && iptables -t nat -S"],
                          env=place.env | {"NARROWGATE_GROUPS": place.path("group")}, capture_output=True, text=True)
    equal(done.stdout.count("--gid-owner 1234"), 2)


def test_firewall3_without_IPv6_nat_still_does_IPv4_and_says_so(place):
    place.write("bin/ip6tables", "#!/bin/sh\nexit 3\n")
    os.chmod(place.path("bin/ip6tables"), 0o755)
    done = subprocess.run(["unshare", "--net", "bash", "-c", f"busybox ash {FW3}; echo $?; iptables -t nat -S"],
                          env=place.env | {"PATH": place.path("bin") + ":" + PATH}, capture_output=True, text=True)
    equal((done.stdout.split("\n")[0], done.stdout.count("REDIRECT")), ("1", 2))
    assert "kmod-ipt-nat6" in place.logged()
