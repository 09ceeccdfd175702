// SPDX-License-Identifier: Apache-2.0
// Control of terminals: ioctl_tty(2).
#include <asm/termios.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <string.h>

#include "sentry/fs/tty/tty_impl.h"
#include "sentry/mm/usercopy.h"

#define TERMIOS_SIZE sizeof(struct termios) // without the speeds of termios2

static int put_int(u64 arg, s32 v)
{
    return copy_out(uaddr(arg), &v, sizeof(v));
}

// ---- settings ---------------------------------------------------------------------------------------

static int get_settings(struct tty *t, u64 arg, u32 size)
{
    mutex_lock(&t->lock, RANK_FILE);
    struct termios2 now = t->t;
    mutex_unlock(&t->lock);
    return copy_out(uaddr(arg), &now, size);
}

static bool drained(struct tty *t)
{
    return !tty_out_used(t) || t->kind == TTY_PTY;
}

// Waits until the output has gone. A pty's is gone when it is in the master's buffer.
static int drain(struct tty *t)
{
    return drained(t) ? 0 : sched_wait_event(&t->queue, 0, TIME_NEVER, drained(t));
}

static int apply_settings(struct tty *t, const struct termios2 *new, bool wait, bool flush)
{
    int r = tty_check_change(t);
    if (!r && wait)
        r = drain(t);
    if (r)
        return r;
    mutex_lock(&t->lock, RANK_FILE);
    struct termios2 old = t->t;
    if (flush)
        ldisc_flush_input(t);
    t->t = *new;
    t->t.c_line = 0;
    ldisc_settings_changed(t, &old);
    mutex_unlock(&t->lock);
    tty_wake(t);
    return 0;
}

static int set_settings(struct tty *t, u64 arg, u32 size, bool wait, bool flush)
{
    struct termios2 new;
    mutex_lock(&t->lock, RANK_FILE);
    new = t->t;
    mutex_unlock(&t->lock);
    int r = copy_in(&new, uaddr(arg), size);
    return r ? r : apply_settings(t, &new, wait, flush);
}

// termio(7)'s older and narrower form.
static int get_termio(struct tty *t, u64 arg)
{
    struct termio old = {0};
    mutex_lock(&t->lock, RANK_FILE);
    old.c_iflag = (u16)t->t.c_iflag;
    old.c_oflag = (u16)t->t.c_oflag;
    old.c_cflag = (u16)t->t.c_cflag;
    old.c_lflag = (u16)t->t.c_lflag;
    memcpy(old.c_cc, t->t.c_cc, sizeof(old.c_cc));
    mutex_unlock(&t->lock);
    return copy_out(uaddr(arg), &old, sizeof(old));
}

static int set_termio(struct tty *t, u64 arg, bool wait, bool flush)
{
    struct termio old;
    struct termios2 new;
    int r = copy_in(&old, uaddr(arg), sizeof(old));
    if (r)
        return r;
    mutex_lock(&t->lock, RANK_FILE);
    new = t->t;
    mutex_unlock(&t->lock);
    new.c_iflag = (new.c_iflag & ~0xffffu) | old.c_iflag;
    new.c_oflag = (new.c_oflag & ~0xffffu) | old.c_oflag;
    new.c_cflag = (new.c_cflag & ~0xffffu) | old.c_cflag;
    new.c_lflag = (new.c_lflag & ~0xffffu) | old.c_lflag;
    memcpy(new.c_cc, old.c_cc, sizeof(old.c_cc));
    return apply_settings(t, &new, wait, flush);
}

void tty_set_size(struct tty *t, const struct tty_winsize *size)
{
    mutex_lock(&t->lock, RANK_FILE);
    bool same = !memcmp(&t->size, size, sizeof(*size));
    t->size = *size;
    s32 pgrp = t->pgrp, session = t->session;
    mutex_unlock(&t->lock);
    if (!same && pgrp)
        job_signal_pgrp(pgrp, session, SIGWINCH);
}

