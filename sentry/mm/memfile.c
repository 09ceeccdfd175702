// SPDX-License-Identifier: Apache-2.0
#include "sentry/mm/memfile.h"

#include <stdio.h>
#include <stdlib.h>

#include "abi/errno.h"
#include "base/log.h"
#include "host/fs.h"
#include "host/host.h"
#include "sentry/arena/arena.h"
#include "sentry/arena/side.h"
#include "sentry/mm/account.h"
#include "sentry/mm/window.h"

struct memfile_side {
    struct memfile *self;
    int fd;
    struct windows windows;
};

// In the arena, at its slot: all memory files.
struct memfile_root {
    struct mutex lock; // RANK_MEMFILE
    struct list files; // guarded by lock
    u64 next_id;
    struct account all; // of the sandbox; its list of files is not used
    struct memfile *vdso;
};

static struct side_table sides;
static int memdir = -1;
static bool memdir_own;

static struct memfile_root *root(void)
{
    return *arena_slot(ARENA_SLOT_MM);
}

struct account *account_all(void)
{
    struct memfile_root *r = root();
    return r ? &r->all : NULL;
}

int memfile_init(int dirfd, u64 limit)
{
    struct memfile_root *r = arena_slot_get(ARENA_SLOT_MM, sizeof(*r));
    if (!r)
        return -ENOMEM;
    if (!r->files.next)
        list_init(&r->files);
    account_set_limit(&r->all, limit);
    memdir = dirfd;
    return 0;
}

static void memfile_name(char name[48], u64 id)
{
    snprintf(name, 48, "mem-%d-%llu", host_getpid(), (unsigned long long)id);
}

int memfile_new(struct account *a, bool shared, struct memfile **ret)
{
    struct memfile_root *r = root();
    char name[48];
    int err = -ENOMEM;
    struct memfile *mf = arena_alloc(sizeof(*mf));
    struct memfile_side *side = calloc(1, sizeof(*side));
    if (!mf || !side)
        goto fail;
    ref_init(&mf->ref);
    mf->shared = shared;
    mf->id = __atomic_fetch_add(&r->next_id, 1, __ATOMIC_RELAXED);
    side->self = mf;
    memfile_name(name, mf->id);
    err = host_openat(memdir, name, O_RDWR | O_CREAT | O_EXCL, 0600);
    if (err < 0)
        goto fail;
    side->fd = err;
    err = host_ftruncate(side->fd, MEMFILE_SIZE);
    if (err)
        goto fail_file;
    mf->side = side_insert(&sides, side);
    err = -ENOMEM;
    if (!mf->side)
        goto fail_file;
    mf->account = account_ref(a);
    list_init(&mf->account_node);
    mutex_lock(&r->lock, RANK_MEMFILE);
    list_push(&r->files, &mf->node);
    if (a)
        list_push(&a->files, &mf->account_node);
    mutex_unlock(&r->lock);
    *ret = mf;
    return 0;
fail_file:
    host_close(side->fd);
    host_unlinkat(memdir, name, 0);
fail:
    free(side);
    arena_free(mf);
    return err;
}

int memfile_each(int (*visit)(void *arg, struct memfile *mf), void *arg)
{
    struct memfile *mf;
    int r = 0;
    list_for_each(mf, &root()->files, node)
        if (!r)
            r = visit(arg, mf);
    return r;
}

int memfile_revive(struct memfile *mf)
{
    char name[48];
    struct memfile_side *side = calloc(1, sizeof(*side));
    if (!side)
        return -ENOMEM;
    side->self = mf;
    memfile_name(name, mf->id);
    side->fd = host_openat(memdir, name, O_RDWR | O_CREAT | O_EXCL, 0600);
    int err = side->fd < 0 ? side->fd : host_ftruncate(side->fd, MEMFILE_SIZE);
    if (!err) {
        mf->side = side_insert(&sides, side);
        err = mf->side ? 0 : -ENOMEM;
    }
    if (err) {
        if (side->fd >= 0) {
            host_close(side->fd);
            host_unlinkat(memdir, name, 0);
        }
        free(side);
    }
    return err;
}

struct memfile *memfile_ref(struct memfile *mf)
{
    ref_get(&mf->ref);
    return mf;
}

void memfile_unref(struct memfile *mf)
{
    if (!ref_put(&mf->ref))
        return;
    struct memfile_root *r = root();
    struct memfile_side *side = side_remove(&sides, mf->side);
    mutex_lock(&r->lock, RANK_MEMFILE);
    list_remove(&mf->node);
    list_remove(&mf->account_node);
    mutex_unlock(&r->lock);
    account_unref(mf->account);
    if (side && side->self == mf) {
        char name[48];
        memfile_name(name, mf->id);
        host_unlinkat(memdir, name, 0);
        windows_fini(&side->windows);
        host_close(side->fd);
        free(side);
    }
    arena_free(mf);
}

static struct memfile_side *side_of(const struct memfile *mf)
{
    struct memfile_side *side = side_get(&sides, mf->side);
    return side && side->self == mf ? side : NULL;
}

int memfile_fd(struct memfile *mf)
{
    struct memfile_side *side = side_of(mf);
    return side ? side->fd : -ESTALE;
}

int memfile_open_readonly(struct memfile *mf)
{
    char name[48];
    memfile_name(name, mf->id);
    return host_openat(memdir, name, O_RDONLY, 0);
}

