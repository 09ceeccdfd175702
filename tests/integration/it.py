# SPDX-License-Identifier: Apache-2.0
"""Helpers of the integration tests: cases, bundles, runs with nothing left behind, and a terminal driver."""
import copy, ctypes, fcntl, json, os, pty, re, select, shutil, signal, struct, subprocess, sys, termios, time, traceback

TOP, BUILD, WORK = os.environ["TOP"], os.environ["BUILD"], os.environ["WORK"]
BAILEY = os.environ["BAILEY"]
IS_BAILEY = os.path.basename(BAILEY).startswith("bailey")
CASES = []
CAPS = ["CAP_" + c for c in """CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP
NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE""".split()]

# What a runtime leaves behind becomes our child.
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)


class Skip(Exception):
    pass


def case(fn=None, bailey_only=False):
    """Marks a function as a test case."""
    def add(f):
        CASES.append((f.__name__, f, bailey_only))
        return f
    return add(fn) if fn else add


def main():
    words = sys.argv[1:]
    bad = 0
    for name, fn, bailey_only in CASES:
        if words and not any(w in name for w in words):
            continue
        try:
            if bailey_only and not IS_BAILEY:
                raise Skip("not for other runtimes")
            fn()
            print("ok - " + name, flush=True)
        except Skip as e:
            print("ok - %s # SKIP %s" % (name, e), flush=True)
        except Exception as e:
            bad += 1
            clean_up()
            text = str(e) if isinstance(e, AssertionError) and str(e) else "".join(
                traceback.format_exception_only(type(e), e)).strip() + " at line %d" % traceback.extract_tb(e.__traceback__)[-1].lineno
            print("not ok - %s: %s" % (name, " / ".join(text.splitlines())[-900:]), flush=True)
    sys.exit(1 if bad else 0)


def clean_up():
    """After a failed case: ends what it left, so that the next case starts clean."""
    for t in list(_terminals):
        t.close()
    nothing_left(kill=True)
    state = os.path.join(WORK, "state")
    if not IS_BAILEY and os.path.isdir(state):
        for ident in os.listdir(state):
            subprocess.run([BAILEY, "--root", state, "delete", "-f", ident], stderr=subprocess.DEVNULL)
    subprocess.run(["rm", "-rf", "--one-file-system", state])


_terminals = set()


def sanitized():
    """True for a build with sanitizers, whose sentry takes many times the memory."""
    with open(os.path.join(BUILD, "meson-info/intro-buildoptions.json")) as f:
        return any(o["name"] == "b_sanitize" and o["value"] != "none" for o in json.load(f))


def equal(got, want, what=""):
    assert got == want, "%s is %r, expected %r" % (what or "result", got, want)


def contains(text, part):
    assert part in text, "%r is not in %r" % (part, text[-600:])


_made = {}


def busybox_root():
    """A root filesystem of busybox alone, made once a test."""
    if "busybox" not in _made:
        root = os.path.join(WORK, "busybox-root")
        for d in ("bin", "sbin", "proc", "dev", "sys", "tmp", "etc", "root", "usr/bin", "var"):
            os.makedirs(os.path.join(root, d))
        os.chmod(os.path.join(root, "tmp"), 0o1777)
        busybox = shutil.which("busybox") or "/bin/busybox"
        shutil.copy2(busybox, os.path.join(root, "bin/busybox"))
        for name in subprocess.run([busybox, "--list"], stdout=subprocess.PIPE, text=True).stdout.split():
            if name != "busybox":
                os.symlink("busybox", os.path.join(root, "bin", name))
        with open(os.path.join(root, "etc/passwd"), "w") as f:
            f.write("root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/tmp:/bin/sh\n")
        with open(os.path.join(root, "etc/group"), "w") as f:
            f.write("root:x:0:\nuser:x:1000:\n")
        _made["busybox"] = root
    return _made["busybox"]


def debian_root():
    """A Debian root: the host's overlay over the cached one, so that the cache stays as it was."""
    if "debian" not in _made:
        r = subprocess.run([os.path.join(TOP, "tests/integration/debian-root"), BUILD], stdout=subprocess.PIPE, text=True)
        if r.returncode:
            raise Skip("no Debian root (debootstrap and the network are needed once)")
        b = os.path.join(WORK, "debian")
        for d in ("root", "upper", "work"):
            os.makedirs(os.path.join(b, d))
        root = os.path.join(b, "root")
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", "lowerdir=%s,upperdir=%s/upper,workdir=%s/work" % (
            r.stdout.strip(), b, b), root], check=True)
        import atexit
        atexit.register(lambda: subprocess.run(["umount", root]))
        _made["debian"] = root
    return _made["debian"]


def config(args, **process):
    c = {
        "ociVersion": "1.0.2",
        "process": {
            "args": args, "cwd": "/", "user": {"uid": 0, "gid": 0}, "terminal": False,
            "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "TERM=xterm"],
            "capabilities": {k: CAPS for k in ("bounding", "effective", "permitted")},
            "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 1024}],
        },
        "root": {"path": "", "readonly": False},
        "hostname": "guest",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "nodev", "mode=1777"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["mode=1777"]},
        ],
        "linux": {"namespaces": [{"type": t} for t in ("pid", "ipc", "uts", "mount", "network")]},
    }
    c["process"].update(process)
    return c


_serial = [0]


def new_id():
    _serial[0] += 1
    return "it-%d-%d" % (os.getpid(), _serial[0])


