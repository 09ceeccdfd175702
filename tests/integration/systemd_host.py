# SPDX-License-Identifier: Apache-2.0
"""A systemd of its own for tests: the real one, as the first process of new PID, mount, cgroup, network, UTS and IPC
namespaces. It sees the host's files read-only (but for the test's directory, /tmp and /var/tmp), units of ours alone, and the control groups
below one that is made for it, as a host with version 1 (or hybrid) or with version 2 alone."""
import os, shutil, signal, subprocess, tempfile, time
from it import WORK, Skip

ROOT = "/sys/fs/cgroup"
UNITS = {
    "test.target": "[Unit]\nRequires=dbus.socket dbus.service\nDefaultDependencies=no\nAllowIsolate=yes\n",
    "dbus.socket": "[Unit]\nDefaultDependencies=no\n[Socket]\nListenStream=/run/dbus/system_bus_socket\n",
    "dbus.service": "[Unit]\nDefaultDependencies=no\nRequires=dbus.socket\nAfter=dbus.socket\n[Service]\nType=notify\n"
                    "ExecStart=/usr/bin/dbus-daemon --system --address=systemd: --nofork --nopidfile --syslog-only\n",
}
TARGETS = {name + ".target": "[Unit]\nDefaultDependencies=no\n" for name in ("sysinit", "basic", "shutdown", "exit", "umount", "final")}

# An ordinary user's systemd, and a bus of the user's.
USER = 1000
USER_SERVICE = """[Unit]
DefaultDependencies=no
After=dbus.service
[Service]
User=%%i
Slice=user-%%i.slice
Delegate=yes
Type=notify
PassEnvironment=SYSTEMD_GENERATOR_PATH SYSTEMD_ENVIRONMENT_GENERATOR_PATH
Environment=XDG_RUNTIME_DIR=/run/user/%%i HOME=/ SYSTEMD_UNIT_PATH=/run/user/%%i/systemd/transient:%(units)s
ExecStart=%(systemd)s --user --unit=sysinit.target --log-target=null
"""
USER_UNITS = {
    "dbus.socket": "[Unit]\nDefaultDependencies=no\n[Socket]\nListenStream=%t/bus\n",
    "dbus.service": "[Unit]\nDefaultDependencies=no\nRequires=dbus.socket\n[Service]\nType=notify\n"
                    "ExecStart=/usr/bin/dbus-daemon --session --address=systemd: --nofork --nopidfile --syslog-only\n",
}

# As the first process's child: $1 the test's directory, $2 version 2 alone or not, then the mounts of control groups.
INSIDE = r"""
set -e
mount --make-rprivate /
mount -t proc proc /proc
# What is not of a namespace stays the host's.
for d in /proc/sys/fs /proc/sys/kernel /proc/sys/vm; do
    mount --bind $d $d
    mount -o remount,ro,bind $d
done
# Others' mounts of control groups would be found by who looks for the first.
while read -r source path kind rest; do
    case $kind:$path in
    cgroup*:/sys/fs/cgroup*) ;;
    cgroup*) umount -l "$path" || : ;;
    esac
done </proc/self/mounts
for d in /tmp /var/tmp "$1"; do
    mount --bind $d $d
done
mount -o remount,ro,bind /
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/dbus /run/lock
only_v2=$2
shift 2
umount -R /sys/fs/cgroup
if [ $only_v2 = 1 ]; then
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
else
    [ $# = 2 ] && [ "$1" = /sys/fs/cgroup ] || mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
    while [ $# -gt 0 ]; do
        mkdir -p "$1"
        [ -z "$2" ] && mount -t cgroup2 cgroup2 "$1" || mount -t cgroup -o "$2" cgroup "$1"
        shift 2
    done
fi
[ ! -d /etc/systemd ] || mount --bind $work/empty /etc/systemd
exec env -i container=bailey-test PATH=$PATH SYSTEMD_UNIT_PATH=/run/systemd/system.control:/run/systemd/transient:$work/units SYSTEMD_GENERATOR_PATH=$work/empty \
    SYSTEMD_ENVIRONMENT_GENERATOR_PATH=$work/empty $SYSTEMD --system --unit=test.target --log-target=null --show-status=no
"""

# Puts itself into a group of that host's, and goes on as what follows the names of the hierarchies. systemd removes what is empty.
ENTER = """
while [ "$1" != -- ]; do
    tries=50
    until mkdir -p $1$0/commands && echo 0 2>/dev/null >$1$0/commands/cgroup.procs || [ $tries = 0 ]; do
        tries=$((tries - 1))
    done 2>/dev/null
    shift
done
shift
exec "$@"
"""


def mounts():
    """Where control groups are: [(path, options of version 1 or "" for version 2)]."""
    found = []
    with open("/proc/self/mounts") as f:
        for line in f:
            _, path, kind, options = line.split()[:4]
            if path.startswith(ROOT) and kind in ("cgroup", "cgroup2"):
                ours = [o for o in options.split(",") if o not in ("rw", "ro", "nosuid", "nodev", "noexec", "relatime", "xattr",
                                                                   "nsdelegate", "memory_recursiveprot") and "release_agent" not in o]
                found.append((path, "" if kind == "cgroup2" else ",".join(ours)))
    return found


def program():
    for path in ("/usr/lib/systemd/systemd", "/lib/systemd/systemd"):
        if os.path.exists(path):
            return path
    raise Skip("no systemd here")


