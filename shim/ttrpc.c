// SPDX-License-Identifier: Apache-2.0
#include "shim/ttrpc.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shim.pb-c.h"
#include "shim/log.h"
#include "shim/loop.h"

#define CONNECTIONS_MAX 64
#define CALLS_MAX 8192         // under way on a connection
#define UNSENT_MAX (16u << 20) // answers that a peer has not read
#define READ_PIECE 4096

struct connection {
    struct watch watch;
    struct bytes in, out;
    unsigned calls; // each holds the connection in memory
    bool closed;
};

static struct watch listening;
static ttrpc_handler handle;
static unsigned connections;
static size_t unsent;

bool ttrpc_add_frame(struct bytes *b, uint32_t stream, enum ttrpc_type type,
                     const ProtobufCMessage *m)
{
    size_t size = protobuf_c_message_get_packed_size(m);
    if (size > TTRPC_FRAME_MAX || !bytes_reserve(b, TTRPC_HEADER + size))
        return false;
    unsigned char *p = b->data + b->size;
    uint32_t words[2] = {htonl((uint32_t)size), htonl(stream)};
    memcpy(p, words, sizeof(words));
    p[8] = (unsigned char)type;
    p[9] = 0;
    protobuf_c_message_pack(m, p + TTRPC_HEADER);
    b->size += TTRPC_HEADER + size;
    return true;
}

bool ttrpc_header(const struct bytes *b, struct ttrpc_header *ret)
{
    uint32_t words[2];
    if (b->size < TTRPC_HEADER)
        return false;
    memcpy(words, b->data, sizeof(words));
    *ret = (struct ttrpc_header){.size = ntohl(words[0]),
                                 .stream = ntohl(words[1]),
                                 .type = b->data[8],
                                 .flags = b->data[9]};
    return true;
}

static void release(struct connection *c)
{
    if (c->closed && !c->calls)
        free(c);
}

static void close_connection(struct connection *c)
{
    if (c->closed)
        return;
    watch_stop(&c->watch);
    close(c->watch.fd);
    unsent -= c->out.size;
    bytes_fini(&c->in);
    bytes_fini(&c->out);
    c->closed = true;
    connections--;
}

static void send_out(struct connection *c)
{
    while (!c->closed && c->out.size) {
        ssize_t n = send(c->watch.fd, c->out.data, c->out.size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            break;
        if (n <= 0) {
            close_connection(c);
            return;
        }
        unsent -= (size_t)n;
        bytes_cut(&c->out, (size_t)n);
    }
    watch_change(&c->watch, c->out.size ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

// ---- Answers ----

static void respond(struct call *call, Pb__Response *response)
{
    struct connection *c = call->connection;
    c->calls--;
    if (!c->closed) {
        size_t before = c->out.size;
        bool good = ttrpc_add_frame(&c->out, call->stream, TTRPC_RESPONSE, &response->base);
        unsent += c->out.size - before;
        if (!good || c->out.size > UNSENT_MAX)
            close_connection(c);
        else
            send_out(c);
    }
    release(c);
    free(call);
}

void call_reply(struct call *call, const ProtobufCMessage *m)
{
    Pb__Response response = PB__RESPONSE__INIT;
    Pb__Status status = PB__STATUS__INIT;
    size_t size = m ? protobuf_c_message_get_packed_size(m) : 0;

    response.status = &status;
    status.message = (char *)"";
    response.payload.data = malloc(size + 1);
    if (!response.payload.data) {
        call_fail(call, RPC_EXHAUSTED, "out of memory");
        return;
    }
    response.payload.len = m ? protobuf_c_message_pack(m, response.payload.data) : 0;
    uint8_t *payload = response.payload.data;
    respond(call, &response);
    free(payload);
}

void call_fail(struct call *call, enum rpc_code code, const char *fmt, ...)
{
    Pb__Response response = PB__RESPONSE__INIT;
    Pb__Status status = PB__STATUS__INIT;
    char text[4096];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    // Strings of protobuf are UTF-8, or the whole answer is refused; what a runtime prints may be
    // anything.
    for (char *p = text; *p; p++)
        if ((unsigned char)*p >= 0x80)
            *p = '?';
    status.code = code;
    status.message = text;
    response.status = &status;
    respond(call, &response);
}

// ---- Requests ----

static void handle_request(struct connection *c, const struct ttrpc_header *h)
{
    Pb__Request *r = pb__request__unpack(NULL, h->size, c->in.data + TTRPC_HEADER);
    struct call *call = calloc(1, sizeof(*call));
    if (!call || c->calls >= CALLS_MAX) {
        free(call);
        if (r)
            pb__request__free_unpacked(r, NULL);
        close_connection(c);
        return;
    }
    *call = (struct call){.connection = c, .stream = h->stream, .timeout = -1};
    c->calls++;
    if (!r) {
        call_fail(call, RPC_INVALID, "the request is no message");
        return;
    }
    if (r->timeout_nano > 0)
        call->timeout =
            r->timeout_nano / 1000000 > 3600000 ? 3600000 : (int)(r->timeout_nano / 1000000) + 1;
    handle(call, r->service, r->method, r->payload.data, r->payload.len);
    pb__request__free_unpacked(r, NULL);
}

// Handles the frames that are there whole. False: the peer does not speak ttrpc.
static bool handle_frames(struct connection *c)
{
    struct ttrpc_header h;
    while (!c->closed && ttrpc_header(&c->in, &h)) {
        if (h.size > TTRPC_FRAME_MAX)
            return false;
        if (c->in.size < TTRPC_HEADER + h.size)
            return bytes_reserve(&c->in, TTRPC_HEADER + h.size - c->in.size);
        if (h.type != TTRPC_REQUEST || h.stream % 2 == 0)
            return false;
        handle_request(c, &h);
        if (!c->closed)
            bytes_cut(&c->in, TTRPC_HEADER + h.size);
    }
    return true;
}

static void connection_ready(struct watch *w, uint32_t events)
{
    struct connection *c = (struct connection *)w;
    c->calls++; // keeps it until the end of this function
    if (events & EPOLLOUT)
        send_out(c);
    if (!c->closed && events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        ssize_t n = -1;
        if (bytes_reserve(&c->in, READ_PIECE))
            n = recv(w->fd, c->in.data + c->in.size, c->in.capacity - c->in.size, MSG_DONTWAIT);
        if (n > 0) {
            c->in.size += (size_t)n;
            if (!handle_frames(c))
                close_connection(c);
        } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
            close_connection(c);
        }
    }
    c->calls--;
    release(c);
}

static bool allowed_peer(int fd)
{
    struct ucred cred;
    socklen_t size = sizeof(cred);
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &size) == 0 &&
           (cred.uid == 0 || cred.uid == geteuid());
}

static void accept_ready(struct watch *w, uint32_t events)
{
    (void)events;
    int fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    struct connection *c = NULL;
    if (connections < CONNECTIONS_MAX && allowed_peer(fd))
        c = calloc(1, sizeof(*c));
    if (!c) {
        close(fd);
        return;
    }
    c->watch = (struct watch){.fd = fd, .events = EPOLLIN, .ready = connection_ready};
    if (watch_start(&c->watch) < 0) {
        close(fd);
        free(c);
        return;
    }
    connections++;
}

int ttrpc_serve(int listener, ttrpc_handler handler)
{
    handle = handler;
    listening = (struct watch){.fd = listener, .events = EPOLLIN, .ready = accept_ready};
    return watch_start(&listening);
}

bool ttrpc_idle(void)
{
    return unsent == 0;
}
