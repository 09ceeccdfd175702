// SPDX-License-Identifier: Apache-2.0
// What mm asks of the kernel (mm/mm.h).
#include "sentry/kernel/container.h"
#include "sentry/mm/mm.h"
#include "sentry/platform/platform.h"
#include "sentry/vfs/inode.h"

u64 mm_rlimit(u32 resource)
{
    return kernel_rlimit((int)resource);
}

u32 mm_seed(void)
{
    return current ? container_current()->seed : 0;
}

void mm_kick(struct mm *mm)
{
    struct process *p;
    for (s32 nr = 0; (p = process_next_root(nr)); nr = p->pid->root_nr + 1, process_unref(p)) {
        struct task *t;
        for (s32 tid = 0; (t = process_next_thread(p, tid)); tid = t->tid + 1, task_unref(t))
            if (__atomic_load_n(&t->mm, __ATOMIC_RELAXED) == mm)
                platform_interrupt(t->thread);
    }
}