static int set_size_user(struct tty *t, u64 arg)
{
    struct tty_winsize size;
    int r = copy_in(&size, uaddr(arg), sizeof(size));
    if (!r)
        tty_set_size(t, &size);
    return r;
}

// ---- sessions ---------------------------------------------------------------------------------------

static bool controls_current(struct tty *t)
{
    struct tty *mine = job_current_tty();
    if (mine)
        tty_unref(mine);
    return mine == t;
}

static int set_controlling(struct tty *t, struct file *f, u64 force)
{
    s32 session = job_current_session(), stolen = 0;
    int r = 0;

    if (job_current_is_leader() && t->session == session)
        return 0;
    if (!job_current_is_leader())
        return -EPERM;
    struct tty *mine = job_current_tty();
    if (mine) {
        tty_unref(mine);
        return -EPERM;
    }
    mutex_lock(&t->lock, RANK_FILE);
    if (t->session) {
        if (force == 1 && cred_capable(cred_current(), CAP_SYS_ADMIN))
            stolen = t->session;
        else
            r = -EPERM;
    }
    if (!r && !f->may_read && !cred_capable(cred_current(), CAP_SYS_ADMIN))
        r = -EPERM;
    mutex_unlock(&t->lock);
    if (r)
        return r;
    if (stolen)
        job_clear_tty(stolen);
    mutex_lock(&t->lock, RANK_FILE);
    r = job_set_tty(t);
    if (!r) {
        t->session = session;
        t->pgrp = job_current_pgrp();
    }
    mutex_unlock(&t->lock);
    return r;
}

static int give_up(struct tty *t)
{
    s32 session = job_current_session();
    if (!controls_current(t))
        return -ENOTTY;
    if (job_current_is_leader())
        tty_session_ended(t, session);
    job_clear_tty(session);
    return 0;
}

static int get_group(struct tty *t, bool master, u64 arg)
{
    if (!master && !controls_current(t))
        return -ENOTTY;
    return put_int(arg, job_pid_to_guest(tty_foreground(t)));
}

static int set_group(struct tty *t, u64 arg)
{
    s32 pgrp;
    int r = tty_check_change(t);
    if (r)
        return r == -EIO ? -ENOTTY : r;
    if (!controls_current(t) || t->session != job_current_session())
        return -ENOTTY;
    r = copy_in(&pgrp, uaddr(arg), sizeof(pgrp));
    if (r)
        return r;
    if (pgrp < 0)
        return -EINVAL;
    pgrp = job_pid_from_guest(pgrp);
    if (!job_pgrp_in_session(pgrp, t->session))
        return job_pgrp_exists(pgrp) ? -EPERM : -ESRCH;
    mutex_lock(&t->lock, RANK_FILE);
    __atomic_store_n(&t->pgrp, pgrp, __ATOMIC_RELAXED);
    mutex_unlock(&t->lock);
    return 0;
}

static int get_session(struct tty *t, bool master, u64 arg)
{
    if ((!master && !controls_current(t)) || !t->session)
        return -ENOTTY;
    return put_int(arg, job_pid_to_guest(t->session));
}

// ---- flow and flushing --------------------------------------------------------------------------------

static int flush(struct tty *t, u64 what)
{
    int r = tty_check_change(t);
    if (r)
        return r;
    if (what > TCIOFLUSH)
        return -EINVAL;
    mutex_lock(&t->lock, RANK_FILE);
    if (what != TCOFLUSH)
        ldisc_flush_input(t);
    if (what != TCIFLUSH)
        ldisc_flush_output(t);
    mutex_unlock(&t->lock);
    tty_wake(t);
    return 0;
}

static int flow(struct tty *t, u64 what)
{
    int r = tty_check_change(t);
    if (r)
        return r;
    mutex_lock(&t->lock, RANK_FILE);
    switch (what) {
    case TCOOFF:
        ldisc_stop(t, true);
        break;
    case TCOON:
        ldisc_stop(t, false);
        break;
    case TCIOFF: // would send STOP or START to the other side: a pty has none that cares
    case TCION:
        break;
    default:
        r = -EINVAL;
    }
    mutex_unlock(&t->lock);
    tty_wake(t);
    return r;
}

