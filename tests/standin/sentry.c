// SPDX-License-Identifier: Apache-2.0
// A stand-in for the kernel behind the sentry's boot code, so that the launch, the jail and the control
// protocol can be tested on their own. The container's arguments say what it does:
//     exit N | signal N | wait (for a signal, then 128+N) | fail | missing | crash | forbidden | echo ...
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bug.h"
#include "host/host.h"
#include "sentry/boot/boot.h"
#include "sentry/control/control.h"

static const struct boot_message *boot;
static u32 signalled;

int kernel_control_signal(u32 pid, int sig, bool foreground)
{
    __atomic_store_n(&signalled, (u32)sig, __ATOMIC_RELEASE);
    host_futex_wake(&signalled, 1, false);
    return 0;
}

int kernel_control_snapshot(int fd)
{
    return -ENOSYS;
}

void kernel_boot_restored(void)
{
}

void boot_network(const struct boot_message *m)
{
}

int kernel_control_winsize(u16 rows, u16 columns)
{
    return -ENOTTY;
}

size_t kernel_control_stacks(char *buf, size_t size)
{
    int n = snprintf(buf, size, "task 1 (%s): stands in\n", boot->process.args[0]);
    return (size_t)n;
}

int kernel_boot(const struct boot_message *m)
{
    const char *what = m->process.args[0];
    boot = m;
    if (!strcmp(what, "fail")) {
        boot_explain("mount /data: it does not want to");
        return -EIO;
    }
    return !strcmp(what, "missing") ? -ENOENT : 0;
}

int kernel_run(void)
{
    const struct boot_process *p = &boot->process;
    const char *what = p->args[0];
    int number = p->arg_count > 1 ? atoi(p->args[1]) : 0;
    if (!strcmp(what, "exit"))
        return number << 8;
    if (!strcmp(what, "signal"))
        return number;
    if (!strcmp(what, "crash"))
        *(volatile int *)(uintptr_t)number = 1;
    if (!strcmp(what, "bug"))
        bug_on(number == 0);
    if (!strcmp(what, "forbidden"))
        host_sys(SYS_socket, 2, 1, 0);
    if (!strcmp(what, "wait")) {
        host_write(boot->stdio[1], "waiting\n", 8);
        while (!__atomic_load_n(&signalled, __ATOMIC_ACQUIRE))
            host_futex_wait(&signalled, 0, NULL, false);
        return (int)signalled;
    }
    for (u32 i = 0; i < p->arg_count; i++) {
        host_write(boot->stdio[1], p->args[i], strlen(p->args[i]));
        host_write(boot->stdio[1], "\n", 1);
    }
    return 0;
}
