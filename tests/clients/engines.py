# SPDX-License-Identifier: Apache-2.0
"""Container engines with daemons, data and networks of their own: containerd (through its runc shim), podman and docker, all with
the runtime under test. Everything lives below one directory, in a mount and a network namespace of the test's own."""
import ctypes, glob, json, os, shutil, signal, subprocess, time

import image

LIBC = ctypes.CDLL(None, use_errno=True)
IMAGE, PAUSE = "localhost/bb:1", "localhost/pause:1"
CNI = "/usr/lib/cni"


def isolate():
    """Namespaces of our own: bridges, firewall rules and mounts go with us."""
    if LIBC.unshare(0x40020000) != 0:  # CLONE_NEWNET | CLONE_NEWNS
        raise OSError(ctypes.get_errno(), "unshare")
    LIBC.mount(None, b"/", None, 0x44000, None)  # private
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def missing(*programs):
    return [p for p in programs if not (os.path.exists(p) if "/" in p else shutil.which(p))]


def make_layer(directory):
    """busybox as a root filesystem, packed."""
    root = os.path.join(directory, "rootfs")
    for d in ("bin", "etc", "proc", "sys", "dev", "tmp", "root", "var"):
        os.makedirs(os.path.join(root, d))
    os.chmod(os.path.join(root, "tmp"), 0o1777)
    shutil.copy2("/bin/busybox", os.path.join(root, "bin/busybox"))
    for name in subprocess.run(["/bin/busybox", "--list"], stdout=subprocess.PIPE, text=True).stdout.split():
        if name != "busybox":
            os.symlink("busybox", os.path.join(root, "bin", name))
    for name, text in (("passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n"), ("group", "root:x:0:\nnogroup:x:65534:\n")):
        with open(os.path.join(root, "etc", name), "w") as f:
            f.write(text)
    layer = os.path.join(directory, "layer.tar")
    subprocess.run(["tar", "-C", root, "-cf", layer, "."], check=True)
    image.make(layer, IMAGE, os.path.join(directory, "bb.tar"), ["sh"])
    return layer


class Engine:
    """A client, by its common arguments, and the daemon behind it, if there is one. `wrap` makes a command line one that runs
    elsewhere."""

    def __init__(self, directory, client, daemon=None, env=None, wrap=list):
        client, daemon = wrap(client), daemon and wrap(daemon)
        self.dir, self.client, self.env = directory, client, dict(os.environ, **(env or {}))
        self.process = self.groups = None
        if daemon:
            self.log = open(os.path.join(directory, "log"), "w")
            self.process = subprocess.Popen(daemon, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, env=self.env,
                                            start_new_session=True, preexec_fn=lambda: LIBC.prctl(1, signal.SIGTERM))  # ends with us

    def run(self, *args, timeout=60):
        p = subprocess.run(self.client + list(args), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                           errors="replace", timeout=timeout, env=self.env)
        return p.returncode, p.stdout

    def expect(self, status, text, *args):
        got, out = self.run(*args)
        assert got == status and text in out, "%s: status %d, %r; expected %d, %r" % (" ".join(args), got, out[-500:], status, text)
        return out

    def terminal(self, status, text, *args):
        """The same with a terminal, which script(1) gives it."""
        p = subprocess.run(["script", "-qec", " ".join(self.client + ["'%s'" % a if " " in a else a for a in args]), "/dev/null"], stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", timeout=60, env=self.env)
        assert p.returncode == status and text in p.stdout, "%s: status %d, %r" % (" ".join(args), p.returncode, p.stdout[-500:])

    def await_answer(self, *args, text="", seconds=30):
        end = time.time() + seconds
        while True:
            status, out = self.run(*args)
            if status == 0 and text in out:
                return
            assert time.time() < end, "no answer to %s: %s" % (args, out)
            time.sleep(0.05)

    def stop(self):
        if self.process:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for group in glob.glob("/sys/fs/cgroup/*/" + self.groups) + glob.glob("/sys/fs/cgroup/" + self.groups) if self.groups else []:
            os.rmdir(group)


def containerd(directory, runtime, env=None, wrap=list):
    with open(os.path.join(directory, "config.toml"), "w") as f:
        f.write('version = 2\nroot = "%(d)s/root"\nstate = "%(d)s/state"\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
                '[grpc]\naddress = "%(d)s/sock"\n[ttrpc]\naddress = "%(d)s/ttrpc"\n'
                '[plugins."io.containerd.internal.v1.opt"]\npath = "%(d)s/opt"\n' % {"d": directory})
    namespace = "clients%d" % os.getpid()  # is part of the control groups' names
    e = Engine(directory, ["ctr", "-a", directory + "/sock", "-n", namespace], ["containerd", "--config", directory + "/config.toml"], env, wrap)
    e.groups = namespace
    e.run_options = ["--runtime", "io.containerd.runc.v2", "--runc-binary", runtime, "--runc-root", directory + "/rt"]
    e.await_answer("version")
    return e


def podman(directory, runtime, cgroups="cgroupfs", wrap=list):
    conf = os.path.join(directory, "containers.conf")
    backend = "netavark" if os.path.exists("/usr/lib/podman/netavark") else "cni" # podman 5 has no cni any more
    with open(conf, "w") as f:
        f.write('[containers]\ndefault_ulimits = ["nofile=1024:1024","nproc=1024:1024"]\nlog_driver = "k8s-file"\n'
                '[engine]\ncgroup_manager = "%s"\nevents_logger = "file"\ninfra_image = "%s"\n'
                '[network]\nnetwork_backend = "%s"\ncni_plugin_dirs = ["%s"]\n' % (cgroups, PAUSE, backend, CNI))
    args = ["podman"]
    for option, name in (("--root", "root"), ("--runroot", "run"), ("--tmpdir", "tmp"), ("--network-config-dir", "net"), ("--volumepath", "vol")):
        args += [option, os.path.join(directory, name)]
    return Engine(directory, args + ["--storage-driver", "overlay", "--runtime", runtime], env={"CONTAINERS_CONF": conf}, wrap=wrap)


def docker(directory, runtime, cgroups="cgroupfs", wrap=list, more={}):
    """`runtime`: a path, or several by name. `more` settings of the daemon go over ours."""
    runtimes = runtime if isinstance(runtime, dict) else {"tested": runtime}
    sock = "unix://%s/sock" % directory
    with open(os.path.join(directory, "daemon.json"), "w") as f:
        json.dump(dict({"data-root": directory + "/data", "exec-root": directory + "/exec", "pidfile": directory + "/pid", "hosts": [sock],
                   "storage-driver": "overlay2", "bip": "10.79.0.1/24", "exec-opts": ["native.cgroupdriver=" + cgroups],
                   "runtimes": {n: {"path": p} for n, p in runtimes.items() if n != "runc"},
                   "default-runtime": next((n for n in runtimes if n != "runc"), "runc")}, **more), f)
    e = Engine(directory, ["docker"], ["dockerd", "--config-file", directory + "/daemon.json"], env={"DOCKER_HOST": sock}, wrap=wrap)
    e.await_answer("info")
    return e
