// SPDX-License-Identifier: Apache-2.0
// Asynchronous I/O by the kernel (io_setup(2), io_submit(2), io_getevents(2) ...).
#include "t.h"

#include <linux/aio_abi.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/uio.h>

static aio_context_t setup(unsigned count)
{
    aio_context_t ctx = 0;
    if (syscall(SYS_io_setup, count, &ctx) < 0 && errno == ENOSYS && !getenv("T_IN_BAILEY"))
        t_skip("the kernel has none");
    CHECK(ctx != 0);
    return ctx;
}

static struct iocb request(int op, int fd, void *buf, size_t size, long long off)
{
    return (struct iocb){.aio_data = (uint64_t)off + 1000, .aio_lio_opcode = (uint16_t)op, .aio_fildes = (uint32_t)fd,
                         .aio_buf = (uintptr_t)buf, .aio_nbytes = size, .aio_offset = off};
}

static long submit(aio_context_t ctx, struct iocb *cb)
{
    return syscall(SYS_io_submit, ctx, 1l, &cb);
}

static struct io_event get(aio_context_t ctx)
{
    struct io_event ev;
    CHECK_EQ(SYS(syscall(SYS_io_getevents, ctx, 1l, 1l, &ev, NULL)), 1);
    return ev;
}

TEST(write_sync_read)
{
    int fd = SYS(open("f", O_RDWR | O_CREAT, 0600));
    aio_context_t ctx = setup(8);
    char out[] = "0123456789", in[10] = "";
    struct iocb cb = request(IOCB_CMD_PWRITE, fd, out, 10, 5);
    CHECK_EQ(SYS(submit(ctx, &cb)), 1);
    struct io_event ev = get(ctx);
    CHECK_EQ(ev.data, 1005);
    CHECK_EQ(ev.obj, (uintptr_t)&cb);
    CHECK_EQ(ev.res, 10);
    CHECK_EQ(ev.res2, 0);
    cb = request(IOCB_CMD_FDSYNC, fd, NULL, 0, 0);
    if (submit(ctx, &cb) == 1) // not every file system has it
        CHECK_EQ(get(ctx).res, 0);
    struct iovec iov[2] = {{in, 3}, {in + 3, 7}};
    cb = request(IOCB_CMD_PREADV, fd, iov, 2, 5);
    CHECK_EQ(SYS(submit(ctx, &cb)), 1);
    CHECK_EQ(get(ctx).res, 10);
    CHECK(memcmp(in, out, 10) == 0);
    CHECK_EQ(lseek(fd, 0, SEEK_CUR), 0);
    SYS(syscall(SYS_io_destroy, ctx));
    CHECK_ERR(syscall(SYS_io_destroy, ctx), EINVAL);
}

TEST(what_is_refused)
{
    int fd = SYS(open("f", O_WRONLY | O_CREAT, 0600));
    aio_context_t ctx = 1;
    char buf[10];
    CHECK_ERR(syscall(SYS_io_setup, 1, &ctx), EINVAL);
    ctx = 0;
    CHECK_ERR(syscall(SYS_io_setup, 0, &ctx), EINVAL);
    CHECK_ERR(syscall(SYS_io_setup, 1, 16), EFAULT);
    ctx = setup(4);
    struct iocb cb = request(IOCB_CMD_PREAD, fd, buf, 10, 0), *bad = (void *)16;
    CHECK_ERR(submit(ctx, &cb), EBADF);
    cb.aio_lio_opcode = 99;
    CHECK_ERR(submit(ctx, &cb), EINVAL);
    cb = request(IOCB_CMD_PWRITE, 999, buf, 10, 0);
    CHECK_ERR(submit(ctx, &cb), EBADF);
    CHECK_ERR(syscall(SYS_io_submit, ctx, 1l, &bad), EFAULT);
    CHECK_ERR(syscall(SYS_io_submit, ctx, 1l, 16), EFAULT);
    CHECK_ERR(syscall(SYS_io_submit, ctx, -1l, &bad), EINVAL);
    CHECK_ERR(syscall(SYS_io_submit, ctx + 4096 * 999, 0l, NULL), EINVAL);
    CHECK_EQ(syscall(SYS_io_submit, ctx, 0l, NULL), 0);
    // A fault while it is done is the event's.
    cb = request(IOCB_CMD_PWRITE, fd, (void *)16, 10, 0);
    long r = submit(ctx, &cb);
    if (r == 1)
        CHECK_EQ(get(ctx).res, -EFAULT);
    else
        CHECK_EQ(errno, EFAULT);
    struct io_event ev;
    struct timespec now = {0, 0};
    CHECK_EQ(syscall(SYS_io_getevents, ctx, 1l, 1l, &ev, &now), 0);
    CHECK_ERR(syscall(SYS_io_getevents, ctx, 2l, 1l, &ev, &now), EINVAL);
    CHECK_ERR(syscall(SYS_io_cancel, ctx, &cb, &ev), EINVAL);
}

