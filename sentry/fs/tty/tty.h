// SPDX-License-Identifier: Apache-2.0
// Terminals: pseudoterminal pairs (pty(7)) and the console, with the line discipline (termios(3)) and
// job control. A struct tty is the slave's side; a master is a file (FILE_PTMX) that feeds its input
// and drains its output. The console is fed by the host descriptors that boot passes in.
//
// Lock order: a devpts instance's lock (RANK_FILE - 5), then tty->lock (RANK_FILE), under which signals are
// sent (RANK_TASKS). User memory is never copied under it. Readiness is read without it.
#ifndef BAILEY_SENTRY_FS_TTY_TTY_H
#define BAILEY_SENTRY_FS_TTY_TTY_H

#include "sentry/fs/tty/job.h"
#include "sentry/vfs/file.h"
#include "sentry/vfs/inode.h"

extern const struct file_ops tty_file_ops, ptmx_file_ops;

// ---- the console ----

// Makes the console terminal on host descriptors (owned from then on): raw bytes are read from `in_fd` and
// written to `out_fd` (they may be duplicates of one terminal). Once, at boot, before devpts is mounted: the first
// devpts instance shows it as 0. -ENOMEM, -EAGAIN, -EBUSY.
int tty_console_init(int in_fd, int out_fd, u16 rows, u16 columns) must_check;

// After a restore: gives the console, if there is one, its host descriptors again.
int tty_console_reattach(int in_fd, int out_fd) must_check;

// The console, not referenced; NULL when there is none.
struct tty *tty_console(void);

// A file of the console without a path (O_RDWR). For init's stdio where "/dev/pts/0" or
// "/dev/console" cannot be opened. -ENXIO, -ENOMEM.
int tty_console_open(struct file **ret) must_check;

// True for a file of the console, however it was opened.
bool tty_is_console(const struct file *f);

// For the control channel: a new window size (SIGWINCH to the foreground group).
void tty_console_resize(u16 rows, u16 columns);

// Waits until all output of the console is with the host, at most until `deadline` (sched_now's clock). Any thread.
void tty_console_drain(s64 deadline);

// The first session gets its terminal without a system call: for boot. The caller stores a reference
// (tty_ref) in the session itself.
void tty_set_session(struct tty *tty, s32 session, s32 pgrp);

#endif
