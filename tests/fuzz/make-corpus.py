#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the seed corpora of gofer_request, control_server and answers: make-corpus.py CORPUS-DIRECTORY."""
import os
import struct
import sys

OPS = """NOP CHANNEL ATTACH WALK CLOSE GETATTR SETATTR OPEN CREATE TMPFILE MKDIR MKNOD SYMLINK LINK UNLINK
RENAME READLINK READDIR READ WRITE FSYNC FALLOCATE SEEK STATFS GETXATTR SETXATTR LISTXATTR REMOVEXATTR
CONNECT""".split()
ANY = 0xFFFFFFFF
ROOT, SECOND, THIRD, FOURTH = (0x10000 + i for i in range(4))


def request(op, fid=0, fid2=0, name=b"", name2=b"", data=b"", flags=0, mode=0, count=0, off=0, arg=0):
    size = 64 + len(name) + len(name2) + len(data)
    head = struct.pack("<IIHHHHIIIIIIIIQQ", size, 1, OPS.index(op), len(name), len(name2), 0, len(data),
                       fid, fid2, flags, mode, ANY, ANY, count, off, arg)
    message = head + name + name2 + data
    return struct.pack("<H", len(message)) + message


def setattr_data(valid):
    return struct.pack("<IIIIQqqII", valid, 0o644, 0, 0, 100, 1, 2, 3, 4)


ATTACHED = request("ATTACH")
FILE = request("CREATE", ROOT, name=b"f", flags=2, mode=0o644)
GOFER = {
    "walk": ATTACHED + FILE + request("WALK", ROOT, name=b"f") + request("GETATTR", SECOND),
    "dirs": ATTACHED + request("MKDIR", ROOT, name=b"d", mode=0o755) + request("MKDIR", SECOND, name=b"e", mode=0o700)
    + request("RENAME", ROOT, ROOT, b"d", b"g") + request("UNLINK", SECOND, name=b"e", flags=0x200),
    "links": ATTACHED + FILE + request("LINK", ROOT, SECOND, b"l") + request("SYMLINK", ROOT, name=b"s", data=b"../x")
    + request("READLINK", THIRD) + request("UNLINK", ROOT, name=b"l"),
    "data": ATTACHED + FILE + request("OPEN", SECOND, flags=2) + request("WRITE", THIRD, data=b"hello", off=3)
    + request("READ", THIRD, count=100) + request("FALLOCATE", THIRD, off=0, arg=50) + request("SEEK", THIRD, flags=3)
    + request("FSYNC", THIRD, flags=1),
    "readdir": ATTACHED + FILE + request("OPEN", ROOT) + request("READDIR", THIRD, count=1000),
    "attr": ATTACHED + FILE + request("SETATTR", SECOND, data=setattr_data(255)) + request("STATFS", ROOT),
    "xattr": ATTACHED + FILE + request("SETXATTR", SECOND, name=b"user.a", data=b"v")
    + request("GETXATTR", SECOND, name=b"user.a", count=9) + request("LISTXATTR", SECOND, count=99)
    + request("REMOVEXATTR", SECOND, name=b"user.a"),
    "nodes": ATTACHED + request("MKNOD", ROOT, name=b"p", mode=0o10644) + request("MKNOD", ROOT, name=b"q", mode=0o140644)
    + request("CONNECT", THIRD, arg=1) + request("OPEN", SECOND),
    "close": ATTACHED + FILE + request("CLOSE", data=struct.pack("<II", ROOT, SECOND)) + request("GETATTR", ROOT),
    "tmpfile": ATTACHED + request("TMPFILE", ROOT, flags=2, mode=0o600) + request("LINK", ROOT, SECOND, b"t"),
    "climb": ATTACHED + request("WALK", ROOT, name=b"..") + request("WALK", ROOT, name=b"a/../../canary")
    + request("MKDIR", ROOT, name=b"../canary/x", mode=0o755),
}



# ---- the control protocol (wire/control.h) ----

