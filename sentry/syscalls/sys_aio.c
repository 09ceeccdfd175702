// SPDX-License-Identifier: Apache-2.0
// Linux's own asynchronous I/O (io_setup(2), io_submit(2) ...), done at once: a request is complete when io_submit
// returns, and its event waits to be fetched. A context belongs to the process, which loses it by execve(2); its number
// is the address of a page of the guest's, since C libraries look there for a ring of events and, finding none, ask.
//
// Lock order: the table's lock is RANK_FILE; files are read and written without it.
#include <linux/aio_abi.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/uio.h>

#include "sentry/arena/arena.h"
#include "sentry/fs/anon/eventfd.h"
#include "sentry/kernel/aio.h"
#include "sentry/mm/mm.h"
#include "sentry/mm/usercopy.h"
#include "sentry/syscalls/sys_kernel.h"
#include "sentry/vfs/fdtable.h"

#define EVENTS_MAX 0x10000 // fs.aio-max-nr, of all contexts together
#define CONTEXTS_MAX 256
#define READABLE 1u
#define IO_SIZE_MAX 0x7ffff000ull

struct aio_context {
    struct list node;
    struct ref ref;
    u64 id;
    u32 limit;
    bool dead;       // guarded by the table's lock, as is all that follows
    u32 reserved;    // requests that are being done
    u32 head, count; // ring of events; count and dead are looked at without the lock too (atomic)
    struct waitq queue;
    struct io_event events[];
};

struct aio_table {
    struct mutex lock;
    struct list contexts;
    u32 count;
};

// ---- contexts ------------------------------------------------------------------------------------

static struct aio_table *table_of(struct task *t, bool make)
{
    struct process *p = t->process;
    struct aio_table *table = __atomic_load_n(&p->aio, __ATOMIC_ACQUIRE), *none = NULL;
    if (table || !make)
        return table;
    table = arena_alloc(sizeof(*table));
    if (!table)
        return NULL;
    list_init(&table->contexts);
    if (__atomic_compare_exchange_n(&p->aio, &none, table, false, __ATOMIC_ACQ_REL,
                                    __ATOMIC_ACQUIRE))
        return table;
    arena_free(table);
    return none;
}

// How many events all contexts may hold (atomic); NULL when there is no memory.
static u32 *events_total(void)
{
    return arena_slot_get(ARENA_SLOT_AIO, sizeof(u32));
}

static void context_free(struct aio_context *c)
{
    __atomic_fetch_sub(events_total(), c->limit, __ATOMIC_RELAXED);
    arena_free(c);
}

static void context_unref(struct aio_context *c)
{
    if (ref_put(&c->ref))
        context_free(c);
}

// A reference; NULL.
static struct aio_context *context_get(struct aio_table *table, u64 id)
{
    struct aio_context *c, *found = NULL;
    if (!table)
        return NULL;
    mutex_lock(&table->lock, RANK_FILE);
    list_for_each(c, &table->contexts, node)
        if (c->id == id)
            found = c;
    if (found)
        ref_get(&found->ref);
    mutex_unlock(&table->lock);
    return found;
}

// Those who wait for it are told; the table's reference ends.
static void context_end(struct aio_table *table, struct aio_context *c)
{
    mutex_lock(&table->lock, RANK_FILE);
    bool ours = !c->dead;
    if (ours) {
        __atomic_store_n(&c->dead, true, __ATOMIC_RELAXED);
        list_remove(&c->node);
        table->count--;
    }
    mutex_unlock(&table->lock);
    waitq_wake(&c->queue, READABLE);
    if (ours)
        context_unref(c);
}

void aio_process_end(struct process *p)
{
    struct aio_table *table = p->aio;
    if (!table)
        return;
    while (!list_empty(&table->contexts))
        context_end(table, list_first(&table->contexts, struct aio_context, node));
    p->aio = NULL;
    arena_free(table);
}

