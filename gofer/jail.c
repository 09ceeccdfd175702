// SPDX-License-Identifier: Apache-2.0
#include "gofer/jail.h"

#include <sys/prctl.h>

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>

#include "gofer-filter.h"
#include "host/syscall.h"

int gofer_jail(const struct boot_gofer *boot)
{
    int r = (int)host_sys(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (r == 0)
        r = (int)host_sys(SYS_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);
#ifdef BAILEY_SANITIZE
    return r; // sanitizers need more than the list has
#endif
    if (r == 0) {
        bool trap = boot->features & BOOT_TRAP_VIOLATION;
        struct sock_fprog program = {
            trap ? array_size(gofer_trap) : array_size(gofer_kill),
            (struct sock_filter *)(uintptr_t)(trap ? gofer_trap : gofer_kill)};
        r = (int)host_sys(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
    }
    return r > 0 ? -EBUSY : r;
}
