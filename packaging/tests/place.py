"""A place for one test: a directory with a config, a netifd, a procd and a log, and the way to run a script in it."""

import os, shutil, signal, socket, subprocess, tempfile, time

HERE = os.path.dirname(os.path.abspath(__file__))
PACKAGING = os.path.dirname(HERE)
TREE = os.path.dirname(PACKAGING)
OPENWRT = f"{PACKAGING}/openwrt/narrowgate/files"
GLUON = f"{PACKAGING}/gluon/gluon-narrowgate/files"
GLUON_DNS = f"{PACKAGING}/gluon/gluon-narrowgate-dns/files"
# busybox's ash prefers its own applets to the PATH. What it has no applet for is found in the stand-ins.
PATH = f"{HERE}/stand-ins:/usr/sbin:/usr/bin:/sbin:/bin"


class Place:
    def __enter__(self):
        self.dir = tempfile.mkdtemp(prefix="narrowgate-packaging-")
        self.children = []
        self.log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.log.bind("/dev/log")
        for name in ("config", "ubus", "procd", "interface.d", "lib"):
            os.mkdir(self.path(name))
        for script in ("wan-uci", "resolv-conf"):
            os.symlink(f"{OPENWRT}/{script}", self.path("lib", script))
        os.symlink(f"{GLUON}/peers", self.path("lib", "peers"))
        self.env = {
            "PATH": PATH,
            "NARROWGATE_UCI": os.environ.get("NARROWGATE_UCI", ""),
            "UCI_DIR": self.path("config"),
            "UBUS_DIR": self.path("ubus"),
            "PROCD_DIR": self.path("procd"),
            "NARROWGATE_LIB": self.path("lib"),
            "NARROWGATE_CONFIG_DIR": self.path("config"),
            "NARROWGATE_CONFIG": self.path("config", "narrowgate"),
            "NARROWGATE_INTERFACE_D": self.path("interface.d"),
            "NARROWGATE_RESOLV_FILE": self.path("var", "gluon", "resolv.conf"),
            "NARROWGATE_RESOLV_CONF": self.path("lib", "resolv-conf"),
            "NARROWGATE_RUN": self.path(),
        }
        return self

    def __exit__(self, *_):
        for child in self.children:
            child.kill()
            child.wait()
        self.log.close()
        os.remove("/dev/log")
        shutil.rmtree(self.dir)

    def path(self, *names):
        return os.path.join(self.dir, *names)

    def write(self, name, text):
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        with open(self.path(name), "w") as out:
            out.write(text)

    def read(self, name):
        with open(self.path(name)) as source:
            return source.read()

    def fixture(self, interface, name):
        shutil.copy(f"{HERE}/fixtures/{name}", self.path("ubus", f"network.interface.{interface}.status"))

    def run(self, *command, fails=False, **env):
        """Runs a script as the router would. Nothing of ours may complain on stderr."""
        done = subprocess.run(["busybox", "ash", *command], env=self.env | env, capture_output=True, text=True, timeout=180)
        assert (done.returncode != 0) == fails, f"exit {done.returncode}: {done.stderr}"
        assert fails or not done.stderr, done.stderr
        return done.stdout

    def init(self, script, action, **env):
        return self.run(f"{HERE}/stand-ins/rc.common", script, action, **env)

    def uci(self, *args):
        done = subprocess.run([f"{HERE}/stand-ins/uci", *args], env=self.env, capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else None

    def logged(self):
        """What went to the log since the last time."""
        text = ""
        while True:
            try:
                text += self.log.recv(2000, socket.MSG_DONTWAIT).decode() + "\n"
            except BlockingIOError:
                return text

    def told(self):
        """What procd was told."""
        return self.read("procd/log").splitlines() if os.path.exists(self.path("procd/log")) else []

    def process(self, *command):
        """A process that procd knows as the service's."""
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.children.append(child)
        self.write("procd/pid", str(child.pid))
        self.write("ubus/service.list", '{"narrowgate": {"instances": {"instance1": {"running": true, "pid": %d}}}}' % child.pid)
        return child


def until(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.01)


def equal(found, wanted):
    assert found == wanted, f"\nfound:  {found!r}\nwanted: {wanted!r}"
