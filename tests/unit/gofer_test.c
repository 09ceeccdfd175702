// SPDX-License-Identifier: Apache-2.0
// The gofer's server, driven as a client would: by messages over a channel, well-formed and hostile.
// Every test runs twice: against the server in a thread of ours, and against the program in its jail.
#include <dirent.h>
#include <errno.h>
#include <linux/fs.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "gofer/server.h"
#include "host/fs.h"
#include "wire/boot.h"

static char dir[64];
static struct server server;
static int channel;
static pthread_t thread;
static u8 reply_buf[FMSG_REPLY_MAX];
static const u8 *reply_data;
static int reply_fd;

static void *serve(void *arg)
{
    server_run(&server, (int)(intptr_t)arg);
    return NULL;
}

static pid_t process; // 0: a thread of ours
static bool connectable, keeping; // the next one may connect to sockets; donates no descriptors

static void start_thread(int fd, int root, bool readonly)
{
    assert_int_equal(server_init(&server, root, -1, false, readonly), 0);
    server.allow_connect = connectable;
    server.no_donate = keeping;
    assert_int_equal(pthread_create(&thread, NULL, serve, (void *)(intptr_t)fd), 0);
}

static void start_process(int fd, int root, bool readonly)
{
    struct boot_export export = {
        .root_fd = root, .write_fd = -1, .channel_fd = fd, .readonly = readonly};
    struct boot_gofer boot = {.log_level = 1, .log_fd = 2, .exports = &export, .export_count = 1};
    void *buf;
    size_t size;
    char number[16];
    assert_int_equal(boot_encode_gofer(&boot, &buf, &size), 0);
    int m = memfd_create("boot", 0);
    assert_true(write(m, buf, size) == (ssize_t)size);
    snprintf(number, sizeof(number), "%d", m);
    process = fork();
    if (process == 0) {
        close(channel);
        execl(GOFER_EXE, GOFER_EXE, number, NULL);
        _exit(127);
    }
    assert_true(process > 0);
    free(buf);
    close(m);
    close(root);
    close(fd);
}

static bool external; // the next one is to be a process

static void start(bool readonly)
{
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
    int root = open(dir, O_PATH | O_DIRECTORY);
    assert_true(root >= 0);
    channel = pair[0];
    process = 0;
    if (external)
        start_process(pair[1], root, readonly);
    else
        start_thread(pair[1], root, readonly);
}

static void stop(void)
{
    close(channel);
    if (process) {
        int status;
        assert_int_equal(waitpid(process, &status, 0), process);
        assert_int_equal(status, 0);
    } else {
        pthread_join(thread, NULL);
        server_fini(&server);
    }
}

static int setup(void **state)
{
    strcpy(dir, "/tmp/gofer-test-XXXXXX");
    assert_non_null(mkdtemp(dir));
    start(false);
    return 0;
}

static int teardown(void **state)
{
    stop();
    char cmd[128];
    snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
    return system(cmd);
}

static struct fmsg_reply exchange(const void *buf, u64 size)
{
    struct fmsg_reply reply = {.result = 1000};
    assert_true(send(channel, buf, size, 0) == (ssize_t)size);
    int n = fmsg_recv(channel, reply_buf, sizeof(reply_buf), &reply_fd);
    if (n <= 0)
        return reply;
    assert_int_equal(fmsg_reply_parse(reply_buf, (u64)n, &reply, &reply_data), 0);
    return reply;
}

static struct fmsg_reply call(struct fmsg_request head, const char *name, const char *name2,
                              const void *data, u64 size)
{
    static u8 buf[FMSG_REQUEST_MAX];
    static u32 id;
    head.id = ++id;
    int n = fmsg_request_build(buf, &head, name, name2, data, size);
    assert_true(n > 0);
    struct fmsg_reply reply = exchange(buf, (u64)n);
    assert_int_equal(reply.id, id);
    return reply;
}

#define CALL(...) call((struct fmsg_request){__VA_ARGS__}, NULL, NULL, NULL, 0)
#define CALL_NAME(n, ...) call((struct fmsg_request){__VA_ARGS__}, n, NULL, NULL, 0)