int memfile_cold_fd(struct memfile *mf, u64 off)
{
    struct memfile_side *side = side_of(mf);
    return side && windows_cold(&side->windows, off) ? side->fd : -1;
}

u8 *memfile_ptr(struct memfile *mf, u64 off, u64 *ret_avail)
{
    struct memfile_side *side = side_of(mf);
    int err;
    return side ? windows_get(&side->windows, side->fd, off, true, ret_avail, &err) : NULL;
}

u64 memfile_run(struct memfile *mf, u64 off, u64 limit, bool *ret_data)
{
    int fd = memfile_fd(mf);
    s64 data = host_lseek(fd, (s64)off, SEEK_DATA);
    if (data == -ENXIO || (data >= 0 && (u64)data >= limit)) {
        *ret_data = false;
        return limit;
    }
    if (data > (s64)off) {
        *ret_data = false;
        return min(page_up((u64)data), limit);
    }
    *ret_data = true;
    s64 hole = data < 0 ? data : host_lseek(fd, (s64)off, SEEK_HOLE);
    return hole <= (s64)off ? limit : min(page_up((u64)hole), limit);
}

int memfile_write(struct memfile *mf, u64 off, const void *buf, u64 size)
{
    int fd = memfile_fd(mf);
    while (size) {
        long n = host_pwrite(fd, buf, size, (s64)off);
        if (n <= 0)
            return n < 0 ? (int)n : -EIO;
        buf = (const u8 *)buf + n;
        off += (u64)n;
        size -= (u64)n;
    }
    return 0;
}

// Copies `size` bytes through a buffer; stops at the end of `from`. *ret_size: how many there were.
static int copy_bytes(struct memfile *dst, u64 dst_off, int from, u64 off, u64 size, u64 *ret_size)
{
    u8 buf[16384];
    u64 done = 0;
    int err = 0;
    while (done < size) {
        long n = host_pread(from, buf, min(size - done, sizeof(buf)), (s64)(off + done));
        if (n < 0)
            err = (int)n;
        if (n <= 0)
            break;
        err = memfile_write(dst, dst_off + done, buf, (u64)n);
        if (err)
            break;
        done += (u64)n;
    }
    *ret_size = done;
    return err;
}

int memfile_copy(struct memfile *dst, u64 dst_off, struct memfile *src, u64 src_off, u64 size)
{
    u64 end = src_off + size, unused;
    for (u64 off = src_off, run; off < end; off = run) {
        bool data;
        run = memfile_run(src, off, end, &data);
        if (!data)
            continue;
        int err = copy_bytes(dst, dst_off + (off - src_off), memfile_fd(src), off, run - off,
                             &unused);
        if (err)
            return err;
    }
    return 0;
}

int memfile_copy_pages(struct memfile *dst, u64 dst_off, struct memfile *src, u64 src_off, u64 size)
{
    struct memfile_side *side = side_of(src);
    u64 copied;
    const u8 *p = side ? windows_peek(&side->windows, src_off, size) : NULL;
    if (p)
        return memfile_write(dst, dst_off, p, size);
    return copy_bytes(dst, dst_off, memfile_fd(src), src_off, size, &copied);
}

int memfile_copy_host(struct memfile *dst, u64 dst_off, int fd, u64 off, u64 size, u64 *ret_size)
{
    return copy_bytes(dst, dst_off, fd, off, size, ret_size);
}

void memfile_punch(struct memfile *mf, u64 off, u64 size)
{
    int fd = memfile_fd(mf);
    int err = host_fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, size);
    if (err) {
        log_once(LOG_LEVEL_WARN, "cannot free guest memory: error %d", -err);
        mf->stale = 1;
    }
}

int memfile_populate(struct memfile *mf, u64 off, u64 size)
{
    return host_fallocate(memfile_fd(mf), FALLOC_FL_KEEP_SIZE, off, size);
}

struct memfile **memfile_vdso(void)
{
    return &root()->vdso;
}

u64 memfile_used(struct memfile *mf)
{
    struct statx st;
    int fd = memfile_fd(mf);
    if (fd < 0 || host_fstatx(fd, &st))
        return 0;
    return st.stx_blocks * 512;
}

void memfile_own_directory(void)
{
    memdir_own = true;
}

u64 memfile_total_used(void)
{
    struct memfile_root *r = root();
    struct memfile *mf;
    struct statfs fs;
    u64 total = 0;
    if (!r)
        return 0;
    if (memdir_own && host_fstatfs(memdir, &fs) == 0 && fs.f_blocks)
        return (fs.f_blocks - fs.f_bfree) * (u64)fs.f_bsize;
    mutex_lock(&r->lock, RANK_MEMFILE);
    list_for_each(mf, &r->files, node)
        total += memfile_used(mf);
    mutex_unlock(&r->lock);
    return total;
}

u64 memfile_used_of(struct account *a)
{
    struct memfile_root *r = root();
    u64 total = 0;
    mutex_lock(&r->lock, RANK_MEMFILE);
    for (struct list *n = a->files.next; n != &a->files; n = n->next)
        total += memfile_used(list_entry(n, struct memfile, account_node));
    mutex_unlock(&r->lock);
    return total;
}

u32 memfile_count(void)
{
    struct memfile_root *r = root();
    struct memfile *mf;
    u32 count = 0;
    if (!r)
        return 0;
    mutex_lock(&r->lock, RANK_MEMFILE);
    list_for_each(mf, &r->files, node)
        count++;
    mutex_unlock(&r->lock);
    return count;
}
