// SPDX-License-Identifier: Apache-2.0
#include "runtime/hooks.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "runtime/clock.h"
#include "runtime/log.h"
#include "runtime/pool.h"

#define OUTPUT_MAX 2048 // of a hook's output, kept for the message
#define MSEC_PER_SEC 1000
#define DRAIN_MSEC 100 // what a hook's own children may still say after its end

static const char *const kind_names[HOOK_KINDS] = {
    [HOOK_PRESTART] = "prestart",
    [HOOK_CREATE_RUNTIME] = "createRuntime",
    [HOOK_CREATE_CONTAINER] = "createContainer",
    [HOOK_START_CONTAINER] = "startContainer",
    [HOOK_POSTSTART] = "poststart",
    [HOOK_POSTSTOP] = "poststop",
};

// One hook, as the configuration says it.
struct hook {
    const char *path;
    const char **args; // ends by NULL; as config.md says, the path alone when there are none
    const char **env;  // ends by NULL
    s64 timeout;       // seconds; 0: none
};

// A program that runs, and what has come of it.
struct child {
    pid_t pid;
    int pidfd, in, out; // -1: closed
    const char *state;
    size_t sent, size;
    char output[OUTPUT_MAX + 1];
    size_t output_size;
    int status;
};

static json_object *list_of(json_object *hooks, enum hook_kind kind)
{
    json_object *list = NULL;
    if (hooks)
        json_object_object_get_ex(hooks, kind_names[kind], &list);
    return list;
}

static size_t count_of(json_object *list)
{
    return json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
}

bool hooks_any(json_object *hooks, enum hook_kind kind)
{
    return count_of(list_of(hooks, kind)) > 0;
}

static const char *path_of(json_object *hook)
{
    json_object *path;
    if (!json_object_object_get_ex(hook, "path", &path))
        return "";
    const char *text = json_object_get_string(path);
    return text ? text : "";
}

int hooks_check(json_object *hooks, struct error *e)
{
    for (u32 kind = 0; kind < HOOK_KINDS; kind++) {
        json_object *list = list_of(hooks, kind);
        for (size_t i = 0; i < count_of(list); i++) {
            const char *path = path_of(json_object_array_get_idx(list, i));
            if (path[0] != '/')
                return error_set(e, -EINVAL,
                                 "hooks.%s[%zu].path: wanted an absolute path, found \"%s\"",
                                 kind_names[kind], i, path);
        }
    }
    return 0;
}

static const char **read_strings(struct pool *pool, json_object *o, const char *name, size_t *count)
{
    json_object *list = NULL;
    json_object_object_get_ex(o, name, &list);
    size_t n = count_of(list);
    const char **items = pool_alloc(pool, (n + 2) * sizeof(*items));
    for (size_t i = 0; i < n; i++)
        items[i] = json_object_get_string(json_object_array_get_idx(list, i));
    *count = n;
    return items;
}

static struct hook read_hook(struct pool *pool, json_object *o)
{
    struct hook h = {.path = path_of(o)};
    json_object *timeout;
    size_t count;
    h.args = read_strings(pool, o, "args", &count);
    if (!count)
        h.args[0] = h.path;
    h.env = read_strings(pool, o, "env", &count);
    if (json_object_object_get_ex(o, "timeout", &timeout))
        h.timeout = json_object_get_int64(timeout);
    return h;
}

static void join(pid_t pid, const char *name, int kind)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/ns/%s", pid, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || setns(fd, kind) < 0) {
        fprintf(stderr, "join %s: %s\n", path, strerror(errno));
        _exit(127);
    }
    close(fd);
}

static void run_inside(const struct hook *h, const struct hook_run *run)
{
    struct error e = {0};
    int r = run->run_inside(run->arg, h->path, h->args, h->env, &e);
    if (r < 0)
        fprintf(stderr, "%s\n", e.text);
    _exit(r < 0 ? 127 : r);
}

