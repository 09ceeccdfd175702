// SPDX-License-Identifier: Apache-2.0
#include "sentry/vfs/fdtable.h"

#include <string.h>
#include <sys/resource.h>

#include "sentry/arena/arena.h"
#include "sentry/vfs/lock.h"

#define FDTABLE_FIRST 64u // slots; a multiple of 64, as all capacities

struct fdtable *fdtable_new(void)
{
    struct fdtable *t = arena_alloc(sizeof(*t));
    if (!t)
        return NULL;
    ref_init(&t->ref);
    return t;
}

struct fdtable *fdtable_ref(struct fdtable *t)
{
    ref_get(&t->ref);
    return t;
}

// Grows to hold slot `fd`; lock held.
static int grow(struct fdtable *t, u32 fd)
{
    if (fd < t->capacity)
        return 0;
    if (fd >= FD_CEILING)
        return -EMFILE;
    u32 capacity = max(t->capacity * 2, FDTABLE_FIRST);
    while (capacity <= fd)
        capacity *= 2;
    struct file **files = arena_alloc((u64)capacity * sizeof(*files));
    u64 *cloexec = arena_alloc(capacity / 8);
    if (!files || !cloexec) {
        arena_free(files);
        arena_free(cloexec);
        return -ENOMEM;
    }
    if (t->capacity) {
        memcpy(files, t->files, t->capacity * sizeof(*files));
        memcpy(cloexec, t->cloexec, t->capacity / 8);
    }
    arena_free(t->files);
    arena_free(t->cloexec);
    t->files = files;
    t->cloexec = cloexec;
    t->capacity = capacity;
    return 0;
}

struct fdtable *fdtable_dup(struct fdtable *t)
{
    struct fdtable *n = fdtable_new();
    if (!n)
        return NULL;
    mutex_lock(&t->lock, RANK_FDTABLE);
    u32 used = t->capacity;
    while (used && !t->files[used - 1])
        used--;
    int r = used ? grow(n, used - 1) : 0;
    if (!r) {
        for (u32 i = 0; i < used; i++)
            if (t->files[i])
                n->files[i] = file_ref(t->files[i]);
        if (used)
            memcpy(n->cloexec, t->cloexec, align_up(used, 64) / 8);
        n->count = t->count;
        n->first_free = t->first_free;
    }
    mutex_unlock(&t->lock);
    if (r) {
        fdtable_unref(n);
        return NULL;
    }
    return n;
}

// What close(2) does to a file that left a table.
static int finish_close(struct fdtable *t, struct file *f)
{
    int r = file_ops(f)->flush ? file_ops(f)->flush(f) : 0;
    if (f->inode && f->inode->locks && f->kind != FILE_PATH)
        lock_drop_posix(f->inode, t);
    file_unref(f);
    return r;
}

void fdtable_unref(struct fdtable *t)
{
    if (!t || !ref_put(&t->ref))
        return;
    for (u32 i = 0; i < t->capacity; i++)
        if (t->files[i])
            finish_close(t, t->files[i]);
    arena_free(t->files);
    arena_free(t->cloexec);
    arena_free(t);
}

static bool test_cloexec(const struct fdtable *t, u32 fd)
{
    return t->cloexec[fd / 64] >> fd % 64 & 1;
}

static void set_cloexec(struct fdtable *t, u32 fd, bool on)
{
    if (on)
        t->cloexec[fd / 64] |= 1ull << fd % 64;
    else
        t->cloexec[fd / 64] &= ~(1ull << fd % 64);
}

// Empties a slot; lock held. The caller finishes the close.
static struct file *take(struct fdtable *t, u32 fd)
{
    struct file *f = t->files[fd];
    if (!f)
        return NULL;
    t->files[fd] = NULL;
    set_cloexec(t, fd, false);
    t->count--;
    if (fd < t->first_free)
        t->first_free = fd;
    return f;
}

void fdtable_close_on_exec(struct fdtable *t)
{
    for (u32 w = 0; w < t->capacity / 64; w++)
        while (t->cloexec[w]) {
            u32 fd = w * 64 + (u32)__builtin_ctzll(t->cloexec[w]);
            mutex_lock(&t->lock, RANK_FDTABLE);
            struct file *f = take(t, fd);
            set_cloexec(t, fd, false);
            mutex_unlock(&t->lock);
            if (f)
                finish_close(t, f);
        }
}

// ---- look-up -----------------------------------------------------------------------------------

struct fdref fd_get_path(int fd)
{
    struct fdtable *t = fdtable_current();
    struct fdref r = {NULL, false};
    if (likely(ref_read(&t->ref) == 1)) {
        if (likely((u32)fd < t->capacity))
            r.file = t->files[fd];
        return r;
    }
    r.file = fdtable_get(t, fd);
    r.counted = r.file != NULL;
    return r;
}

struct fdref fd_get(int fd)
{
    struct fdref r = fd_get_path(fd);
    if (unlikely(r.file && r.file->kind == FILE_PATH)) {
        fd_put(r);
        r = (struct fdref){NULL, false};
    }
    return r;
}

struct file *fdtable_get(struct fdtable *t, int fd)
{
    struct file *f = NULL;
    mutex_lock(&t->lock, RANK_FDTABLE);
    if ((u32)fd < t->capacity && t->files[fd])
        f = file_ref(t->files[fd]);
    mutex_unlock(&t->lock);
    return f;
}

