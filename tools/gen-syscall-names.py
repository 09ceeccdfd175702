#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the names of the x86-64 system calls with their numbers, sorted by name, for the runtime's translation of seccomp
profiles: gen-syscall-names.py sentry/syscalls/list.h OUTPUT.c"""
import re
import sys

calls = re.findall(r"^S\((\d+), (\w+),", open(sys.argv[1]).read(), re.M)
with open(sys.argv[2], "w") as f:
    f.write('#include "runtime/spec/seccomp.h"\n\nconst struct syscall_name syscall_names[] = {\n')
    for nr, name in sorted(calls, key=lambda c: c[1]):
        f.write('    {"%s", %s},\n' % (name, nr))
    f.write("};\nconst size_t syscall_name_count = %d;\n" % len(calls))
