// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/vfs_stubs.h"

#include <string.h>
#include <sys/resource.h>

#include "base/bug.h"
#include "sentry/arena/arena.h"
#include "sentry/mm/account.h"
#include "sentry/mm/mm.h"
#include "sentry/mm/usercopy.h"

#define WEAK __attribute__((weak))

struct cred stub_cred = {.ref = {1}, .cap_effective = ~0ull, .cap_permitted = ~0ull};
struct fs_context *stub_fs;
struct vfs *stub_vfs;
u64 stub_fsize_limit = ~0ull;

WEAK const struct cred *cred_current(void)
{
    return &stub_cred;
}

WEAK struct fs_context *fs_context_current(void)
{
    return stub_fs;
}

WEAK void fs_context_for_each(void (*visit)(struct fs_context *c, void *arg), void *arg)
{
    visit(stub_fs, arg);
}

WEAK struct fdtable *fdtable_current(void)
{
    return NULL;
}

WEAK u64 kernel_rlimit(int resource)
{
    return resource == RLIMIT_FSIZE ? stub_fsize_limit : ~0ull;
}

WEAK u32 mm_seed(void)
{
    return 0;
}

WEAK u64 mm_rlimit(u32 resource)
{
    return kernel_rlimit((int)resource);
}

WEAK struct account *account_now(void)
{
    return NULL;
}

WEAK void account_grows(void)
{
}

WEAK void mm_kick(struct mm *mm)
{
    (void)mm;
}

WEAK void kernel_send_sigxfsz(void)
{
}

WEAK void waiter_epoll_fire(struct waiter *w, u32 events)
{
    (void)w, (void)events;
}

// The guest's memory is the test's own.
WEAK int copy_in(void *dst, struct uaddr src, u64 size)
{
    if (size && !src.v)
        return -EFAULT;
    memcpy(dst, (void *)(uintptr_t)src.v, size);
    return 0;
}

WEAK int copy_out(struct uaddr dst, const void *src, u64 size)
{
    if (size && !dst.v)
        return -EFAULT;
    memcpy((void *)(uintptr_t)dst.v, src, size);
    return 0;
}

WEAK long copy_in_string(char *dst, u64 size, struct uaddr src)
{
    if (!src.v)
        return -EFAULT;
    u64 n = strnlen((char *)(uintptr_t)src.v, size);
    if (n == size)
        return -ENAMETOOLONG;
    memcpy(dst, (char *)(uintptr_t)src.v, n + 1);
    return (long)n;
}

WEAK int copy_in_growing(void *dst, u64 known, struct uaddr src, u64 size)
{
    memset(dst, 0, known);
    return copy_in(dst, src, min(known, size));
}

WEAK void user_unpin(void)
{
}

WEAK void uio_init_user(struct uio *u, struct uaddr buf, u64 size)
{
    uio_init_kernel(u, (void *)(uintptr_t)buf.v, size);
}

WEAK int uio_init_iovec(struct uio *u, struct uaddr iov, u64 count)
{
    struct iovec v = {0};
    if (count > 1)
        return -EINVAL; // enough for tests
    memcpy(&v, (void *)(uintptr_t)iov.v, count * sizeof(v));
    uio_init_kernel(u, v.iov_base, v.iov_len);
    return 0;
}

WEAK void uio_fini(struct uio *u)
{
    (void)u;
}

WEAK long uio_zero(struct uio *u, u64 n)
{
    static const u8 zeros[4096];
    u64 done = 0;
    while (done < n && u->resid)
        done += (u64)uio_put(u, zeros, min(n - done, (u64)sizeof(zeros)));
    return (long)done;
}

WEAK void uio_init_kernel(struct uio *u, void *buf, u64 size)
{
    *u = (struct uio){.count = 1, .resid = size};
    u->segs = u->inline_segs;
    u->inline_segs[0] = (struct uio_seg){(u64)(uintptr_t)buf, size};
}

WEAK void uio_advance(struct uio *u, u64 n)
{
    u->done_in_seg += n;
    u->resid -= n;
}

static u8 *uio_at(const struct uio *u)
{
    return (u8 *)(uintptr_t)u->segs[0].base + u->done_in_seg;
}

WEAK int uio_host_iov(struct uio *u, struct iovec *ret, int count, u64 size, bool write)
{
    (void)count, (void)write;
    if (!u->resid)
        return 0;
    ret[0] = (struct iovec){uio_at(u), min(size, u->resid)};
    return 1;
}

WEAK long uio_put(struct uio *u, const void *src, u64 n)
{
    n = min(n, u->resid);
    memcpy(uio_at(u), src, n);
    uio_advance(u, n);
    return (long)n;
}

WEAK long uio_get(struct uio *u, void *dst, u64 n)
{
    n = min(n, u->resid);
    memcpy(dst, uio_at(u), n);
    uio_advance(u, n);
    return (long)n;
}

void stub_boot(u16 fs, const struct mount_request *m)
{
    struct mount_ns *ns;
    static bool booted;
    if (!booted) {
        bug_on(arena_init(1ull << 30) != 0);
        stub_vfs = vfs_new();
        bug_on(!stub_vfs);
        booted = true;
    }
    int r = mount_ns_new(fs, m, &ns);
    bug_on(r != 0);
    stub_fs = fs_context_new(ns);
    bug_on(!stub_fs);
    mount_ns_unref(ns);
    stub_fs->umask = 022;
}

void job_signal_current(int sig);
WEAK void job_signal_current(int sig)
{
    (void)sig;
}
