// SPDX-License-Identifier: Apache-2.0
// poll(2) and select(2). Both fill a list of slots, one a descriptor, look at all of them, and when
// none is ready put a waiter on the queue of each and sleep until one is.
#include <asm/resource.h>
#include <poll.h>
#include <sys/epoll.h>

#include "sentry/arena/arena.h"
#include "sentry/kernel/signal.h"
#include "sentry/kernel/task.h"
#include "sentry/mm/usercopy.h"
#include "sentry/syscalls/sys_ipc.h"
#include "sentry/vfs/fdtable.h"
#include "sentry/vfs/inode.h"

#define SLOTS_INLINE 6
#define NO_TIMEOUT (-1)
#define HOSTED_MAX 16

struct poll_slot {
    struct fdref ref;
    struct waiter waiter;
    bool hosted; // the sleep is on the host's descriptor, not on the queue
    u32 wanted, got;
};

struct poll_set {
    u32 count;
    bool waiting; // waiters are on their queues
    struct poll_slot *slots;
    struct poll_slot inline_slots[SLOTS_INLINE];
};

static int set_init(struct poll_set *s, u32 count)
{
    s->count = count;
    s->waiting = false;
    s->slots = s->inline_slots;
    if (count > SLOTS_INLINE)
        s->slots = arena_alloc(count * sizeof(*s->slots));
    else
        __builtin_memset(s->inline_slots, 0, count * sizeof(*s->slots));
    return s->slots ? 0 : -ENOMEM;
}

static void set_fini(struct poll_set *s)
{
    for (u32 i = 0; i < s->count; i++) {
        if (s->waiting)
            waitq_remove(&s->slots[i].waiter);
        if (s->slots[i].ref.file)
            fd_put(s->slots[i].ref);
    }
    if (s->slots != s->inline_slots)
        arena_free(s->slots);
}

static u32 set_check(struct poll_set *s)
{
    u32 ready = 0;
    for (u32 i = 0; i < s->count; i++) {
        struct poll_slot *p = &s->slots[i];
        if (p->ref.file)
            p->got = file_ready(p->ref.file) & p->wanted;
        ready += p->got != 0;
    }
    return ready;
}

// The host's descriptors among them, if there are few. How many; fds has room for HOSTED_MAX.
static u32 set_find_hosted(struct poll_set *s, struct pollfd *fds)
{
    u32 n = 0;
    for (u32 i = 0; i < s->count; i++) {
        struct poll_slot *p = &s->slots[i];
        struct file *f = p->ref.file;
        int fd = f && file_ops(f)->host_fd ? file_ops(f)->host_fd(f) : -1;
        p->hosted = fd >= 0 && n < HOSTED_MAX;
        if (p->hosted)
            fds[n++] = (struct pollfd){.fd = fd, .events = (short)p->wanted};
    }
    return n;
}

static void set_add_waiters(struct poll_set *s)
{
    s->waiting = true;
    for (u32 i = 0; i < s->count; i++) {
        struct poll_slot *p = &s->slots[i];
        struct file *f = p->ref.file;
        struct waitq *q = f && !p->hosted && file_ops(f)->queue ? file_ops(f)->queue(f) : NULL;
        if (p->waiter.queue)
            continue;
        waiter_init(&p->waiter, p->wanted);
        if (q)
            waitq_add(q, &p->waiter);
    }
}

// All on their queues from now on.
static void set_unhost(struct poll_set *s)
{
    for (u32 i = 0; i < s->count; i++)
        s->slots[i].hosted = false;
    set_add_waiters(s);
}

// The number of ready slots, 0 at the deadline (0: only looks), -ERESTARTSYS.
static long set_wait(struct poll_set *s, s64 deadline)
{
    u32 ready = set_check(s);
    if (ready || deadline == 0)
        return ready;
    struct pollfd fds[HOSTED_MAX + 1];
    u32 hosted = set_find_hosted(s, fds);
    set_add_waiters(s);
    for (bool look = hosted < s->count;; look = true) {
        ready = look ? set_check(s) : 0;
        if (ready)
            return ready;
        int r = hosted ? sched_sleep_fds(deadline, fds, hosted) : sched_sleep(deadline);
        if (r == -EMFILE) {
            hosted = 0;
            set_unhost(s);
        } else if (r)
            return r == -ETIMEDOUT ? (long)set_check(s) : r;
    }
}

static s64 deadline_after(s64 timeout)
{
    s64 r;
    if (timeout <= 0)
        return timeout == 0 ? 0 : TIME_NEVER;
    return __builtin_add_overflow(sched_now(), timeout, &r) ? TIME_NEVER : r;
}

// ---- poll ---------------------------------------------------------------------------------------

// Looks descriptors up. The number of bad ones.
static u32 fill_slots(struct poll_set *s, const struct pollfd *fds)
{
    u32 bad = 0;
    for (u32 i = 0; i < s->count; i++) {
        struct poll_slot *p = &s->slots[i];
        if (fds[i].fd < 0)
            continue;
        p->ref = fd_get(fds[i].fd);
        p->wanted = (u16)fds[i].events | EPOLLERR | EPOLLHUP;
        if (!p->ref.file) {
            p->got = POLLNVAL;
            bad++;
        }
    }
    return bad;
}

