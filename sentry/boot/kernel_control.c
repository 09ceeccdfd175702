// SPDX-License-Identifier: Apache-2.0
// What the control thread and the crash reporter ask of the kernel. No task runs on these threads.
#include <signal.h>
#include <stdio.h>

#include "sentry/arena/arena.h"
#include "sentry/boot/crash.h"
#include "sentry/control/control.h"
#include "sentry/fs/tty/job.h"
#include "sentry/fs/tty/tty.h"
#include "sentry/kernel/task.h"
#include "sentry/mm/memfile.h"
#include "sentry/snapshot/snapshot.h"
#include "sentry/syscalls/table.h"

int kernel_control_signal(u32 pid, int sig, bool foreground)
{
    struct guest_siginfo info = {.signo = sig, .code = SI_USER};
    if (sig < 1 || sig > SIGNAL_MAX)
        return -EINVAL;
    struct tty *console = foreground ? tty_console() : NULL;
    s32 group = console ? tty_foreground(console) : 0;
    struct process *p = process_find(pid ? (s32)pid : 1);
    if (!p)
        return -ESRCH;
    int r = 0;
    struct process_info i;
    process_get_info(p, &i);
    if (group > 0)
        job_signal_pgrp(group, i.session, sig);
    else
        r = signal_send_process_outside(p, &info);
    process_unref(p);
    return r;
}

int kernel_control_snapshot(int fd)
{
    return snapshot_save(fd);
}

int kernel_control_winsize(u16 rows, u16 columns)
{
    if (!tty_console())
        return -ENOTTY;
    tty_console_resize(rows, columns);
    return 0;
}

static const char *state_word(struct task *t)
{
    switch ((enum task_state)t->state) {
    case TASK_STOPPED: return "stopped";
    case TASK_PARKED: return "parked";
    case TASK_DEAD: return "dead";
    case TASK_RUNNING: break;
    }
    if (__atomic_load_n(&t->guest_since, __ATOMIC_RELAXED))
        return "in the guest";
    return __atomic_load_n(&t->sleeper.asleep, __ATOMIC_RELAXED) ? "asleep" : "in the kernel";
}

static int describe(struct task *t, char *buf, size_t size)
{
    char comm[TASK_COMM_MAX];
    u64 nr = t->syscall_nr;
    task_get_comm(t, comm);
    int n = snprintf(buf, size, "%6d %6d %-15s %s", t->process->tgid, t->tid, comm, state_word(t));
    if (nr == ~0ull || n < 0 || (size_t)n >= size)
        return n;
    const char *name = nr < SYSCALL_COUNT && syscall_table[nr].name ? syscall_table[nr].name : "?";
    const u64 *a = t->syscall_args;
    int more = snprintf(buf + n, size - (size_t)n, ", %s(%#llx, %#llx, %#llx, %#llx)", name,
                        (unsigned long long)a[0], (unsigned long long)a[1],
                        (unsigned long long)a[2], (unsigned long long)a[3]);
    return more < 0 ? more : n + more;
}

static int describe_memory(char *buf, size_t size)
{
    struct arena_stats s;
    arena_get_stats(&s);
    return snprintf(buf, size, "arena: %llu KiB in objects, %llu KiB used; guest memory: %llu KiB in %u files\n",
                    (unsigned long long)s.allocated >> 10, (unsigned long long)s.committed >> 10,
                    (unsigned long long)memfile_total_used() >> 10, memfile_count());
}

size_t kernel_control_stacks(char *buf, size_t size)
{
    size_t done = 0;
    struct process *p;
    s32 from = 1;
    int n = snprintf(buf, size, "   pid    tid name            state\n");
    done = n > 0 ? min((size_t)n, size) : 0;
    while ((p = process_next(from))) {
        struct task *t;
        s32 tid = 1;
        while ((t = process_next_thread(p, tid))) {
            n = describe(t, buf + done, size - done);
            if (n > 0)
                done = min(done + (size_t)n, size);
            if (done < size)
                buf[done++] = '\n';
            tid = t->tid + 1;
            task_unref(t);
        }
        from = p->tgid + 1;
        process_unref(p);
    }
    n = describe_memory(buf + done, size - done);
    if (n > 0)
        done = min(done + (size_t)n, size);
    return done;
}

size_t crash_describe_task(char *buf, size_t size)
{
    struct task *t = current;
    if (!t)
        return 0;
    u64 nr = t->syscall_nr;
    const char *name =
        nr < SYSCALL_COUNT && syscall_table[nr].name ? syscall_table[nr].name : "no system call";
    int n = snprintf(buf, size, "task %d (%.15s) in %s", t->tid, t->comm, name);
    return n > 0 ? min((size_t)n, size) : 0;
}