static int break_or_drain(struct tty *t, u64 arg)
{
    int r = tty_check_change(t);
    return r ? r : drain(t); // a break means nothing here
}

static int input_count(struct tty *t, u64 arg)
{
    mutex_lock(&t->lock, RANK_FILE);
    u32 n = ldisc_input_count(t);
    mutex_unlock(&t->lock);
    return put_int(arg, (s32)n);
}

static int set_discipline(u64 arg)
{
    s32 n;
    int r = copy_in(&n, uaddr(arg), sizeof(n));
    return r ? r : n == 0 ? 0 : -EINVAL;
}

// What both sides of a pty answer in the same way.
long tty_ioctl_common(struct tty *t, struct file *f, u32 cmd, u64 arg)
{
    switch (cmd) {
    case TCGETS:
        return get_settings(t, arg, TERMIOS_SIZE);
    case TCGETS2:
        return get_settings(t, arg, sizeof(struct termios2));
    case TCSETS:
    case TCSETSW:
    case TCSETSF:
        return set_settings(t, arg, TERMIOS_SIZE, cmd != TCSETS, cmd == TCSETSF);
    case TCSETS2:
    case TCSETSW2:
    case TCSETSF2:
        return set_settings(t, arg, sizeof(struct termios2), cmd != TCSETS2, cmd == TCSETSF2);
    case TCGETA:
        return get_termio(t, arg);
    case TCSETA:
    case TCSETAW:
    case TCSETAF:
        return set_termio(t, arg, cmd != TCSETA, cmd == TCSETAF);
    case TIOCGWINSZ:
        tty_take_host_size(t); // the host's signal may still be on its way
        return copy_out(uaddr(arg), &t->size, sizeof(t->size));
    case TIOCSWINSZ:
        return set_size_user(t, arg);
    case TIOCGPGRP:
        return get_group(t, f->kind == FILE_PTMX, arg);
    case TIOCSPGRP:
        return set_group(t, arg);
    case TIOCGSID:
        return get_session(t, f->kind == FILE_PTMX, arg);
    case TCXONC:
        return flow(t, arg);
    case TIOCEXCL:
    case TIOCNXCL:
        mutex_lock(&t->lock, RANK_FILE);
        t->exclusive = cmd == TIOCEXCL;
        mutex_unlock(&t->lock);
        return 0;
    case TIOCGEXCL:
        return put_int(arg, t->exclusive);
    case TIOCGETD:
        return put_int(arg, 0);
    case TIOCSETD:
        return set_discipline(arg);
    case TIOCSTI:
        return -EPERM; // as with dev.tty.legacy_tiocsti=0, whoever asks
    case TIOCGDEV:
        return put_int(arg, (s32)tty_device(t));
    default:
        return -ENOTTY;
    }
}

long tty_ioctl(struct file *f, u32 cmd, u64 arg)
{
    struct tty *t = f->priv;
    if (tty_hung_up(f))
        return cmd == TIOCSPGRP ? -ENOTTY : -EIO;
    switch (cmd) {
    case TIOCSCTTY:
        return set_controlling(t, f, arg);
    case TIOCNOTTY:
        return give_up(t);
    case TCFLSH:
        return flush(t, arg);
    case TCSBRK:
    case TCSBRKP:
        return break_or_drain(t, arg);
    case FIONREAD:
        return input_count(t, arg);
    case TIOCOUTQ:
        return put_int(arg, t->kind == TTY_PTY ? 0 : (s32)tty_out_used(t));
    case TIOCVHANGUP:
        if (!cred_capable(cred_current(), CAP_SYS_ADMIN))
            return -EPERM;
        tty_hangup(t);
        return 0;
    default:
        return tty_ioctl_common(t, f, cmd, arg);
    }
}