static u32 attach(void)
{
    struct fmsg_reply r = CALL(.op = FMSG_ATTACH);
    assert_int_equal(r.result, 0);
    assert_true(S_ISDIR(r.attr.stx_mode));
    return r.fid;
}

static u32 make_file(u32 root, const char *name)
{
    struct fmsg_reply r = CALL_NAME(name, .op = FMSG_CREATE, .fid = root, .flags = O_RDWR,
                                    .mode = 0640, .uid = ~0u, .gid = ~0u);
    assert_int_equal(r.result, 0);
    assert_int_equal(r.attr.stx_mode, S_IFREG | 0640);
    assert_true(reply_fd >= 0);
    close(reply_fd);
    return r.fid;
}

static void test_create_and_walk(void **state)
{
    u32 root = attach();
    u32 file = make_file(root, "f");
    assert_int_equal(
        CALL_NAME("f", .op = FMSG_CREATE, .fid = root, .flags = O_RDWR).result, -EEXIST);
    struct fmsg_reply r = CALL_NAME("f", .op = FMSG_WALK, .fid = root);
    assert_int_equal(r.result, 0);
    assert_true(r.fid != file);
    assert_int_equal(CALL_NAME("g", .op = FMSG_WALK, .fid = root).result, -ENOENT);
    assert_int_equal(CALL_NAME("g", .op = FMSG_WALK, .fid = file).result, -ENOTDIR);
    r = CALL(.op = FMSG_OPEN, .fid = file, .flags = O_RDWR);
    assert_int_equal(r.result, 0);
    assert_int_equal(write(reply_fd, "hello", 5), 5);
    close(reply_fd);
    r = CALL(.op = FMSG_GETATTR, .fid = file);
    assert_int_equal(r.attr.stx_size, 5);
    u32 fids[] = {file, 0xdeadbeef};
    r = call((struct fmsg_request){.op = FMSG_CLOSE}, NULL, NULL, fids, sizeof(fids));
    assert_int_equal(r.result, -EBADF);
    assert_int_equal(CALL(.op = FMSG_GETATTR, .fid = file).result, -EBADF);
}

static void test_stays_here(void **state)
{
    if (external)
        return;
    stop();
    keeping = true;
    start(false);
    keeping = false;
    u32 root = attach();
    struct fmsg_reply r =
        CALL_NAME("f", .op = FMSG_CREATE, .fid = root, .flags = O_RDWR, .mode = 0600);
    assert_int_equal(r.result, 0);
    assert_int_equal(reply_fd, -1);
    u32 o = r.fid2, f = r.fid;
    r = call((struct fmsg_request){.op = FMSG_WRITE, .fid = o, .off = 4}, NULL, NULL, "data", 4);
    assert_int_equal(r.result, 4);
    r = CALL(.op = FMSG_READ, .fid = o, .off = 2, .count = 100);
    assert_int_equal(r.data_size, 6);
    assert_memory_equal(reply_data, "\0\0data", 6);
    assert_int_equal(CALL(.op = FMSG_FSYNC, .fid = o).result, 0);
    assert_int_equal(CALL(.op = FMSG_FALLOCATE, .fid = o, .off = 0, .arg = 100).result, 0);
    assert_int_equal(CALL(.op = FMSG_GETATTR, .fid = f).attr.stx_size, 100);
    assert_int_equal(CALL(.op = FMSG_READ, .fid = f, .count = 1).result, -EBADF);
    r = CALL(.op = FMSG_OPEN, .fid = f, .flags = O_RDONLY);
    assert_int_equal(r.result, 0);
    assert_int_equal(
        call((struct fmsg_request){.op = FMSG_WRITE, .fid = r.fid}, NULL, NULL, "x", 1).result,
        -EBADF);
    assert_int_equal(CALL(.op = FMSG_READ, .fid = o, .count = FMSG_DATA_MAX + 1).result, -EINVAL);
    assert_int_equal(CALL(.op = FMSG_READ, .fid = o, .off = ~0ull, .count = 1).result, -EINVAL);
}

