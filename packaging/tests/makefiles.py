"""The feeds' Makefiles on a stand-in of the build system: what is built and which files a package has. And shellcheck."""

from place import *

FEED = f"{PACKAGING}/openwrt/narrowgate"
COMMON = {
    "etc/config/gluon-wan-dnsmasq", "lib/gluon/upgrade/830-narrowgate-dnsmasq", "lib/gluon/wan-dnsmasq/interface.d/050-narrowgate",
    "lib/gluon/wan-dnsmasq/update.lua", "lib/narrowgate/peers",
}


def make(place, feed, target, **env):
    place.env |= {"CARGO_LOG": place.path("cargo.log")} | env
    arguments = [f"TOPDIR={HERE}/sdk", f"BUILD={place.path('build')}", f"DEST={place.path('root')}"]
    done = subprocess.run(["make", "-s", "-C", feed, *arguments, target], env=place.env, capture_output=True, text=True, timeout=180)
    equal((done.returncode, done.stderr), (0, ""))
    return done.stdout


def files(place, package):
    root = place.path("root", package)
    return {os.path.relpath(os.path.join(at, name), root) for at, _, names in os.walk(root) for name in names}


def test_the_program_and_its_scripts(place):
    include(place)
    make(place, FEED, "narrowgate")
    equal(files(place, "narrowgate"), {
        "usr/sbin/narrowgate", "etc/config/narrowgate", "etc/init.d/narrowgate", "etc/uci-defaults/60-narrowgate",
        "etc/hotplug.d/iface/50-narrowgate", "lib/narrowgate/wan-uci", "lib/narrowgate/resolv-conf", "lib/upgrade/keep.d/narrowgate",
        "usr/share/narrowgate/hooks/50-fastd", "usr/share/narrowgate/hooks/50-wireguard",
    })
    for name in ("usr/sbin/narrowgate", "etc/init.d/narrowgate", "lib/narrowgate/wan-uci"):
        assert os.access(place.path("root/narrowgate", name), os.X_OK), name


def test_the_library_has_an_install_step_of_its_own(place):
    include(place)
    make(place, FEED, "narrowgate-libpacketmark")
    equal(files(place, "narrowgate-libpacketmark"), {"usr/lib/libpacketmark.so"})
    equal(place.read("root/narrowgate-libpacketmark/usr/lib/libpacketmark.so"), "library\n")
    log = place.read("cargo.log").splitlines()
    equal(log[0], "build --release --locked --target mipsel-unknown-linux-musl --target-dir target -p narrowgate -p libpacketmark"
          " --no-default-features --features narrowgate/netifd")
    assert "CARGO_PROFILE_RELEASE_PANIC=abort" in log and "CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS=false" in log, log


def test_the_copied_tree_is_a_whole_workspace(place):
    include(place)
    make(place, FEED, "built")
    command = ["cargo", "metadata", "--no-deps", "--format-version=1", "--offline", "--manifest-path", place.path("build/narrowgate/Cargo.toml")]
    done = subprocess.run(command, capture_output=True, text=True)
    equal((done.returncode, done.stderr), (0, ""))
    for package in ('"name":"narrowgate"', '"name":"libpacketmark"'):
        assert package in done.stdout


def test_gluons_packages(place):
    make(place, f"{PACKAGING}/gluon/gluon-narrowgate", "gluon-narrowgate")
    equal(files(place, "gluon-narrowgate"), COMMON | {
        "lib/gluon/upgrade/520-narrowgate", "lib/gluon/upgrade/840-narrowgate-links", "lib/gluon/upgrade/840-narrowgate-tunneldigger", "lib/gluon/reload.d/760-narrowgate",
        "etc/narrowgate/hooks.d/50-fastd",
    })
    make(place, f"{PACKAGING}/gluon/gluon-narrowgate-dns", "gluon-narrowgate-dns")
    equal(files(place, "gluon-narrowgate-dns"), COMMON | {
        "usr/lib/micron.d/narrowgate",
        "etc/init.d/narrowgate-dns", "lib/gluon/upgrade/530-narrowgate-dns", "lib/gluon/reload.d/760-narrowgate-dns",
        "lib/narrowgate/redirect.fw3", "usr/share/nftables.d/ruleset-post/50-narrowgate-dns.nft",
    })


def test_no_file_is_forgotten(place):
    for feed in (FEED, f"{PACKAGING}/gluon/gluon-narrowgate", f"{PACKAGING}/gluon/gluon-narrowgate-dns"):
        makefile = open(f"{feed}/Makefile").read()
        equal([name for name in os.listdir(f"{feed}/files") if f"./files/{name} " not in makefile], [])


def test_only_an_upgrade_on_the_router_restarts(place):
    script = make(place, FEED, "narrowgate.postinst")
    place.write("postinst", script.replace("/etc/init.d/narrowgate", "echo"))
    equal(place.run(place.path("postinst"), PKG_UPGRADE="1"), "restart\n")
    equal(place.run(place.path("postinst"), PKG_UPGRADE="0"), "")
    equal(place.run(place.path("postinst"), PKG_UPGRADE="1", IPKG_INSTROOT="/image"), "")


def test_shellcheck(place):
    scripts = []
    for at, _, names in os.walk(PACKAGING):
        for name in names:
            path = os.path.join(at, name)
            with open(path, "rb") as source:
                first = source.readline()
            if first.startswith(b"#!/bin/sh"):
                scripts.append(path)
    assert len(scripts) > 15, scripts
    # 3043: ash has `local`. 1090, 1091: what is sourced is not there.
    done = subprocess.run(["shellcheck", "-s", "dash", "-e", "SC3043,SC1090,SC1091", *scripts], capture_output=True, text=True)
    equal((done.returncode, done.stdout), (0, ""))


def include(place):
    """Make finds `cargo` where make's own environment has it."""
    place.env["PATH"] = f"{HERE}/stand-ins:" + os.environ["PATH"]
