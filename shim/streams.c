// SPDX-License-Identifier: Apache-2.0
#include "shim/streams.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shim/log.h"
#include "shim/reaper.h"

#define PIECE 16384
#define DRAIN_MS 2000         // for a reader that does not read
#define DRAIN_TERMINAL_MS 200 // for others that hold the terminal
#define READER_MS 10000 // for a FIFO's reader to come
#define LOGGER_READY_MS 10000
#define LOGGER_END_MS 10000
#define LOGGER_ARGS_MAX 64

enum { IN,
       OUT,
       ERR };

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

struct stdio *stdio_new(const char *in, const char *out, const char *err, bool terminal)
{
    struct stdio *s = calloc(1, sizeof(*s));
    if (!s)
        return NULL;
    s->in = strdup(in ? in : "");
    s->out = strdup(out ? out : "");
    s->err = strdup(err ? err : "");
    s->terminal = terminal;
    s->console = s->stdin_keeper = -1;
    for (int i = 0; i < 3; i++) {
        s->copies[i].owner = s;
        s->copies[i].in.fd = s->copies[i].out.fd = -1;
        s->copies[i].is_input = i == IN;
        s->copies[i].is_terminal = terminal;
    }
    if (s->in && s->out && s->err)
        return s;
    stdio_free(s);
    return NULL;
}

void stdio_free(struct stdio *s)
{
    if (!s)
        return;
    stdio_stop(s);
    free(s->in);
    free(s->out);
    free(s->err);
    free(s);
}

// ---- Opening ----

static int fail(struct stdio *s, int r, const char *what)
{
    snprintf(s->error, sizeof(s->error), "%.180s: %s", what, strerrordesc_np(-r));
    return r;
}

// "scheme:///path?query": cuts the text into its parts, in place. The scheme is "" for a plain
// path.
static const char *split_uri(char *text, char **ret_path, char **ret_query)
{
    char *mark = strstr(text, "://");
    *ret_query = NULL;
    *ret_path = text;
    if (!mark)
        return "";
    *mark = 0;
    *ret_path = mark + 3;
    *ret_query = strchr(mark + 3, '?');
    if (*ret_query)
        *(*ret_query)++ = 0;
    return text;
}

static void decode_percent(char *text)
{
    char *to = text;
    for (char *p = text; *p; p++) {
        unsigned value;
        if (*p == '%' && sscanf(p + 1, "%2x", &value) == 1 && p[1] && p[2]) {
            *to++ = (char)value;
            p += 2;
        } else {
            *to++ = *p;
        }
    }
    *to = 0;
}

// Waits until the FIFO has been opened for reading. A process may be over, and all its streams closed, before a
// client on a busy machine comes to its open(2): what was written is gone then, and the client waits for ever.
// Returns a descriptor that the reader must not see closed before another is open, or -1.
static int await_reader(const char *path)
{
    int fd, pause_ms = 1;
    int64_t end = loop_now() + READER_MS;
    while ((fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC)) < 0 && errno == ENXIO && loop_now() < end) {
        poll(NULL, 0, pause_ms);
        pause_ms = pause_ms < 20 ? pause_ms * 2 : pause_ms;
    }
    if (fd < 0)
        log_info("%s: nobody reads", path);
    return fd;
}

// Where an output goes. A FIFO is open for reading here as well, so that it outlives a reader that goes and comes back.
static int open_sink(struct stdio *s, const char *path, bool create, int *ret_fd)
{
    struct stat st;
    int held = -1, flags = O_WRONLY | O_APPEND | O_CLOEXEC | O_NOCTTY | (create ? O_CREAT : 0);
    if (stat(path, &st) == 0 && S_ISFIFO(st.st_mode)) {
        flags = O_RDWR | O_NONBLOCK | O_CLOEXEC;
        held = await_reader(path);
    }
    *ret_fd = open(path, flags, 0644);
    int r = *ret_fd < 0 ? fail(s, -errno, path) : 0;
    close_fd(&held);
    return r;
}

