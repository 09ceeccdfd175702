// SPDX-License-Identifier: Apache-2.0
// seccomp(2), and prctl(2)'s older form of it.
#include "sentry/kernel/seccomp.h"

#include <linux/seccomp.h>

#include "sentry/arena/arena.h"
#include "sentry/kernel/bpf.h"
#include "sentry/kernel/seccomp_notify.h"
#include "sentry/mm/usercopy.h"
#include "sentry/syscalls/sys_kernel.h"
#include "sentry/vfs/fdtable.h"

#define CAP_SYS_ADMIN_ 21
#define FLAG_WAIT_KILLABLE_RECV 0x20u
// SPEC_ALLOW asks for nothing here.
#define FLAGS_KNOWN                                                                                \
    (SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_LOG | SECCOMP_FILTER_FLAG_SPEC_ALLOW |        \
     SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_TSYNC_ESRCH | FLAG_WAIT_KILLABLE_RECV)

struct guest_program {
    u16 count;
    u16 pad[3];
    u64 program;
};

// A filter whose calls go to a listener: its descriptor.
static long add_with_listener(struct task *t, const struct sock_filter *program, u32 count,
                              u64 flags)
{
    struct seccomp_listener *l;
    struct file *f;
    int fd = fd_check_room();
    if (!fd)
        fd = seccomp_listener_new(flags & FLAG_WAIT_KILLABLE_RECV, &l, &f);
    if (fd < 0)
        return fd;
    fd = fd_install(file_ref(f), O_CLOEXEC);
    long r = fd < 0 ? fd : seccomp_add(t, program, count, flags & SECCOMP_FILTER_FLAG_TSYNC, l);
    if (r) {
        seccomp_listener_orphan(l);
        if (fd >= 0)
            fd_close(fdtable_current(), fd);
    }
    file_unref(f);
    return r > 0 ? -ESRCH : r ? r : fd;
}

static long set_filter(struct task *t, u64 flags, u64 addr)
{
    struct guest_program g;
    bool listen = flags & SECCOMP_FILTER_FLAG_NEW_LISTENER;
    if (flags & ~(u64)FLAGS_KNOWN || (flags & FLAG_WAIT_KILLABLE_RECV && !listen))
        return -EINVAL;
    // The result can be a descriptor or a thread, not both.
    if (listen && flags & SECCOMP_FILTER_FLAG_TSYNC && !(flags & SECCOMP_FILTER_FLAG_TSYNC_ESRCH))
        return -EINVAL;
    if (copy_in(&g, uaddr(addr), sizeof(g)))
        return -EFAULT;
    if (!g.count || g.count > BPF_PROGRAM_MAX)
        return -EINVAL;
    if (!task_no_new_privs(t) && !cred_capable_own(t->cred, CAP_SYS_ADMIN_))
        return -EACCES;
    if (!g.program)
        return -EINVAL;
    u64 size = g.count * sizeof(struct sock_filter);
    struct sock_filter *program = arena_alloc(size);
    if (!program)
        return -ENOMEM;
    long r = copy_in(program, uaddr(g.program), size);
    if (!r && t->seccomp_mode == SECCOMP_MODE_STRICT)
        r = -EINVAL;
    if (!r && listen)
        r = add_with_listener(t, program, g.count, flags);
    else if (!r)
        r = seccomp_add(t, program, g.count, flags & SECCOMP_FILTER_FLAG_TSYNC, NULL);
    arena_free(program);
    return r > 0 && !listen && (flags & SECCOMP_FILTER_FLAG_TSYNC_ESRCH) ? -ESRCH : r;
}

static long action_available(u64 addr)
{
    u32 action;
    if (get_u32(&action, uaddr(addr)))
        return -EFAULT;
    switch (action) {
    case SECCOMP_RET_KILL_PROCESS:
    case SECCOMP_RET_KILL_THREAD:
    case SECCOMP_RET_TRAP:
    case SECCOMP_RET_ERRNO:
    case SECCOMP_RET_TRACE:
    case SECCOMP_RET_LOG:
    case SECCOMP_RET_ALLOW:
    case SECCOMP_RET_USER_NOTIF:
        return 0;
    default:
        return -EOPNOTSUPP;
    }
}

long sys_seccomp(struct task *t, const u64 a[6])
{
    static const struct seccomp_notif_sizes sizes = {
        sizeof(struct seccomp_notif), sizeof(struct seccomp_notif_resp), sizeof(struct seccomp_data)};
    u32 flags = (u32)a[1];
    switch ((u32)a[0]) {
    case SECCOMP_SET_MODE_STRICT:
        return flags || a[2] ? -EINVAL : seccomp_set_strict(t);
    case SECCOMP_SET_MODE_FILTER:
        return set_filter(t, flags, a[2]);
    case SECCOMP_GET_ACTION_AVAIL:
        return flags ? -EINVAL : action_available(a[2]);
    case SECCOMP_GET_NOTIF_SIZES:
        return flags ? -EINVAL : copy_out(uaddr(a[2]), &sizes, sizeof(sizes));
    default:
        return -EINVAL;
    }
}

long seccomp_prctl(struct task *t, u64 mode, u64 arg)
{
    switch (mode) {
    case SECCOMP_MODE_STRICT:
        return seccomp_set_strict(t);
    case SECCOMP_MODE_FILTER:
        return set_filter(t, 0, arg);
    default:
        return -EINVAL;
    }
}
