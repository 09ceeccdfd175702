// SPDX-License-Identifier: Apache-2.0
#include "runtime/client.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "runtime/clock.h"
#include "runtime/text.h"

struct client_text {
    char *text; // malloc'ed
    size_t size;
};

static int open_for(struct client *k, const struct container *c, int seconds, struct error *e)
{
    // The empty id is the sandbox's first.
    *k = (struct client){.fd = container_connect(c, seconds, e), .id = c->sandbox ? c->id : "",
                         .seconds = seconds};
    return min(k->fd, 0);
}

int client_open(struct client *k, const struct container *c, struct error *e)
{
    return open_for(k, c, CLIENT_SECONDS, e);
}

void client_close(struct client *k)
{
    if (k->fd >= 0)
        close(k->fd);
    k->fd = -1;
}

static int send_packet(int fd, const struct control_message *m, const int *fds, u32 count)
{
    static u8 buf[CONTROL_SIZE_MAX];
    static union {
        struct cmsghdr header;
        u8 space[CMSG_SPACE(CONTROL_FDS_PACKET * sizeof(int))];
    } rights;
    int size = control_encode(m, buf, sizeof(buf));
    if (size < 0)
        return size;
    struct iovec iov = {buf, (size_t)size};
    struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1};
    if (count) {
        h.msg_control = rights.space;
        h.msg_controllen = CMSG_SPACE(count * sizeof(int));
        rights.header.cmsg_level = SOL_SOCKET;
        rights.header.cmsg_type = SCM_RIGHTS;
        rights.header.cmsg_len = CMSG_LEN(count * sizeof(int));
        memcpy(CMSG_DATA(&rights.header), fds, count * sizeof(int));
    }
    return sendmsg(fd, &h, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

int client_send(struct client *k, struct control_message *m, const int *fds, u32 fd_count,
                struct error *e)
{
    int r = fd_count > CONTROL_FDS_MAX ? -E2BIG : 0;
    m->container = k->id;
    m->text = m->text ? m->text : "";
    while (!r && fd_count > CONTROL_FDS_PACKET) {
        const struct control_message more = {.type = CONTROL_FDS, .container = "", .text = ""};
        r = send_packet(k->fd, &more, fds, CONTROL_FDS_PACKET);
        fds += CONTROL_FDS_PACKET;
        fd_count -= CONTROL_FDS_PACKET;
    }
    m->id = ++k->last_id;
    if (!r)
        r = send_packet(k->fd, m, fds, fd_count);
    if (r == -EPIPE || r == -ECONNRESET)
        return error_set(e, -EPIPE, "the sandbox has ended");
    return r < 0 ? error_errno(e, r, "ask the sandbox") : 0;
}

// When an answer that may take so many seconds is late; -1: never.
static s64 end_after(int seconds)
{
    return seconds < 0 ? -1 : clock_msec() + seconds * 1000ll;
}

static int late(const struct client *k, struct error *e)
{
    return error_set(e, -ETIMEDOUT, "the sandbox did not answer in %d s", k->seconds);
}

// The next message, if it comes before `end`.
static int receive_by(struct client *k, s64 end, struct control_message *ret, struct error *e)
{
    static u8 buf[CONTROL_SIZE_MAX];
    struct pollfd p = {.fd = k->fd, .events = POLLIN};
    int n;
    *ret = (struct control_message){0};
    do
        n = poll(&p, 1, end < 0 ? -1 : (int)max(end - clock_msec(), (s64)0));
    while (n < 0 && errno == EINTR);
    if (n == 0)
        return late(k, e);
    ssize_t size = n < 0 ? -1 : recv(k->fd, buf, sizeof(buf), 0);
    if (size <= 0)
        return error_set(e, -EPIPE, "the sandbox has ended");
    if (control_decode(buf, (size_t)size, ret) < 0) {
        *ret = (struct control_message){0};
        return error_set(e, -EPIPE, "the sandbox's answer makes no sense");
    }
    text_make_harmless((char *)(uintptr_t)ret->text, "\n\t"); // it is in buf
    return 0;
}

// The same of an answer to `m`. However much else comes, the time is up at `end`.
static int receive_answer(struct client *k, const struct control_message *m, s64 end,
                          struct control_message *ret, struct error *e)
{
    for (;;) {
        int r = end >= 0 && clock_msec() >= end ? late(k, e) : receive_by(k, end, ret, e);
        if (r < 0 || (ret->type == CONTROL_REPLY && ret->id == m->id))
            return r;
    }
}

int client_receive(struct client *k, int seconds, struct control_message *ret, struct error *e)
{
    return receive_by(k, end_after(seconds), ret, e);
}

int client_ask(struct client *k, struct control_message *m, const int *fds, u32 fd_count,
               struct control_message *ret, struct error *e)
{
    *ret = (struct control_message){0};
    int r = client_send(k, m, fds, fd_count, e);
    if (!r)
        r = receive_answer(k, m, end_after(m->type == CONTROL_WAIT ? -1 : k->seconds), ret, e);
    if (r < 0)
        ret->type = 0;
    return r < 0 ? r : ret->error;
}

// Adds a piece to a text. -EMSGSIZE when it grows beyond all reason.
static int append(struct client_text *t, const char *piece)
{
    size_t size = strlen(piece);
    if (size > CLIENT_TEXT_MAX - t->size)
        return -EMSGSIZE;
    char *text = realloc(t->text, t->size + size + 1);
    if (!text)
        return -ENOMEM;
    memcpy(text + t->size, piece, size + 1);
    t->text = text;
    t->size += size;
    return 0;
}

int client_ask_text(struct client *k, const char *action, struct control_message *m, const int *fds,
                    u32 fd_count, char **ret_text, struct error *e)
{
    struct client_text t = {0};
    struct control_message answer = {0};
    s64 end = end_after(k->seconds);
    int r = client_send(k, m, fds, fd_count, e);
    do {
        if (!r)
            r = receive_answer(k, m, end, &answer, e);
        if (!r && answer.error)
            r = error_errno(e, answer.error, "%s", action);
        else if (!r && append(&t, answer.text) < 0)
            r = error_set(e, -EMSGSIZE, "%s: the sandbox's answer is too long", action);
    } while (!r && answer.more);
    if (r < 0)
        free(t.text);
    else
        *ret_text = t.text;
    return r;
}

int client_request(const struct container *c, const char *action, struct control_message *m,
                   struct control_message *ret, struct error *e)
{
    struct client k;
    int r = client_open(&k, c, e);
    if (r < 0)
        return r;
    r = client_ask(&k, m, NULL, 0, ret, e);
    client_close(&k);
    if (r == -EPIPE && !ret->type)
        return error_set(e, -ESRCH, "%s: container not running: %s", action, c->id);
    if (r < 0 && !ret->type)
        return error_wrap(e, r, "%s", action);
    if (r < 0 && ret->text[0])
        return error_set(e, r, "%s: %s", action, ret->text);
    if (r == -ENOSYS)
        return error_set(e, r, "%s: not supported by the sandbox yet", action);
    return r < 0 ? error_errno(e, r, "%s", action) : 0;
}

int client_start(const struct container *c, struct error *e)
{
    struct control_message answer;
    return client_request(c, "start", &(struct control_message){.type = CONTROL_START}, &answer, e);
}

void client_refresh(struct container *c)
{
    static const enum container_status statuses[CONTROL_STATUSES] = {
        CONTAINER_CREATED, CONTAINER_RUNNING, CONTAINER_PAUSED, CONTAINER_STOPPED};
    struct control_message answer;
    struct error ignored;
    struct client k;
    if (c->status == CONTAINER_STOPPED || c->status == CONTAINER_CREATING)
        return;
    int r = open_for(&k, c, CLIENT_STATE_SECONDS, &ignored);
    if (!r) {
        r = client_ask(&k, &(struct control_message){.type = CONTROL_STATE}, NULL, 0, &answer,
                       &ignored);
        client_close(&k);
    }
    if (!r && answer.values[CONTROL_STATE_STATUS] < CONTROL_STATUSES)
        c->status = statuses[answer.values[CONTROL_STATE_STATUS]];
    else if (r == -ESRCH)
        c->status = CONTAINER_STOPPED;
}