static void test_names(void **state)
{
    u32 root = attach();
    u32 f = make_file(root, "f");
    struct fmsg_reply r =
        CALL_NAME("d", .op = FMSG_MKDIR, .fid = root, .mode = 02755, .uid = ~0u, .gid = ~0u);
    assert_int_equal(r.result, 0);
    assert_int_equal(r.attr.stx_mode, S_IFDIR | 02755);
    u32 d = r.fid;
    r = call((struct fmsg_request){.op = FMSG_SYMLINK, .fid = d, .uid = ~0u, .gid = ~0u}, "s", NULL,
             "../../etc/passwd", 16);
    assert_int_equal(r.result, 0);
    assert_true(S_ISLNK(r.attr.stx_mode));
    u32 s = r.fid;
    r = CALL(.op = FMSG_READLINK, .fid = s);
    assert_int_equal(r.data_size, 16);
    assert_memory_equal(reply_data, "../../etc/passwd", 16);
    assert_int_equal(CALL(.op = FMSG_OPEN, .fid = s).result, -EPERM);
    assert_int_equal(CALL(.op = FMSG_READLINK, .fid = f).result, -EINVAL);
    r = CALL_NAME("l", .op = FMSG_LINK, .fid = d, .fid2 = f);
    assert_int_equal(r.result, 0);
    assert_int_equal(r.attr.stx_nlink, 2);
    assert_int_equal(CALL_NAME("x", .op = FMSG_LINK, .fid = d, .fid2 = d).result, -EPERM);
    r = call((struct fmsg_request){.op = FMSG_RENAME, .fid = d, .fid2 = root}, "l", "f2", NULL, 0);
    assert_int_equal(r.result, 0);
    r = call((struct fmsg_request){
                 .op = FMSG_RENAME, .fid = root, .fid2 = root, .flags = RENAME_NOREPLACE},
             "f2", "d", NULL, 0);
    assert_int_equal(r.result, -EEXIST);
    assert_int_equal(CALL_NAME("d", .op = FMSG_UNLINK, .fid = root).result, -EISDIR);
    assert_int_equal(
        CALL_NAME("d", .op = FMSG_UNLINK, .fid = root, .flags = AT_REMOVEDIR).result, -ENOTEMPTY);
    assert_int_equal(CALL_NAME("s", .op = FMSG_UNLINK, .fid = d).result, 0);
    assert_int_equal(
        CALL_NAME("d", .op = FMSG_UNLINK, .fid = root, .flags = AT_REMOVEDIR).result, 0);
    assert_int_equal(CALL_NAME("x", .op = FMSG_MKDIR, .fid = d, .mode = 0755).result, -ENOENT);
    r = CALL(.op = FMSG_TMPFILE, .fid = root, .flags = O_RDWR, .mode = 0600, .uid = ~0u, .gid = ~0u);
    if (r.result != -EOPNOTSUPP) {
        assert_int_equal(r.result, 0);
        assert_int_equal(r.attr.stx_nlink, 0);
        close(reply_fd);
        assert_int_equal(CALL_NAME("t", .op = FMSG_LINK, .fid = root, .fid2 = r.fid).result, 0);
    }
}

