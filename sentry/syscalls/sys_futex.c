// SPDX-License-Identifier: Apache-2.0
#include "sentry/kernel/futex.h"

#include "sentry/mm/usercopy.h"
#include "sentry/syscalls/sys_kernel.h"

#define ROBUST_HEAD_SIZE 24

long sys_futex(struct task *t, const u64 a[6])
{
    return futex_call(t, a);
}

long sys_set_robust_list(struct task *t, const u64 a[6])
{
    if (a[1] != ROBUST_HEAD_SIZE)
        return -EINVAL;
    t->robust_list = a[0];
    return 0;
}

long sys_get_robust_list(struct task *t, const u64 a[6])
{
    struct task *o = (s32)a[0] ? task_find((s32)a[0]) : task_ref(t);
    if (!o)
        return -ESRCH;
    u64 head = o->robust_list;
    bool ok = task_may_inspect(o);
    task_unref(o);
    if (!ok)
        return -EPERM;
    if (put_u64(uaddr(a[2]), ROBUST_HEAD_SIZE) || put_u64(uaddr(a[1]), head))
        return -EFAULT;
    return 0;
}
