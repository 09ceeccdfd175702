// SPDX-License-Identifier: Apache-2.0
// One command of the runtime, from its arguments to its error.
#include "ocirt/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *command_name(const struct ocirt *rt)
{
    const char *slash = strrchr(rt->command, '/');
    return slash && slash[1] ? slash + 1 : rt->command;
}

// "runc create c1: why"
static int fail(struct oi_call *c, struct ocirt_error *e, int code, const char *why)
{
    return oi_error_set(e, code, "%s %s%s%s: %s", command_name(c->rt), oi_verb_names[c->verb],
                        c->id ? " " : "", c->id ? c->id : "", why);
}

static int fail_errno(struct oi_call *c, struct ocirt_error *e, int code)
{
    return fail(c, e, code, strerrordesc_np(-code) ? strerrordesc_np(-code) : "unknown error");
}

int oi_call_init(struct oi_call *c, const struct ocirt *rt, enum oi_verb verb, const char *id,
                 const struct ocirt_options *o, struct ocirt_error *e)
{
    const char *log = oi_options_text(o, OCIRT_LOG_FILE);

    *c = (struct oi_call){.rt = rt,
                          .o = o,
                          .verb = verb,
                          .id = id,
                          .stdin_fd = -1,
                          .out_fd = -1,
                          .err_fd = -1,
                          .log_path = log ? log : rt->log,
                          .child = {.fd = -1}};
    oi_error_clear(e);
    // An ID that looks like an option would be taken for one.
    if (id && (!*id || *id == '-'))
        return oi_error_set(e, -EINVAL, "%s: invalid container ID \"%s\"", oi_verb_names[verb], id);
    int r = oi_options_check(o, verb, e);
    if (r < 0)
        return r;
    r = oi_client_args(rt, log, &c->argv);
    if (r == 0)
        r = oi_strv_add(&c->argv, oi_verb_names[verb]);
    return r < 0 ? fail_errno(c, e, r) : 0;
}

void oi_call_fini(struct oi_call *c)
{
    oi_strv_fini(&c->argv);
    oi_buf_fini(&c->out);
    oi_buf_fini(&c->tail);
    oi_close(&c->out_fd);
    oi_close(&c->err_fd);
}

// A command without a slash is looked for in PATH, as execvp(3) does. 0 or -errno.
static int find_command(const char *command, char *ret_path, size_t size)
{
    const char *path = getenv("PATH");
    int r = -ENOENT;

    if (strchr(command, '/'))
        return (size_t)snprintf(ret_path, size, "%s", command) < size ? 0 : -ENAMETOOLONG;
    for (const char *p = path && *path ? path : "/usr/sbin:/usr/bin:/sbin:/bin"; p;
         p = strchr(p, ':')) {
        p += *p == ':';
        int length = (int)strcspn(p, ":");
        struct stat st;
        if ((size_t)snprintf(ret_path, size, "%.*s%s%s", length, p, length ? "/" : "./", command) >=
            size)
            continue;
        if (stat(ret_path, &st) < 0 || !S_ISREG(st.st_mode))
            continue;
        if (access(ret_path, X_OK) == 0)
            return 0;
        r = -EACCES;
    }
    return r;
}

// The caller's environment without NOTIFY_SOCKET (which would make the runtime wait for its
// message), and the client's variables. The strings are borrowed; the array is for free(3).
static char **make_environment(const struct ocirt *rt)
{
    size_t count = 0, n = 0;
    while (environ && environ[count])
        count++;
    char **env = calloc(count + rt->env.count + 1, sizeof(*env));
    for (size_t i = 0; env && i < count; i++)
        if (strncmp(environ[i], "NOTIFY_SOCKET=", 14) != 0)
            env[n++] = environ[i];
    for (size_t i = 0; env && i < rt->env.count; i++)
        env[n++] = rt->env.v[i];
    return env;
}

// Fills the three streams: the options', or pipes that the call reads. The write ends go to own[].
static int open_streams(struct oi_call *c, int fds[3], int own[3])
{
    int out[2], err[2];

    if (c->o && c->o->io) {
        memcpy(fds, oi_io_child_fds(c->o->io), 3 * sizeof(*fds));
        return fds[0] < 0 || fds[1] < 0 || fds[2] < 0 ? -EBADF : 0; // used by a call before
    }
    if (c->stdin_fd < 0 && (own[0] = open("/dev/null", O_RDONLY | O_CLOEXEC)) < 0)
        return -errno;
    if (pipe2(out, O_CLOEXEC) < 0)
        return -errno;
    c->out_fd = out[0];
    own[1] = out[1];
    if (pipe2(err, O_CLOEXEC) < 0)
        return -errno;
    c->err_fd = err[0];
    own[2] = err[1];
    fcntl(c->out_fd, F_SETFL, O_NONBLOCK);
    fcntl(c->err_fd, F_SETFL, O_NONBLOCK);
    fds[0] = c->stdin_fd >= 0 ? c->stdin_fd : own[0];
    fds[1] = own[1];
    fds[2] = own[2];
    return 0;
}

static int start_process(struct oi_call *c, const int *fds, size_t fd_count)
{
    const struct ocirt *rt = c->rt;
    char path[4096];
    int r = find_command(rt->command, path, sizeof(path));
    if (r < 0)
        return r;
    char **env = make_environment(rt);
    if (!env)
        return -ENOMEM;
    struct ocirt_command command = {.path = path,
                                    .argv = c->argv.v,
                                    .envp = env,
                                    .work_dir = rt->work_dir,
                                    .fds = fds,
                                    .fd_count = fd_count,
                                    .death_signal = rt->death_signal,
                                    .group = rt->group};
    r = rt->monitor.start(rt->monitor.data, &command, &c->child);
    free(env);
    return r;
}