static void test_attributes(void **state)
{
    u32 root = attach();
    u32 f = make_file(root, "f");
    struct fmsg_setattr a = {.valid = FMSG_SET_MODE | FMSG_SET_SIZE | FMSG_SET_MTIME | FMSG_SET_UID,
                             .mode = 04711,
                             .uid = 0,
                             .size = 1000,
                             .mtime_sec = 1234567,
                             .mtime_nsec = 89};
    struct fmsg_request head = {.op = FMSG_SETATTR, .fid = f};
    struct fmsg_reply r = call(head, NULL, NULL, &a, sizeof(a));
    assert_int_equal(r.result, 0);
    assert_int_equal(r.attr.stx_size, 1000);
    assert_int_equal(r.attr.stx_mtime.tv_sec, 1234567);
    assert_int_equal(r.attr.stx_mtime.tv_nsec, 89);
    a.mtime_nsec = NSEC_PER_SEC;
    assert_int_equal(call(head, NULL, NULL, &a, sizeof(a)).result, -EINVAL);
    assert_int_equal(call(head, NULL, NULL, &a, sizeof(a) - 1).result, -EINVAL);
    head = (struct fmsg_request){.op = FMSG_SETXATTR, .fid = f};
    r = call(head, "user.test", NULL, "value", 5);
    if (r.result != -EOPNOTSUPP) {
        assert_int_equal(r.result, 0);
        r = CALL_NAME("user.test", .op = FMSG_GETXATTR, .fid = f, .count = 100);
        assert_int_equal(r.data_size, 5);
        r = CALL(.op = FMSG_LISTXATTR, .fid = f);
        assert_int_equal(r.data_size, 10);
        assert_int_equal(CALL_NAME("user.test", .op = FMSG_REMOVEXATTR, .fid = f).result, 0);
    }
    assert_int_equal(call(head, "trusted.overlay.opaque", NULL, "y", 1).result, -EPERM);
    assert_int_equal(call(head, "security.selinux", NULL, "y", 1).result, -EPERM);
    r = CALL(.op = FMSG_STATFS, .fid = root);
    assert_int_equal(r.data_size, sizeof(struct statfs));
}

static void test_readdir(void **state)
{
    u32 root = attach();
    char name[32];
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof(name), "file-%d", i);
        make_file(root, name);
    }
    struct fmsg_reply r = CALL(.op = FMSG_OPEN, .fid = root);
    assert_int_equal(r.result, 0);
    u32 opening = r.fid, seen = 0;
    u64 off = 0;
    for (;;) {
        r = CALL(.op = FMSG_READDIR, .fid = opening, .off = off, .count = 1000);
        assert_int_equal(r.result, 0);
        if (!r.data_size)
            break;
        for (u32 i = 0; i < r.data_size;) {
            const struct dirent64 *e = (const void *)(reply_data + i);
            seen++;
            off = (u64)e->d_off;
            i += e->d_reclen;
        }
    }
    assert_int_equal(seen, 102);
    assert_int_equal(CALL(.op = FMSG_OPEN, .fid = root, .flags = O_RDWR).result, -EISDIR);
}

static void test_refuses_host_objects(void **state)
{
    u32 root = attach();
    assert_int_equal(
        CALL_NAME("dev", .op = FMSG_MKNOD, .fid = root, .mode = S_IFBLK | 0600, .arg = 0x801).result,
        -EPERM);
    assert_int_equal(
        CALL_NAME("dev", .op = FMSG_MKNOD, .fid = root, .mode = S_IFCHR | 0600, .arg = 0x103).result,
        -EPERM);
    struct fmsg_reply r = CALL_NAME("fifo", .op = FMSG_MKNOD, .fid = root, .mode = S_IFIFO | 0600,
                                    .uid = ~0u, .gid = ~0u);
    assert_int_equal(r.result, 0);
    assert_int_equal(CALL(.op = FMSG_OPEN, .fid = r.fid).result, -EPERM);
    r = CALL_NAME("sock", .op = FMSG_MKNOD, .fid = root, .mode = S_IFSOCK | 0600, .uid = ~0u,
                  .gid = ~0u);
    assert_int_equal(r.result, 0);
    u32 s = r.fid;
    assert_int_equal(CALL(.op = FMSG_CONNECT, .fid = s, .arg = SOCK_STREAM).result, -EACCES);
    if (external)
        return;
    stop();
    connectable = true;
    start(false);
    connectable = false;
    root = attach();
    s = CALL_NAME("sock", .op = FMSG_WALK, .fid = root).fid;
    assert_int_equal(CALL(.op = FMSG_CONNECT, .fid = s, .arg = SOCK_STREAM).result, -ECONNREFUSED);
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/live", dir);
    int l = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(l, (void *)&addr, sizeof(addr)), 0);
    assert_int_equal(listen(l, 1), 0);
    r = CALL_NAME("live", .op = FMSG_WALK, .fid = root);
    assert_int_equal(CALL(.op = FMSG_CONNECT, .fid = r.fid, .arg = SOCK_STREAM).result, 0);
    assert_true(reply_fd >= 0);
    close(reply_fd);
    close(l);
}

