// SPDX-License-Identifier: Apache-2.0
#include "sentry/kernel/container.h"

#include <string.h>

#include "host/host.h"
#include "sentry/arena/arena.h"
#include "sentry/fs/anon/hostfd.h"
#include "sentry/fs/tty/job.h"
#include "sentry/ipc/ipc.h"
#include "sentry/kernel/exit.h"
#include "sentry/kernel/oom.h"
#include "sentry/kernel/session.h"
#include "sentry/kernel/siginternal.h"
#include "sentry/mm/account.h"
#include "sentry/platform/platform.h"
#include "sentry/socket/socket.h"
#include "sentry/vfs/mount.h"

// ---- containers ----------------------------------------------------------------------------------

struct container *container_ref(struct container *c)
{
    ref_get(&c->ref);
    return c;
}

// All that leads back to it or takes locks to let go of.
static void release_parts(struct container *c)
{
    struct process *init = c->init;
    struct tty *console = c->console;
    struct mount_ns *mounts = c->mounts;
    struct ipc_ns *ipc = c->ipc;
    struct ns_set *ns = c->ns;
    struct file *notify = c->notify;
    u32 notify_host = c->notify_host;
    c->notify = NULL;
    c->notify_host = 0;
    c->init = NULL;
    c->console = NULL;
    c->mounts = NULL;
    c->ipc = NULL;
    c->ns = NULL;
    process_unref(init);
    ipc_ns_unref(ipc);
    ns_set_unref(ns);
    if (notify)
        file_unref(notify);
    if (hostfd_get_for(notify_host, c) >= 0)
        hostfd_unwatch(notify_host);
    mount_ns_unref(mounts);
    if (console)
        tty_unref(console);
}

void container_unref(struct container *c)
{
    if (!c || !ref_put(&c->ref))
        return;
    // What else it held has gone with container_forget: this may be under locks.
    pid_ns_unref(c->pid_ns);
    account_unref(c->memory);
    uts_ns_unref(c->uts);
    arena_free(c->uid_map);
    arena_free(c->gid_map);
    arena_free(c->id);
    arena_free(c);
}

struct container *container_find_locked(const char *id)
{
    struct container *c;
    list_for_each(c, &the_kernel->containers, node)
        if (*id ? !strcmp(c->id, id) : c->first)
            return c;
    return NULL;
}

struct container *container_find(const char *id)
{
    mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
    struct container *c = container_find_locked(id);
    if (c)
        container_ref(c);
    mutex_unlock(&the_kernel->tasks_lock);
    return c;
}

struct process *container_find_process(struct container *c, s32 nr, bool root)
{
    struct process *p = NULL;
    mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
    struct pid *pid = root ? pid_find_root_locked(nr) : pid_find_locked(c->pid_ns, nr);
    if (pid && pid->process && pid->process->container == c)
        p = process_ref(pid->process);
    mutex_unlock(&the_kernel->tasks_lock);
    return p;
}

static int make_namespaces(struct container *c, const struct container_like *like)
{
    int r = 0;
    if (like->pid)
        c->pid_ns = pid_ns_ref(like->pid->pid_ns);
    else
        r = pid_ns_new(NULL, NULL, &c->pid_ns);
    c->uts = like->uts ? uts_ns_ref(like->uts->uts) : uts_ns_new(NULL);
    c->ipc = like->ipc ? ipc_ns_ref(like->ipc->ipc) : ipc_ns_new(NULL);
    if (!r && c->uts && c->ipc)
        c->ns = ns_set_new(c->uts, c->ipc, c->pid_ns);
    return c->ns ? 0 : -ENOMEM;
}

int container_new(const char *id, const struct container_like *like, struct container **ret)
{
    struct container *c = arena_alloc(sizeof(*c));
    int r = 0;
    if (!c)
        return -ENOMEM;
    ref_init(&c->ref);
    list_init(&c->node);
    c->id = arena_strdup(id);
    r = make_namespaces(c, like);
    c->task_limit = the_kernel->task_limit;
    if (!r)
        r = account_new(&c->memory);
    if (!c->id || r) {
        release_parts(c);
        container_unref(c);
        return -ENOMEM;
    }
    mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
    c->first = list_empty(&the_kernel->containers);
    if (*id && container_find_locked(id))
        r = -EEXIST;
    else
        list_push(&the_kernel->containers, &c->node);
    mutex_unlock(&the_kernel->tasks_lock);
    if (!r) {
        *ret = c;
        return 0;
    }
    release_parts(c);
    container_unref(c);
    return r;
}

