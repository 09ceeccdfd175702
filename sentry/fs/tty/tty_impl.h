// SPDX-License-Identifier: Apache-2.0
// Inside of the terminal module.
#ifndef BAILEY_SENTRY_FS_TTY_TTY_IMPL_H
#define BAILEY_SENTRY_FS_TTY_TTY_IMPL_H

#include <asm/termbits.h>

#include "base/ref.h"
#include "sentry/fs/tty/tty.h"

#define TTY_IN_SIZE 4096u   // N_TTY_BUF_SIZE: a power of two
#define TTY_OUT_SIZE 16384u // a power of two
#define TTY_OUT_RESERVE 16u // what one character may need at most, with its echo

struct tty_winsize {
    u16 rows, columns, x_pixels, y_pixels;
};

enum tty_kind { TTY_PTY, TTY_CONSOLE };

struct devpts;

struct tty {
    struct ref ref;
    u16 kind; // enum tty_kind
    u32 index;
    struct mutex lock;
    struct waitq queue;        // of the slave's files
    struct waitq master_queue; // of the master's, and of console drains
    // Guarded by lock; words are read without it by the readiness functions.
    struct termios2 t;
    // What of `t` is looked at without the lock (atomic): ICANON and PARMRK at their places, VMIN << 16, VTIME << 24.
    u32 mode;
    struct tty_winsize size;
    struct tty_winsize host_size; // consoles: as last taken from the host
    s32 session, pgrp;

    // Input: running indices into `in`. Canonical mode gives out what lies below in_canon; in_marks has a bit for
    // each character that ends a line.
    u8 *in;
    u64 *in_marks;
    u32 in_head, in_canon, in_tail;
    bool literal_next; // LNEXT was typed
    bool erasing;      // ECHOPRT: within \.../
    u32 column;        // of the cursor, as far as known
    u32 canon_column;  // where the line being edited began

    u8 *out;
    u32 out_head, out_tail;
    bool stopped; // flow control

    u32 hangups;       // files opened before the last hangup are dead (f->priv_word is the count at open)
    u32 slave_opens;
    bool slave_closed; // the last slave file was closed
    bool master_closed;
    bool locked;       // TIOCSPTLCK
    bool exclusive;    // TIOCEXCL
    bool packet;       // TIOCPKT
    u8 packet_status;

    struct devpts *devpts; // instance that shows it; NULL
    struct inode *inode;   // in it, referenced by the instance's entry

    u32 in_watch;    // console: poller handle
    u32 host_out;    // console: handle of what writes its output
    u32 drain_word;  // futex word: counts changes of the output ring
};

static inline u32 tty_load(const u32 *v)
{
    return __atomic_load_n(v, __ATOMIC_SEQ_CST);
}

static inline void tty_store(u32 *v, u32 n)
{
    __atomic_store_n(v, n, __ATOMIC_SEQ_CST);
}

static inline bool tty_is_canonical(const struct tty *t)
{
    return tty_load(&t->mode) & ICANON;
}

static inline bool tty_marks_errors(const struct tty *t)
{
    return tty_load(&t->mode) & PARMRK;
}

static inline u8 tty_vmin(const struct tty *t)
{
    return (u8)(tty_load(&t->mode) >> 16);
}

static inline u8 tty_vtime(const struct tty *t)
{
    return (u8)(tty_load(&t->mode) >> 24);
}

static inline u32 tty_out_used(const struct tty *t)
{
    return tty_load(&t->out_head) - tty_load(&t->out_tail);
}

static inline u32 tty_out_room(const struct tty *t)
{
    return TTY_OUT_SIZE - tty_out_used(t);
}

static inline bool tty_hung_up(const struct file *f)
{
    const struct tty *t = f->priv;
    return tty_load(&t->hangups) != (u32)f->priv_word;
}

// ---- ldisc.c: all with tty->lock held unless they say otherwise ----

// Default settings of a new terminal (termios(3) "sane").
void ldisc_reset(struct tty *t);

// Characters typed: processes as many as there is room for, sends signals, echoes. Returns how many. The caller wakes
// queues afterwards (input, output, and room of the other side may have changed).
u32 ldisc_receive(struct tty *t, const u8 *buf, u32 size);

// May more be received? Without the lock.
bool ldisc_has_room(const struct tty *t);

// Is there something to read? `poll`: as poll(2) sees it (VMIN counts). Without the lock.
bool ldisc_input_ready(const struct tty *t, bool poll);

// Bytes that FIONREAD tells.
u32 ldisc_input_count(const struct tty *t);

// Takes input for a reader: in canonical mode up to the end of one line, then *ret_line_end is true.
u32 ldisc_take(struct tty *t, u8 *buf, u32 size, bool *ret_line_end);

// Output of a program: processed (OPOST) into the ring. How many characters of buf were taken.
u32 ldisc_write(struct tty *t, const u8 *buf, u32 size);

// After t->t was changed from `old`.
void ldisc_settings_changed(struct tty *t, const struct termios2 *old);

void ldisc_flush_input(struct tty *t);
void ldisc_flush_output(struct tty *t);
void ldisc_stop(struct tty *t, bool stop);

// ---- tty.c ----

struct tty *tty_new(enum tty_kind kind) must_check; // one reference, unlocked; NULL

// Makes `f` a file of the slave side; takes a reference of its own. -EIO (locked, hung up), -EBUSY.
int tty_attach(struct tty *t, struct file *f) must_check;

// The guest's bytes to either side, by `put` (bytes taken, or -errno when none): all, or up to the first
// that it does not take.
typedef long tty_put_fn(struct tty *t, struct file *f, const u8 *buf, u32 size);
long tty_write_all(struct file *f, struct uio *u, tty_put_fn *put);

// Wakes both sides after anything may have changed. Without the lock.
void tty_wake(struct tty *t);

// Hangs up: open files are dead, the session gets SIGHUP and SIGCONT and loses its terminal. Without the
// lock.
void tty_hangup(struct tty *t);

// 0 when the current process may change the terminal, -ERESTARTSYS after SIGTTOU, -EIO.
int tty_check_change(struct tty *t) must_check;

// ---- ioctl.c ----

long tty_ioctl(struct file *f, u32 cmd, u64 arg);        // slaves
long tty_ioctl_common(struct tty *t, struct file *f, u32 cmd, u64 arg); // both sides
void tty_set_size(struct tty *t, const struct tty_winsize *size);

// ---- ptmx.c ----

// A new pair: `f` becomes its master. -ENOMEM, -ENOSPC.
int ptmx_open(struct devpts *d, struct file *f) must_check;
void ptmx_set_packet(struct tty *t, u8 set, u8 clear); // packet status; lock held

// ---- console.c ----

void console_output(struct tty *t); // there is something in the ring; without the lock
void console_input_room(struct tty *t); // a reader made room; without the lock

// ---- devpts ----

// Enters a terminal: sets t->index, t->inode, t->devpts. -ENOSPC, -ENOMEM.
int devpts_add(struct devpts *d, struct tty *t) must_check;
// Its master is gone: the entry vanishes.
void devpts_remove(struct tty *t);
// The instance that /dev/ptmx opens; NULL. `i`: the inode opened (one in a devpts means that one). Referenced.
struct devpts *devpts_of(struct inode *i);
void devpts_put(struct devpts *d);
// The terminal of a slave's inode, referenced, or NULL when its master is gone.
struct tty *devpts_tty(struct inode *i);
// Opens the slave of a master file by a path in its devpts. -ENOTTY, errors of open(2).
int devpts_open_peer(struct file *master, struct tty *t, u32 flags, struct file **ret) must_check;

#endif
