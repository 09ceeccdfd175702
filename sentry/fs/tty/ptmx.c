// SPDX-License-Identifier: Apache-2.0
// Masters of pseudoterminals: pty(7), ptmx(4), TIOCPKT of ioctl_tty(2).
#include <asm/termios.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>

#include "sentry/fs/tty/tty_impl.h"
#include "sentry/mm/usercopy.h"
#include "sentry/vfs/fdtable.h"

#define READABLE (EPOLLIN | EPOLLRDNORM)
#define WRITABLE (EPOLLOUT | EPOLLWRNORM)
#define BOUNCE 1024

void ptmx_set_packet(struct tty *t, u8 set, u8 clear)
{
    if (t->packet)
        t->packet_status = (u8)((t->packet_status & ~clear) | set);
}

static bool has_output(struct tty *t)
{
    return tty_out_used(t) || (t->packet && t->packet_status);
}

// What the slave wrote, after its packet byte if that mode is on. Bytes; 0: there is nothing.
static u32 take_output(struct tty *t, u8 *buf, u32 size)
{
    u32 n = 0;
    mutex_lock(&t->lock, RANK_FILE);
    if (t->packet && t->packet_status) {
        buf[n++] = t->packet_status;
        t->packet_status = 0;
        size = 1;
    } else if (t->packet && tty_out_used(t)) {
        buf[n++] = TIOCPKT_DATA;
    }
    u32 tail = t->out_tail;
    while (n < size && tail != t->out_head)
        buf[n++] = t->out[tail++ & (TTY_OUT_SIZE - 1)];
    tty_store(&t->out_tail, tail);
    mutex_unlock(&t->lock);
    return n;
}

static long master_read(struct file *f, struct uio *u, s64 *pos)
{
    struct tty *t = f->priv;
    u8 buf[BOUNCE];
    long done = 0;

    while (u->resid) {
        u32 n = take_output(t, buf, (u32)min(u->resid, (u64)BOUNCE));
        if (n) {
            waitq_wake(&t->queue, WRITABLE);
            long r = uio_put(u, buf, n);
            if (r < 0)
                return done ? done : r;
            done += r;
            if (t->packet || n < BOUNCE)
                break;
            continue;
        }
        if (done)
            break;
        if (__atomic_load_n(&t->slave_closed, __ATOMIC_SEQ_CST) && !has_output(t))
            return -EIO;
        if (__atomic_load_n(&f->flags, __ATOMIC_RELAXED) & O_NONBLOCK)
            return -EAGAIN;
        int r = sched_wait_event(&t->master_queue, READABLE | EPOLLHUP, TIME_NEVER,
                                 has_output(t) ||
                                     __atomic_load_n(&t->slave_closed, __ATOMIC_SEQ_CST));
        if (r)
            return r;
    }
    return done;
}

static bool slave_gone(struct tty *t)
{
    return !tty_load(&t->slave_opens) || __atomic_load_n(&t->slave_closed, __ATOMIC_SEQ_CST);
}

// Feeds the line discipline, sleeping for room. Bytes, or -errno when none.
static long feed(struct tty *t, struct file *f, const u8 *buf, u32 size)
{
    u32 done = 0;
    for (;;) {
        if (slave_gone(t))
            return done ? done : -EIO;
        mutex_lock(&t->lock, RANK_FILE);
        u32 n = ldisc_receive(t, buf + done, size - done);
        mutex_unlock(&t->lock);
        done += n;
        if (n)
            tty_wake(t);
        if (done == size)
            return done;
        if (__atomic_load_n(&f->flags, __ATOMIC_RELAXED) & O_NONBLOCK)
            return done ? done : -EAGAIN;
        int r = sched_wait_event(&t->master_queue, WRITABLE | EPOLLHUP, TIME_NEVER,
                                 ldisc_has_room(t) || slave_gone(t));
        if (r)
            return done ? done : r;
    }
}

static long master_write(struct file *f, struct uio *u, s64 *pos)
{
    return tty_write_all(f, u, feed);
}