static int open_stdin(struct stdio *s)
{
    int *fd = &s->copies[IN].in.fd;
    *fd = open(s->in, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
    if (*fd < 0)
        return fail(s, -errno, s->in);
    s->stdin_keeper = open(s->in, O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
    return 0;
}

static void make_parent(const char *path)
{
    char text[4096];
    if ((size_t)snprintf(text, sizeof(text), "%s", path) >= sizeof(text))
        return;
    for (char *p = text + 1; (p = strchr(p, '/')); *p++ = '/') {
        *p = 0;
        mkdir(text, 0755);
    }
}

static int open_sinks(struct stdio *s, const char *scheme, const char *path)
{
    bool file = strcmp(scheme, "file") == 0;
    int r = 0;
    if (file)
        make_parent(path);
    if (*path)
        r = open_sink(s, path, file, &s->copies[OUT].out.fd);
    if (r < 0 || s->terminal)
        return r;
    // The same file for both is opened once.
    if (file || (*s->err && strcmp(path, s->err) == 0)) {
        s->copies[ERR].out.fd = fcntl(s->copies[OUT].out.fd, F_DUPFD_CLOEXEC, 3);
        return s->copies[ERR].out.fd < 0 ? fail(s, -errno, path) : 0;
    }
    return *s->err ? open_sink(s, s->err, false, &s->copies[ERR].out.fd) : 0;
}

// A logger is ready when it has closed descriptor 5, or has written to it.
static int start_logger(struct stdio *s, char *path, char *query, const char *namespace_name,
                        const char *id)
{
    char *argv[LOGGER_ARGS_MAX + 2] = {path}, id_text[512], namespace_text[512], *save, byte;
    size_t argc = 1, env_count = 0;
    int ready[2];

    for (char *word = query ? strtok_r(query, "&", &save) : NULL; word;
         word = strtok_r(NULL, "&", &save)) {
        char *value = strchr(word, '=');
        if (argc + 2 >= LOGGER_ARGS_MAX)
            return fail(s, -E2BIG, path);
        if (value)
            *value++ = 0;
        decode_percent(word);
        argv[argc++] = word;
        if (value) {
            decode_percent(value);
            argv[argc++] = value;
        }
    }
    while (environ[env_count])
        env_count++;
    char **env = calloc(env_count + 3, sizeof(*env));
    if (!env || pipe2(ready, O_CLOEXEC) < 0) {
        free(env);
        return fail(s, -ENOMEM, path);
    }
    memcpy(env, environ, env_count * sizeof(*env));
    snprintf(id_text, sizeof(id_text), "CONTAINER_ID=%s", id);
    snprintf(namespace_text, sizeof(namespace_text), "CONTAINER_NAMESPACE=%s", namespace_name);
    env[env_count] = id_text;
    env[env_count + 1] = namespace_text;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    int fds[6] = {
        null, null, null, ocirt_io_fd(s->io, OCIRT_STDOUT), ocirt_io_fd(s->io, OCIRT_STDERR),
        ready[1]};
    int r = reaper_spawn(argv, env, fds, 6, &s->logger);
    close_fd(&null);
    close(ready[1]);
    struct pollfd p = {.fd = ready[0], .events = POLLIN};
    if (r == 0 && (poll(&p, 1, LOGGER_READY_MS) <= 0 || read(ready[0], &byte, 1) < 0))
        r = -ETIMEDOUT;
    close(ready[0]);
    free(env);
    ocirt_io_close(s->io, OCIRT_STDOUT);
    ocirt_io_close(s->io, OCIRT_STDERR);
    return r < 0 ? fail(s, r, path) : 0;
}

static int open_console_socket(struct stdio *s)
{
    int r = ocirt_socket_new_temp(&s->socket);
    return r < 0 ? fail(s, r, "console socket") : 0;
}

int stdio_open(struct stdio *s, const char *namespace_name, const char *id, uid_t uid, gid_t gid)
{
    char *uri = strdup(s->out), *path, *query;
    unsigned streams = 0;
    int r = 0;

    if (!uri)
        return fail(s, -ENOMEM, "streams");
    const char *scheme = split_uri(uri, &path, &query);
    bool binary = strcmp(scheme, "binary") == 0;
    if (*scheme)
        decode_percent(path);
    if (*scheme && !binary && strcmp(scheme, "file") != 0 && strcmp(scheme, "fifo") != 0)
        r = fail(s, -EINVAL, s->out);
    if (r == 0 && *s->in)
        r = open_stdin(s); // first: a client may open the others when it has this one
    if (r == 0 && !binary)
        r = open_sinks(s, scheme, path);
    if (r == 0 && s->terminal) {
        r = binary ? fail(s, -EOPNOTSUPP, "a logger for a terminal") : open_console_socket(s);
    } else if (r == 0) {
        streams = (*s->in ? OCIRT_STDIN : 0) |
                  (s->copies[OUT].out.fd >= 0 || binary ? OCIRT_STDOUT : 0) |
                  (s->copies[ERR].out.fd >= 0 || binary ? OCIRT_STDERR : 0);
        r = ocirt_io_new_pipes(streams, uid ? uid : (uid_t)-1, gid ? gid : (gid_t)-1, &s->io);
        if (r < 0)
            fail(s, r, "pipes");
        else if (binary)
            r = start_logger(s, path, query, namespace_name, id);
    }
    free(uri);
    return r;
}

int stdio_receive_console(struct stdio *s, int timeout_ms)
{
    struct ocirt_options *o = ocirt_options_new();
    if (!o)
        return -ENOMEM;
    ocirt_options_set_timeout(o, timeout_ms);
    int r = ocirt_socket_receive(s->socket, o, &s->console);
    ocirt_options_free(o);
    ocirt_socket_free(s->socket);
    s->socket = NULL;
    if (r < 0)
        return fail(s, r, "the terminal did not come");
    fcntl(s->console, F_SETFL, fcntl(s->console, F_GETFL) | O_NONBLOCK);
    fcntl(s->console, F_SETFD, FD_CLOEXEC);
    return 0;
}

// ---- Copying ----

static void end_copy(struct stdio_copy *c)
{
    watch_stop(&c->in);
    watch_stop(&c->out);
    close_fd(&c->in.fd);
    close_fd(&c->out.fd);
    bytes_fini(&c->pending);
    c->ended = true;
}

// Writes what it can. Returns how much, or -1 when the other side is gone.
static ssize_t write_out(struct stdio_copy *c, const unsigned char *data, size_t size)
{
    size_t done = 0;
    while (done < size) {
        ssize_t n = write(c->out.fd, data + done, size - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            break;
        if (n < 0 && c->is_input)
            return -1;
        if (n < 0) {
            // A full disk must not stop the container: what finds no place is dropped.
            log_error("output is lost: %s", strerrordesc_np(errno));
            return (ssize_t)size;
        }
        done += (size_t)n;
    }
    return (ssize_t)done;
}

// Reads one piece. False when there is nothing (more) to read now.
static bool copy_piece(struct stdio_copy *c)
{
    static unsigned char piece[PIECE]; // the main thread's
    ssize_t n = read(c->in.fd, piece, sizeof(piece));
    if (n < 0 && errno == EINTR)
        return true;
    if (n < 0 && errno == EAGAIN)
        return false;
    if (n <= 0) { // EIO: a terminal that nobody holds any more
        end_copy(c);
        return false;
    }
    ssize_t done = write_out(c, piece, (size_t)n);
    if (done < 0 || (done < n && !bytes_add(&c->pending, piece + done, (size_t)(n - done)))) {
        end_copy(c);
        return false;
    }
    if (done == n)
        return true;
    watch_stop(&c->in);
    c->out.events = EPOLLOUT;
    if (watch_start(&c->out) < 0)
        end_copy(c);
    return false;
}

static bool is_drained(struct stdio *s)
{
    for (int i = OUT; i <= ERR; i++) {
        struct stdio_copy *c = &s->copies[i];
        if (c->started && !c->ended && (c->pending.size || c->is_terminal))
            return false;
    }
    return true;
}

static void finish_drain(struct stdio *s)
{
    void (*drained)(struct stdio * s) = s->drained;
    timer_stop(&s->timer);
    s->drained = NULL;
    if (drained)
        drained(s);
}

static void check_drain(struct stdio *s)
{
    if (s->drained && is_drained(s))
        finish_drain(s);
}

static void in_ready(struct watch *w, uint32_t events)
{
    struct stdio_copy *c = (struct stdio_copy *)w;
    (void)events;
    copy_piece(c);
    check_drain(c->owner);
}

static void out_ready(struct watch *w, uint32_t events)
{
    struct stdio_copy *c = (struct stdio_copy *)((char *)w - offsetof(struct stdio_copy, out));
    (void)events;
    ssize_t n = write_out(c, c->pending.data, c->pending.size);
    if (n < 0) {
        end_copy(c);
    } else {
        bytes_cut(&c->pending, (size_t)n);
        if (!c->pending.size) {
            watch_stop(&c->out);
            if (c->owner->drained)
                while (!c->ended && !c->pending.size && copy_piece(c))
                    ;
            if (!c->ended && !c->pending.size && watch_start(&c->in) < 0)
                end_copy(c);
        }
    }
    check_drain(c->owner);
}

static void start_copy(struct stdio_copy *c)
{
    if (c->in.fd < 0 || c->out.fd < 0)
        return;
    fcntl(c->is_input ? c->out.fd : c->in.fd, F_SETFL,
          fcntl(c->is_input ? c->out.fd : c->in.fd, F_GETFL) | O_NONBLOCK);
    c->in.events = EPOLLIN;
    c->in.ready = in_ready;
    c->out.ready = out_ready;
    c->started = true;
    if (watch_start(&c->in) < 0)
        end_copy(c); // no FIFO, no pipe: nothing that would have to be waited for
}

void stdio_start(struct stdio *s)
{
    if (s->terminal) {
        s->copies[OUT].in.fd = fcntl(s->console, F_DUPFD_CLOEXEC, 3);
        s->copies[IN].out.fd = fcntl(s->console, F_DUPFD_CLOEXEC, 3);
    } else if (s->io) {
        s->copies[IN].out.fd = ocirt_io_take_fd(s->io, OCIRT_STDIN);
        s->copies[OUT].in.fd = ocirt_io_take_fd(s->io, OCIRT_STDOUT);
        s->copies[ERR].in.fd = ocirt_io_take_fd(s->io, OCIRT_STDERR);
    }
    for (int i = 0; i < 3; i++)
        start_copy(&s->copies[i]);
}

void stdio_close_stdin(struct stdio *s)
{
    close_fd(&s->stdin_keeper);
}

int stdio_resize(struct stdio *s, unsigned width, unsigned height)
{
    struct winsize size = {.ws_col = (unsigned short)width, .ws_row = (unsigned short)height};
    if (s->console < 0)
        return 0;
    return ioctl(s->console, TIOCSWINSZ, &size) < 0 ? -errno : 0;
}

static void drain_late(struct timer *t)
{
    struct stdio *s = (struct stdio *)((char *)t - offsetof(struct stdio, timer));
    if (!s->terminal)
        log_info("output that nobody reads is left behind");
    finish_drain(s);
}

void stdio_drain(struct stdio *s, void (*drained)(struct stdio *s))
{
    s->drained = drained;
    for (int i = OUT; i <= ERR; i++) {
        struct stdio_copy *c = &s->copies[i];
        while (c->started && !c->ended && !c->pending.size && copy_piece(c))
            ;
    }
    s->timer.fire = drain_late;
    timer_set(&s->timer, s->terminal ? DRAIN_TERMINAL_MS : DRAIN_MS);
    check_drain(s);
}

void stdio_stop(struct stdio *s)
{
    timer_stop(&s->timer);
    s->drained = NULL;
    for (int i = 0; i < 3; i++)
        end_copy(&s->copies[i]);
    close_fd(&s->stdin_keeper);
    close_fd(&s->console);
    ocirt_io_free(s->io);
    s->io = NULL;
    ocirt_socket_free(s->socket);
    s->socket = NULL;
}

void stdio_wait_logger(struct stdio *s)
{
    // It ends by itself when the streams have; reaper_wait makes sure.
    if (s->logger.handle)
        reaper_wait(&s->logger, LOGGER_END_MS);
    s->logger.handle = NULL;
}
