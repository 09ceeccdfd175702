// SPDX-License-Identifier: Apache-2.0
// Terminals as files: the slave's side, opening, hangup, job control.
#include "sentry/fs/tty/tty.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <sys/epoll.h>

#include "sentry/arena/arena.h"
#include "sentry/fs/dev/dev.h"
#include "sentry/fs/tty/tty_impl.h"

#define READABLE (EPOLLIN | EPOLLRDNORM)
#define WRITABLE (EPOLLOUT | EPOLLWRNORM)
#define BOUNCE 1024

struct tty *tty_new(enum tty_kind kind)
{
    struct tty *t = arena_alloc(sizeof(*t));
    if (!t)
        return NULL;
    t->in = arena_alloc(TTY_IN_SIZE);
    t->in_marks = arena_alloc(TTY_IN_SIZE / 8);
    t->out = arena_alloc(TTY_OUT_SIZE);
    ref_init(&t->ref);
    if (!t->in || !t->in_marks || !t->out) {
        tty_unref(t);
        return NULL;
    }
    t->kind = (u16)kind;
    waitq_init(&t->queue);
    waitq_init(&t->master_queue);
    ldisc_reset(t);
    return t;
}

struct tty *tty_ref(struct tty *t)
{
    ref_get(&t->ref);
    return t;
}

void tty_unref(struct tty *t)
{
    if (!ref_put(&t->ref))
        return;
    arena_free(t->in);
    arena_free(t->in_marks);
    arena_free(t->out);
    arena_free(t);
}

u32 tty_device(struct tty *t)
{
    return (u32)DEV_MAKE(136, t->index);
}

s32 tty_foreground(struct tty *t)
{
    return __atomic_load_n(&t->pgrp, __ATOMIC_RELAXED);
}

bool tty_signal_foreground(struct tty *t, int sig)
{
    mutex_lock(&t->lock, RANK_FILE);
    s32 session = t->session, pgrp = t->pgrp;
    mutex_unlock(&t->lock);
    if (pgrp)
        job_signal_pgrp(pgrp, session, sig);
    return pgrp != 0;
}

void tty_wake(struct tty *t)
{
    waitq_wake(&t->queue, READABLE | WRITABLE);
    waitq_wake(&t->master_queue, READABLE | WRITABLE | EPOLLPRI);
    if (t->kind == TTY_CONSOLE)
        console_output(t);
}

// ---- job control ------------------------------------------------------------------------------------

static bool is_current_tty(struct tty *t)
{
    struct tty *mine = job_current_tty();
    if (mine)
        tty_unref(mine); // compared only
    return mine == t;
}

// The current process is in the background of its terminal `t`: 0 when it may go on, else the signal
// was sent. `sig`: SIGTTIN or SIGTTOU.
static int background(struct tty *t, int sig)
{
    s32 pgrp = job_current_pgrp();
    if (!current || !is_current_tty(t) || !tty_foreground(t) || pgrp == tty_foreground(t))
        return 0;
    if (job_current_ignores(sig))
        return sig == SIGTTIN ? -EIO : 0;
    if (job_current_orphaned())
        return -EIO;
    job_signal_pgrp(pgrp, job_current_session(), sig);
    return -ERESTARTSYS;
}

int tty_check_change(struct tty *t)
{
    return background(t, SIGTTOU);
}

void tty_set_session(struct tty *t, s32 session, s32 pgrp)
{
    mutex_lock(&t->lock, RANK_FILE);
    t->session = session;
    t->pgrp = pgrp;
    mutex_unlock(&t->lock);
}

// open(2) by a session leader without a terminal gives it this one.
static void acquire(struct tty *t, struct file *f)
{
    if (!current || (f->flags & O_NOCTTY) || !job_current_is_leader())
        return;
    mutex_lock(&t->lock, RANK_FILE);
    if (!t->session && job_set_tty(t) == 0) {
        t->session = job_current_session();
        t->pgrp = job_current_pgrp();
    }
    mutex_unlock(&t->lock);
}

void tty_hangup(struct tty *t)
{
    mutex_lock(&t->lock, RANK_FILE);
    s32 session = t->session, pgrp = t->pgrp;
    t->session = t->pgrp = 0;
    tty_store(&t->hangups, t->hangups + 1);
    ldisc_flush_input(t);
    __atomic_store_n(&t->slave_closed, true, __ATOMIC_SEQ_CST);
    mutex_unlock(&t->lock);
    if (session) {
        job_signal_leader(session, SIGHUP);
        job_signal_leader(session, SIGCONT);
        if (pgrp) {
            job_signal_pgrp(pgrp, session, SIGHUP);
            job_signal_pgrp(pgrp, session, SIGCONT);
        }
        job_clear_tty(session);
    }
    waitq_wake(&t->queue, READABLE | WRITABLE | EPOLLHUP | EPOLLERR);
    waitq_wake(&t->master_queue, READABLE | WRITABLE | EPOLLHUP);
}

