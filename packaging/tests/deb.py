"""The Debian package: built with a stand-in of cargo, and looked into."""

from place import *

FILES = {
    "./usr/sbin/narrowgate", "./usr/lib/libpacketmark.so", "./lib/systemd/system/narrowgate.service",
    "./usr/share/man/man8/narrowgate.8.gz", "./usr/share/man/man5/narrowgate-config.5.gz",
    "./usr/share/doc/narrowgate/examples/minimal.conf", "./usr/share/doc/narrowgate/examples/50-fastd",
    "./usr/share/doc/narrowgate/examples/50-wireguard", "./usr/lib/dhcpcd/dhcpcd-hooks/70-narrowgate",
    "./etc/network/if-up.d/narrowgate", "./etc/network/if-down.d/narrowgate",
    "./etc/dhcp/dhclient-exit-hooks.d/narrowgate",
}


def test_the_package(place):
    tree = place.path("tree")
    os.mkdir(tree)
    for name in ("Cargo.toml", "Cargo.lock", "LICENSE", "README.md"):
        if os.path.exists(f"{TREE}/{name}"):
            shutil.copy(f"{TREE}/{name}", tree)
        else:
            place.write(f"tree/{name}", "")
    for name in ("docs", "packaging/hooks", "packaging/managers", "packaging/systemd"):
        shutil.copytree(f"{TREE}/{name}", f"{tree}/{name}")
    shutil.copytree(f"{PACKAGING}/debian", f"{tree}/debian")
    env = place.env | {"CARGO_LOG": place.path("cargo.log"), "HOME": place.dir}
    done = subprocess.run(["dpkg-buildpackage", "-b", "-us", "-uc"], cwd=tree, env=env, capture_output=True, text=True, timeout=300)
    equal((done.returncode, done.stderr if done.returncode else ""), (0, ""))
    equal(place.read("cargo.log").splitlines()[0], "build --release --locked -p narrowgate -p libpacketmark")

    package = next(place.path(name) for name in os.listdir(place.dir) if name.endswith(".deb") and "dbgsym" not in name)
    listed = {line.split()[5] for line in subprocess.run(["dpkg-deb", "-c", package], capture_output=True, text=True).stdout.splitlines()}
    equal(FILES - listed, set())

    subprocess.run(["dpkg-deb", "-e", package, place.path("control")], check=True)
    postinst = place.read("control/postinst")
    assert "addgroup" in postinst and "_dh_action=restart" in postinst
    # Nothing is guarded before there is a config: enabled again only where it was.
    assert "debian-installed" in postinst.partition("deb-systemd-helper enable")[0]
    prerm = place.read("control/prerm")
    assert '"$1" = remove' in prerm.partition("deb-systemd-invoke stop")[0], "an upgrade must not stop: that opens the guard"