class Host:
    made = 0

    def __init__(self, only_v2=False):
        systemd = program()
        if not os.path.exists("/usr/bin/dbus-daemon") or not shutil.which("busctl"):
            raise Skip("no dbus-daemon or busctl here")
        self.mounts = mounts()
        if not self.mounts:
            raise Skip("no control groups here")
        Host.made += 1
        self.group = "/tested-systemd-%d-%d" % (os.getpid(), Host.made)
        self.work = tempfile.mkdtemp(dir=WORK)
        user = USER_SERVICE % {"units": os.path.join(self.work, "user"), "systemd": systemd}
        for d, units in (("units", dict(TARGETS, **UNITS, **{"user@.service": user})), ("user", dict(TARGETS, **USER_UNITS)), ("empty", {})):
            os.mkdir(os.path.join(self.work, d))
            for name, text in units.items():
                with open(os.path.join(self.work, d, name), "w") as f:
                    f.write(text)
        v2 = [path for path, options in self.mounts if not options]
        self.dirs = {path: path + self.group for path, _ in self.mounts}
        if only_v2 and not v2:
            raise Skip("no version 2 here")
        try:
            self.make_groups()
        except OSError as e:
            raise Skip("no control groups may be made here: %s" % e)
        args = [a for m in self.mounts for a in m]
        self.p = subprocess.Popen(["unshare", "-m", "-p", "-f", "-u", "-i", "-n", "-C", "--kill-child", "sh", "-c", INSIDE, "sh", WORK,
                                   str(int(only_v2))] + args, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.PIPE, start_new_session=True, preexec_fn=self.enter,
                                  env=dict(os.environ, SYSTEMD=systemd, work=self.work))
        self.pid = None
        try:
            self.wait()
        except BaseException:
            self.close()
            raise

    def make_groups(self):
        for path in self.dirs.values():
            os.makedirs(path + "/commands", exist_ok=True)
            for d, parent in ((path, os.path.dirname(path)), (path + "/commands", path)):
                for name in ("cpuset.cpus", "cpuset.mems"):
                    if os.path.exists(os.path.join(d, name)) and os.path.exists(os.path.join(d, "tasks")):
                        with open(os.path.join(parent, name)) as f, open(os.path.join(d, name), "w") as g:
                            g.write(f.read())

    def enter(self):
        for path in self.dirs.values():
            with open(path + "/cgroup.procs", "w") as f:
                f.write("0")

    def wait(self):
        """Until it answers on the bus."""
        end = time.monotonic() + 30
        while time.monotonic() < end:
            if self.p.poll() is not None:
                raise Skip("systemd does not run here: " + self.p.stderr.read().decode(errors="replace")[-300:])
            if not self.pid:
                with open("/proc/%d/task/%d/children" % (self.p.pid, self.p.pid)) as f:
                    children = f.read().split()
                self.pid = children and int(children[0]) or None
            if self.pid and self.run("busctl", "get-property", "org.freedesktop.systemd1", "/org/freedesktop/systemd1",
                                     "org.freedesktop.systemd1.Manager", "Version").returncode == 0:
                # A group of version 2 that passes controllers on has no processes.
                subprocess.run(["sh", "-c", ENTER.replace("echo 0", "echo %d" % self.p.pid), self.group] + list(self.dirs) + ["--", "true"])
                return
            time.sleep(0.05)
        raise Skip("systemd does not come up here")

    def command(self, *args):
        """The command line that runs one on that host."""
        return (["sh", "-c", ENTER, self.group] + list(self.dirs) +
                ["--", "nsenter", "-t", str(self.pid), "-m", "-p", "-u", "-i", "-n", "-C", "--"] + list(args))

    def run(self, *args, **more):
        """Runs a command on that host."""
        keywords = dict(stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        keywords.update(more)
        return subprocess.run(self.command(*args), **keywords)

    def start_user(self):
        """An ordinary user's systemd, without a bus."""
        for d in (WORK, self.work):
            os.chmod(d, 0o755)
        self.run("install", "-d", "-m", "700", "-o", str(USER), "-g", str(USER), "/run/user/%d" % USER, check=True)
        r = self.run("systemctl", "start", "user@%d.service" % USER)
        if r.returncode:
            raise Skip("no systemd for users here: " + r.stderr)

    def as_user(self, *args):
        return ["setpriv", "--reuid=%d" % USER, "--regid=%d" % USER, "--clear-groups", "env", "-u", "DBUS_SESSION_BUS_ADDRESS",
                "HOME=/", "XDG_RUNTIME_DIR=/run/user/%d" % USER] + list(args)

    def show(self, unit, *properties):
        """Properties of a unit: {name: value}."""
        out = self.run("systemctl", "show", unit, *("--property=" + p for p in properties)).stdout
        return dict(line.split("=", 1) for line in out.splitlines() if "=" in line)

    def close(self):
        if self.p.poll() is None:
            os.kill(self.p.pid, signal.SIGKILL)
        self.p.wait()
        self.p.stderr.close()
        end = time.monotonic() + 20
        for path in self.dirs.values():
            for d, _, _ in os.walk(path, topdown=False):
                while os.path.isdir(d):
                    try:
                        os.rmdir(d)
                    except OSError:
                        if time.monotonic() > end:
                            break
                        time.sleep(0.02)

    def __enter__(self):
        return self

    def __exit__(self, *a):
        self.close()