void tty_session_ended(struct tty *t, s32 session)
{
    mutex_lock(&t->lock, RANK_FILE);
    bool ours = t->session == session;
    s32 pgrp = t->pgrp;
    if (ours)
        t->session = t->pgrp = 0;
    mutex_unlock(&t->lock);
    if (!ours)
        return;
    if (pgrp) {
        job_signal_pgrp(pgrp, session, SIGHUP);
        job_signal_pgrp(pgrp, session, SIGCONT);
    }
    mutex_lock(&t->lock, RANK_FILE);
    tty_store(&t->hangups, t->hangups + 1);
    ldisc_flush_input(t);
    t->slave_closed = t->kind == TTY_PTY;
    mutex_unlock(&t->lock);
    waitq_wake(&t->queue, READABLE | WRITABLE | EPOLLHUP | EPOLLERR);
    waitq_wake(&t->master_queue, READABLE | WRITABLE | EPOLLHUP);
}

// ---- open -------------------------------------------------------------------------------------------

int tty_attach(struct tty *t, struct file *f)
{
    int r = 0;
    mutex_lock(&t->lock, RANK_FILE);
    if (t->locked || t->master_closed)
        r = -EIO;
    else if (t->exclusive && !cred_capable(cred_current(), CAP_SYS_ADMIN))
        r = -EBUSY;
    if (!r) {
        t->slave_opens++;
        __atomic_store_n(&t->slave_closed, false, __ATOMIC_SEQ_CST);
        f->priv_word = t->hangups;
    }
    mutex_unlock(&t->lock);
    if (r)
        return r;
    f->kind = FILE_TTY;
    f->priv = tty_ref(t);
    acquire(t, f);
    waitq_wake(&t->master_queue, WRITABLE);
    return 0;
}

static int open_current(struct file *f)
{
    struct tty *t = job_current_tty();
    if (!t)
        return -ENXIO;
    int r = tty_attach(t, f);
    tty_unref(t);
    return r;
}

static int open_slave(struct inode *i, struct file *f)
{
    struct tty *t = devpts_tty(i);
    if (!t)
        return -EIO;
    int r = tty_attach(t, f);
    tty_unref(t);
    return r;
}

static int open_master(struct inode *i, struct file *f)
{
    struct devpts *d = devpts_of(i);
    if (!d)
        return -ENODEV;
    int r = ptmx_open(d, f);
    devpts_put(d);
    return r;
}

int tty_open_chardev(struct inode *i, struct file *f)
{
    u32 major = DEV_MAJOR(i->rdev), minor = DEV_MINOR(i->rdev);
    if (major >= 136 && major <= 143)
        return open_slave(i, f);
    if (major != 5)
        return -ENXIO;
    switch (minor) {
    case 0:
        return open_current(f);
    case 1:
        return job_container_console() ? tty_attach(job_container_console(), f) : -ENXIO;
    case 2:
        return open_master(i, f);
    default:
        return -ENXIO;
    }
}

static void slave_release(struct file *f)
{
    struct tty *t = f->priv;
    mutex_lock(&t->lock, RANK_FILE);
    bool last = --t->slave_opens == 0;
    if (last) {
        __atomic_store_n(&t->slave_closed, true, __ATOMIC_SEQ_CST);
        t->exclusive = false;
    }
    mutex_unlock(&t->lock);
    if (last)
        waitq_wake(&t->master_queue, READABLE | EPOLLHUP);
    tty_unref(t);
}

// ---- read -------------------------------------------------------------------------------------------

struct read_state {
    long done;
    s64 deadline; // TIME_NEVER: none running
    u32 min;      // bytes that end the call in raw mode
    bool between; // the deadline runs anew after each byte (VMIN and VTIME)
};

static s64 tenths(u8 n)
{
    return sched_now() + n * 100000000ll;
}

static void read_begin(struct tty *t, struct read_state *s)
{
    u8 vmin = tty_vmin(t), vtime = tty_vtime(t);
    *s = (struct read_state){.deadline = TIME_NEVER, .min = 1};
    if (tty_is_canonical(t))
        return;
    s->min = vmin;
    if (vtime && vmin)
        s->between = true;
    else if (vtime)
        s->deadline = tenths(vtime);
    else if (!vmin)
        s->deadline = 0;
}

// Sleeps for input. 0: look again; 1: the time is over, or nobody can write any more.
static int read_wait(struct tty *t, struct file *f, struct read_state *s)
{
    if (tty_hung_up(f))
        return 1;
    if (s->deadline == 0)
        return 1;
    if (__atomic_load_n(&f->flags, __ATOMIC_RELAXED) & O_NONBLOCK)
        return s->done ? 1 : -EAGAIN;
    int r = sched_wait_event(&t->queue, READABLE | EPOLLHUP, s->deadline,
                             ldisc_input_ready(t, false) || tty_hung_up(f));
    return r == -ETIMEDOUT ? 1 : r;
}

