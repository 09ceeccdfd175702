// SPDX-License-Identifier: Apache-2.0
#include "gofer/server.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "base/log.h"
#include "gofer/call.h"
#include "host/fs.h"
#include "host/host.h"
#include "host/socket.h"

#define THREAD_STACK (64u * 1024)

// Which kind of handle fid must be, beyond what fmsg_op_shapes says.
enum needs { ANY, NODE, DIR, OPENING, DIR_PAIR, DIR_AND_NODE };

struct op {
    int (*fn)(struct call *c);
    enum needs needs;
};

static int call_nop(struct call *c)
{
    return 0;
}

static int call_channel(struct call *c);

static const struct op ops[FMSG_OP_COUNT] = {
    [FMSG_NOP] = {call_nop, ANY},
    [FMSG_CHANNEL] = {call_channel, ANY},
    [FMSG_ATTACH] = {call_attach, ANY},
    [FMSG_WALK] = {call_walk, DIR},
    [FMSG_CLOSE] = {call_close, ANY},
    [FMSG_GETATTR] = {call_getattr, NODE},
    [FMSG_SETATTR] = {call_setattr, NODE},
    [FMSG_OPEN] = {call_open, NODE},
    [FMSG_CREATE] = {call_create, DIR},
    [FMSG_TMPFILE] = {call_tmpfile, DIR},
    [FMSG_MKDIR] = {call_mkdir, DIR},
    [FMSG_MKNOD] = {call_mknod, DIR},
    [FMSG_SYMLINK] = {call_symlink, DIR},
    [FMSG_LINK] = {call_link, DIR_AND_NODE},
    [FMSG_UNLINK] = {call_unlink, DIR},
    [FMSG_RENAME] = {call_rename, DIR_PAIR},
    [FMSG_READLINK] = {call_readlink, NODE},
    [FMSG_READDIR] = {call_readdir, OPENING},
    [FMSG_READ] = {call_read, OPENING},
    [FMSG_WRITE] = {call_write, OPENING},
    [FMSG_FSYNC] = {call_fsync, OPENING},
    [FMSG_FALLOCATE] = {call_fallocate, OPENING},
    [FMSG_SEEK] = {call_seek, OPENING},
    [FMSG_STATFS] = {call_statfs, NODE},
    [FMSG_GETXATTR] = {call_getxattr, NODE},
    [FMSG_SETXATTR] = {call_setxattr, NODE},
    [FMSG_LISTXATTR] = {call_listxattr, NODE},
    [FMSG_REMOVEXATTR] = {call_removexattr, NODE},
    [FMSG_CONNECT] = {call_connect, NODE},
};

int server_prepare(void)
{
    int fd = host_openat_follow(AT_FDCWD, "/proc/self/fd", O_PATH | O_DIRECTORY);
    if (fd < 0) {
        // Started in an empty root already: then whoever did that has entered it for us.
        char link[1];
        return host_readlinkat(AT_FDCWD, "0", link, sizeof(link)) == 1 ? 0 : fd;
    }
    int r = host_fchdir(fd);
    host_close(fd);
    return r;
}

int server_init(struct server *s, int root_fd, int write_fd, bool is_file, bool readonly)
{
    *s = (struct server){
        .root_fd = root_fd, .write_fd = write_fd, .is_file = is_file, .readonly = readonly};
    return handle_table_init(&s->handles);
}

void server_fini(struct server *s)
{
    // Their peers have closed the channels, but the threads may be on their way out.
    while (__atomic_load_n(&s->channels, __ATOMIC_ACQUIRE))
        __builtin_ia32_pause();
    handle_close_all(&s->handles);
    host_close(s->root_fd);
    if (s->write_fd >= 0)
        host_close(s->write_fd);
}

static bool is_dir(const struct handle *h)
{
    return h->type == S_IFDIR;
}

// Resolves the request's fids as its operation needs them.
static int take_handles(struct call *c, enum needs needs)
{
    struct handle_table *t = &c->server->handles;
    const struct fmsg_request *head = &c->req->head;
    if (needs == ANY)
        return 0;
    c->h = handle_get(t, head->fid, needs == OPENING ? HANDLE_OPENING : HANDLE_NODE);
    if (!c->h)
        return -EBADF;
    if ((needs == DIR || needs == DIR_PAIR || needs == DIR_AND_NODE) && !is_dir(c->h))
        return -ENOTDIR;
    if (needs == DIR_PAIR || needs == DIR_AND_NODE) {
        c->h2 = handle_get(t, head->fid2, HANDLE_NODE);
        if (!c->h2)
            return -EBADF;
        if (needs == DIR_PAIR && !is_dir(c->h2))
            return -ENOTDIR;
    }
    return 0;
}

