// SPDX-License-Identifier: Apache-2.0
// kcmp(2): do two processes share an object of the kernel? The order is that of addresses, told through a secret.
#include <linux/kcmp.h>

#include "host/host.h"
#include "sentry/syscalls/sys_kernel.h"
#include "sentry/vfs/fdtable.h"

// 0: the same; 1 and 2: less and greater, in an order of no meaning.
static long order(const void *a, const void *b)
{
    static u64 secret; // of this process; odd
    u64 fresh = 0, none = 0;
    if (!__atomic_load_n(&secret, __ATOMIC_RELAXED)) {
        if (host_random(&fresh, sizeof(fresh)))
            return -EAGAIN;
        __atomic_compare_exchange_n(&secret, &none, fresh | 1, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    }
    u64 s = __atomic_load_n(&secret, __ATOMIC_RELAXED);
    u64 x = (u64)a * s ^ s >> 7, y = (u64)b * s ^ s >> 7;
    return a == b ? 0 : x < y ? 1 : 2;
}

static struct file *file_of(struct task *t, u64 fd)
{
    struct fdtable *files = task_get_files(t);
    struct file *f = files && fd <= INT32_MAX ? fdtable_get(files, (int)fd) : NULL;
    fdtable_unref(files);
    return f;
}

static long compare_files(struct task *a, struct task *b, u64 fd_a, u64 fd_b)
{
    struct file *x = file_of(a, fd_a), *y = file_of(b, fd_b);
    long r = x && y ? order(x, y) : -EBADF;
    file_unref(x);
    file_unref(y);
    return r;
}

static long compare(struct task *a, struct task *b, const u64 args[6])
{
    const void *x = NULL, *y = NULL;
    switch ((u32)args[2]) {
    case KCMP_FILE:
        return compare_files(a, b, args[3], args[4]);
    case KCMP_VM:
        x = __atomic_load_n(&a->mm, __ATOMIC_RELAXED);
        y = __atomic_load_n(&b->mm, __ATOMIC_RELAXED);
        break;
    case KCMP_FILES:
        x = __atomic_load_n(&a->files, __ATOMIC_RELAXED);
        y = __atomic_load_n(&b->files, __ATOMIC_RELAXED);
        break;
    case KCMP_FS:
        x = __atomic_load_n(&a->fs, __ATOMIC_RELAXED);
        y = __atomic_load_n(&b->fs, __ATOMIC_RELAXED);
        break;
    case KCMP_SIGHAND:
        x = __atomic_load_n(&a->process->sighand, __ATOMIC_RELAXED);
        y = __atomic_load_n(&b->process->sighand, __ATOMIC_RELAXED);
        break;
    case KCMP_SYSVSEM:
        x = __atomic_load_n(&a->sem_undo, __ATOMIC_RELAXED);
        y = __atomic_load_n(&b->sem_undo, __ATOMIC_RELAXED);
        break;
    case KCMP_IO: // there are none
        break;
    default: // KCMP_EPOLL_TFD too
        return -EINVAL;
    }
    return order(x, y);
}

long sys_kcmp(struct task *t, const u64 a[6])
{
    struct task *first = task_find((s32)a[0]), *second = task_find((s32)a[1]);
    long r = -ESRCH;
    if (first && second)
        r = task_may_inspect(first) && task_may_inspect(second) ? compare(first, second, a) : -EPERM;
    task_unref(first);
    task_unref(second);
    return r;
}
