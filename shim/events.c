// SPDX-License-Identifier: Apache-2.0
#include "shim/events.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "shim.pb-c.h"
#include "shim/log.h"
#include "shim/loop.h"
#include "shim/reaper.h"
#include "shim/ttrpc.h"

#define ANSWER_MS 5000 // for one event
#define AGAIN_MS 200
#define REFUSED_MAX 5 // answers that refuse an event, before it is dropped

struct event {
    struct event *next;
    char topic[32];
    unsigned refused;
    struct bytes any;     // the packed event
    struct bytes request; // the packed ForwardRequest
};

static struct events_config config;
static struct event *queue, **queue_end = &queue;
static unsigned queued;
static struct watch socket_watch = {.fd = -1};
static struct bytes in, out;
static uint32_t stream = 1;
static bool under_way; // the first event has been sent
static struct timer timer;
static void send_next(void);

static void drop_first(void)
{
    struct event *e = queue;
    queue = e->next;
    if (!queue)
        queue_end = &queue;
    queued--;
    bytes_fini(&e->any);
    bytes_fini(&e->request);
    free(e);
    under_way = false;
}

static void disconnect(void)
{
    if (socket_watch.fd >= 0) {
        watch_stop(&socket_watch);
        close(socket_watch.fd);
        socket_watch.fd = -1;
    }
    bytes_fini(&in);
    bytes_fini(&out);
    under_way = false;
}

static void again(struct timer *t)
{
    (void)t;
    if (under_way) {
        log_error("event %s: no answer", queue->topic);
        disconnect();
    }
    send_next();
}

static void try_later(void)
{
    disconnect();
    timer.fire = again;
    timer_set(&timer, AGAIN_MS);
}

// The answer to the first event.
static void handle_answer(const struct ttrpc_header *h)
{
    Pb__Response *r = pb__response__unpack(NULL, h->size, in.data + TTRPC_HEADER);
    int code = !r ? -1 : r->status ? r->status->code
                                   : 0;
    if (code && queue)
        log_error("event %s is refused: %s", queue->topic,
                  r && r->status ? r->status->message : "?");
    if (r)
        pb__response__free_unpacked(r, NULL);
    bytes_cut(&in, TTRPC_HEADER + h->size);
    if (!under_way || h->stream != stream - 2)
        return;
    timer_stop(&timer);
    under_way = false;
    if (!code || ++queue->refused >= REFUSED_MAX) {
        drop_first();
        send_next();
    } else {
        timer.fire = again;
        timer_set(&timer, AGAIN_MS);
    }
}

static bool flush_out(void)
{
    while (out.size) {
        ssize_t n = send(socket_watch.fd, out.data, out.size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN)
            break;
        if (n <= 0)
            return false;
        bytes_cut(&out, (size_t)n);
    }
    watch_change(&socket_watch, out.size ? EPOLLIN | EPOLLOUT : EPOLLIN);
    return true;
}

static void socket_ready(struct watch *w, uint32_t events)
{
    struct ttrpc_header h;
    if (events & EPOLLOUT && !flush_out()) {
        try_later();
        return;
    }
    if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
        return;
    ssize_t n = -1;
    if (bytes_reserve(&in, 512))
        n = recv(w->fd, in.data + in.size, in.capacity - in.size, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        if (queue)
            try_later();
        else
            disconnect();
        return;
    }
    in.size += (size_t)n;
    while (ttrpc_header(&in, &h)) {
        if (h.size > TTRPC_FRAME_MAX || h.type != TTRPC_RESPONSE) {
            try_later();
            return;
        }
        if (in.size < TTRPC_HEADER + h.size)
            return;
        handle_answer(&h);
        if (socket_watch.fd < 0)
            return;
    }
}

static bool connect_socket(void)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    if (strlen(config.ttrpc_address) >= sizeof(a.sun_path))
        return false;
    strcpy(a.sun_path, config.ttrpc_address);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return false;
    socket_watch = (struct watch){.fd = fd, .events = EPOLLIN, .ready = socket_ready};
    if (connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0 && watch_start(&socket_watch) == 0)
        return true;
    disconnect();
    return false;
}

static void send_by_socket(void)
{
    Pb__Request r = PB__REQUEST__INIT;
    if (socket_watch.fd < 0 && !connect_socket()) {
        try_later();
        return;
    }
    r.service = (char *)"containerd.services.events.ttrpc.v1.Events";
    r.method = (char *)"Forward";
    r.timeout_nano = (int64_t)ANSWER_MS * 1000000;
    r.payload.data = queue->request.data;
    r.payload.len = queue->request.size;
    if (!ttrpc_add_frame(&out, stream, TTRPC_REQUEST, &r.base) || !flush_out()) {
        try_later();
        return;
    }
    stream += 2;
    under_way = true;
    timer.fire = again;
    timer_set(&timer, ANSWER_MS);
}