static int context_new(u32 limit, struct aio_context **ret)
{
    u32 *total = events_total();
    if (!total)
        return -ENOMEM;
    if (__atomic_add_fetch(total, limit, __ATOMIC_RELAXED) > EVENTS_MAX) {
        __atomic_fetch_sub(total, limit, __ATOMIC_RELAXED);
        return -EAGAIN;
    }
    struct aio_context *c = arena_alloc(sizeof(*c) + limit * sizeof(c->events[0]));
    if (!c) {
        __atomic_fetch_sub(total, limit, __ATOMIC_RELAXED);
        return -ENOMEM;
    }
    ref_init(&c->ref);
    waitq_init(&c->queue);
    c->limit = limit;
    *ret = c;
    return 0;
}

long sys_io_setup(struct task *t, const u64 a[6])
{
    u64 id;
    u32 limit = (u32)a[0];
    if (copy_in(&id, uaddr(a[1]), sizeof(id)))
        return -EFAULT;
    if (id || !limit || limit > 0x10000000u / sizeof(struct io_event))
        return -EINVAL;
    if (limit > EVENTS_MAX)
        return -EAGAIN;
    struct aio_table *table = table_of(t, true);
    struct aio_context *c;
    int made = table ? context_new(limit, &c) : -ENOMEM;
    if (made)
        return made;
    s64 page = mm_mmap(t->mm, 0, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                       NULL, 0);
    long r = page < 0 ? (long)page : put_u64(uaddr(a[1]), (u64)page);
    if (!r) {
        c->id = (u64)page;
        mutex_lock(&table->lock, RANK_FILE);
        r = table->count < CONTEXTS_MAX ? 0 : -EAGAIN;
        if (!r) {
            list_push(&table->contexts, &c->node);
            table->count++;
        }
        mutex_unlock(&table->lock);
    }
    if (!r)
        return 0;
    if (page >= 0 && mm_munmap(t->mm, (u64)page, PAGE_SIZE))
        r = -ENOMEM;
    context_unref(c);
    return r;
}

long sys_io_destroy(struct task *t, const u64 a[6])
{
    struct aio_table *table = table_of(t, false);
    struct aio_context *c = context_get(table, a[0]);
    if (!c)
        return -EINVAL;
    context_end(table, c);
    long r = mm_munmap(t->mm, c->id, PAGE_SIZE);
    context_unref(c);
    return r < 0 ? -EINVAL : 0;
}

// ---- requests -----------------------------------------------------------------------------------

static long transfer(struct file *f, const struct iocb *cb, bool vector, bool write)
{
    struct uio u;
    long r = 0;
    if (cb->aio_offset < 0)
        return -EINVAL;
    if (vector)
        r = uio_init_iovec(&u, uaddr(cb->aio_buf), cb->aio_nbytes);
    else
        uio_init_user(&u, uaddr(cb->aio_buf), min(cb->aio_nbytes, IO_SIZE_MAX));
    if (r)
        return r;
    if (file_ops(f)->seekable)
        r = write ? file_pwrite(f, &u, cb->aio_offset) : file_pread(f, &u, cb->aio_offset);
    else
        r = write ? file_write(f, &u) : file_read(f, &u);
    if (vector)
        uio_fini(&u);
    return r;
}

static long sync_file(struct file *f, bool data_only)
{
    const struct file_ops *ops = file_ops(f);
    return ops->fsync ? ops->fsync(f, data_only) : ops->seekable ? 0 : -EINVAL;
}

static long perform(struct file *f, const struct iocb *cb)
{
    switch (cb->aio_lio_opcode) {
    case IOCB_CMD_PREAD:
        return transfer(f, cb, false, false);
    case IOCB_CMD_PWRITE:
        return transfer(f, cb, false, true);
    case IOCB_CMD_PREADV:
        return transfer(f, cb, true, false);
    case IOCB_CMD_PWRITEV:
        return transfer(f, cb, true, true);
    case IOCB_CMD_FSYNC:
    case IOCB_CMD_FDSYNC:
        return sync_file(f, cb->aio_lio_opcode == IOCB_CMD_FDSYNC);
    default:
        return -EINVAL;
    }
}

