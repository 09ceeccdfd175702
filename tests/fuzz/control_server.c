// SPDX-License-Identifier: Apache-2.0
// Fuzzes the control server (sentry/control/): the input is a sequence of what clients do, one byte each for what and
// for which connection, then, for a packet, a byte for the number of descriptors, a u16 for its size, and its bytes.
// Behind the server is a kernel of a few lines that gives every kind of answer. Checks what must hold whatever is
// sent: answers are well-formed and nobody's but the asker's, and nothing is left when all have gone.
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/bug.h"
#include "sentry/control/client.c"
#include "sentry/control/control.c"
#include "sentry/sched/doorbell.c"
#include "tests/fuzz/fuzz.h"

#define CONNECTIONS 8
#define LONG_MAX_SIZE 200000
#define OPS_MAX 64
#define ENDS_AFTER 3 // looks at a wait until what it waits for has happened

struct fake_wait {
    struct control_wait wait;
    u32 looks, tells;
};

static int peers[CONNECTIONS]; // the clients' ends; -1: closed
static u32 waits_made, waits_freed;
static s64 clock_now = NSEC_PER_SEC;
static int null_fd; // what clients send along: their own ends would keep themselves open, for a time

// ---- the kernel behind it -------------------------------------------------------------------------

static enum control_progress fake_look(struct control_wait *w, struct control_message *ret)
{
    struct fake_wait *f = container_of(w, struct fake_wait, wait);
    if (f->tells) {
        f->tells--;
        ret->more = true;
        ret->text = "oom";
        return CONTROL_TELL;
    }
    if (f->looks++ < ENDS_AFTER)
        return CONTROL_NOT_YET;
    return f->wait.gone ? CONTROL_OVER : CONTROL_DONE;
}

static void fake_free(struct control_wait *w)
{
    waits_freed++;
    free(container_of(w, struct fake_wait, wait));
}

static const struct control_wait_ops fake_ops = {fake_look, fake_free, false};
static const struct control_wait_ops linger_ops = {fake_look, fake_free, true};

static struct control_wait *make_wait(const struct control_message *m)
{
    struct fake_wait *f = calloc(1, sizeof(*f));
    bug_on(!f);
    f->wait.ops = m->flags & CONTROL_ALL ? &linger_ops : &fake_ops;
    f->tells = m->pid % 4;
    waits_made++;
    return &f->wait;
}

static void take_fds(struct control_call *call)
{
    for (u32 i = 0; i < call->fd_count; i += 2) {
        bug_on(call->fds[i] < 3);
        host_close(call->fds[i]);
        call->fds[i] = -1;
    }
}

void kernel_control_serve(struct control_call *call)
{
    const struct control_message *m = call->m;
    call->reply.error = m->signal ? -(s32)m->signal : 0;
    switch (m->type) {
    case CONTROL_PS:
        call->long_size = m->values[0] % LONG_MAX_SIZE;
        call->long_text = malloc(call->long_size + 1);
        bug_on(!call->long_text);
        memset(call->long_text, 'x', call->long_size);
        break;
    case CONTROL_EXEC:
        take_fds(call);
        call->wait = make_wait(m);
        break;
    case CONTROL_CREATE:
        take_fds(call);
        control_wait_alone(make_wait(m));
        break;
    case CONTROL_WAIT:
    case CONTROL_EVENTS:
        call->wait = make_wait(m);
        break;
    default:
        snprintf(call->text, sizeof(call->text), "%s: %s", m->container, m->text);
        call->reply.text = call->text;
    }
}

void kernel_control_host_signal(int sig)
{
}

s64 sched_now(void)
{
    return clock_now;
}

// ---- clients ---------------------------------------------------------------------------------------

static int lowest_free(void)
{
    int fd = dup(0);
    close(fd);
    return fd;
}

static void open_peer(u32 i)
{
    int pair[2];
    bug_on(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0);
    peers[i] = pair[1];
    bug_on(!client_add(pair[0]));
}

static void close_peer(u32 i)
{
    if (peers[i] >= 0)
        close(peers[i]);
    peers[i] = -1;
}

static void send_packet(int peer, const void *data, size_t size, u32 fd_count)
{
    int fds[CONTROL_FDS_PACKET];
    static union {
        struct cmsghdr header;
        u8 space[CMSG_SPACE(sizeof(fds))];
    } rights;
    struct iovec iov = {(void *)(uintptr_t)data, size};
    struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1};
    for (u32 i = 0; i < fd_count; i++)
        fds[i] = null_fd;
    if (fd_count) {
        h.msg_control = rights.space;
        h.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
        rights.header = (struct cmsghdr){.cmsg_len = CMSG_LEN(fd_count * sizeof(int)),
                                         .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
        memcpy(CMSG_DATA(&rights.header), fds, fd_count * sizeof(int));
    }
    sendmsg(peer, &h, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void read_answers(int peer)
{
    static u8 buf[CONTROL_SIZE_MAX];
    struct control_message m;
    ssize_t n;
    while ((n = recv(peer, buf, sizeof(buf), MSG_DONTWAIT)) > 0) {
        bug_on(control_decode(buf, (size_t)n, &m) < 0);
        bug_on(m.type != CONTROL_REPLY);
    }
}

static void serve_all(void)
{
    poke(); // it has something to look at, and so does not wait
    turn();
}

// One thing that a client does; how many bytes of the input it took.
static size_t act(const uint8_t *data, size_t size)
{
    u32 i = data[0] >> 4 & (CONNECTIONS - 1);
    u16 want;
    if (peers[i] < 0) {
        open_peer(i);
        return 1;
    }
    switch (data[0] & 3) {
    case 0:
        close_peer(i);
        return 1;
    case 1:
        if (data[0] & 4)
            clock_now += FDS_KEPT / 2;
        else
            read_answers(peers[i]);
        return 1;
    default:
        if (size < 4)
            return size;
        memcpy(&want, data + 2, 2);
        want = (u16)min((size_t)want, size - 4);
        send_packet(peers[i], data + 4, want, data[1] % (CONTROL_FDS_PACKET + 1));
        return 4u + want;
    }
}

static void prepare(void)
{
    bug_on(control_prepare() != 0);
    control.ready = 1;
    null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    bug_on(null_fd < 0);
    for (u32 i = 0; i < CONNECTIONS; i++)
        peers[i] = -1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (control.signal_fd < 0)
        prepare();
    int before = lowest_free();
    for (u32 i = 0; i < OPS_MAX && size; i++) {
        size_t used = act(data, size);
        data += used;
        size -= used;
        if (i % 2)
            serve_all();
    }
    for (u32 i = 0; i < CONNECTIONS; i++)
        close_peer(i);
    for (u32 i = 0; i < OPS_MAX * 2 && (i < ENDS_AFTER + 8 || control.waits); i++)
        serve_all();
    for (u32 i = 0; i < CLIENTS_MAX; i++)
        bug_on(clients[i].fd);
    bug_on(control.waits || control.waits_count || waits_made != waits_freed || fds_total);
    bug_on(lowest_free() != before);
    return 0;
}
