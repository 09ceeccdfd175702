// SPDX-License-Identifier: Apache-2.0
#include "sentry/boot/describe.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "sentry/arena/arena.h"
#include "sentry/boot/crash.h"
#include "sentry/kernel/container.h"
#include "sentry/mm/memfile.h"
#include "sentry/mm/mm.h"
#include "sentry/mm/usercopy.h"
#include "sentry/platform/platform.h"
#include "sentry/syscalls/table.h"
#include "wire/control.h"

#define TEXT_MAX (4u << 20)
#define LINE_ROOM 1024 // of a line without its arguments
#define ARGS_MAX 4096

struct text {
    char *buf;
    size_t size, room;
};

// Room for `n` more bytes; false when there is none.
static bool reserve(struct text *t, size_t n)
{
    if (t->size + n <= t->room)
        return true;
    size_t room = (t->room + n) * 2;
    char *buf = room <= TEXT_MAX ? realloc(t->buf, room) : NULL;
    if (!buf)
        return false;
    t->buf = buf;
    t->room = room;
    return true;
}

static int finish(struct text *t, char **ret, size_t *ret_size)
{
    *ret = t->buf;
    *ret_size = t->size;
    return t->buf ? 0 : -ENOMEM;
}

static void __attribute__((format(printf, 2, 3))) add(struct text *t, const char *fmt, ...)
{
    va_list ap;
    if (!reserve(t, LINE_ROOM))
        return;
    va_start(ap, fmt);
    int n = vsnprintf(t->buf + t->size, LINE_ROOM, fmt, ap);
    va_end(ap);
    if (n > 0)
        t->size += min((size_t)n, (size_t)LINE_ROOM - 1);
}

// ---- processes -----------------------------------------------------------------------------------

// The arguments, blanks between them, without what would break the line.
static void add_args(struct text *t, struct task *task)
{
    struct mm_layout l;
    struct mm *mm = task_get_mm(task);
    u64 size = 0;
    if (!mm || !reserve(t, ARGS_MAX))
        return;
    mm_get_layout(mm, &l);
    if (l.arg_start < l.arg_end)
        size = copy_in_mm(mm, t->buf + t->size, uaddr(l.arg_start),
                          min(l.arg_end - l.arg_start, (u64)ARGS_MAX), true);
    mm_unref(mm);
    while (size && !t->buf[t->size + size - 1])
        size--;
    for (u64 i = 0; i < size; i++) {
        char *p = &t->buf[t->size + i];
        *p = (unsigned char)*p < ' ' ? *p ? '?' : ' ' : *p;
    }
    t->size += size;
}

static void clean(char *name)
{
    for (; *name; name++)
        if ((unsigned char)*name <= ' ')
            *name = '?';
}

static void add_process(struct text *t, struct process *p)
{
    struct process_info i;
    struct cpu_usage u;
    char comm[TASK_COMM_MAX], tty[16] = "?";
    struct task *task = process_any_thread(p);
    if (!task)
        return;
    process_get_info(p, p->container->pid_ns, &i);
    process_usage(p, &u);
    task_get_comm(task, comm);
    clean(comm);
    if (i.tty_nr)
        snprintf(tty, sizeof(tty), "pts/%u", (u32)i.tty_nr & 0xff);
    const struct cred *cred = task_get_cred(task);
    u64 start = (u64)(the_kernel->boot_realtime + p->start_time - the_kernel->boot_monotonic);
    add(t, "%d %d %d %d %u %c %u %llu %llu %s %s ",
        pid_nr_in(p->pid, p->container->pid_ns), p->pid->root_nr,
        platform_host_pid(__atomic_load_n(&task->thread, __ATOMIC_RELAXED)), i.ppid, cred->euid,
        i.state, i.threads, (unsigned long long)(start / NSEC_PER_SEC),
        (unsigned long long)((u.user + u.system) / 1000000), tty, comm);
    add_args(t, task);
    add(t, "\n");
    cred_unref(cred);
    task_unref(task);
}

int describe_processes(struct container *c, char **ret, size_t *ret_size)
{
    struct text t = {0};
    struct process *p;
    add(&t, "%s", "");
    for (s32 from = 0; (p = process_next_root(from)); process_unref(p)) {
        from = p->pid->root_nr + 1;
        if (p->container == c)
            add_process(&t, p);
    }
    return finish(&t, ret, ret_size);
}

// ---- tasks ---------------------------------------------------------------------------------------

static const char *state_word(struct task *t)
{
    switch ((enum task_state)t->state) {
    case TASK_STOPPED: return "stopped";
    case TASK_TRACED: return "stopped by its tracer";
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

static void add_memory(struct text *t)
{
    struct arena_stats s;
    arena_get_stats(&s);
    add(t, "arena: %llu KiB in objects, %llu KiB used; guest memory: %llu KiB in %u files\n",
        (unsigned long long)s.allocated >> 10, (unsigned long long)s.committed >> 10,
        (unsigned long long)memfile_total_used() >> 10, memfile_count());
}

int describe_stacks(char **ret, size_t *ret_size)
{
    struct text t = {0};
    struct process *p;
    add(&t, "   pid    tid name            state\n");
    for (s32 from = 0; (p = process_next_root(from)); process_unref(p)) {
        struct task *task;
        char line[256];
        from = p->pid->root_nr + 1;
        for (s32 tid = 0; (task = process_next_thread(p, tid)); task_unref(task)) {
            tid = task->tid + 1;
            describe(task, line, sizeof(line));
            add(&t, "%s\n", line);
        }
    }
    add_memory(&t);
    return finish(&t, ret, ret_size);
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