START, SIGNAL, FDS, CREATE, EXEC, WAIT, PS, STATE, EVENTS = 1, 2, 6, 7, 8, 9, 10, 13, 17
READY, FAILED, EXIT, REPLY = 64, 65, 66, 67


def control(type, id=1, error=0, flags=0, signal=0, pid=0, status=0, more=0, container=b"", values=(), text=b""):
    def string(s):
        return struct.pack("<I", len(s)) + s + b"\0"
    values = list(values) + [0] * (16 - len(values))
    return (struct.pack("<IHIIiIIIIHHIB", 0x6C746362, 2, type, id, error, flags, signal, pid, 0, 0, 0, status, more)
            + string(container) + struct.pack("<16Q", *values) + string(text))


def client(what, number=0, packet=b"", fds=0):
    op = number << 4 | {"close": 0, "read": 1, "send": 2, "open": 0, "later": 5}[what]
    return bytes([op]) + (struct.pack("<BH", fds, len(packet)) + packet if what == "send" else b"")


def asks(*packets, number=0, fds=0):
    return client("open", number) + b"".join(client("send", number, p, fds) for p in packets)


SERVER = {
    "state": asks(control(STATE), control(STATE, 2, container=b"box")) + client("read") + client("close"),
    "long": asks(control(PS, values=[150000]), control(PS, 2, values=[1])) + client("read"),
    "waits": asks(control(WAIT), control(EVENTS, 2, pid=3), control(EXEC, 3)) + client("read") * 6,
    "gone": asks(control(WAIT, flags=2), control(EVENTS, 2, pid=2)) + client("close") + asks(control(STATE)),
    "fds": asks(control(FDS), control(FDS), control(CREATE), fds=3) + client("read"),
    "kept": asks(control(FDS), fds=200) + asks(control(FDS), control(EXEC), number=1, fds=7) + client("close"),
    "stale": asks(control(FDS), fds=9) + client("later") * 2 + asks(control(STATE), number=1) + client("send", 0, b"x"),
    "many": b"".join(asks(control(STATE), number=n) for n in range(8)) + client("read", 3) + client("close", 4),
    "wrong": asks(control(READY)) + asks(b"nonsense", number=1) + asks(control(SIGNAL, signal=9, flags=1), number=2),
}

LINE = b"1 2 3 0 7 S 1 99 5 pts/0 sh sh -c true\n"


def says(*packets):
    return b"".join(struct.pack("<H", len(p)) + p for p in packets)


ANSWERS = {
    "state": b"a" + says(control(REPLY, values=[1, 0, 5]), control(REPLY, 9), control(REPLY, 2, error=-3, text=b"gone")),
    "ps": b"p" + says(control(REPLY, text=LINE, more=1), control(REPLY, text=LINE + b"\n\x1b[2J"), control(REPLY, 2)),
    "ps-far": b"p" + says(control(REPLY, text=b"1 2 3 0 7 S 1 %d 5 ? x\n" % (2 ** 63 - 1))),
    "ps-refused": b"p" + says(control(REPLY, error=-3)),
    "sandbox": b"s" + says(control(READY, 0), control(EXIT, 0, status=0x100)),
    "sandbox-failed": b"s" + says(control(FAILED, 0, error=-2, text=b"exec: \x1b]0;x\x07\x7f")),
    "nonsense": b"a" + says(b"", b"x", control(REPLY)[:-1]),
}


def main(top):
    def write(corpus, name, data):
        os.makedirs(os.path.join(top, corpus), exist_ok=True)
        with open(os.path.join(top, corpus, name), "wb") as f:
            f.write(data)

    for name, body in GOFER.items():
        for mode, suffix in ((0, ""), (1, "-readonly"), (2, "-kept")):
            write("gofer", name + suffix, bytes([mode]) + body)
    for name, body in SERVER.items():
        write("control", name, body)
    for name, body in ANSWERS.items():
        write("answers", name, body)


main(sys.argv[1])
