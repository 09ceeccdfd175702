// SPDX-License-Identifier: Apache-2.0
// A running `events` command, read line by line. The command stays the stream's child until it is
// closed.
#include "ocirt/internal.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

struct ocirt_events {
    struct oi_call call; // call.out: what has not been a line yet
};

int ocirt_events_open(const struct ocirt *rt, const char *id, unsigned interval_seconds,
                      const struct ocirt_options *o, struct ocirt_events **ret_events,
                      struct ocirt_error *e)
{
    struct ocirt_events *ev = calloc(1, sizeof(*ev));
    if (!ev)
        return oi_error_set(e, -ENOMEM, "events: out of memory");
    struct oi_call *c = &ev->call;
    int r = oi_call_init(c, rt, OI_EVENTS, id ? id : "", o, e);
    if (r == 0)
        r = oi_strv_addf(&c->argv, "--interval=%us", interval_seconds);
    if (r == 0)
        r = oi_options_args(o, OI_EVENTS, &c->argv);
    if (r == 0)
        r = oi_strv_add(&c->argv, id);
    if (r == 0)
        r = oi_call_start(c, e);
    c->by_piece = true;
    c->o = NULL; // the caller's, from here on
    c->id = NULL;
    c->log_path = NULL;
    if (r < 0) {
        ocirt_events_close(ev);
        return r;
    }
    *ret_events = ev;
    return 0;
}

// Parses the first line gathered. 1, 0 if there is no whole line yet, or -errno.
static int take_line(struct ocirt_events *ev, struct ocirt_doc **ret_event, struct ocirt_error *e)
{
    struct oi_buf *b = &ev->call.out;
    char *newline;

    while (b->size && (newline = memchr(b->data, '\n', b->size))) {
        size_t size = (size_t)(newline - b->data);
        struct ocirt_doc *doc = NULL;
        int r = size ? ocirt_doc_parse(b->data, size, &doc) : 0;
        oi_buf_cut(b, size + 1);
        ev->call.printed = b->size;
        if (r == 0 && doc && !ocirt_doc_string(doc, "/type")) {
            ocirt_doc_free(doc);
            r = -EBADMSG;
        }
        if (r < 0)
            return oi_error_set(e, r, "events: a line that is no event");
        if (doc) {
            *ret_event = doc;
            return 1;
        }
    }
    return 0;
}

int ocirt_events_next(struct ocirt_events *ev, const struct ocirt_options *o,
                      struct ocirt_doc **ret_event, struct ocirt_error *e)
{
    struct oi_call *c = &ev->call;
    struct oi_deadline deadline = oi_deadline_of(NULL, o);
    int r;

    oi_error_clear(e);
    while ((r = take_line(ev, ret_event, e)) == 0 && c->out_fd >= 0) {
        struct pollfd fds[2] = {{.fd = c->out_fd, .events = POLLIN},
                                {.fd = c->err_fd, .events = POLLIN}};
        r = oi_poll(fds, 2, &deadline);
        if (r > 0 && fds[1].revents && (r = oi_call_read(c, &c->err_fd, NULL)) == 0)
            c->printed = c->out.size;
        if (r >= 0 && fds[0].revents)
            r = oi_call_read(c, &c->out_fd, &c->out);
        if (r < 0)
            return oi_error_set(e, r, "events: %s", strerrordesc_np(-r));
    }
    if (r)
        return r;
    // Its end: as it says itself, once.
    bool running = c->running;
    r = oi_call_end(c, 0);
    if (r < 0)
        return oi_error_set(e, r, "events: %s", strerrordesc_np(-r));
    return running ? oi_call_result(c, e) : 0;
}

int ocirt_events_fd(const struct ocirt_events *ev)
{
    return ev->call.out_fd;
}

void ocirt_events_close(struct ocirt_events *ev)
{
    if (!ev)
        return;
    oi_call_end(&ev->call, SIGKILL);
    oi_call_fini(&ev->call);
    free(ev);
}
