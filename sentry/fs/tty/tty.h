// SPDX-License-Identifier: Apache-2.0
// Terminals: pseudoterminal pairs (pty(7)) and the console, with the line discipline (termios(3)) and
// job control. A struct tty is the slave's side; a master is a file (FILE_PTMX) that feeds its input
// and drains its output. A console is fed by host descriptors that bailey passes in.
//
// Lock order: a devpts instance's lock (RANK_FILE - 5), then tty->lock (RANK_FILE), under which signals are
// sent (RANK_TASKS). User memory is never copied under it. Readiness is read without it.
#ifndef BAILEY_SENTRY_FS_TTY_TTY_H
#define BAILEY_SENTRY_FS_TTY_TTY_H

#include "sentry/fs/tty/job.h"
#include "sentry/vfs/file.h"
#include "sentry/vfs/inode.h"

extern const struct file_ops tty_file_ops, ptmx_file_ops;

// ---- consoles ----

// Makes a console terminal on host descriptors (owned from then on, on failure too): raw bytes are read from `in_fd`
// and written to `out_fd` (they may be duplicates of one terminal; -1 or the same: it is duplicated). One reference.
// -ENOMEM, -EAGAIN.
int tty_console_new(int in_fd, int out_fd, u16 rows, u16 columns, struct tty **ret) must_check;

// After a restore: gives a console its host descriptors again. Consoles without drop their output.
int tty_console_attach(struct tty *tty, int in_fd, int out_fd) must_check;

// Its processes have ended: hangs up and lets go of the host's descriptors, of the output one when all that was
// written is with the host (job_console_closed is called then). May be repeated. No locks held.
void tty_console_close(struct tty *tty);
bool tty_console_is_closed(struct tty *tty);

// A file of the console without a path (O_RDWR), for where it has no name. -ENOMEM.
int tty_console_open(struct tty *tty, struct file **ret) must_check;

// Gives the console a name in a devpts (`root`: the inode of its root), unless it has one. *ret_index: its
// number. -ENODEV: not a devpts.
int tty_console_enter(struct tty *tty, struct inode *root, u32 *ret_index) must_check;

// The terminal of an open slave, however it was opened, not referenced; NULL.
struct tty *tty_of_file(const struct file *f);

// From outside: a new window size (SIGWINCH to the foreground group).
void tty_resize(struct tty *tty, u16 rows, u16 columns);

// The same for a console whose terminal on the host has another size than when it was looked at last.
void tty_take_host_size(struct tty *tty);

// A signal to the foreground group: false when there is none.
bool tty_signal_foreground(struct tty *tty, int sig);

// What the kernel tells of a session that got this terminal without a system call.
void tty_set_session(struct tty *tty, s32 session, s32 pgrp);

#endif
