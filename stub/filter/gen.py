#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compiles stub.allow to classic BPF, as C initialisers of struct sock_filter.

usage: gen.py stub.allow layout.h unistd_64.h symbols output.h  (symbols: nm of the stub)
(libseccomp cannot compare the instruction pointer, hence a compiler of our own.)
"""
import re
import sys

LD_ABS, JEQ, JGE, RET = 0x20, 0x15, 0x35, 0x06
ALLOW, TRAP, KILL, NOTIFY, ERRNO = 0x7FFF0000, 0x00030000, 0x80000000, 0x7FC00000, 0x00050000
PARENT_GOOD, EAGAIN, FIRST_ERROR = 4094, 11, 0xFFFFF001
NR, ARCH, IP_LO, IP_HI, ARGS = 0, 4, 8, 12, 16
AUDIT_ARCH_X86_64 = 0xC000003E


class Program:
    """Instructions with symbolic jump targets; all jumps go forwards."""

    def __init__(self):
        self.code = []  # (code, k, true label or None, false label or None) or label string
        self.labels = 0

    def label(self):
        self.labels += 1
        return f"L{self.labels}"

    def emit(self, code, k, jt=None, jf=None):
        self.code.append((code, k, jt, jf))

    def place(self, label):
        self.code.append(label)

    def assemble(self):
        where, index = {}, 0
        for item in self.code:
            if isinstance(item, str):
                where[item] = index
            else:
                index += 1
        out = []
        for item in self.code:
            if isinstance(item, str):
                continue
            code, k, jt, jf = item
            at = len(out)
            off = [where[t] - at - 1 if t else 0 for t in (jt, jf)]
            assert all(0 <= o < 256 for o in off), "jump too far"
            out.append((code, *off, k))
        return out


def parse_condition(text, symbols):
    if text.startswith("at=="):
        return None, "at", [int(symbols[text[4:]], 16) & 0xFFFFFFFF]
    m = re.fullmatch(r"arg([0-5])(\.hi<|\.lo!=|==)([0-9a-fx|]+)", text)
    if not m:
        sys.exit(f"stub.allow: bad condition {text!r}")
    return int(m[1]), m[2], [int(v, 0) for v in m[3].split("|")]


def emit_condition(p, cond, fail):
    arg, op, values = cond
    if op == "at":
        good = p.label()
        p.emit(LD_ABS, IP_LO)
        p.emit(JEQ, values[0], good, fail)
        p.place(good)
        return
    lo, hi = ARGS + 8 * arg, ARGS + 8 * arg + 4
    if op == ".hi<":
        p.emit(LD_ABS, hi)
        good = p.label()
        p.emit(JGE, values[0], fail, good)
        p.place(good)
        return
    if op == ".lo!=":
        p.emit(LD_ABS, lo)
        for v in values:
            good = p.label()
            p.emit(JEQ, v, fail, good)
            p.place(good)
        return
    good = p.label()
    for i, v in enumerate(values):
        following = p.label() if i + 1 < len(values) else fail
        low_equal = p.label()
        p.emit(LD_ABS, lo)
        p.emit(JEQ, v & 0xFFFFFFFF, low_equal, following)
        p.place(low_equal)
        p.emit(LD_ABS, hi)
        p.emit(JEQ, v >> 32, good, following)
        if following != fail:
            p.place(following)
    p.place(good)


def main():
    table, layout, unistd, nm, output = sys.argv[1:6]
    symbols = {f[2]: f[0] for f in (line.split() for line in open(nm)) if len(f) == 3}
    define = dict(re.findall(r"#define (\w+) (0x[0-9a-f]+|\d+)", open(layout).read()))
    numbers = dict(re.findall(r"#define __NR_(\w+) (\d+)", open(unistd).read()))
    rules, order, stops = {}, [], []
    for line in open(table):
        words = line.split("#")[0].split()
        if not words:
            continue
        verb, name = words[0], words[1]
        if verb == "stop":
            stops.append(int(symbols[name], 16) & 0xFFFFFFFF)
            continue
        conds = [parse_condition(c, symbols) for c in words[2:]]
        nr = int(numbers[name] if name in numbers else name)
        if nr not in rules:
            order.append(nr)
        rules.setdefault(nr, []).append((verb, conds))

    text = int(define["STUB_BASE"], 0)
    p = Program()
    p.emit(LD_ABS, ARCH)
    p.emit(JEQ, AUDIT_ARCH_X86_64, None, "kill")
    p.emit(LD_ABS, IP_HI)
    p.emit(JEQ, text >> 32, None, "trap")
    p.emit(LD_ABS, IP_LO)
    p.emit(JGE, (text & 0xFFFFFFFF) + int(define["STUB_TEXT_MAX"], 0), "trap", None)
    for ip in stops:
        p.emit(JEQ, ip, "stop", None)
    p.emit(LD_ABS, NR)
    for nr in order:
        p.emit(JEQ, nr, f"nr{nr}", None)
    p.place("trap")
    p.emit(RET, TRAP)
    p.place("kill")
    p.emit(RET, KILL)
    p.place("stop")
    new, failed = p.label(), p.label()
    p.emit(LD_ABS, NR)
    p.emit(JEQ, 0, new, None)
    p.emit(JGE, FIRST_ERROR, failed, None)
    p.emit(RET, ERRNO | PARENT_GOOD)
    p.place(failed)
    p.emit(RET, ERRNO | EAGAIN)
    p.place(new)
    p.emit(RET, NOTIFY)
    # Each call's rules; what fails all ends in a refusal of its own, since jumps only go forwards.
    for nr in order:
        p.place(f"nr{nr}")
        open_end = False
        for verb, conds in rules[nr]:
            fail = p.label()
            for cond in conds:
                emit_condition(p, cond, fail)
            p.emit(RET, NOTIFY if verb == "notify" else ALLOW)
            p.place(fail)
            open_end = bool(conds)
        if open_end:
            p.emit(RET, TRAP)
    with open(output, "w") as f:
        f.write(f"// Made from {table.split('/')[-1]} by gen.py.\n")
        for code, jt, jf, k in p.assemble():
            f.write(f"{{0x{code:02x}, {jt}, {jf}, 0x{k:08x}}},\n")


main()