// What io_submit(2) itself refuses, before there is a request.
static int check_request(struct file *f, const struct iocb *cb)
{
    bool reads = cb->aio_lio_opcode == IOCB_CMD_PREAD || cb->aio_lio_opcode == IOCB_CMD_PREADV;
    bool writes = cb->aio_lio_opcode == IOCB_CMD_PWRITE || cb->aio_lio_opcode == IOCB_CMD_PWRITEV;
    if (cb->aio_reserved2 || cb->aio_rw_flags || cb->aio_flags & ~(u32)(IOCB_FLAG_RESFD | IOCB_FLAG_IOPRIO) ||
        (s64)cb->aio_nbytes < 0)
        return -EINVAL;
    if (reads || writes)
        return (reads ? f->may_read : f->may_write) ? 0 : -EBADF;
    bool syncs = cb->aio_lio_opcode == IOCB_CMD_FSYNC || cb->aio_lio_opcode == IOCB_CMD_FDSYNC;
    return syncs && (file_ops(f)->fsync || file_ops(f)->seekable) ? 0 : -EINVAL;
}

static int reserve(struct aio_table *table, struct aio_context *c)
{
    mutex_lock(&table->lock, RANK_FILE);
    int r = c->dead ? -EINVAL : c->count + c->reserved >= c->limit ? -EAGAIN : 0;
    if (!r)
        c->reserved++;
    mutex_unlock(&table->lock);
    return r;
}

// The reserved place becomes an event, or is given back (`ev` NULL).
static void complete(struct aio_table *table, struct aio_context *c, const struct io_event *ev)
{
    mutex_lock(&table->lock, RANK_FILE);
    c->reserved--;
    if (ev) {
        c->events[(c->head + c->count) % c->limit] = *ev;
        __atomic_store_n(&c->count, c->count + 1, __ATOMIC_RELAXED);
    }
    mutex_unlock(&table->lock);
    if (ev)
        waitq_wake(&c->queue, READABLE);
}

static int submit_on(struct aio_table *table, struct aio_context *c, struct file *f,
                     const struct iocb *cb, u64 addr)
{
    int r = check_request(f, cb);
    if (!r)
        r = reserve(table, c);
    if (r)
        return r;
    long result = perform(f, cb);
    if (result == -ERESTARTSYS) { // nothing has happened yet: the call is to start again with it
        complete(table, c, NULL);
        return (int)result;
    }
    struct io_event ev = {.data = cb->aio_data, .obj = addr, .res = result};
    complete(table, c, &ev);
    return 0;
}

static int submit(struct aio_table *table, struct aio_context *c, u64 addr)
{
    struct iocb cb;
    struct fdref notify = {NULL, false};
    if (copy_in(&cb, uaddr(addr), sizeof(cb)))
        return -EFAULT;
    struct fdref f = fd_get((int)cb.aio_fildes);
    if (!f.file)
        return -EBADF;
    int r = 0;
    if (cb.aio_flags & IOCB_FLAG_RESFD) {
        notify = fd_get((int)cb.aio_resfd);
        r = !notify.file ? -EBADF : notify.file->kind != FILE_EVENTFD ? -EINVAL : 0;
    }
    // aio_key is the kernel's to write.
    if (!r && put_u32(uaddr(addr + offsetof(struct iocb, aio_key)), 0))
        r = -EFAULT;
    if (!r)
        r = submit_on(table, c, f.file, &cb, addr);
    if (!r && notify.file)
        eventfd_signal(notify.file);
    if (notify.file)
        fd_put(notify);
    fd_put(f);
    return r;
}