static long poll_fds(struct pollfd *fds, u32 count, s64 deadline)
{
    struct poll_set s;
    long r = set_init(&s, count);
    if (r)
        return r;
    r = set_wait(&s, fill_slots(&s, fds) ? 0 : deadline);
    for (u32 i = 0; i < count; i++)
        fds[i].revents = (short)s.slots[i].got;
    set_fini(&s);
    return r;
}

static long poll_user(struct uaddr ufds, u64 count, s64 deadline)
{
    struct pollfd inline_fds[16], *fds = inline_fds;
    long r;

    if (count > kernel_rlimit(RLIMIT_NOFILE) || count > FD_CEILING)
        return -EINVAL;
    if (count > array_size(inline_fds)) {
        fds = arena_alloc(count * sizeof(*fds));
        if (!fds)
            return -ENOMEM;
    }
    r = copy_in(fds, ufds, count * sizeof(*fds));
    if (!r)
        r = poll_fds(fds, (u32)count, deadline);
    for (u32 i = 0; r >= 0 && i < count; i++) {
        struct uaddr dst = uaddr_add(ufds, i * sizeof(*fds) + offsetof(struct pollfd, revents));
        if (copy_out(dst, &fds[i].revents, sizeof(fds[i].revents)))
            r = -EFAULT;
    }
    if (fds != inline_fds)
        arena_free(fds);
    return r;
}

static long poll_until(struct task *t, struct uaddr fds, u64 count, s64 deadline)
{
    long r = poll_user(fds, count, deadline);
    if (r != -ERESTARTSYS)
        return r;
    t->restart = (struct restart_block){.kind = RESTART_POLL, .a = {fds.v, count, (u64)deadline}};
    return -ERESTART_RESTARTBLOCK;
}

long sys_poll(struct task *t, const u64 a[6])
{
    int ms = (int)a[2];
    s64 deadline = deadline_after(ms < 0 ? NO_TIMEOUT : ms * 1000000ll);
    return poll_until(t, uaddr(a[0]), (u32)a[1], deadline);
}

long sys_poll_restart(struct task *t)
{
    const u64 *a = t->restart.a;
    return poll_until(t, uaddr(a[0]), a[1], (s64)a[2]);
}

// ---- timeouts in and out ------------------------------------------------------------------------

// Reads a timespec (unit 1) or timeval (unit 1000) of the guest; NULL: for ever.
static int timeout_in(struct uaddr src, s64 unit, s64 *ret)
{
    s64 v[2];
    *ret = NO_TIMEOUT;
    if (uaddr_is_null(src))
        return 0;
    if (copy_in(v, src, sizeof(v)))
        return -EFAULT;
    if (unit == 1000 && v[1] >= 1000000 && v[0] >= 0) { // select(2) takes such microseconds
        v[0] += v[1] / 1000000;
        v[1] %= 1000000;
    }
    if (v[0] < 0 || v[1] < 0 || v[1] * unit >= NSEC_PER_SEC)
        return -EINVAL;
    *ret = v[0] >= TIME_NEVER / NSEC_PER_SEC ? NO_TIMEOUT : v[0] * NSEC_PER_SEC + v[1] * unit;
    return 0;
}

// Writes back what is left. A result that cannot be written is forgotten, as is usual.
static void timeout_out(struct uaddr dst, s64 unit, s64 deadline)
{
    if (uaddr_is_null(dst) || deadline == TIME_NEVER)
        return;
    s64 left = deadline ? max(deadline - sched_now(), (s64)0) : 0;
    s64 v[2] = {left / NSEC_PER_SEC, left % NSEC_PER_SEC / unit};
    if (copy_out(dst, v, sizeof(v)))
        return;
}

long sys_ppoll(struct task *t, const u64 a[6])
{
    s64 timeout;
    int err = timeout_in(uaddr(a[2]), 1, &timeout);
    if (!err)
        err = signal_mask_begin_user(t, a[3], a[4]);
    if (err)
        return err;
    s64 deadline = deadline_after(timeout);
    long r = poll_user(uaddr(a[0]), (u32)a[1], deadline);
    if (r == -ERESTARTSYS)
        r = -ERESTARTNOHAND;
    if (a[3])
        signal_mask_end(t, r == -ERESTARTNOHAND);
    timeout_out(uaddr(a[2]), 1, deadline);
    return r;
}

// ---- select -------------------------------------------------------------------------------------

#define SELECT_IN (EPOLLIN | EPOLLRDNORM | EPOLLRDBAND | EPOLLHUP | EPOLLERR)
#define SELECT_OUT (EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND | EPOLLERR)
#define SELECT_EX EPOLLPRI

static const u32 select_masks[3] = {SELECT_IN, SELECT_OUT, SELECT_EX};

