// SPDX-License-Identifier: Apache-2.0
// pipe(2).
#include <fcntl.h>

#include "sentry/fs/pipe/pipe.h"
#include "sentry/mm/usercopy.h"
#include "sentry/syscalls/sys_ipc.h"
#include "sentry/vfs/fdtable.h"

static long make_pipe(struct uaddr ret, u32 flags)
{
    struct file *r, *w;
    int fds[2];

    if (flags & ~(u32)(O_CLOEXEC | O_NONBLOCK | O_DIRECT))
        return -EINVAL;
    int err = pipe_new(flags, &r, &w);
    if (err)
        return err;
    err = fd_install_pair(r, w, flags & O_CLOEXEC, fds);
    if (err)
        return err;
    err = copy_out(ret, fds, sizeof(fds));
    if (err) {
        fd_close(fdtable_current(), fds[0]);
        fd_close(fdtable_current(), fds[1]);
    }
    return err;
}

long sys_pipe(struct task *t, const u64 a[6])
{
    return make_pipe(uaddr(a[0]), 0);
}

long sys_pipe2(struct task *t, const u64 a[6])
{
    return make_pipe(uaddr(a[0]), (u32)a[1]);
}