static void child_main(const struct hook *h, const struct hook_run *run, enum hook_kind kind,
                       int in, int out)
{
    sigset_t none;
    dup2(in, 0);
    dup2(out, 1);
    dup2(out, 2);
    syscall(SYS_close_range, 3, ~0u, CLOSE_RANGE_CLOEXEC);
    setsid(); // what it starts is ended with it
    for (int sig = 1; sig < NSIG; sig++)
        signal(sig, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (run->bundle && chdir(run->bundle) < 0)
        fprintf(stderr, "chdir %s: %s\n", run->bundle, strerror(errno));
    if (kind == HOOK_START_CONTAINER)
        run_inside(h, run);
    if (kind == HOOK_CREATE_CONTAINER && run->pid > 0) {
        if (geteuid() != 0)
            join(run->pid, "user", CLONE_NEWUSER);
        join(run->pid, "net", CLONE_NEWNET);
        join(run->pid, "uts", CLONE_NEWUTS);
        join(run->pid, "ipc", CLONE_NEWIPC);
    }
    execve(h->path, (char *const *)(uintptr_t)h->args, (char *const *)(uintptr_t)h->env);
    fprintf(stderr, "%s\n", error_text(errno));
    _exit(127);
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static int start(struct child *c, const struct hook *h, const struct hook_run *run,
                 enum hook_kind kind, struct error *e)
{
    int in[2] = {-1, -1}, out[2] = {-1, -1};
    *c = (struct child){
        .pidfd = -1, .in = -1, .out = -1, .state = run->state, .size = strlen(run->state)};
    int r = pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0 ? -errno : 0;
    if (!r) {
        c->pid = fork();
        if (c->pid == 0) {
            close(in[1]); // or it would never see the end of its input
            close(out[0]);
            child_main(h, run, kind, in[0], out[1]);
        }
        r = c->pid < 0 ? -errno : 0;
    }
    close_fd(&in[0]);
    close_fd(&out[1]);
    c->in = in[1];
    c->out = out[0];
    if (r < 0)
        return error_errno(e, r, "start");
    fcntl(c->in, F_SETFL, O_NONBLOCK);
    fcntl(c->out, F_SETFL, O_NONBLOCK);
    c->pidfd = (int)syscall(SYS_pidfd_open, c->pid, 0);
    return c->pidfd < 0 ? error_errno(e, -errno, "watch it") : 0;
}

static void send_state(struct child *c)
{
    ssize_t n = write(c->in, c->state + c->sent, c->size - c->sent);
    if (n > 0)
        c->sent += (size_t)n;
    // A hook need not read its input.
    if ((n < 0 && errno != EAGAIN && errno != EINTR) || c->sent == c->size)
        close_fd(&c->in);
}

static bool take_output(struct child *c)
{
    char text[4096];
    ssize_t n = read(c->out, text, sizeof(text));
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (n <= 0) {
        close_fd(&c->out);
        return false;
    }
    size_t some = min((size_t)n, OUTPUT_MAX - c->output_size);
    memcpy(c->output + c->output_size, text, some);
    c->output_size += some;
    return true;
}

// Until it has ended or the time is up. 0 or -ETIMEDOUT.
static int serve(struct child *c, s64 timeout)
{
    s64 end = timeout ? clock_msec() + min(timeout, (s64)INT32_MAX / MSEC_PER_SEC) * MSEC_PER_SEC : 0;
    for (;;) {
        struct pollfd fds[] = {
            {.fd = c->pidfd, .events = POLLIN},
            {.fd = c->in, .events = POLLOUT},
            {.fd = c->out, .events = POLLIN},
        };
        s64 left = timeout ? max(end - clock_msec(), (s64)0) : -1;
        if (poll(fds, array_size(fds), (int)left) == 0)
            return -ETIMEDOUT;
        if (fds[1].revents)
            send_state(c);
        if (fds[2].revents)
            take_output(c);
        if (fds[0].revents & POLLIN)
            return 0;
    }
}

// Ends and reaps it; takes what it said last.
static void finish(struct child *c)
{
    if (c->pid > 0) {
        if (c->status < 0)
            kill(-c->pid, SIGKILL), kill(c->pid, SIGKILL);
        while (waitpid(c->pid, &c->status, 0) < 0 && errno == EINTR)
            ;
    }
    struct pollfd p = {.fd = c->out, .events = POLLIN};
    while (c->out >= 0 && c->output_size < OUTPUT_MAX && poll(&p, 1, DRAIN_MSEC) > 0)
        take_output(c);
    close_fd(&c->in);
    close_fd(&c->out);
    close_fd(&c->pidfd);
    while (c->output_size && strchr(" \t\r\n", c->output[c->output_size - 1]))
        c->output_size--;
    c->output[c->output_size] = 0;
}

static int judge(int status, const char *output, struct error *e)
{
    const char *comma = *output ? ", output: " : "";
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    if (WIFSIGNALED(status))
        return error_set(e, -EIO, "signal %d%s%s", WTERMSIG(status), comma, output);
    return error_set(e, -EIO, "exit status %d%s%s", WEXITSTATUS(status), comma, output);
}

static int run_hook(const struct hook *h, const struct hook_run *run, enum hook_kind kind,
                    struct error *e)
{
    struct child c;
    if (kind == HOOK_START_CONTAINER && !run->run_inside)
        return error_set(e, -ENOTSUP, "startContainer hooks are not supported here");
    int r = start(&c, h, run, kind, e);
    int served = r ? r : serve(&c, h->timeout);
    if (served < 0)
        c.status = -1;
    finish(&c);
    if (r < 0)
        return r;
    if (served == -ETIMEDOUT)
        return error_set(e, served, "it did not end in its %lld s%s%s", (long long)h->timeout,
                         *c.output ? ", output: " : "", c.output);
    return judge(c.status, c.output, e);
}

int hooks_run(const struct hook_run *run, enum hook_kind kind, struct error *e)
{
    json_object *list = list_of(run->hooks, kind);
    bool warn = kind == HOOK_POSTSTART || kind == HOOK_POSTSTOP;
    struct pool pool = {0};
    int r = 0;
    for (size_t i = 0; i < count_of(list) && !r; i++) {
        struct hook h = read_hook(&pool, json_object_array_get_idx(list, i));
        r = run_hook(&h, run, kind, e);
        if (r < 0)
            error_wrap(e, r, "error running %s hook #%zu (%s)", kind_names[kind], i, h.path);
        if (r < 0 && warn) {
            rlog(RLOG_WARN, "%s", e->text);
            r = 0;
        }
    }
    pool_free(&pool);
    return r;
}