static void test_readonly(void **state)
{
    u32 root = attach();
    make_file(root, "f");
    stop();
    start(true);
    struct fmsg_reply r = CALL(.op = FMSG_ATTACH);
    assert_int_equal(r.flags & FMSG_REPLY_READONLY, FMSG_REPLY_READONLY);
    root = r.fid;
    r = CALL_NAME("f", .op = FMSG_WALK, .fid = root);
    u32 f = r.fid;
    assert_int_equal(CALL(.op = FMSG_OPEN, .fid = f, .flags = O_RDWR).result, -EROFS);
    assert_int_equal(CALL(.op = FMSG_OPEN, .fid = f, .flags = O_WRONLY).result, -EROFS);
    assert_int_equal(CALL(.op = FMSG_OPEN, .fid = f, .flags = O_RDONLY).result, 0);
    assert_int_equal(write(reply_fd, "x", 1), -1);
    close(reply_fd);
    struct fmsg_setattr a = {0};
    for (u32 op = 0; op < FMSG_OP_COUNT; op++) {
        u8 shape = fmsg_op_shapes[op];
        if (!(shape & FMSG_SHAPE_CHANGES))
            continue;
        r = call((struct fmsg_request){.op = (u16)op,
                                       .fid = f,
                                       .fid2 = shape & FMSG_SHAPE_FID2 ? root : 0},
                 shape & FMSG_SHAPE_NAME ? "user.x" : NULL, shape & FMSG_SHAPE_NAME2 ? "y" : NULL,
                 &a, shape & FMSG_SHAPE_DATA ? sizeof(a) : 0);
        assert_int_equal(r.result, -EROFS);
    }
}

static void test_channels(void **state)
{
    u32 root = attach();
    int first = channel, extra[FMSG_CHANNELS_MAX];
    u32 count = 0;
    for (;;) {
        struct fmsg_reply r = CALL(.op = FMSG_CHANNEL);
        if (r.result == -EMFILE)
            break;
        assert_int_equal(r.result, 0);
        extra[count] = reply_fd;
        channel = reply_fd; // a round trip, so that it counts before the next one is asked for
        assert_int_equal(CALL(.op = FMSG_GETATTR, .fid = root).result, 0);
        channel = first;
        count++;
        assert_true(count < FMSG_CHANNELS_MAX);
    }
    assert_int_equal(count, FMSG_CHANNELS_MAX - 1);
    for (u32 i = 0; i < count; i++) {
        char b;
        shutdown(extra[i], SHUT_WR);
        assert_int_equal(read(extra[i], &b, 1), 0); // its thread has ended its use of the channel
        close(extra[i]);
    }
    while (!external && __atomic_load_n(&server.channels, __ATOMIC_ACQUIRE) > 1)
        sched_yield();
}

static void test_hostile_names(void **state)
{
    u32 root = attach();
    static const struct {
        const char *name;
        u32 size;
    } bad[] = {{"..", 2}, {".", 1},      {"a/b", 3},      {"/", 1},
               {"", 0},   {"a\0b", 3}, {"../../etc", 9}, {"\0", 1}};
    for (u32 i = 0; i < array_size(bad); i++) {
        for (u32 op = 0; op < FMSG_OP_COUNT; op++) {
            u8 shape = fmsg_op_shapes[op];
            if (!(shape & FMSG_SHAPE_NAME) || shape & FMSG_SHAPE_XATTR_NAME)
                continue;
            u8 buf[256];
            struct fmsg_request h = {.op = (u16)op,
                                     .fid = root,
                                     .fid2 = shape & FMSG_SHAPE_FID2 ? root : 0,
                                     .name_size = (u16)bad[i].size};
            h.size = (u32)sizeof(h) + h.name_size;
            memcpy(buf, &h, sizeof(h));
            memcpy(buf + sizeof(h), bad[i].name, bad[i].size);
            assert_int_equal(exchange(buf, h.size).result, -EINVAL);
        }
    }
    char longest[FMSG_NAME_MAX + 2];
    memset(longest, 'x', sizeof(longest));
    u8 buf[512];
    struct fmsg_request h = {.op = FMSG_WALK, .fid = root, .name_size = FMSG_NAME_MAX + 1};
    h.size = (u32)sizeof(h) + h.name_size;
    memcpy(buf, &h, sizeof(h));
    memcpy(buf + sizeof(h), longest, h.name_size);
    assert_int_equal(exchange(buf, h.size).result, -ENAMETOOLONG);
}