void server_answer(struct server *s, const void *buf, u64 size, struct fmsg_reply *reply, u8 *data,
                   int *ret_fd)
{
    struct fmsg_parsed req;
    struct call c = {.server = s, .req = &req, .reply = reply, .data = data, .ret_fd = -1};
    memset(reply, 0, sizeof(*reply));
    int r = fmsg_request_parse(buf, size, &req);
    reply->id = req.head.id;
    if (r == 0 && s->readonly && fmsg_op_shapes[req.head.op] & FMSG_SHAPE_CHANGES)
        r = -EROFS;
    if (r == 0)
        r = take_handles(&c, ops[req.head.op].needs);
    if (r == 0)
        r = ops[req.head.op].fn(&c);
    handle_put(&s->handles, c.h);
    handle_put(&s->handles, c.h2);
    if (r < 0)
        reply->data_size = 0;
    reply->result = r;
    reply->size = (u32)sizeof(*reply) + reply->data_size;
    *ret_fd = c.ret_fd;
    log_debug("%u: op %u fid %x '%s' -> %d", req.head.id, req.head.op, req.head.fid, req.name, r);
}

// Serves a channel, which is counted already.
static int channel_run(struct server *s, int channel)
{
    u64 size = page_up(FMSG_REQUEST_MAX) + page_up(FMSG_DATA_MAX);
    u8 *buf = host_mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (host_is_error(buf)) {
        host_close(channel);
        __atomic_fetch_sub(&s->channels, 1, __ATOMIC_RELEASE);
        return -ENOMEM;
    }
    u8 *data = buf + page_up(FMSG_REQUEST_MAX);
    int r;
    for (;;) {
        struct fmsg_reply reply;
        int fd = -1;
        r = fmsg_recv(channel, buf, FMSG_REQUEST_MAX, &fd);
        if (r > 0 && fd >= 0) { // nobody may send us one
            host_close(fd);
            r = -EBADMSG;
        }
        if (r <= 0)
            break;
        server_answer(s, buf, (u64)r, &reply, data, &fd);
        r = fmsg_send(channel, &reply, sizeof(reply), data, reply.data_size, fd);
        if (fd >= 0)
            host_close(fd);
        if (r < 0)
            break;
    }
    if (r < 0 && r != -EPIPE && r != -ECONNRESET)
        log_warn("channel closed: error %d", -r);
    host_close(channel);
    host_munmap(buf, size);
    __atomic_fetch_sub(&s->channels, 1, __ATOMIC_RELEASE);
    return r;
}

int server_run(struct server *s, int channel)
{
    __atomic_fetch_add(&s->channels, 1, __ATOMIC_RELAXED);
    return channel_run(s, channel);
}

struct channel_start {
    struct server *server;
    int fd;
};

// Both fit a pointer's width poorly, so the pair is handed over in memory of its own.
static void *channel_main(void *arg)
{
    struct channel_start *start = arg, copy = *start;
    host_munmap(start, PAGE_SIZE);
    channel_run(copy.server, copy.fd);
    return NULL;
}

static int call_channel(struct call *c)
{
    struct server *s = c->server;
    int pair[2], r = -EMFILE;
    if (__atomic_fetch_add(&s->channels, 1, __ATOMIC_RELAXED) >= FMSG_CHANNELS_MAX)
        goto out_count;
    struct channel_start *start =
        host_mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    r = -ENOMEM;
    if (host_is_error(start))
        goto out_count;
    r = host_socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair);
    if (r < 0)
        goto out_unmap;
    *start = (struct channel_start){s, pair[0]};
    pthread_attr_t attr;
    pthread_t thread;
    r = -pthread_attr_init(&attr);
    if (r < 0)
        goto out_close;
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, THREAD_STACK);
    r = -pthread_create(&thread, &attr, channel_main, start);
    pthread_attr_destroy(&attr);
    if (r < 0)
        goto out_close;
    c->ret_fd = pair[1];
    return 0;
out_close:
    host_close(pair[0]);
    host_close(pair[1]);
out_unmap:
    host_munmap(start, PAGE_SIZE);
out_count:
    __atomic_fetch_sub(&s->channels, 1, __ATOMIC_RELEASE);
    return r;
}