struct container *container_next(struct container *c)
{
    struct list *head = &the_kernel->containers, *n;
    mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
    n = c ? c->node.next : head->next;
    // One that has been forgotten meanwhile leads nowhere.
    struct container *next = n == head || (c && n == &c->node)
                                 ? NULL
                                 : container_ref(list_entry(n, struct container, node));
    mutex_unlock(&the_kernel->tasks_lock);
    container_unref(c);
    return next;
}

// ---- limits --------------------------------------------------------------------------------------

struct account *account_now(void)
{
    return current ? container_current()->memory : NULL;
}

u64 container_memory_limit(const struct container *c)
{
    u64 all = the_kernel->memory_limit, own = c ? account_limit(c->memory) : 0;
    return own ? min(own, all) : all;
}

bool container_memory_is_limited(const struct container *c)
{
    return account_limit(account_all()) || account_limit(c->memory);
}

const struct cpu_limits *container_cpus(const struct container *c)
{
    return c && c->cpu.count ? &c->cpu : &the_kernel->cpu;
}

u32 container_current_cpus(void)
{
    return max(container_cpus(current ? container_current() : NULL)->count, 1u);
}

u64 container_memory_used(struct container *c)
{
    struct list *head = &the_kernel->containers;
    // Alone, what is used is the sandbox's, which is known at once.
    bool alone = __atomic_load_n(&head->next, __ATOMIC_RELAXED) == head->prev;
    return account_used(alone ? account_all() : c->memory);
}

// ---- processes from outside ----------------------------------------------------------------------

static void link_process_locked(struct container *c, bool init, struct task *t, struct pid *pid,
                                struct session *s)
{
    struct kernel *k = the_kernel;
    struct process *p = t->process;
    t->tid = p->tgid = pid->nr;
    t->pid = pid_ref(pid);
    p->pid = pid_ref(pid);
    pid->task = t;
    pid->process = process_ref(p);
    group_join_locked(p, pid);
    session_join_locked(p, s);
    list_push(&p->threads, &t->thread_node);
    p->thread_count = 1;
    p->leader = t;
    p->exit_signal = SIGCHLD;
    if (init)
        c->init = process_ref(p);
    list_push(&k->processes, &p->all_node);
    __atomic_add_fetch(&k->task_count, 1, __ATOMIC_RELAXED);
    __atomic_add_fetch(&c->task_count, 1, __ATOMIC_RELAXED);
    k->forks++;
    __atomic_add_fetch(&t->user->processes, 1, __ATOMIC_RELAXED);
}

int container_add_process(struct container *c, bool init, struct task **ret)
{
    struct kernel *k = the_kernel;
    struct process *p = process_new(c);
    struct task *t = task_new();
    struct cred *cred = cred_new();
    struct session *s = NULL;
    struct pid *pid = NULL;
    int r = -ENOMEM;

    if (t)
        t->process = p; // owns it from here on
    else if (p)
        process_unref(p);
    if (t)
        t->cred = cred;
    else if (cred)
        cred_unref(cred);
    if (!t || !p || !cred)
        goto out;
    p->sighand = sighand_new();
    t->user = user_get(0);
    if (!p->sighand || !t->user || !c->ns)
        goto out;
    t->ns = ns_set_ref(c->ns);
    mutex_lock(&k->tasks_lock, RANK_TASKS);
    if (c->init_ended || c->pid_ns->ended || k->init_ended)
        r = -ESRCH;
    else if (k->task_count >= k->task_limit || c->task_count >= c->task_limit)
        r = -EAGAIN;
    else if ((pid = pid_alloc_locked(c->pid_ns)) && (s = session_new(pid)))
        r = 0;
    if (!r) {
        p->is_init = init && !c->pid_ns->init;
        if (p->is_init)
            c->pid_ns->init = process_ref(p);
        link_process_locked(c, init, t, pid, s);
        session_unref(s);
    } else if (pid) {
        pid_drop_locked(pid);
    }
    mutex_unlock(&k->tasks_lock);
out:
    if (r)
        task_unref(t);
    else
        *ret = t;
    return r;
}

