// SPDX-License-Identifier: Apache-2.0
// Data of tmpfs files: pages in the arena, or a file of the host.
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "host/fs.h"
#include "host/host.h"
#include "sentry/arena/arena.h"
#include "sentry/arena/side.h"
#include "sentry/mm/account.h"
#include "sentry/mm/mm.h"
#include "sentry/fs/tmpfs/tmpfs.h"
#include "sentry/mm/usercopy.h"

#define TABLE_COUNT 512u
#define IOV_BATCH 32
#define MFD_NOEXEC_SEAL_FLAG 8u // of newer kernels' headers
#define MFD_EXEC_FLAG 16u
#define F_SEAL_EXEC_FLAG 0x20u

struct host_file {
    int rw, ro;
    struct inode *owner;
};

static struct side_table host_files;
static int memdir = -1;

void tmpfs_init(int memdir_fd, u64 memory)
{
    memdir = memdir_fd;
    tmpfs_set_memory(memory);
}

// ---- counting ----------------------------------------------------------------------------------

static struct account *account_of(const struct inode *i)
{
    struct account *own = tmpfs_node(i)->account;
    return own ? own : tmpfs_super(i->sb)->account;
}

static int charge(struct inode *i, u64 pages)
{
    struct tmpfs_super *s = tmpfs_super(i->sb);
    struct account *a = account_of(i);
    if (pages && !account_has_for_file(a, pages * PAGE_SIZE))
        return -ENOSPC;
    u64 now = __atomic_add_fetch(&s->pages, pages, __ATOMIC_RELAXED);
    if (s->page_limit && now > s->page_limit) {
        __atomic_fetch_sub(&s->pages, pages, __ATOMIC_RELAXED);
        return -ENOSPC;
    }
    account_add_pages(a, (s64)pages);
    u64 total = __atomic_add_fetch(&tmpfs_node(i)->pages, pages, __ATOMIC_RELAXED);
    i->blocks = total * (PAGE_SIZE / 512);
    return 0;
}

static void uncharge(struct inode *i, u64 pages)
{
    __atomic_fetch_sub(&tmpfs_super(i->sb)->pages, pages, __ATOMIC_RELAXED);
    account_add_pages(account_of(i), -(s64)pages);
    u64 total = __atomic_sub_fetch(&tmpfs_node(i)->pages, pages, __ATOMIC_RELAXED);
    i->blocks = total * (PAGE_SIZE / 512);
}

static struct host_file *host_file(struct inode *i)
{
    u32 h = __atomic_load_n(&tmpfs_node(i)->host, __ATOMIC_ACQUIRE);
    return h ? side_get(&host_files, h) : NULL;
}

void tmpfs_recount(struct inode *i)
{
    struct host_file *h = host_file(i);
    struct statx st;
    if (!h || host_fstatx(h->rw, &st))
        return;
    u64 real = st.stx_blocks / (PAGE_SIZE / 512);
    u64 old = __atomic_exchange_n(&tmpfs_node(i)->pages, real, __ATOMIC_RELAXED);
    __atomic_fetch_add(&tmpfs_super(i->sb)->pages, real - old, __ATOMIC_RELAXED);
    account_add_pages(account_of(i), (s64)(real - old));
    i->blocks = st.stx_blocks;
}

void tmpfs_recount_all(void)
{
    u32 index = 0;
    // An owner takes its file out of the table before it goes.
    mutex_lock(&host_files.lock, RANK_SIDE);
    for (struct host_file *h; (h = side_next(&host_files, &index));)
        tmpfs_recount(h->owner);
    mutex_unlock(&host_files.lock);
}

// ---- pages in the arena; io held ---------------------------------------------------------------

// Pages that a tree of this height can hold.
static u64 tree_span(u32 height)
{
    return 1ull << (9 * height);
}

static void *page_find(const struct tmpfs_node *n, u64 index)
{
    if (!n->tree || index >= tree_span(n->height))
        return NULL;
    void *p = n->tree;
    for (u32 h = n->height; p && h; h--)
        p = ((void **)p)[index >> (9 * (h - 1)) & (TABLE_COUNT - 1)];
    return p;
}

