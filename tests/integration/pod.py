# SPDX-License-Identifier: Apache-2.0
"""Pods, for the tests of several containers in a sandbox."""
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