// Init's task is to run: it does not count as parked any more.
static struct task *take_waiting_locked(struct container *c)
{
    struct task *t = c->waiting;
    if (!t)
        return NULL;
    c->waiting = NULL;
    c->status = CONTAINER_RUNNING;
    c->parked--;
    the_kernel->parked--;
    t->state = TASK_RUNNING;
    return t;
}

bool container_loaded(struct container *c, int error)
{
    struct kernel *k = the_kernel;
    mutex_lock(&k->tasks_lock, RANK_TASKS);
    c->loaded = !error;
    bool waits = !error && !c->init->group_exit;
    if (waits) {
        // It stands still until container_start: stops of all need not wait for it.
        c->waiting = c->init->leader;
        c->waiting->state = TASK_PARKED;
        c->parked++;
        k->parked++;
    } else {
        c->status = CONTAINER_RUNNING;
    }
    mutex_unlock(&k->tasks_lock);
    __atomic_add_fetch(&k->stop_sequence, 1, __ATOMIC_SEQ_CST);
    host_futex_wake(&k->stop_sequence, INT32_MAX, false);
    return waits;
}

bool container_is_loaded(struct container *c)
{
    mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
    bool r = c->loaded;
    mutex_unlock(&the_kernel->tasks_lock);
    return r;
}

int container_start(struct container *c)
{
    struct kernel *k = the_kernel;
    struct task *t = NULL;
    struct runner *runner = runner_reserve();
    if (!runner)
        return -EAGAIN;
    mutex_lock(&k->tasks_lock, RANK_TASKS);
    int r = c->status == CONTAINER_STOPPED ? -ESRCH : !c->loaded ? -EAGAIN : 0;
    if (!r && !(t = take_waiting_locked(c)))
        r = -EALREADY;
    mutex_unlock(&k->tasks_lock);
    if (t)
        runner_start(runner, t);
    else
        runner_release(runner);
    return r;
}

void containers_start_killed(void)
{
    struct container *c;
    do {
        mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
        bool found = false;
        list_for_each(c, &the_kernel->containers, node) {
            found = c->waiting && c->loaded && c->init->group_exit;
            if (found)
                break;
        }
        c = found ? container_ref(c) : NULL;
        mutex_unlock(&the_kernel->tasks_lock);
        if (c && container_start(c) == -EAGAIN)
            found = false; // the host has no thread for it
        container_unref(c);
        if (!found)
            break;
    } while (c);
}

void container_forget(struct container *c)
{
    mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
    bool listed = !list_empty(&c->node);
    list_remove(&c->node);
    mutex_unlock(&the_kernel->tasks_lock);
    if (!listed)
        return;
    platform_seed_free(c->seed);
    oom_close_pipe(c);
    release_parts(c);
    container_unref(c);
}

// ---- readiness -----------------------------------------------------------------------------------

// Once.
static void say_ready(struct container *c)
{
    static const char text[] = "READY=1\n";
    if (__atomic_exchange_n(&c->ready, 1, __ATOMIC_SEQ_CST))
        return;
    int fd = hostfd_get_for(c->notify_host, c); // a restored one is not
    if (fd >= 0)
        host_sys(SYS_sendto, fd, text, sizeof(text) - 1, MSG_DONTWAIT | MSG_NOSIGNAL, 0, 0);
    container_changed();
}

// One of the lines is READY=1. Nothing else of sd_notify(3) is of interest: it would be the guest that speaks to the
// host's service manager.
void unix_notified(const char *text, u32 size)
{
    static const char ready[] = "READY=1";
    const char *end = text + size;
    while (text < end) {
        const char *line = text;
        text = memchr(line, '\n', (size_t)(end - line));
        text = text ? text : end;
        if ((size_t)(text - line) == sizeof(ready) - 1 && !memcmp(line, ready, sizeof(ready) - 1)) {
            say_ready(container_current());
        }
        text++;
    }
}

// ---- signals -------------------------------------------------------------------------------------

static bool ends_unstarted(int sig)
{
    return !(sig_bit(sig) & (SIGNALS_STOP | SIGNALS_IGNORE));
}

