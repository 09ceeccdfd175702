# SPDX-License-Identifier: Apache-2.0
"""Pods, for the tests of several containers in a sandbox."""
import os, socket, struct, threading
from life import *

SLEEP = ["/bin/sleep", "1000"]
WORDS = {"cri": ("io.kubernetes.cri.container-type", "io.kubernetes.cri.sandbox-id"),
         "cri-o": ("io.kubernetes.cri-o.ContainerType", "io.kubernetes.cri-o.SandboxID")}


def pod(args=SLEEP, words="cri", edit=None, **kw):
    """A pod's sandbox with its first container."""
    ident = new_id()

    def all_edits(c):
        c["annotations"] = dict(zip(WORDS[words], ("sandbox", ident)))
        if edit:
            edit(c)
    return Container(args, ident=ident, edit=all_edits, **kw)


def member(sandbox, args, words="cri", share=("ipc", "uts", "network"), edit=None, **kw):
    def all_edits(c):
        c["annotations"] = dict(zip(WORDS[words], ("container", sandbox.id)))
        for ns in c["linux"]["namespaces"]:
            if ns["type"] in share:
                ns["path"] = "/proc/%d/ns/%s" % (sandbox.pid, {"network": "net"}.get(ns["type"], ns["type"]))
        if edit:
            edit(c)
    return Container(args, edit=all_edits, **kw)


def finish(*containers):
    for c in containers:
        c.delete()
        reap(c.pid)
    nothing_left()


class FakeSandbox:
    """Stands in for a sandbox's control socket: it says of its containers that they are created, and starts none. `answers`:
    an error and a pid for other requests."""
    HEAD = struct.Struct("<IHIIiIIIIHHIB")  # wire/control.c, up to the id of the container
    START, STATE, SEED, REPLY = 1, 13, 18, 67

    def __init__(self, c, answers=None):
        self.answers = {self.START: (-11, 0), **(answers or {})}
        self.path = os.path.join(STATE, c.id, "control.sock")
        os.rename(self.path, self.path + ".real")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.bind(self.path)
        self.socket.listen(5)
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                s, _ = self.socket.accept()
            except OSError:
                return
            while data := s.recv(65536):
                magic, version, kind, ident = self.HEAD.unpack_from(data)[:4]
                error, pid = self.answers.get(kind, (0, 0))
                s.send(self.HEAD.pack(magic, version, self.REPLY, ident, error, 0, 0, pid, 0, 0, 0, 0, 0) + b"\0" * 5 + bytes(16 * 8) + b"\0" * 5)

    def close(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        os.rename(self.path + ".real", self.path)
