// SPDX-License-Identifier: Apache-2.0
// The system call table: each x86-64 number with its name, its function, how far it is supported, and how
// --strace shows its arguments. docs/compatibility.md is generated from it.
//
// A system call is `long sys_x(struct task *t, const u64 a[6])`: t is the calling task (== current),
// a its arguments as they were in the registers. It returns a result or a negative errno (also
// -ERESTART*, which the task loop resolves). Arguments narrower than 64 bits are to be cast.
#ifndef BAILEY_SENTRY_SYSCALLS_TABLE_H
#define BAILEY_SENTRY_SYSCALLS_TABLE_H

#include "base/types.h"

struct task;

typedef long syscall_fn(struct task *t, const u64 a[6]);

enum syscall_level {
    SYSCALL_NONE,    // not there: ENOSYS (or the errno in the note), logged once
    SYSCALL_FULL,    // as the man page
    SYSCALL_PARTIAL, // the note says what is missing
    SYSCALL_FIXED,   // always answers the same, as a kernel configured without it would
};

// How --strace shows an argument. ARG_NONE ends the list.
enum arg_kind {
    ARG_NONE,
    ARG_INT,    // decimal, 32 bits
    ARG_UINT,
    ARG_LONG,   // decimal, 64 bits
    ARG_SIZE,
    ARG_HEX,    // flags and the like without a decoder
    ARG_PTR,
    ARG_OUT,    // pointer to a result, shown as a pointer
    ARG_FD,
    ARG_DIRFD,
    ARG_STR,    // string
    ARG_BUF,    // input buffer whose size is the next argument
    ARG_OUTBUF, // output buffer (size: the result), shown after the call
    ARG_OPEN,   // O_*
    ARG_MODE,   // octal
    ARG_PROT,
    ARG_MAP,
    ARG_SIG,
    ARG_SIGSET, // pointer to a signal set
    ARG_SIGHOW,
    ARG_SIGACT,
    ARG_CLONE,
    ARG_ARGV,   // NULL-ended array of strings
    ARG_TIMESPEC,
    ARG_CLOCK,
    ARG_FUTEX,
    ARG_WHENCE,
    ARG_PID,
    ARG_WAITOPT,
    ARG_AT,     // AT_*
    ARG_RESOURCE,
    ARG_SOCKADDR,
    ARG_DOMAIN,
    ARG_SOCKTYPE,
    ARG_IOCTL,
    ARG_FCNTL,
    ARG_PRCTL,
    ARG_STATUS, // int * of a wait status, shown after the call
    ARG_PIPEFDS, // int[2], shown after the call
    ARG_KINDS
};

struct syscall_entry {
    const char *name;
    syscall_fn *function; // NULL: -ENOSYS
    const char *note;
    u8 level;   // enum syscall_level
    u8 args[6]; // enum arg_kind
};

#define SYSCALL_COUNT 463

extern const struct syscall_entry syscall_table[SYSCALL_COUNT];

// Runs system call `nr` of task `t` (with --strace, logs it). -ENOSYS for what is not there.
long syscall_dispatch(struct task *t, u64 nr, const u64 a[6]);

// One that a seccomp filter has kept from being run: for --strace.
void syscall_refused(struct task *t, u64 nr, const u64 a[6], long ret);

// docs/compatibility.md, from the table, to a file descriptor of the host. 0 or -errno.
int syscall_write_compat(int host_fd);

// Where the user is told, besides the log, of system calls that are not there, each once; -1: nowhere. Once, at boot.
void syscall_set_user_log(int fd);

#endif