struct select_sets {
    u32 words;   // of each set
    u64 *bits;   // three sets in, then overwritten with the result
    u64 inline_bits[3 * 16];
};

static int sets_in(struct select_sets *s, const struct uaddr user[3], u32 n)
{
    s->words = (n + 63) / 64;
    s->bits = s->inline_bits;
    if (3 * s->words > array_size(s->inline_bits)) {
        s->bits = arena_alloc(3 * s->words * sizeof(u64));
        if (!s->bits)
            return -ENOMEM;
    }
    for (u32 i = 0; i < 3; i++) {
        u64 *w = s->bits + i * s->words;
        __builtin_memset(w, 0, s->words * sizeof(u64));
        if (!uaddr_is_null(user[i]) && copy_in(w, user[i], s->words * sizeof(u64)))
            return -EFAULT;
        if (n % 64)
            w[s->words - 1] &= (1ull << n % 64) - 1;
    }
    return 0;
}

static void sets_fini(struct select_sets *s)
{
    if (s->bits && s->bits != s->inline_bits)
        arena_free(s->bits);
}

static u32 wanted_by(const struct select_sets *s, u32 fd)
{
    u32 mask = 0;
    for (u32 i = 0; i < 3; i++) {
        if (s->bits[i * s->words + fd / 64] >> fd % 64 & 1)
            mask |= select_masks[i];
    }
    return mask;
}

static u32 sets_count(const struct select_sets *s, u32 n)
{
    u32 count = 0;
    for (u32 w = 0; w < s->words; w++)
        count += (u32)__builtin_popcountll(s->bits[w] | s->bits[s->words + w] |
                                           s->bits[2 * s->words + w]);
    return count;
}

// Puts results in the place of the questions. The number of bits set.
static long sets_result(struct select_sets *s, u32 n, const struct poll_set *p)
{
    long total = 0;
    u32 slot = 0;
    for (u32 fd = 0; fd < n; fd++) {
        if (!wanted_by(s, fd))
            continue;
        u32 got = p->slots[slot++].got;
        for (u32 i = 0; i < 3; i++) {
            u64 *w = &s->bits[i * s->words + fd / 64], bit = 1ull << fd % 64;
            if (!(*w & bit))
                continue;
            if (got & select_masks[i])
                total++;
            else
                *w &= ~bit;
        }
    }
    return total;
}

static long select_sets(struct select_sets *s, u32 n, s64 deadline)
{
    struct poll_set p;
    u32 slot = 0;
    long r = set_init(&p, sets_count(s, n));
    if (r)
        return r;
    for (u32 fd = 0; fd < n && !r; fd++) {
        u32 wanted = wanted_by(s, fd);
        if (!wanted)
            continue;
        p.slots[slot].wanted = wanted;
        p.slots[slot].ref = fd_get((int)fd);
        if (!p.slots[slot++].ref.file)
            r = -EBADF;
    }
    if (!r)
        r = set_wait(&p, deadline);
    if (r >= 0)
        r = sets_result(s, n, &p);
    set_fini(&p);
    return r;
}

static long select_user(int count, const struct uaddr user[3], s64 deadline)
{
    struct select_sets s = {0};
    long r;

    if (count < 0)
        return -EINVAL;
    u32 n = min((u32)count, FD_CEILING);
    r = sets_in(&s, user, n);
    if (!r)
        r = select_sets(&s, n, deadline);
    for (u32 i = 0; r >= 0 && i < 3; i++) {
        if (!uaddr_is_null(user[i]) &&
            copy_out(user[i], s.bits + i * s.words, s.words * sizeof(u64)))
            r = -EFAULT;
    }
    sets_fini(&s);
    return r == -ERESTARTSYS ? -ERESTARTNOHAND : r;
}

long sys_select(struct task *t, const u64 a[6])
{
    const struct uaddr user[3] = {uaddr(a[1]), uaddr(a[2]), uaddr(a[3])};
    s64 timeout;
    int err = timeout_in(uaddr(a[4]), 1000, &timeout);
    if (err)
        return err;
    s64 deadline = deadline_after(timeout);
    long r = select_user((int)a[0], user, deadline);
    timeout_out(uaddr(a[4]), 1000, deadline);
    return r;
}

long sys_pselect6(struct task *t, const u64 a[6])
{
    const struct uaddr user[3] = {uaddr(a[1]), uaddr(a[2]), uaddr(a[3])};
    u64 mask[2] = {0}; // address and size of the signal set
    s64 timeout;

    if (a[5] && copy_in(mask, uaddr(a[5]), sizeof(mask)))
        return -EFAULT;
    int err = timeout_in(uaddr(a[4]), 1, &timeout);
    if (!err)
        err = signal_mask_begin_user(t, mask[0], mask[1]);
    if (err)
        return err;
    s64 deadline = deadline_after(timeout);
    long r = select_user((int)a[0], user, deadline);
    if (mask[0])
        signal_mask_end(t, r == -ERESTARTNOHAND);
    timeout_out(uaddr(a[4]), 1, deadline);
    return r;
}
