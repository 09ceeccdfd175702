// SPDX-License-Identifier: Apache-2.0
#include "sentry/mm/hostmap.h"

#include <linux/magic.h>
#include <stdlib.h>
#include <sys/statvfs.h>

#include "abi/errno.h"
#include "host/fs.h"
#include "host/host.h"
#include "sentry/arena/side.h"
#include "sentry/mm/window.h"

#define HOSTMAP_BUCKETS 256

struct hostmap {
    struct hostmap *next; // guarded by hostmap_lock
    u32 refs;             // guarded by hostmap_lock
    int fd;               // does not change, as the rest down to windows
    u64 dev, ino;
    bool writable;
    u32 handle;
    bool noexec;
    struct windows windows;
};

static struct side_table hostmaps;
static struct mutex hostmap_lock;
static struct hostmap *buckets[HOSTMAP_BUCKETS]; // guarded by hostmap_lock

static struct hostmap **bucket_of(u64 dev, u64 ino)
{
    return &buckets[(ino ^ ino >> 8 ^ dev) % HOSTMAP_BUCKETS];
}

// The one for a file, or NULL. Wants hostmap_lock.
static struct hostmap *lookup(const struct statx *st, bool writable)
{
    u64 dev = (u64)st->stx_dev_major << 32 | st->stx_dev_minor;
    struct hostmap *h = *bucket_of(dev, st->stx_ino);
    while (h && (h->dev != dev || h->ino != st->stx_ino || h->writable != writable))
        h = h->next;
    return h;
}

// The host's file systems whose files are no pages, as far as one can meet them in a bind mount. A mapping that the
// host refuses all the same ends the process that asked for it.
static bool can_map(u32 fs_type)
{
    return fs_type != PROC_SUPER_MAGIC && fs_type != SYSFS_MAGIC && fs_type != DEBUGFS_MAGIC &&
           fs_type != TRACEFS_MAGIC && fs_type != CGROUP2_SUPER_MAGIC &&
           fs_type != CGROUP_SUPER_MAGIC && fs_type != PIPEFS_MAGIC && fs_type != SOCKFS_MAGIC;
}

bool hostmap_exists(int fd, bool writable)
{
    struct statx st;
    if (host_fstatx(fd, &st))
        return false;
    mutex_lock(&hostmap_lock, RANK_MEMFILE);
    bool found = lookup(&st, writable) != NULL;
    mutex_unlock(&hostmap_lock);
    return found;
}

int hostmap_get(int fd, bool writable, u32 *ret)
{
    struct statfs fs;
    struct statx st;
    int err = host_fstatx(fd, &st);
    if (err)
        return err;
    u64 dev = (u64)st.stx_dev_major << 32 | st.stx_dev_minor;
    struct hostmap **bucket = bucket_of(dev, st.stx_ino), *h;
    mutex_lock(&hostmap_lock, RANK_MEMFILE);
    h = lookup(&st, writable);
    if (h)
        h->refs++;
    mutex_unlock(&hostmap_lock);
    if (h) {
        *ret = h->handle;
        return 0;
    }
    err = host_fstatfs(fd, &fs);
    if (err)
        return err;
    if (!can_map((u32)fs.f_type))
        return -ENODEV;
    h = calloc(1, sizeof(*h));
    if (!h)
        return -ENOMEM;
    *h = (struct hostmap){.refs = 1, .dev = dev, .ino = st.stx_ino, .writable = writable};
    h->fd = host_fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (h->fd < 0) {
        err = h->fd;
        free(h);
        return err;
    }
    h->noexec = fs.f_flags & ST_NOEXEC;
    h->handle = side_insert(&hostmaps, h);
    if (!h->handle) {
        host_close(h->fd);
        free(h);
        return -ENOMEM;
    }
    // Two may have been made at once: both work, the second is found first from now on.
    mutex_lock(&hostmap_lock, RANK_MEMFILE);
    h->next = *bucket;
    *bucket = h;
    mutex_unlock(&hostmap_lock);
    *ret = h->handle;
    return 0;
}

void hostmap_ref(u32 handle)
{
    struct hostmap *h = side_get(&hostmaps, handle);
    if (!h)
        return;
    mutex_lock(&hostmap_lock, RANK_MEMFILE);
    h->refs++;
    mutex_unlock(&hostmap_lock);
}

void hostmap_unref(u32 handle)
{
    struct hostmap *h = side_get(&hostmaps, handle);
    if (!h)
        return;
    mutex_lock(&hostmap_lock, RANK_MEMFILE);
    bool last = --h->refs == 0;
    if (last) {
        struct hostmap **link = bucket_of(h->dev, h->ino);
        while (*link != h)
            link = &(*link)->next;
        *link = h->next;
    }
    mutex_unlock(&hostmap_lock);
    if (!last)
        return;
    side_remove(&hostmaps, handle);
    windows_fini(&h->windows);
    host_close(h->fd);
    free(h);
}

int hostmap_fd(u32 handle)
{
    struct hostmap *h = side_get(&hostmaps, handle);
    return h ? h->fd : -ESTALE;
}

bool hostmap_identity(u32 handle, u64 *ret_dev, u64 *ret_ino)
{
    struct hostmap *h = side_get(&hostmaps, handle);
    if (!h)
        return false;
    *ret_dev = h->dev;
    *ret_ino = h->ino;
    return true;
}

bool hostmap_may_exec(u32 handle)
{
    struct hostmap *h = side_get(&hostmaps, handle);
    return h && !h->noexec;
}

int hostmap_cold_fd(u32 handle, u64 off)
{
    struct hostmap *h = side_get(&hostmaps, handle);
    return h && windows_cold(&h->windows, off) ? h->fd : -1;
}

u8 *hostmap_ptr(u32 handle, u64 off, u64 *ret_avail)
{
    struct hostmap *h = side_get(&hostmaps, handle);
    int err;
    return h ? windows_get(&h->windows, h->fd, off, h->writable, ret_avail, &err) : NULL;
}
