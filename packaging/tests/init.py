"""The service on procd: it comes again for ever, and nothing but `stop` opens the guard."""

from place import *

INIT = f"{OPENWRT}/narrowgate.init"
UPLINK = "config uplink 'wan'\n\toption device 'br-wan'\n"


def test_started_with_an_uplink(place):
    place.write("config/narrowgate", UPLINK)
    place.init(INIT, "start")
    told = place.told()
    command = [line for line in told if line.startswith("command")]
    equal(command, [f"command /usr/sbin/narrowgate run --config {place.path('config/narrowgate')} --state-dir /etc/narrowgate/state"])
    assert "respawn 3600 1 0" in told, "a third number other than 0 gives up"
    assert "stderr 1" in told


def test_quoted_words_are_an_uplink_too(place):
    for line in ("config 'uplink' 'wan'", 'config "uplink"', "\tconfig  uplink"):
        place.write("config/narrowgate", f"# nothing\n{line}\n\toption device 'eth0'\n")
        place.write("procd/log", "")
        place.init(INIT, "start")
        assert "instance" in place.told(), line


def test_the_config_as_shipped_starts_nothing(place):
    for text in (open(f"{OPENWRT}/narrowgate.config").read(), "", "config tunnel 'uplink'\n"):
        place.write("config/narrowgate", text)
        place.write("procd/log", "")
        place.init(INIT, "start")
        assert "instance" not in place.told(), text
        assert "no uplink: not started" in place.logged()
    os.remove(place.path("config/narrowgate"))
    place.init(INIT, "start")
    assert "instance" not in place.told()


def test_what_need_not_outlive_a_reboot_is_never_on_flash(place):
    place.write("config/narrowgate", UPLINK)
    for _ in range(2):
        place.init(INIT, "start", NARROWGATE_RUN=place.path("run"))
        equal(os.readlink(place.path("run")), "/var/run")


def test_changes_of_both_configs_reload(place):
    place.init(INIT, "start")
    assert "reload_trigger narrowgate gluon-wan-dnsmasq" in place.told()


def test_reload_sends_hup(place):
    place.write("config/narrowgate", UPLINK)
    child = patient(place, "HUP")
    place.init(INIT, "reload")
    equal(place.told(), ["signal HUP"])
    equal(child.stdout.readline(), "HUP\n")


def test_reload_starts_what_does_not_run(place):
    place.write("config/narrowgate", UPLINK)
    place.init(INIT, "reload")
    assert "start" in place.told() and "instance" in place.told()


def test_restart_leaves_the_guard_to_the_next(place):
    place.write("config/narrowgate", UPLINK)
    child = patient(place, "QUIT", "TERM")
    place.init(INIT, "restart")
    equal(place.told()[:2], ["signal QUIT", "start"])
    assert "kill" not in place.told(), "procd's kill is a SIGTERM"
    equal(child.stdout.read(), "QUIT\n")


def test_restart_kills_who_is_deaf(place):
    place.write("config/narrowgate", UPLINK)
    child = deaf(place)
    place.init(INIT, "restart", NARROWGATE_PATIENCE="1")
    equal(child.wait(10), -signal.SIGKILL)
    assert "kill" not in place.told() and "start" in place.told()


def test_restart_starts_what_does_not_run(place):
    place.write("config/narrowgate", UPLINK)
    place.init(INIT, "restart")
    equal(place.told()[:2], ["start", "instance"])


def test_stop_takes_down(place):
    place.init(INIT, "stop")
    equal(place.told(), ["kill"])


def test_an_upgrade_does_not_stop(place):
    place.init(INIT, "stop", PKG_UPGRADE="1")
    equal(place.told(), [])
    place.init(INIT, "stop", PKG_UPGRADE="0")
    equal(place.told(), ["kill"])


def test_the_guard_stands_before_firewall_and_network_and_goes_after_them(place):
    text = open(INIT).read()
    assert "\nSTART=18\n" in text and "\nSTOP=" not in text


def patient(place, *signals):
    """A process that says the first of the signals that comes, and leaves."""
    traps = "; ".join(f"trap 'echo {s}; exit' {s}" for s in signals)
    child = place.process("bash", "-c", f"{traps}; echo ready; while :; do read -t 1 <> <(:); done")
    equal(child.stdout.readline(), "ready\n")
    return child


def deaf(place):
    child = place.process("bash", "-c", "trap '' QUIT TERM; echo ready; while :; do read -t 1 <> <(:); done")
    equal(child.stdout.readline(), "ready\n")
    return child