int container_signal(struct container *c, struct process *p, int sig)
{
    struct guest_siginfo info = {.signo = sig, .code = SI_USER};
    mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
    bool waits = c->waiting && p == c->init && ends_unstarted(sig);
    mutex_unlock(&the_kernel->tasks_lock);
    if (!waits)
        return signal_send_process_outside(p, &info);
    process_exit_group(p, sig);
    int r = container_start(c);
    return r == -EALREADY || r == -EAGAIN ? 0 : r; // not loaded: container_loaded sees it
}

void container_signal_all(struct container *c, int sig)
{
    struct guest_siginfo info = {.signo = sig, .code = SI_USER};
    struct process *p;
    mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
    bool waits = c->waiting && ends_unstarted(sig);
    list_for_each(p, &the_kernel->processes, all_node)
        if (p->container == c && !(waits && p == c->init))
            signal_send_process_outside(p, &info);
    mutex_unlock(&the_kernel->tasks_lock);
    if (waits)
        container_signal(c, c->init, sig);
}

// ---- pause ---------------------------------------------------------------------------------------

static void each_task_locked(struct container *c, void (*visit)(struct task *t))
{
    struct process *p;
    struct task *t;
    list_for_each(p, &the_kernel->processes, all_node)
        if (p->container == c)
            list_for_each(t, &p->threads, thread_node)
                visit(t);
}

static void wake_task(struct task *t)
{
    sched_wake(&t->sleeper);
}

void container_pause(struct container *c)
{
    mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
    __atomic_store_n(&c->pause_requested, 1, __ATOMIC_SEQ_CST);
    each_task_locked(c, task_kick);
    mutex_unlock(&the_kernel->tasks_lock);
}

void container_resume(struct container *c)
{
    mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
    __atomic_store_n(&c->pause_requested, 0, __ATOMIC_SEQ_CST);
    each_task_locked(c, wake_task);
    mutex_unlock(&the_kernel->tasks_lock);
}

bool container_is_parked(struct container *c)
{
    mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
    bool r = c->parked >= c->task_count;
    mutex_unlock(&the_kernel->tasks_lock);
    return r;
}

// ---- ends ----------------------------------------------------------------------------------------

// With a container's init ends all that is in the container, with a namespace's all that is in the namespace, and
// with the first container's the sandbox.
static void kill_others_locked(struct process *ended)
{
    struct container *c = ended->container;
    struct guest_siginfo info;
    struct process *p;
    siginfo_kernel(&info, SIGKILL);
    list_for_each(p, &the_kernel->processes, all_node) {
        bool with = (ended == c->init && (c->first || p->container == c)) ||
                    (ended->is_init && process_is_in(p, ended->pid->ns));
        if (p != ended && with)
            signal_send_process_outside(p, &info);
    }
}

void container_process_ended_locked(struct process *p)
{
    struct container *c = p->container;
    if (p->is_init) {
        struct pid_ns *ns = p->pid->ns;
        ns->ended = 1;
        process_unref(ns->init); // not the last reference
        ns->init = NULL;
    }
    if (p == c->init) {
        c->init_ended = 1;
        c->exit_status = p->exit_status;
    }
    if (p == c->init && c->first) {
        the_kernel->init_status = p->exit_status;
        __atomic_store_n(&the_kernel->init_ended, 1, __ATOMIC_SEQ_CST);
    }
    if (p == c->init || p->is_init)
        kill_others_locked(p);
}

void container_task_gone_locked(struct container *c)
{
    if (!__atomic_sub_fetch(&c->task_count, 1, __ATOMIC_RELAXED) && c->init_ended)
        c->status = CONTAINER_STOPPED;
}

void container_get_info(struct container *c, struct container_info *ret)
{
    struct process *p;
    mutex_lock(&the_kernel->tasks_lock, RANK_TASKS);
    *ret = (struct container_info){.status = c->status,
                                   .paused = c->pause_requested && c->status != CONTAINER_STOPPED,
                                   .exit_status = c->exit_status,
                                   .tasks = c->task_count,
                                   .oom_kills = c->oom_kills,
                                   .oom_led = c->oom_led,
                                   .usage = c->dead};
    list_for_each(p, &the_kernel->processes, all_node) {
        struct cpu_usage u;
        if (p->container != c)
            continue;
        ret->processes += !p->zombie;
        process_usage(p, &u);
        cpu_usage_add(&ret->usage, &u);
    }
    mutex_unlock(&the_kernel->tasks_lock);
}
