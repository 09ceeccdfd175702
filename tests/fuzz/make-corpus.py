#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the seed corpus of gofer_request: make-corpus.py DIR."""
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


START = request("ATTACH")
FILE = request("CREATE", ROOT, name=b"f", flags=2, mode=0o644)
SEEDS = {
    "walk": START + FILE + request("WALK", ROOT, name=b"f") + request("GETATTR", SECOND),
    "dirs": START + request("MKDIR", ROOT, name=b"d", mode=0o755) + request("MKDIR", SECOND, name=b"e", mode=0o700)
    + request("RENAME", ROOT, ROOT, b"d", b"g") + request("UNLINK", SECOND, name=b"e", flags=0x200),
    "links": START + FILE + request("LINK", ROOT, SECOND, b"l") + request("SYMLINK", ROOT, name=b"s", data=b"../x")
    + request("READLINK", THIRD) + request("UNLINK", ROOT, name=b"l"),
    "data": START + FILE + request("OPEN", SECOND, flags=2) + request("WRITE", THIRD, data=b"hello", off=3)
    + request("READ", THIRD, count=100) + request("FALLOCATE", THIRD, off=0, arg=50) + request("SEEK", THIRD, flags=3)
    + request("FSYNC", THIRD, flags=1),
    "readdir": START + FILE + request("OPEN", ROOT) + request("READDIR", THIRD, count=1000),
    "attr": START + FILE + request("SETATTR", SECOND, data=setattr_data(255)) + request("STATFS", ROOT),
    "xattr": START + FILE + request("SETXATTR", SECOND, name=b"user.a", data=b"v")
    + request("GETXATTR", SECOND, name=b"user.a", count=9) + request("LISTXATTR", SECOND, count=99)
    + request("REMOVEXATTR", SECOND, name=b"user.a"),
    "nodes": START + request("MKNOD", ROOT, name=b"p", mode=0o10644) + request("MKNOD", ROOT, name=b"q", mode=0o140644)
    + request("CONNECT", THIRD, arg=1) + request("OPEN", SECOND),
    "close": START + FILE + request("CLOSE", data=struct.pack("<II", ROOT, SECOND)) + request("GETATTR", ROOT),
    "tmpfile": START + request("TMPFILE", ROOT, flags=2, mode=0o600) + request("LINK", ROOT, SECOND, b"t"),
    "climb": START + request("WALK", ROOT, name=b"..") + request("WALK", ROOT, name=b"a/../../canary")
    + request("MKDIR", ROOT, name=b"../canary/x", mode=0o755),
}

for name, body in SEEDS.items():
    for mode, suffix in ((0, ""), (1, "-readonly"), (2, "-kept")):
        with open(os.path.join(sys.argv[1], name + suffix), "wb") as f:
            f.write(bytes([mode]) + body)