int oi_call_start(struct oi_call *c, struct ocirt_error *e)
{
    const struct ocirt_options *o = c->o;
    int fds[OI_FDS_MAX], own[3] = {-1, -1, -1};
    size_t fd_count = 3;

    c->log_from = c->log_path ? oi_log_size(c->log_path) : -1;
    int r = open_streams(c, fds, own);
    for (size_t i = 0; o && i < o->extra_count; i++)
        fds[fd_count++] = o->extra_fds[i];
    if (o && o->status_fd >= 0)
        fds[fd_count++] = o->status_fd;
    if (r == 0)
        r = start_process(c, fds, fd_count);
    for (int i = 0; i < 3; i++)
        oi_close(&own[i]);
    if (r < 0) {
        oi_close(&c->out_fd);
        oi_close(&c->err_fd);
        return oi_error_set(e, r, "%s: %s", c->rt->command, strerrordesc_np(-r));
    }
    c->running = true;
    if (o && o->io)
        ocirt_io_close_child(o->io);
    if (o && o->started)
        o->started(o->started_data, c->child.pid);
    return 0;
}

int oi_call_read(struct oi_call *c, int *fd, struct oi_buf *out)
{
    char piece[16384];
    for (;;) {
        ssize_t n = read(*fd, piece, sizeof(piece));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return 0;
        if (n <= 0) {
            oi_close(fd);
            return 0;
        }
        c->printed += (size_t)n;
        if (c->printed > c->rt->output_limit)
            return -EFBIG;
        int r = out ? oi_buf_add(out, piece, (size_t)n) : 0;
        if (r == 0)
            r = oi_buf_add_tail(&c->tail, piece, (size_t)n);
        if (r < 0 || c->by_piece)
            return r;
    }
}

int oi_call_end(struct oi_call *c, int signal_number)
{
    const struct ocirt_monitor *m = &c->rt->monitor;

    if (!c->running)
        return 0;
    c->running = false;
    if (signal_number)
        m->kill(m->data, &c->child, signal_number, c->rt->group);
    return m->wait(m->data, &c->child, &c->exit);
}

// Reads until the process has ended, and then what is left in the pipes: a grandchild may hold them
// open.
static int gather(struct oi_call *c, const struct oi_deadline *deadline)
{
    for (bool ended = false; !ended;) {
        struct pollfd fds[3] = {{.fd = c->child.fd, .events = POLLIN},
                                {.fd = c->out_fd, .events = POLLIN},
                                {.fd = c->err_fd, .events = POLLIN}};
        int r = oi_poll(fds, 3, deadline);
        if (r < 0)
            return r;
        ended = fds[0].revents;
        if (c->out_fd >= 0 && (ended || fds[1].revents) &&
            (r = oi_call_read(c, &c->out_fd, &c->out)) < 0)
            return r;
        if (c->err_fd >= 0 && (ended || fds[2].revents) &&
            (r = oi_call_read(c, &c->err_fd, NULL)) < 0)
            return r;
    }
    return 0;
}

// The last line that is not empty; within b.
static const char *last_line(struct oi_buf *b)
{
    if (!b->data)
        return "";
    while (b->size && (b->data[b->size - 1] == '\n' || b->data[b->size - 1] == '\r'))
        b->data[--b->size] = 0;
    const char *newline = memrchr(b->data, '\n', b->size);
    return newline ? newline + 1 : b->data;
}

int oi_call_result(struct oi_call *c, struct ocirt_error *e)
{
    char how[64];
    struct oi_strv why = {0};

    if (c->exit.status == 0)
        return 0;
    if (!e)
        return -EREMOTEIO;
    char *log = c->log_path ? oi_log_last_error(c->log_path, c->log_from) : NULL;
    if (!log && c->tail.size)
        log = oi_log_last_error_in(c->tail.data, c->tail.size);
    if (c->exit.signal)
        snprintf(how, sizeof(how), "ended by signal %d", c->exit.signal);
    else
        snprintf(how, sizeof(how), "exit status %d", c->exit.status);
    const char *said = log ? log : last_line(&c->tail);
    int r = oi_strv_addf(&why, "%s%s%s", how, *said ? ": " : "", said);
    fail(c, e, -EREMOTEIO, r < 0 ? how : why.v[0]);
    oi_strv_fini(&why);
    oi_error_take(e, c->exit.status, &c->tail, log);
    return -EREMOTEIO;
}

int oi_call_run(struct oi_call *c, int *ret_status, struct ocirt_error *e)
{
    struct oi_deadline deadline = oi_deadline_of(c->rt, c->o);
    int r = oi_call_start(c, e);

    if (r < 0)
        return r;
    r = gather(c, &deadline);
    if (r < 0) {
        oi_call_end(c, SIGKILL);
        fail_errno(c, e, r);
        oi_error_take(e, -1, &c->tail, NULL);
        return r;
    }
    r = oi_call_end(c, 0);
    if (r < 0)
        return fail_errno(c, e, r);
    r = oi_call_result(c, e);
    if (!ret_status || (r < 0 && r != -EREMOTEIO))
        return r;
    *ret_status = c->exit.status;
    return 0;
}

int oi_call_doc(struct oi_call *c, struct ocirt_doc **ret_doc, struct ocirt_error *e)
{
    int r = ocirt_doc_parse(c->out.data ? c->out.data : "", c->out.size, ret_doc);
    if (r < 0) {
        fail(c, e, r, "the answer is not JSON");
        oi_error_take(e, c->exit.status, &c->tail, NULL);
    }
    return r;
}