static u32 master_ready(struct file *f)
{
    struct tty *t = f->priv;
    u32 mask = 0;
    if (has_output(t))
        mask |= READABLE;
    if (t->packet && t->packet_status)
        mask |= EPOLLPRI;
    if (__atomic_load_n(&t->slave_closed, __ATOMIC_SEQ_CST))
        mask |= EPOLLHUP;
    if (ldisc_has_room(t))
        mask |= WRITABLE;
    return mask;
}

static struct waitq *master_queue(struct file *f)
{
    return &((struct tty *)f->priv)->master_queue;
}

// ---- ioctl ------------------------------------------------------------------------------------------

static int put_int(u64 arg, s32 v)
{
    return copy_out(uaddr(arg), &v, sizeof(v));
}

static int set_flag(struct tty *t, u64 arg, bool *flag)
{
    s32 on;
    int r = copy_in(&on, uaddr(arg), sizeof(on));
    if (r)
        return r;
    mutex_lock(&t->lock, RANK_FILE);
    if (flag == &t->packet && on && !t->packet)
        t->packet_status = 0;
    *flag = on != 0;
    mutex_unlock(&t->lock);
    return 0;
}

static int open_peer(struct file *f, u64 flags)
{
    struct file *peer;
    if (flags & ~(u64)(O_ACCMODE | O_NOCTTY | O_CLOEXEC | O_NONBLOCK))
        return -EINVAL;
    int r = devpts_open_peer(f, f->priv, (u32)flags, &peer);
    return r ? r : fd_install(peer, (u32)flags & O_CLOEXEC);
}

// TIOCSIG: a signal to the foreground group of the slave.
static int send_signal(struct tty *t, u64 sig)
{
    if (sig != SIGINT && sig != SIGQUIT && sig != SIGTSTP)
        return -EINVAL;
    if (t->pgrp)
        job_signal_pgrp(t->pgrp, t->session, (int)sig);
    return 0;
}

static int master_flush(struct tty *t, u64 what)
{
    if (what > TCIOFLUSH)
        return -EINVAL;
    mutex_lock(&t->lock, RANK_FILE);
    if (what != TCOFLUSH)
        ldisc_flush_output(t); // the master's input
    if (what != TCIFLUSH)
        ldisc_flush_input(t);
    mutex_unlock(&t->lock);
    tty_wake(t);
    return 0;
}

static long master_ioctl(struct file *f, u32 cmd, u64 arg)
{
    struct tty *t = f->priv;
    switch (cmd) {
    case TIOCGPTN:
        return put_int(arg, (s32)t->index);
    case TIOCSPTLCK:
        return set_flag(t, arg, &t->locked);
    case TIOCGPTLCK:
        return put_int(arg, t->locked);
    case TIOCPKT:
        return set_flag(t, arg, &t->packet);
    case TIOCGPKT:
        return put_int(arg, t->packet);
    case TIOCGPTPEER:
        return open_peer(f, arg);
    case TIOCSIG:
        return send_signal(t, arg);
    case TCFLSH:
        return master_flush(t, arg);
    case FIONREAD:
        return put_int(arg, (s32)tty_out_used(t));
    case TIOCOUTQ:
    case TCSBRK:
    case TCSBRKP:
        return cmd == TIOCOUTQ ? put_int(arg, 0) : 0;
    case TIOCSCTTY:
    case TIOCNOTTY:
        return -ENOTTY;
    default:
        return tty_ioctl_common(t, f, cmd, arg);
    }
}

// ---- life -------------------------------------------------------------------------------------------

static void master_release(struct file *f)
{
    struct tty *t = f->priv;
    devpts_remove(t);
    mutex_lock(&t->lock, RANK_FILE);
    t->master_closed = true;
    mutex_unlock(&t->lock);
    tty_hangup(t);
    tty_unref(t);
}

int ptmx_open(struct devpts *d, struct file *f)
{
    struct tty *t = tty_new(TTY_PTY);
    if (!t)
        return -ENOMEM;
    t->locked = true; // until unlockpt(3)
    int r = devpts_add(d, t);
    if (r) {
        tty_unref(t);
        return r;
    }
    f->kind = FILE_PTMX;
    f->priv = t;
    return 0;
}

const struct file_ops ptmx_file_ops = {
    .name = "ptmx",
    .release = master_release,
    .read = master_read,
    .write = master_write,
    .ready = master_ready,
    .queue = master_queue,
    .ioctl = master_ioctl,
};
