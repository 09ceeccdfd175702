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
static u32 started, signalled;

void kernel_control_host_signal(int sig)
{
    __atomic_store_n(&signalled, (u32)sig, __ATOMIC_RELEASE);
    host_futex_wake(&signalled, 1, false);
}

void kernel_control_serve(struct control_call *call)
{
    static const char text[] = "task 1: stands in\n";
    if (call->m->type == CONTROL_START) {
        call->reply.error = kernel_start();
    } else if (call->m->type == CONTROL_SIGNAL) {
        kernel_control_host_signal((int)call->m->signal);
    } else if (call->m->type == CONTROL_STACKS) {
        call->long_text = strdup(text);
        call->long_size = sizeof(text) - 1;
    } else {
        call->reply.error = -ENOSYS;
    }
}

void kernel_boot_restored(void)
{
}

void boot_network(const struct boot_message *m)
{
}

int kernel_start(void)
{
    __atomic_store_n(&started, 1, __ATOMIC_RELEASE);
    host_futex_wake(&started, 1, false);
    return 0;
}

int kernel_boot(struct boot_message *m)
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
    while (!__atomic_load_n(&started, __ATOMIC_ACQUIRE))
        host_futex_wait(&started, 0, NULL, false);
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