// The page, made if it is missing. NULL: *err says why.
static void *page_make(struct inode *i, u64 index, int *err)
{
    struct tmpfs_node *n = tmpfs_node(i);
    *err = -ENOSPC; // an arena without room, too
    while (n->tree && index >= tree_span(n->height)) {
        void **table = arena_alloc(TABLE_COUNT * sizeof(*table));
        if (!table)
            return NULL;
        table[0] = n->tree;
        n->tree = table;
        n->height++;
    }
    if (!n->tree)
        while (index >= tree_span(n->height))
            n->height++;
    void **slot = &n->tree;
    for (u32 h = n->height; h; h--) {
        if (!*slot)
            *slot = arena_alloc(TABLE_COUNT * sizeof(void *));
        if (!*slot)
            return NULL;
        slot = &((void **)*slot)[index >> (9 * (h - 1)) & (TABLE_COUNT - 1)];
    }
    if (*slot)
        return *slot;
    *err = charge(i, 1);
    if (*err)
        return NULL;
    *slot = arena_alloc(PAGE_SIZE);
    if (!*slot) {
        uncharge(i, 1);
        *err = -ENOSPC;
    }
    return *slot;
}

// Frees the pages [from, to); tables that may have become empty stay until the file goes.
static u64 tree_free(void *p, u32 height, u64 base, u64 from, u64 to, bool all, void **slot)
{
    u64 span = tree_span(height), freed = 0;
    if (!p || base >= to || base + span <= from)
        return 0;
    if (!height) {
        arena_free(p);
        *slot = NULL;
        return 1;
    }
    void **table = p;
    u64 step = tree_span(height - 1);
    for (u32 k = 0; k < TABLE_COUNT; k++)
        freed += tree_free(table[k], height - 1, base + k * step, from, to, all, &table[k]);
    if (all) {
        arena_free(p);
        *slot = NULL;
    }
    return freed;
}

static void pages_free(struct inode *i, u64 from, u64 to)
{
    struct tmpfs_node *n = tmpfs_node(i);
    bool all = from == 0 && to == UINT64_MAX;
    u64 freed = tree_free(n->tree, n->height, 0, from, to, all, &n->tree);
    if (all)
        n->height = 0;
    if (freed)
        uncharge(i, freed);
}

static void zero_within_page(struct inode *i, u64 from, u64 to)
{
    char *page = page_find(tmpfs_node(i), from >> PAGE_SHIFT);
    if (page && to > from)
        memset(page + from % PAGE_SIZE, 0, to - from);
}

static void punch_pages(struct inode *i, u64 from, u64 to)
{
    u64 first = page_up(from), last = page_down(to);
    if (first > last) {
        zero_within_page(i, from, to);
        return;
    }
    zero_within_page(i, from, first);
    zero_within_page(i, last, to);
    if (first < last)
        pages_free(i, first >> PAGE_SHIFT, last >> PAGE_SHIFT);
}

// ---- moving to the host; io held for writing -----------------------------------------------------

static int make_host_file(struct host_file *h)
{
    static u64 counter;
    char name[32];
    u64 n = __atomic_add_fetch(&counter, 1, __ATOMIC_RELAXED);
    if (memdir < 0)
        return -ENOSPC;
    snprintf(name, sizeof(name), "tmpfs.%llx", (unsigned long long)n);
    h->rw = host_openat(memdir, name, O_RDWR | O_CREAT | O_EXCL, 0600);
    if (h->rw < 0)
        return h->rw;
    h->ro = host_openat(memdir, name, O_RDONLY, 0);
    host_unlinkat(memdir, name, 0);
    if (h->ro < 0) {
        host_close(h->rw);
        return h->ro;
    }
    return 0;
}

static void free_host_file(struct host_file *h)
{
    host_close(h->rw);
    host_close(h->ro);
    free(h);
}

