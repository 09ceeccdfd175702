# SPDX-License-Identifier: Apache-2.0
"""Helpers of the life cycle tests: a container by its commands, consoles, and a check against JSON schemas."""
import array, json, os, re, signal, socket, subprocess, time
from it import *

STATE = os.path.join(WORK, "state")


def bailey(*args, flags=(), input=None, timeout=60, env=None):
    """Runs a command of the runtime; what it leaves running is the container's."""
    p = subprocess.run([BAILEY, "--root", STATE] + list(flags) + [str(a) for a in args], stdin=subprocess.DEVNULL if input is None else None,
                       input=input, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout, text=True, env=env)
    return Result(p.returncode if p.returncode >= 0 else 128 - p.returncode, p.stdout, p.stderr)


def good(*args, **kw):
    r = bailey(*args, **kw)
    assert r.status == 0, "%s: %r" % (" ".join(map(str, args)), r)
    return r


def refused(text, *args, status=1, **kw):
    r = bailey(*args, **kw)
    assert r.status == status and text in r.err, "%s: %r, expected status %d and %r" % (" ".join(map(str, args)), r, status, text)
    return r


class Container:
    """Created; output goes to files, so that nobody holds a pipe."""

    def __init__(self, args, ident=None, start=True, flags=(), edit=None, options=(), **process):
        self.id = ident or new_id()
        conf = config(args, **process)
        if edit:
            edit(conf)
        self.bundle = bundle(conf)
        self.flags = flags
        self.out, self.pid_file = os.path.join(WORK, self.id + ".out"), os.path.join(WORK, self.id + ".pid")
        with open(self.out, "w") as out:
            p = subprocess.run([BAILEY, "--root", STATE] + list(flags) + ["create", "--bundle", self.bundle, "--pid-file", self.pid_file] +
                               list(options) + [self.id], stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=60)
        assert p.returncode == 0, "create: %s" % self.output()
        with open(self.pid_file) as f:
            text = f.read()
        assert text.isdigit(), "the pid file holds %r" % text
        self.pid = int(text)
        if start:
            good("start", self.id)

    def output(self):
        with open(self.out, errors="replace") as f:
            return f.read()

    def state(self):
        return json.loads(good("state", self.id).out)

    def status(self):
        return self.state()["status"]

    def await_output(self, text, timeout=20):
        until(lambda: text in self.output(), timeout, "%r in the output %r" % (text, self.output()))

    def end(self, timeout=20):
        """Waits for the reported process, whose subreaper we are; its exit status."""
        return reap(self.pid, timeout)

    def delete(self, force=True):
        good("delete", *(["--force"] if force else []), self.id)


def until(fn, timeout, what):
    """For what nothing tells of."""
    end = time.monotonic() + timeout
    while not fn():
        assert time.monotonic() < end, "waited in vain for " + what
        time.sleep(0.005)


def reap(pid, timeout=20):
    fd = os.pidfd_open(pid)
    try:
        assert select.select([fd], [], [], timeout)[0], "process %d goes on" % pid
    finally:
        os.close(fd)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return status if status >= 0 else 128 - status


class ConsoleSocket:
    """Where the terminal's master is sent to."""

    def __init__(self):
        self.path = os.path.join(WORK, "console.sock")
        if os.path.exists(self.path):
            os.unlink(self.path)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(self.path)
        self.listener.listen(1)
        self.listener.settimeout(20)

    def receive(self):
        """(name, descriptor of the master)"""
        s, _ = self.listener.accept()
        data, anc, _, _ = s.recvmsg(4096, socket.CMSG_SPACE(16 * 4))
        fds = array.array("i")
        for level, kind, content in anc:
            assert (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
            fds.frombytes(content)
        assert len(fds) == 1, "%d descriptors came" % len(fds)
        s.close()
        self.listener.close()
        return data.decode(), fds[0]


def read_until(fd, pattern, timeout=20):
    seen, end = "", time.monotonic() + timeout
    while not re.search(pattern, seen):
        left = end - time.monotonic()
        assert left > 0 and select.select([fd], [], [], left)[0], "never saw %r in %r" % (pattern, seen)
        try:
            data = os.read(fd, 65536)
        except OSError:
            data = b""
        assert data, "ended before %r: %r" % (pattern, seen)
        seen += data.decode(errors="replace")
    return seen


class Schema:
    """As much of JSON schema as the specification's files use."""

    def __init__(self, name):
        self.dir = os.path.join(TOP, "tests/data/oci")
        self.name = name

    def load(self, name):
        with open(os.path.join(self.dir, name)) as f:
            return json.load(f)

    def check(self, value):
        self.walk(value, self.load(self.name), self.name, "value")

    def walk(self, v, s, file, where):
        if "$ref" in s:
            target, _, pointer = s["$ref"].partition("#")
            target = os.path.basename(target) or file
            t = self.load(target)
            for part in [p for p in pointer.split("/") if p]:
                t = t[part]
            self.walk(v, t, target, where)
        types = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "number": (int, float)}
        if "type" in s:
            assert isinstance(v, types[s["type"]]), "%s is %r, expected %s" % (where, v, s["type"])
        for n in s.get("required", []):
            assert n in v, "%s has no %s" % (where, n)
        for n, sub in s.get("properties", {}).items():
            if isinstance(v, dict) and n in v:
                self.walk(v[n], sub, file, where + "." + n)
        if isinstance(v, list) and "items" in s:
            for i, item in enumerate(v):
                self.walk(item, s["items"], file, "%s[%d]" % (where, i))
        if "enum" in s:
            assert v in s["enum"], "%s is %r" % (where, v)
        if "pattern" in s:
            assert re.search(s["pattern"], v), "%s is %r" % (where, v)
        if "minimum" in s:
            assert v >= s["minimum"], "%s is %r" % (where, v)
        for sub in s.get("allOf", []):
            self.walk(v, sub, file, where)