// ---- By the binary: CONTAINERD --address A publish --topic T --namespace N, the event on its
// standard input ----

struct publish_job {
    struct job job;
    char topic[32];
    int input;
    bool good;
};

static void run_publish(struct job *j)
{
    struct publish_job *p = (struct publish_job *)j;
    char topic[64];
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    int fds[3] = {p->input, null, null};
    snprintf(topic, sizeof(topic), "%s", p->topic);
    char *argv[] = {(char *)config.publish_binary,
                    (char *)"--address",
                    (char *)config.address,
                    (char *)"publish",
                    (char *)"--topic",
                    topic,
                    (char *)"--namespace",
                    (char *)config.namespace_name,
                    NULL};
    int status;
    p->good = null >= 0 && reaper_run(argv, fds, 3, ANSWER_MS, &status) == 0 && status == 0;
    if (null >= 0)
        close(null);
}

static void published(struct job *j)
{
    struct publish_job *p = (struct publish_job *)j;
    under_way = false;
    close(p->input);
    if (p->good || ++queue->refused >= REFUSED_MAX)
        drop_first();
    free(p);
    send_next();
}

static void send_by_binary(void)
{
    struct publish_job *p = calloc(1, sizeof(*p));
    if (!p)
        return;
    p->job = (struct job){.run = run_publish, .done = published};
    memcpy(p->topic, queue->topic, sizeof(p->topic));
    p->input = memfd_create("event", MFD_CLOEXEC);
    if (p->input < 0 || write(p->input, queue->any.data, queue->any.size) < 0 ||
        lseek(p->input, 0, SEEK_SET) < 0 || job_submit(&p->job) < 0) {
        if (p->input >= 0)
            close(p->input);
        free(p);
        timer.fire = again;
        timer_set(&timer, AGAIN_MS);
        return;
    }
    under_way = true;
}

static void send_next(void)
{
    if (!queue || under_way || timer.active)
        return;
    if (config.ttrpc_address && *config.ttrpc_address)
        send_by_socket();
    else if (config.publish_binary && *config.publish_binary)
        send_by_binary();
    else
        drop_first();
}

// ---- The queue ----

static bool pack(struct bytes *b, const ProtobufCMessage *m)
{
    size_t size = protobuf_c_message_get_packed_size(m);
    if (!bytes_reserve(b, size + 1))
        return false;
    b->size = protobuf_c_message_pack(m, b->data);
    return true;
}

static bool fill(struct event *e, const char *type, const ProtobufCMessage *m)
{
    Pb__Any any = PB__ANY__INIT;
    Pb__Timestamp stamp = PB__TIMESTAMP__INIT;
    Pb__Envelope envelope = PB__ENVELOPE__INIT;
    Pb__ForwardRequest request = PB__FORWARD_REQUEST__INIT;
    struct bytes value = {0};
    struct timespec now;
    char url[64];

    clock_gettime(CLOCK_REALTIME, &now);
    stamp.seconds = now.tv_sec;
    stamp.nanos = (int32_t)now.tv_nsec;
    snprintf(url, sizeof(url), "containerd.events.%s", type);
    bool good = pack(&value, m);
    any.type_url = url;
    any.value.data = value.data;
    any.value.len = value.size;
    envelope.timestamp = &stamp;
    envelope.namespace_ = (char *)config.namespace_name;
    envelope.topic = e->topic;
    envelope.event = &any;
    request.envelope = &envelope;
    good = good && pack(&e->any, &any.base) && pack(&e->request, &request.base);
    bytes_fini(&value);
    return good;
}

void events_init(const struct events_config *c)
{
    config = *c;
}

void events_publish(const char *topic, const char *type, const ProtobufCMessage *m)
{
    struct event *e = calloc(1, sizeof(*e));
    log_debug("event %s", topic);
    if (e)
        snprintf(e->topic, sizeof(e->topic), "%s", topic);
    if (!e || !fill(e, type, m)) {
        log_error("event %s is lost: out of memory", topic);
        if (e) {
            bytes_fini(&e->any);
            bytes_fini(&e->request);
        }
        free(e);
        return;
    }
    if (queued >= EVENTS_MAX && !under_way) {
        log_error("event %s is dropped: too many wait", queue->topic);
        drop_first();
    }
    *queue_end = e;
    queue_end = &e->next;
    queued++;
    send_next();
}

bool events_idle(void)
{
    return !queue;
}