static int copy_tree_out(int fd, void *p, u32 height, u64 base)
{
    if (!p)
        return 0;
    if (!height) {
        long r = host_pwrite(fd, p, PAGE_SIZE, (s64)(base << PAGE_SHIFT));
        return r == (long)PAGE_SIZE ? 0 : r < 0 ? (int)r : -ENOSPC;
    }
    int r = 0;
    for (u32 k = 0; k < TABLE_COUNT && !r; k++)
        r = copy_tree_out(fd, ((void **)p)[k], height - 1, base + k * tree_span(height - 1));
    return r;
}

// Out of descriptors or memory on the host shows as a full file system.
static int to_host(struct inode *i)
{
    struct tmpfs_node *n = tmpfs_node(i);
    if (n->host)
        return host_file(i) ? 0 : -EIO;
    struct host_file *h = malloc(sizeof(*h));
    if (!h)
        return -ENOSPC;
    int r = make_host_file(h);
    if (r) {
        free(h);
        return -ENOSPC;
    }
    r = copy_tree_out(h->rw, n->tree, n->height, 0);
    if (!r)
        r = host_ftruncate(h->rw, i->size);
    h->owner = i;
    u32 handle = r ? 0 : side_insert(&host_files, h);
    if (!handle) {
        free_host_file(h);
        return r ? r : -ENOSPC;
    }
    // The pages stay counted: they are only elsewhere.
    tree_free(n->tree, n->height, 0, 0, UINT64_MAX, true, &n->tree);
    n->height = 0;
    __atomic_store_n(&n->host, handle, __ATOMIC_RELEASE);
    return 0;
}

int tmpfs_host_files_each(int (*visit)(void *arg, struct inode *i, int fd), void *arg)
{
    u32 index = 0;
    int r = 0;
    for (struct host_file *h; !r && (h = side_next(&host_files, &index));)
        r = visit(arg, h->owner, h->rw);
    return r;
}

int tmpfs_host_file_revive(struct inode *i)
{
    struct host_file *h = malloc(sizeof(*h));
    int r = h ? make_host_file(h) : -ENOMEM;
    if (r) {
        free(h);
        return r;
    }
    h->owner = i;
    r = host_ftruncate(h->rw, i->size);
    u32 handle = r ? 0 : side_insert(&host_files, h);
    if (!handle) {
        free_host_file(h);
        return r ? r : -ENOMEM;
    }
    tmpfs_node(i)->host = handle;
    return h->rw;
}

void tmpfs_data_free(struct inode *i)
{
    struct tmpfs_node *n = tmpfs_node(i);
    if (n->host) {
        struct host_file *h = side_remove(&host_files, n->host);
        if (h)
            free_host_file(h);
        uncharge(i, n->pages);
    } else {
        pages_free(i, 0, UINT64_MAX);
    }
}

int tmpfs_resize(struct inode *i, u64 size)
{
    struct tmpfs_node *n = tmpfs_node(i);
    u64 old = i->size;
    if ((size < old && (n->seals & F_SEAL_SHRINK)) || (size > old && (n->seals & F_SEAL_GROW)))
        return -EPERM;
    if (n->host) {
        struct host_file *h = host_file(i);
        int r = h ? host_ftruncate(h->rw, size) : -EIO;
        if (r)
            return r;
        if (size < old)
            tmpfs_recount(i);
    } else if (size < old) {
        zero_within_page(i, size, min(page_up(size), old));
        if (!size)
            pages_free(i, 0, UINT64_MAX);
        else
            pages_free(i, page_up(size) >> PAGE_SHIFT, UINT64_MAX - 1);
    }
    __atomic_store_n(&i->size, size, __ATOMIC_RELEASE);
    return 0;
}

// ---- reading and writing -----------------------------------------------------------------------

static long read_arena(struct inode *i, struct uio *u, u64 pos, u64 count)
{
    u64 done = 0;
    while (done < count) {
        u64 at = pos + done, n = min(count - done, PAGE_SIZE - at % PAGE_SIZE);
        char *page = page_find(tmpfs_node(i), at >> PAGE_SHIFT);
        long r = page ? uio_put(u, page + at % PAGE_SIZE, n) : uio_zero(u, n);
        if (r < 0)
            return done ? (long)done : r;
        done += (u64)r;
        if ((u64)r < n)
            break;
    }
    return (long)done;
}

