// SPDX-License-Identifier: Apache-2.0
#include "sentry/boot/jail.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>

#include "base/log.h"
#include "host/syscall.h"
#include "sentry-filter.h"

// Towards files that the sentry opens itself: runtime/sandbox.c gives no more than these.
static const u64 caps_expected = 1ull << CAP_CHOWN | 1ull << CAP_DAC_OVERRIDE |
                                 1ull << CAP_DAC_READ_SEARCH | 1ull << CAP_FOWNER |
                                 1ull << CAP_FSETID | 1ull << CAP_SETFCAP;

// Towards a network namespace of the sandbox's own, as far as the container may have them (runtime/network.c).
static const u64 net_caps_expected = 1ull << CAP_NET_BIND_SERVICE | 1ull << CAP_NET_ADMIN |
                                     1ull << CAP_NET_RAW;

int jail_check(void)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {0};
    long r = host_sys(SYS_prctl, PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0);
    if (r == 1)
        r = host_sys(SYS_capget, &header, data);
    else if (r >= 0)
        r = -EPERM;
    if (r < 0)
        return (int)r;
    u64 permitted = data[0].permitted | (u64)data[1].permitted << 32;
    if (permitted & ~(caps_expected | net_caps_expected)) {
        log_error("jail: unexpected capabilities %llx", (unsigned long long)permitted);
        return -EPERM;
    }
    return 0;
}

int jail_close(bool trap)
{
#ifdef BAILEY_SANITIZE
    log_warn("jail: this is a sanitizer's build, and not confined");
    return 0;
#endif
    struct sock_fprog kill_program = {array_size(sentry_kill),
                                      (struct sock_filter *)(uintptr_t)sentry_kill};
    struct sock_fprog trap_program = {array_size(sentry_trap),
                                      (struct sock_filter *)(uintptr_t)sentry_trap};
    long r = host_sys(SYS_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);
    if (r == 0)
        r = host_sys(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC,
                     trap ? &trap_program : &kill_program);
    return r > 0 ? -EBUSY : (int)r;
}