// fs.aio-max-nr is for all contexts together; those of a process that has ended count no more.
TEST(events_of_all_contexts)
{
    aio_context_t ctx[4] = {0};
    char text[32];
    t_read_file("/proc/sys/fs/aio-max-nr", text, sizeof text);
    unsigned half = (unsigned)atoi(text) / 2 + 1;
    for (int i = 0; i < 3; i++) {
        pid_t pid = SYS(fork());
        if (!pid) {
            ctx[0] = setup(half);
            CHECK_ERR(syscall(SYS_io_setup, half, &ctx[1]), EAGAIN);
            _exit(0);
        }
        t_join(pid);
    }
    ctx[0] = setup(half);
    CHECK_ERR(syscall(SYS_io_setup, half, &ctx[1]), EAGAIN);
    SYS(syscall(SYS_io_destroy, ctx[0]));
    SYS(syscall(SYS_io_setup, half, &ctx[1]));
}

TEST(several_at_once_and_eventfd)
{
    enum { COUNT = 20 };
    int fd = SYS(open("f", O_RDWR | O_CREAT, 0600)), efd = SYS(eventfd(0, 0));
    aio_context_t ctx = setup(COUNT);
    struct iocb cbs[COUNT], *list[COUNT];
    struct io_event evs[COUNT];
    char block[512] = "x";
    for (int i = 0; i < COUNT; i++) {
        cbs[i] = request(IOCB_CMD_PWRITE, fd, block, sizeof block, i * 512);
        cbs[i].aio_flags = IOCB_FLAG_RESFD;
        cbs[i].aio_resfd = (uint32_t)efd;
        list[i] = &cbs[i];
    }
    CHECK_EQ(SYS(syscall(SYS_io_submit, ctx, (long)COUNT, list)), COUNT);
    uint64_t sum = 0, n;
    while (sum < COUNT) {
        SYS(read(efd, &n, sizeof n));
        sum += n;
    }
    CHECK_EQ(sum, COUNT);
    CHECK_EQ(SYS(syscall(SYS_io_getevents, ctx, (long)COUNT, (long)COUNT, evs, NULL)), COUNT);
    for (int i = 0; i < COUNT; i++)
        CHECK_EQ(evs[i].res, 512);
    CHECK_EQ(lseek(fd, 0, SEEK_END), COUNT * 512);
    cbs[0].aio_resfd = (uint32_t)fd;
    CHECK_ERR(submit(ctx, &cbs[0]), EINVAL);
}

static aio_context_t shared;
static int file;

static void *submit_one(void *arg)
{
    static char c = 'x';
    static struct iocb cb;
    t_wait_task_state(getpid(), getpid(), 'S');
    cb = request(IOCB_CMD_PWRITE, file, &c, 1, 0);
    CHECK_EQ(submit(shared, &cb), 1);
    return arg;
}

TEST(waits_for_a_thread)
{
    pthread_t th;
    file = SYS(open("f", O_RDWR | O_CREAT, 0600));
    shared = setup(4);
    pthread_create(&th, NULL, submit_one, NULL);
    CHECK_EQ(get(shared).res, 1);
    pthread_join(th, NULL);
}

static void note(int sig)
{
}

// A wait is ended by a handled signal; a child has none of it.
TEST(signals_and_children)
{
    aio_context_t ctx = setup(4);
    struct io_event ev;
    pid_t parent = getpid(), pid = fork();
    if (pid == 0) {
        CHECK_EQ(syscall(SYS_io_submit, ctx, 0l, NULL), -1);
        t_wait_state(parent, 'S');
        SYS(kill(parent, SIGUSR1));
        _exit(0);
    }
    t_handle(SIGUSR1, note, 0);
    CHECK_ERR(syscall(SYS_io_getevents, ctx, 1l, 1l, &ev, NULL), EINTR);
    t_join(pid);
}

// ---- pwritev2(2) ---------------------------------------------------------------------------------

#define APPEND 0x10
#define NOAPPEND 0x20

TEST(append_of_one_write)
{
    int fd = SYS(open("f", O_RDWR | O_CREAT, 0600));
    char buf[16] = "";
    struct iovec iov = {"abc", 3};
    SYS(write(fd, "0123456789", 10));
    CHECK_EQ(SYS(pwritev2(fd, &iov, 1, 2, APPEND)), 3);
    CHECK_EQ(lseek(fd, 0, SEEK_CUR), 10);
    CHECK_EQ(SYS(pread(fd, buf, sizeof buf, 0)), 13);
    CHECK_STR(buf, "0123456789abc");
    SYS(lseek(fd, 1, SEEK_SET));
    CHECK_EQ(SYS(pwritev2(fd, &iov, 1, -1, APPEND)), 3);
    CHECK_EQ(lseek(fd, 0, SEEK_CUR), 16);
    CHECK_EQ(SYS(pwritev2(fd, &iov, 1, 0, RWF_DSYNC)), 3);
    CHECK_EQ(SYS(pwritev2(fd, &iov, 1, 0, RWF_SYNC)), 3);
    int log = SYS(open("f", O_WRONLY | O_APPEND));
    iov.iov_base = "X";
    iov.iov_len = 1;
    if (pwritev2(log, &iov, 1, 4, NOAPPEND) == 1) { // since Linux 6.9
        CHECK_EQ(lseek(fd, 0, SEEK_END), 16);
        SYS(pread(fd, buf, 16, 0));
        CHECK_EQ(buf[4], 'X');
    }
    CHECK_ERR(pwritev2(fd, &iov, 1, 0, 0x4000), EOPNOTSUPP);
}