long sys_io_submit(struct task *t, const u64 a[6])
{
    struct aio_table *table = table_of(t, false);
    struct aio_context *c = context_get(table, a[0]);
    s64 count = (s64)a[1], done = 0;
    int r = 0;
    if (!c || count < 0) {
        if (c)
            context_unref(c);
        return -EINVAL;
    }
    for (; done < count && done < c->limit && !r; done += !r) {
        u64 addr;
        r = copy_in(&addr, uaddr(a[2] + (u64)done * 8), sizeof(addr)) ? -EFAULT
                                                                      : submit(table, c, addr);
    }
    context_unref(c);
    return done ? done : r;
}

// No request is ever under way.
long sys_io_cancel(struct task *t, const u64 a[6])
{
    u32 key;
    if (get_u32(&key, uaddr(a[1] + offsetof(struct iocb, aio_key))))
        return -EFAULT;
    return -EINVAL;
}

// ---- events -------------------------------------------------------------------------------------

// Takes one event: false if there is none.
static bool take(struct aio_table *table, struct aio_context *c, struct io_event *ret)
{
    mutex_lock(&table->lock, RANK_FILE);
    bool any = c->count > 0;
    if (any) {
        *ret = c->events[c->head];
        c->head = (c->head + 1) % c->limit;
        __atomic_store_n(&c->count, c->count - 1, __ATOMIC_RELAXED);
    }
    mutex_unlock(&table->lock);
    return any;
}

static bool over(struct aio_context *c)
{
    return __atomic_load_n(&c->count, __ATOMIC_RELAXED) || __atomic_load_n(&c->dead, __ATOMIC_RELAXED);
}

static long fetch(struct aio_table *table, struct aio_context *c, s64 least, s64 most, u64 to,
                  s64 deadline)
{
    s64 got = 0;
    int r = 0;
    while (got < most && !r) {
        struct io_event ev;
        if (take(table, c, &ev)) {
            if (copy_out(uaddr(to + (u64)got * sizeof(ev)), &ev, sizeof(ev)))
                return got ? got : -EFAULT;
            got++;
        } else if (got >= least) {
            break;
        } else if (__atomic_load_n(&c->dead, __ATOMIC_RELAXED)) {
            r = -EINVAL;
        } else {
            r = sched_wait_event(&c->queue, READABLE, deadline, over(c));
        }
    }
    return got || r == -ETIMEDOUT ? got : r == -ERESTARTSYS ? -ERESTARTNOHAND : r;
}

static long get_events(struct task *t, const u64 a[6])
{
    struct aio_table *table = table_of(t, false);
    struct aio_context *c = context_get(table, a[0]);
    s64 least = (s64)a[1], most = (s64)a[2], deadline = TIME_NEVER, ts[2];
    long r = c && least >= 0 && most >= least ? 0 : -EINVAL;
    if (!r && a[4]) {
        if (copy_in(ts, uaddr(a[4]), sizeof(ts)))
            r = -EFAULT;
        else if (ts[0] < 0 || ts[1] < 0 || ts[1] >= NSEC_PER_SEC)
            r = -EINVAL;
        else if (__builtin_mul_overflow(ts[0], NSEC_PER_SEC, &deadline) ||
                 __builtin_add_overflow(deadline, ts[1] + sched_now(), &deadline))
            deadline = TIME_NEVER;
    }
    if (!r)
        r = fetch(table, c, least, most, a[3], deadline);
    if (c)
        context_unref(c);
    return r;
}

long sys_io_getevents(struct task *t, const u64 a[6])
{
    return get_events(t, a);
}

long sys_io_pgetevents(struct task *t, const u64 a[6])
{
    u64 mask[2] = {0, 0}; // of struct __aio_sigset
    if (a[5] && copy_in(mask, uaddr(a[5]), sizeof(mask)))
        return -EFAULT;
    int err = signal_mask_begin_user(t, mask[0], mask[1]);
    if (err)
        return err;
    long r = get_events(t, a);
    if (mask[0])
        signal_mask_end(t, r == -ERESTARTNOHAND);
    return r;
}
