// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include "host/host.h"
#include "sentry/fs/dev/dev.h"
#include "sentry/mm/mm.h"
#include "sentry/mm/usercopy.h"

enum { MEM_NULL = 3, MEM_ZERO = 5, MEM_FULL = 7, MEM_RANDOM = 8, MEM_URANDOM = 9, MEM_KMSG = 11 };

#define RANDOM_CHUNK 256

static long read_random(struct uio *u)
{
    u8 buf[RANDOM_CHUNK];
    long done = 0;
    while (u->resid) {
        u64 n = min(u->resid, (u64)sizeof(buf));
        int r = host_random(buf, n);
        if (r)
            return done ? done : r;
        long put = uio_put(u, buf, n);
        if (put < 0)
            return done ? done : put;
        done += put;
        if ((u64)put < n || __atomic_load_n(&current_sleeper->interrupted, __ATOMIC_RELAXED))
            break;
    }
    __builtin_memset(buf, 0, sizeof(buf));
    __asm__ volatile("" ::"r"(buf) : "memory");
    return done;
}

static long dev_read(struct file *f, struct uio *u, s64 *pos)
{
    switch (f->priv_word) {
    case MEM_NULL:
        return 0;
    case MEM_ZERO:
    case MEM_FULL:
        return u->resid ? uio_zero(u, u->resid) : 0;
    default:
        return read_random(u);
    }
}

static long dev_write(struct file *f, struct uio *u, s64 *pos)
{
    u64 n = u->resid;
    if (f->priv_word == MEM_FULL && n)
        return -ENOSPC;
    // What is written to random(4) is not credited, so nothing need be done with it.
    uio_advance(u, n);
    return (long)n;
}

static s64 dev_seek(struct file *f, s64 off, int whence)
{
    if (whence != SEEK_SET && whence != SEEK_CUR && whence != SEEK_END)
        return -EINVAL;
    return 0;
}

// ioctls of random(4).
#define RNDGETENTCNT 0x80045200u
#define ENTROPY_BITS 256

static long dev_ioctl(struct file *f, u32 cmd, u64 arg)
{
    u32 bits = ENTROPY_BITS;
    if (f->priv_word != MEM_RANDOM && f->priv_word != MEM_URANDOM)
        return -ENOTTY;
    if (cmd != RNDGETENTCNT)
        return -ENOTTY;
    return copy_out(uaddr(arg), &bits, sizeof(bits));
}

// Mappings of zero(4) are anonymous memory; the others have none.
static int dev_map_fd(struct file *f, bool writable)
{
    return f->priv_word == MEM_ZERO ? MM_MAP_ANON : -ENODEV;
}

static int dev_fsync(struct file *f, bool data_only)
{
    return -EINVAL; // nothing is behind them
}

const struct file_ops dev_file_ops = {
    .name = "mem",
    .read = dev_read,
    .write = dev_write,
    .seekable = true,
    .seek = dev_seek,
    .ioctl = dev_ioctl,
    .map_fd = dev_map_fd,
    .fsync = dev_fsync,
};

static int open_mem(u32 minor, struct file *f)
{
    switch (minor) {
    case MEM_NULL:
    case MEM_ZERO:
    case MEM_FULL:
    case MEM_RANDOM:
    case MEM_URANDOM:
        f->kind = FILE_DEV;
        f->priv_word = minor;
        return 0;
    default:
        return -ENXIO;
    }
}

int vfs_open_chardev(struct inode *i, struct file *f)
{
    u32 major = DEV_MAJOR(i->rdev);
    if (major == 1)
        return open_mem(DEV_MINOR(i->rdev), f);
    if ((major == 5 || (major >= 136 && major < 144)) && tty_open_chardev)
        return tty_open_chardev(i, f);
    return -ENXIO;
}