def bundle(conf, root=None):
    """Writes a bundle; conf may be a dict or the text of config.json itself."""
    b = os.path.join(WORK, "bundle-%d" % (_serial[0] + 1))
    os.makedirs(b, exist_ok=True)
    if isinstance(conf, dict):
        conf = copy.deepcopy(conf)
        if isinstance(conf["root"], dict) and not conf["root"].get("path"):
            conf["root"]["path"] = root or busybox_root()
        conf = json.dumps(conf)
    if conf is not None:
        with open(os.path.join(b, "config.json"), "w") as f:
            f.write(conf)
    return b


def command(b, ident=None, flags=(), root=None):
    return [BAILEY, "--root", root or os.path.join(WORK, "state")] + list(flags) + ["run", "--bundle", b, new_id() if ident is None else ident]


class Result:
    def __init__(self, status, out, err):
        self.status, self.out, self.err = status, out, err

    def __repr__(self):
        return "status %s, out %r, err %r" % (self.status, self.out[-300:], self.err[-300:])


def execute(cmd, input=None, timeout=60, env=None):
    """Runs a command to its end; kills it (a failure) on timeout. Then nothing may be left behind."""
    p = subprocess.Popen(cmd, stdin=subprocess.PIPE if input is not None else subprocess.DEVNULL, stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, env=env, start_new_session=True)
    try:
        out, err = p.communicate(input.encode() if isinstance(input, str) else input, timeout)
    except subprocess.TimeoutExpired:
        os.killpg(p.pid, signal.SIGKILL)
        try:
            out, err = p.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            out, err = b"", b""
        nothing_left(kill=True)
        raise AssertionError("timed out after %d s; out %r, err %r" % (timeout, out[-300:], err[-300:]))
    nothing_left()
    status = p.returncode if p.returncode >= 0 else 128 - p.returncode
    return Result(status, out.decode(errors="replace"), err.decode(errors="replace"))


def nothing_left(kill=False):
    """No process of the run is left: all that it started would now be our children."""
    for _ in range(200):
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.01)
        except ChildProcessError:
            break
    else:
        left = []
        for d in os.listdir("/proc"):
            if d.isdigit():
                try:
                    stat = open("/proc/%s/stat" % d).read()
                    if int(stat.rsplit(")", 1)[1].split()[1]) == os.getpid():
                        left.append((int(d), stat.split()[1]))
                except OSError:
                    pass
        for pid, _ in left:
            os.kill(pid, signal.SIGKILL)
        if not kill:
            raise AssertionError("processes left behind: %r" % left)
    below = [l.split()[4] for l in open("/proc/self/mountinfo")]
    state = os.path.join(WORK, "state")
    assert not any(m.startswith(state + "/") for m in below), "mounts left behind below %s" % state
    if os.path.isdir(state) and not kill:
        assert not os.listdir(state), "left in --root: %r" % os.listdir(state)


def sh(script, input=None, timeout=60, flags=(), root=None, edit=None, **process):
    """Runs a shell script in a container; edit may change the configuration."""
    conf = config(["/bin/sh", "-c", script], **process)
    if edit:
        edit(conf)
    return execute(command(bundle(conf, root), flags=flags), input, timeout)


def outputs(script, want, **kw):
    r = sh(script, **kw)
    assert r.status == 0 and r.out == want, "%r, expected out %r" % (r, want)


class Terminal:
    """Drives a command on a terminal of our own."""

    def __init__(self, cmd, rows=24, cols=80, env=None):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.execve(cmd[0], cmd, env or dict(os.environ, TERM="xterm"))
        _terminals.add(self)
        self.seen = ""
        self.at = 0
        self.resize(rows, cols)

    def resize(self, rows, cols):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def send(self, text):
        os.write(self.fd, text.encode())

    def settle(self):
        """Gives a program the time to change the terminal's mode, which no output tells of."""
        time.sleep(0.2)

    def took(self, data):
        if b"\x1b[6n" in data:  # where is the cursor? A real terminal answers.
            os.write(self.fd, b"\x1b[1;1R")
        self.seen += data.decode(errors="replace")

    def expect(self, pattern, timeout=20):
        """Waits until the regular expression matches what came since the last match."""
        end = time.monotonic() + timeout
        while True:
            m = re.search(pattern, self.seen[self.at:])
            if m:
                self.at += m.end()
                return m
            left = end - time.monotonic()
            if left <= 0:
                raise AssertionError("never saw %r; since the last match: %r" % (pattern, self.seen[self.at:][-500:]))
            if select.select([self.fd], [], [], left)[0]:
                try:
                    data = os.read(self.fd, 65536)
                except OSError:
                    data = b""
                if not data:
                    raise AssertionError("ended before %r; since the last match: %r" % (pattern, self.seen[self.at:][-500:]))
                self.took(data)

    def wait(self, timeout=20, alone=True):
        """The exit status, once all output has been read; `alone`: nothing else of ours is to be left then."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if select.select([self.fd], [], [], 0.05)[0]:
                try:
                    self.took(os.read(self.fd, 65536))
                except OSError:
                    pass
            pid, st = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                os.close(self.fd)
                _terminals.discard(self)
                if alone:
                    nothing_left()
                return os.waitstatus_to_exitcode(st)
        self.close()
        raise AssertionError("did not end; last output %r" % self.seen[-300:])

    def close(self):
        _terminals.discard(self)
        try:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            os.close(self.fd)
        except OSError:
            pass
        nothing_left(kill=True)