static long host_transfer(struct inode *i, struct uio *u, u64 pos, u64 count, bool write)
{
    struct host_file *h = host_file(i);
    struct iovec iov[IOV_BATCH];
    u64 done = 0;
    if (!h)
        return -EIO;
    while (done < count) {
        int n = uio_host_iov(u, iov, IOV_BATCH, count - done, !write);
        if (n <= 0)
            return done || !n ? (long)done : n;
        long r = write ? host_pwritev(h->rw, iov, n, (s64)(pos + done))
                       : host_preadv(h->ro, iov, n, (s64)(pos + done));
        if (u->user)
            user_unpin();
        if (r <= 0)
            return done || !r ? (long)done : r;
        uio_advance(u, (u64)r);
        done += (u64)r;
    }
    return (long)done;
}

static long tmpfs_read(struct file *f, struct uio *u, s64 *pos)
{
    struct inode *i = f->inode;
    long r = 0;
    rwlock_read_lock(&i->io, RANK_STREAM_2);
    u64 size = i->size, at = (u64)*pos;
    if (at < size) {
        u64 count = min(u->resid, size - at);
        r = tmpfs_node(i)->host ? host_transfer(i, u, at, count, false)
                                : read_arena(i, u, at, count);
    }
    rwlock_read_unlock(&i->io);
    if (r > 0)
        *pos += r;
    if (r >= 0)
        inode_touch_atime(f);
    return r;
}

static long write_arena(struct inode *i, struct uio *u, u64 pos, u64 count)
{
    u64 done = 0;
    long r = 0;
    int err = 0;
    while (done < count) {
        u64 at = pos + done, n = min(count - done, PAGE_SIZE - at % PAGE_SIZE);
        char *page = page_make(i, at >> PAGE_SHIFT, &err);
        if (!page) {
            r = err;
            break;
        }
        r = uio_get(u, page + at % PAGE_SIZE, n);
        if (r > 0)
            done += (u64)r;
        if (r < (long)n)
            break;
    }
    return done ? (long)done : r;
}

// Counts what a write beyond the file's end will take.
static long write_host(struct inode *i, struct uio *u, u64 pos, u64 count)
{
    u64 have = page_up(i->size), end = page_up(pos + count);
    u64 more = end > max(have, page_down(pos)) ? (end - max(have, page_down(pos))) / PAGE_SIZE : 0;
    int r = charge(i, more);
    if (r)
        return r;
    long n = host_transfer(i, u, pos, count, true);
    if (n < (long)count || !more)
        tmpfs_recount(i);
    return n;
}

static long tmpfs_write(struct file *f, struct uio *u, s64 *pos)
{
    struct inode *i = f->inode;
    struct tmpfs_node *n = tmpfs_node(i);
    u64 count = u->resid;
    rwlock_write_lock(&i->io, RANK_STREAM_2);
    s64 at = *pos;
    long r = inode_write_begin(f, &at, &count);
    if (!r && count) {
        u64 end = (u64)at + count;
        if ((n->seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) ||
            (end > i->size && (n->seals & F_SEAL_GROW)))
            r = -EPERM;
        else if (!n->host && end > TMPFS_ARENA_MAX)
            r = to_host(i);
        if (!r)
            r = n->host ? write_host(i, u, (u64)at, count) : write_arena(i, u, (u64)at, count);
    }
    if (r > 0) {
        *pos = at + r;
        inode_write_end(i, (u64)*pos);
    }
    rwlock_write_unlock(&i->io);
    return r;
}

// ---- the rest ----------------------------------------------------------------------------------