static long read_some(struct tty *t, struct uio *u, bool *ret_line_end)
{
    u8 buf[BOUNCE];
    mutex_lock(&t->lock, RANK_FILE);
    u32 n = ldisc_take(t, buf, (u32)min(u->resid, (u64)BOUNCE), ret_line_end);
    mutex_unlock(&t->lock);
    if (!n)
        return 0;
    waitq_wake(&t->master_queue, WRITABLE);
    if (t->kind == TTY_CONSOLE)
        console_input_room(t);
    return uio_put(u, buf, n);
}

static long slave_read(struct file *f, struct uio *u, s64 *pos)
{
    struct tty *t = f->priv;
    struct read_state s;
    bool line_end = false;

    if (tty_hung_up(f))
        return 0;
    int r = background(t, SIGTTIN);
    if (r)
        return r;
    if (!u->resid)
        return 0;
    read_begin(t, &s);
    for (;;) {
        if (!ldisc_input_ready(t, false)) {
            r = read_wait(t, f, &s);
            if (r)
                return s.done ? s.done : r == 1 ? 0 : r;
            r = background(t, SIGTTIN); // it may have been moved to the background meanwhile
            if (r)
                return s.done ? s.done : r;
            continue;
        }
        long n = read_some(t, u, &line_end);
        if (n < 0)
            return s.done ? s.done : n;
        s.done += n;
        if (line_end || !u->resid)
            return s.done;
        if (!tty_is_canonical(t)) {
            if (s.done >= s.min && !ldisc_input_ready(t, false))
                return s.done;
            if (s.between)
                s.deadline = tenths(tty_vtime(t));
        }
    }
}

// ---- write ------------------------------------------------------------------------------------------

static bool may_write_more(struct tty *t, struct file *f)
{
    return tty_hung_up(f) ||
           (!__atomic_load_n(&t->stopped, __ATOMIC_SEQ_CST) && tty_out_room(t) >= TTY_OUT_RESERVE);
}

// All of buf, sleeping as it must. Bytes, or -errno when none.
static long write_buffer(struct tty *t, struct file *f, const u8 *buf, u32 size)
{
    u32 done = 0;
    for (;;) {
        if (tty_hung_up(f))
            return done ? done : -EIO;
        mutex_lock(&t->lock, RANK_FILE);
        u32 n = ldisc_write(t, buf + done, size - done);
        mutex_unlock(&t->lock);
        done += n;
        if (n) {
            waitq_wake(&t->master_queue, READABLE);
            if (t->kind == TTY_CONSOLE)
                console_output(t);
        }
        if (done == size)
            return done;
        if (__atomic_load_n(&f->flags, __ATOMIC_RELAXED) & O_NONBLOCK)
            return done ? done : -EAGAIN;
        int r = sched_wait_event(&t->queue, WRITABLE | EPOLLHUP, TIME_NEVER, may_write_more(t, f));
        if (r)
            return done ? done : r;
    }
}

long tty_write_all(struct file *f, struct uio *u, tty_put_fn *put)
{
    u8 buf[BOUNCE];
    long done = 0;
    while (u->resid) {
        long n = uio_get(u, buf, min(u->resid, (u64)BOUNCE));
        if (n <= 0)
            return done ? done : n;
        long r = put(f->priv, f, buf, (u32)n);
        if (r < 0)
            return done ? done : r;
        done += r;
        if (r < n)
            break;
    }
    return done;
}

static long slave_write(struct file *f, struct uio *u, s64 *pos)
{
    struct tty *t = f->priv;
    if (tty_hung_up(f))
        return -EIO;
    if (t->t.c_lflag & TOSTOP) {
        int r = background(t, SIGTTOU);
        if (r)
            return r;
    }
    return tty_write_all(f, u, write_buffer);
}

static u32 slave_ready(struct file *f)
{
    struct tty *t = f->priv;
    u32 mask = 0;
    if (tty_hung_up(f))
        return READABLE | WRITABLE | EPOLLHUP | EPOLLERR;
    if (ldisc_input_ready(t, true))
        mask |= READABLE;
    if (may_write_more(t, f))
        mask |= WRITABLE;
    return mask;
}

static struct waitq *slave_queue(struct file *f)
{
    return &((struct tty *)f->priv)->queue;
}

const struct file_ops tty_file_ops = {
    .name = "tty",
    .release = slave_release,
    .read = slave_read,
    .write = slave_write,
    .ready = slave_ready,
    .queue = slave_queue,
    .ioctl = tty_ioctl,
};