int fdtable_next(struct fdtable *t, int from, struct file **ret, bool *cloexec)
{
    int found = -1;
    mutex_lock(&t->lock, RANK_FDTABLE);
    for (u32 i = (u32)max(from, 0); i < t->capacity; i++)
        if (t->files[i]) {
            found = (int)i;
            if (ret)
                *ret = file_ref(t->files[i]);
            if (cloexec)
                *cloexec = test_cloexec(t, i);
            break;
        }
    mutex_unlock(&t->lock);
    return found;
}

// ---- installing --------------------------------------------------------------------------------

static u32 nofile_limit(void)
{
    u64 limit = kernel_rlimit(RLIMIT_NOFILE);
    return (u32)min(limit, (u64)FD_CEILING);
}

// The lowest free slot, taken for f; lock held.
static int install(struct fdtable *t, struct file *f, u32 flags, u32 from)
{
    u32 limit = nofile_limit(), fd = max(from, t->first_free);
    while (fd < t->capacity && t->files[fd])
        fd++;
    if (fd >= limit)
        return -EMFILE;
    int r = grow(t, fd);
    if (r)
        return r;
    if (from <= t->first_free)
        t->first_free = fd + 1;
    t->files[fd] = f;
    set_cloexec(t, fd, flags & O_CLOEXEC);
    t->count++;
    return (int)fd;
}

int fd_install_from(struct fdtable *t, struct file *f, u32 flags, u32 from)
{
    if (from >= nofile_limit())
        return -EINVAL;
    mutex_lock(&t->lock, RANK_FDTABLE);
    int r = install(t, f, flags, from);
    mutex_unlock(&t->lock);
    return r;
}

int fd_install(struct file *f, u32 flags)
{
    struct fdtable *t = fdtable_current();
    mutex_lock(&t->lock, RANK_FDTABLE);
    int r = install(t, f, flags, 0);
    mutex_unlock(&t->lock);
    if (r < 0)
        file_unref(f);
    return r;
}

int fd_check_room(void)
{
    struct fdtable *t = fdtable_current();
    u32 limit = nofile_limit();
    mutex_lock(&t->lock, RANK_FDTABLE);
    u32 fd = t->first_free;
    while (fd < t->capacity && t->files[fd])
        fd++;
    mutex_unlock(&t->lock);
    return fd < limit ? 0 : -EMFILE;
}

int fd_install_at(struct fdtable *t, struct file *f, u32 flags, u32 fd)
{
    if (fd >= nofile_limit())
        return -EBADF;
    mutex_lock(&t->lock, RANK_FDTABLE);
    int r = grow(t, fd);
    struct file *old = NULL;
    if (!r) {
        old = take(t, fd);
        t->files[fd] = file_ref(f);
        set_cloexec(t, fd, flags & O_CLOEXEC);
        t->count++;
        if (t->first_free == fd)
            t->first_free = fd + 1;
    }
    mutex_unlock(&t->lock);
    if (old)
        finish_close(t, old);
    return r ? r : (int)fd;
}

int fd_install_pair(struct file *a, struct file *b, u32 flags, int ret[2])
{
    struct fdtable *t = fdtable_current();
    mutex_lock(&t->lock, RANK_FDTABLE);
    int fd_a = install(t, a, flags, 0);
    int fd_b = fd_a < 0 ? fd_a : install(t, b, flags, 0);
    if (fd_b < 0 && fd_a >= 0)
        take(t, (u32)fd_a);
    mutex_unlock(&t->lock);
    if (fd_b < 0) {
        file_unref(a);
        file_unref(b);
        return fd_b;
    }
    ret[0] = fd_a;
    ret[1] = fd_b;
    return 0;
}

// ---- closing and flags -------------------------------------------------------------------------

int fd_close(struct fdtable *t, int fd)
{
    mutex_lock(&t->lock, RANK_FDTABLE);
    struct file *f = (u32)fd < t->capacity ? take(t, (u32)fd) : NULL;
    mutex_unlock(&t->lock);
    return f ? finish_close(t, f) : -EBADF;
}

int fd_close_range(struct fdtable *t, u32 first, u32 last, bool cloexec_only)
{
    if (first > last)
        return -EINVAL;
    for (u64 fd = first; fd <= last; fd++) {
        mutex_lock(&t->lock, RANK_FDTABLE);
        bool end = fd >= t->capacity;
        struct file *f = NULL;
        if (!end && cloexec_only && t->files[fd])
            set_cloexec(t, (u32)fd, true);
        else if (!end && !cloexec_only)
            f = take(t, (u32)fd);
        mutex_unlock(&t->lock);
        if (end)
            break;
        if (f)
            finish_close(t, f);
    }
    return 0;
}

int fd_get_cloexec(struct fdtable *t, int fd)
{
    int r = -EBADF;
    mutex_lock(&t->lock, RANK_FDTABLE);
    if ((u32)fd < t->capacity && t->files[fd])
        r = test_cloexec(t, (u32)fd);
    mutex_unlock(&t->lock);
    return r;
}

int fd_set_cloexec(struct fdtable *t, int fd, bool on)
{
    int r = -EBADF;
    mutex_lock(&t->lock, RANK_FDTABLE);
    if ((u32)fd < t->capacity && t->files[fd]) {
        set_cloexec(t, (u32)fd, on);
        r = 0;
    }
    mutex_unlock(&t->lock);
    return r;
}