static s64 seek_data(struct inode *i, u64 off, bool data)
{
    u64 size = i->size;
    if (off >= size)
        return -ENXIO;
    struct host_file *h = host_file(i);
    if (h)
        return host_lseek(h->ro, (s64)off, data ? SEEK_DATA : SEEK_HOLE);
    u64 index = off >> PAGE_SHIFT, end = page_up(size) >> PAGE_SHIFT;
    u64 span = tree_span(tmpfs_node(i)->height);
    for (; index < end && (page_find(tmpfs_node(i), index) != NULL) != data; index++)
        if (index >= span) { // only a hole from here on
            index = end;
            break;
        }
    if (index >= end)
        return data ? -ENXIO : (s64)size;
    return (s64)max(off, index << PAGE_SHIFT);
}

static s64 tmpfs_seek(struct file *f, s64 off, int whence)
{
    struct inode *i = f->inode;
    s64 base = 0;
    if (whence == SEEK_DATA || whence == SEEK_HOLE) {
        if (off < 0)
            return -ENXIO;
        rwlock_read_lock(&i->io, RANK_STREAM_2);
        base = seek_data(i, (u64)off, whence == SEEK_DATA);
        rwlock_read_unlock(&i->io);
        return base;
    }
    if (whence == SEEK_CUR)
        base = f->pos;
    else if (whence == SEEK_END)
        base = (s64)i->size;
    else if (whence != SEEK_SET)
        return -EINVAL;
    if (__builtin_add_overflow(base, off, &base))
        return -EOVERFLOW;
    return base < 0 ? -EINVAL : base;
}

static int tmpfs_map_fd(struct file *f, bool writable)
{
    struct inode *i = f->inode;
    if (writable && (tmpfs_node(i)->seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)))
        return -EPERM;
    struct host_file *h = host_file(i);
    if (!h) {
        rwlock_write_lock(&i->io, RANK_STREAM_2);
        int r = to_host(i);
        rwlock_write_unlock(&i->io);
        if (r)
            return r == -ENOSPC ? -ENOMEM : r;
        h = host_file(i);
    }
    return writable ? h->rw : h->ro;
}

static int allocate_pages(struct inode *i, u64 from, u64 to)
{
    int err;
    for (u64 index = from >> PAGE_SHIFT; index << PAGE_SHIFT < to; index++)
        if (!page_make(i, index, &err))
            return err;
    return 0;
}

static int fallocate_locked(struct inode *i, u32 mode, u64 from, u64 to)
{
    struct tmpfs_node *n = tmpfs_node(i);
    bool punch = mode & FALLOC_FL_PUNCH_HOLE, grow = !(mode & FALLOC_FL_KEEP_SIZE) && to > i->size;
    int r = 0;
    if (punch && (n->seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)))
        return -EPERM;
    if (grow && (n->seals & F_SEAL_GROW))
        return -EPERM;
    struct tmpfs_super *s = tmpfs_super(i->sb);
    if (!punch && s->page_limit && (page_up(to) - page_down(from)) / PAGE_SIZE > s->page_limit)
        return -ENOSPC;
    if (!n->host && !punch && to > TMPFS_ARENA_MAX)
        r = to_host(i);
    if (!r && n->host) {
        struct host_file *h = host_file(i);
        r = h ? host_fallocate(h->rw, (int)mode, from, to - from) : -EIO;
        tmpfs_recount(i);
    } else if (!r && punch) {
        punch_pages(i, from, min(to, page_up(max(i->size, 1ull))));
    } else if (!r) {
        r = allocate_pages(i, from, to);
    }
    if (!r && grow)
        inode_write_end(i, to);
    if (!r)
        inode_touch_mtime(i);
    return r;
}

static int tmpfs_fallocate(struct file *f, u32 mode, s64 off, s64 size)
{
    struct inode *i = f->inode;
    if (mode & ~(u32)(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE))
        return -EOPNOTSUPP;
    rwlock_write_lock(&i->io, RANK_STREAM_2);
    int r = fallocate_locked(i, mode, (u64)off, (u64)off + (u64)size);
    rwlock_write_unlock(&i->io);
    return r;
}

static int tmpfs_fsync(struct file *f, bool data_only)
{
    return 0;
}

