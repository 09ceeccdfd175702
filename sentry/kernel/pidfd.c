// SPDX-License-Identifier: Apache-2.0
// pidfd_open(2): a process as a file, readable once it has ended.
#include <stdio.h>
#include <sys/epoll.h>

#include "sentry/kernel/task.h"
#include "sentry/vfs/file.h"

extern const struct file_ops pidfd_file_ops;

int pidfd_file_new(struct pid *pid, u32 flags, struct file **ret)
{
    struct file *f = file_new(FILE_PIDFD, flags | 2 /* O_RDWR */);
    if (!f)
        return -ENOMEM;
    f->priv = pid ? pid_ref(pid) : NULL;
    *ret = f;
    return 0;
}

void pidfd_file_set(struct file *f, struct pid *pid)
{
    __atomic_store_n(&f->priv, pid_ref(pid), __ATOMIC_RELEASE);
}

struct pid *pidfd_file_pid(struct file *f)
{
    return f->kind == FILE_PIDFD ? __atomic_load_n(&f->priv, __ATOMIC_ACQUIRE) : NULL;
}

static void pidfd_release(struct file *f)
{
    if (f->priv)
        pid_unref(f->priv);
}

static u32 pidfd_ready(struct file *f)
{
    struct pid *pid = pidfd_file_pid(f);
    return pid && __atomic_load_n(&pid->ended, __ATOMIC_SEQ_CST) ? EPOLLIN | EPOLLRDNORM : 0;
}

static struct waitq *pidfd_queue(struct file *f)
{
    struct pid *pid = pidfd_file_pid(f);
    return pid ? &pid->queue : NULL;
}

static int pidfd_fdinfo(struct file *f, char *buf, u32 size)
{
    struct pid *pid = pidfd_file_pid(f);
    const struct pid_ns *ns = pid_ns_current();
    bool ended = !pid || __atomic_load_n(&pid->ended, __ATOMIC_SEQ_CST);
    s32 nr = ended ? -1 : pid_nr_in(pid, ns);
    int n = snprintf(buf, size, "Pid:\t%d\nNSpid:\t%d", nr, nr);
    for (u32 i = ns->level + 1; nr > 0 && i <= pid->ns->level && n < (int)size; i++)
        n += snprintf(buf + n, size - (u32)n, "\t%d", pid->numbers[i].nr);
    return n + (n < (int)size ? snprintf(buf + n, size - (u32)n, "\n") : 0);
}

const struct file_ops pidfd_file_ops = {
    .name = "[pidfd]",
    .release = pidfd_release,
    .ready = pidfd_ready,
    .queue = pidfd_queue,
    .fdinfo = pidfd_fdinfo,
};