static void test_hostile_framing(void **state)
{
    u32 root = attach();
    struct fmsg_request h = {.op = FMSG_GETATTR, .fid = root, .size = sizeof(h)};
    assert_int_equal(exchange(&h, sizeof(h)).result, 0);
    assert_int_equal(exchange(&h, sizeof(h) - 1).result, -EBADMSG);
    h.size++;
    assert_int_equal(exchange(&h, sizeof(h)).result, -EBADMSG);
    h.size--;
    h.data_size = ~0u;
    assert_int_equal(exchange(&h, sizeof(h)).result, -EBADMSG);
    h.data_size = 0;
    h.op = FMSG_OP_COUNT;
    assert_int_equal(exchange(&h, sizeof(h)).result, -ENOSYS);
    h.op = FMSG_GETATTR;
    h.fid2 = root;
    assert_int_equal(exchange(&h, sizeof(h)).result, -EINVAL);
    h.fid2 = 0;
    for (u32 i = 0; i < 1000; i++) {
        h.fid = root + (i + 1) * 77777;
        if (h.fid)
            assert_int_equal(exchange(&h, sizeof(h)).result, -EBADF);
    }
}

static void test_unwanted_descriptor(void **state)
{
    struct fmsg_request h = {.op = FMSG_NOP, .size = sizeof(h)};
    assert_int_equal(fmsg_send(channel, &h, sizeof(h), NULL, 0, 0), 0);
    char b;
    assert_int_equal(recv(channel, &b, 1, 0), 0);
}

static void test_stale_fids(void **state)
{
    u32 root = attach();
    u32 old = make_file(root, "f");
    assert_int_equal(
        call((struct fmsg_request){.op = FMSG_CLOSE}, NULL, NULL, &old, sizeof(old)).result, 0);
    u32 again = CALL_NAME("f", .op = FMSG_WALK, .fid = root).fid;
    assert_int_equal(again % HANDLE_COUNT_MAX, old % HANDLE_COUNT_MAX);
    assert_true(again != old);
    assert_int_equal(CALL(.op = FMSG_GETATTR, .fid = old).result, -EBADF);
}

// What an idle gofer costs: its share of the host's memory, in KiB.
static void test_size(void **state)
{
    char path[64], line[256];
    long pss = -1;
    if (!external)
        return;
    attach();
    snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", process);
    FILE *f = fopen(path, "re");
    assert_non_null(f);
    while (fgets(line, sizeof(line), f))
        if (sscanf(line, "Pss: %ld", &pss) == 1)
            break;
    fclose(f);
    print_message("idle gofer: PSS %ld KiB\n", pss);
    assert_true(pss > 0);
#ifndef BAILEY_SANITIZE
    assert_true(pss < 600);
#endif
}

static int setup_process(void **state)
{
    external = true;
    return setup(state);
}

static int teardown_process(void **state)
{
    int r = teardown(state);
    external = false;
    return r;
}

#define TEST(f)                                                                                    \
    cmocka_unit_test_setup_teardown(f, setup, teardown),                                           \
        cmocka_unit_test_setup_teardown(f, setup_process, teardown_process)

int main(void)
{
    assert_int_equal(server_prepare(), 0);
    const struct CMUnitTest tests[] = {
        TEST(test_create_and_walk), TEST(test_stays_here),          TEST(test_names),
        TEST(test_attributes),      TEST(test_readdir),             TEST(test_refuses_host_objects),
        TEST(test_readonly),        TEST(test_channels),            TEST(test_hostile_names),
        TEST(test_hostile_framing), TEST(test_unwanted_descriptor), TEST(test_stale_fids),
        TEST(test_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