const struct file_ops tmpfs_file_ops = {
    .name = "tmpfs",
    .read = tmpfs_read,
    .write = tmpfs_write,
    .seekable = true,
    .seek = tmpfs_seek,
    .map_fd = tmpfs_map_fd,
    .fsync = tmpfs_fsync,
    .fallocate = tmpfs_fallocate,
};

int tmpfs_open(struct inode *i, struct file *f)
{
    if (S_ISREG(i->mode))
        f->kind = FILE_TMPFS;
    return 0;
}

// ---- memfds ------------------------------------------------------------------------------------

struct tmpfs_globals {
    struct super *memfds; // atomic
};

static struct super *memfd_super(void)
{
    struct tmpfs_globals *g = arena_slot_get(ARENA_SLOT_TMPFS, sizeof(*g));
    if (!g)
        return NULL;
    struct super *sb = __atomic_load_n(&g->memfds, __ATOMIC_ACQUIRE), *expected = NULL;
    if (sb)
        return sb;
    struct mount_request m = {.source = "tmpfs", .options = "size=0,nr_inodes=0"};
    if (tmpfs_fs_type.mount(&m, &sb))
        return NULL;
    account_unref(tmpfs_super(sb)->account); // each file has its own
    tmpfs_super(sb)->account = NULL;
    if (__atomic_compare_exchange_n(&g->memfds, &expected, sb, false, __ATOMIC_ACQ_REL,
                                    __ATOMIC_ACQUIRE))
        return sb;
    return expected; // the other one is lost: once, at most, a few hundred bytes
}

int tmpfs_memfd_new(const char *name, u32 flags, struct file **ret)
{
    const u32 exec_flags = MFD_NOEXEC_SEAL_FLAG | MFD_EXEC_FLAG;
    if (flags & ~(u32)(MFD_CLOEXEC | MFD_ALLOW_SEALING | exec_flags) ||
        (flags & exec_flags) == exec_flags)
        return -EINVAL;
    struct super *sb = memfd_super();
    const struct cred *c = cred_current();
    struct new_node n = {.mode = S_IFREG | (flags & MFD_NOEXEC_SEAL_FLAG ? 0666 : 0777),
                         .uid = c ? c->fsuid : 0,
                         .gid = c ? c->fsgid : 0};
    struct inode *i;
    if (!sb)
        return -ENOMEM;
    int r = tmpfs_inode_new(sb, &n, &i);
    if (r)
        return r;
    i->nlink = 0;
    tmpfs_node(i)->account = account_ref(account_now());
    i->link = arena_strdup(name);
    if (flags & MFD_ALLOW_SEALING)
        tmpfs_node(i)->seals = 0;
    else if (flags & MFD_NOEXEC_SEAL_FLAG)
        tmpfs_node(i)->seals = F_SEAL_EXEC_FLAG;
    r = i->link ? inode_open(i, O_RDWR, ret) : -ENOMEM;
    inode_unref(i);
    return r;
}

long tmpfs_add_seals(struct file *f, u32 seals)
{
    const u32 known = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE |
                      F_SEAL_FUTURE_WRITE | F_SEAL_EXEC_FLAG;
    if (f->kind != FILE_TMPFS)
        return -EINVAL;
    if (!f->may_write)
        return -EPERM;
    if (seals & ~known)
        return -EINVAL;
    struct inode *i = f->inode;
    rwlock_write_lock(&i->io, RANK_STREAM_2);
    long r = tmpfs_node(i)->seals & F_SEAL_SEAL ? -EPERM : 0;
    if (!r && seals & F_SEAL_WRITE && host_file(i) && mm_mapped_writable(host_file(i)->rw))
        r = -EBUSY;
    if (!r)
        tmpfs_node(i)->seals |= seals;
    rwlock_write_unlock(&i->io);
    return r;
}

long tmpfs_get_seals(struct file *f)
{
    return f->kind == FILE_TMPFS ? (long)tmpfs_node(f->inode)->seals : -EINVAL;
}
