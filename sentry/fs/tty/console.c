// SPDX-License-Identifier: Apache-2.0
// The console: a terminal whose other side is a pair of host descriptors. The poller feeds what is
// typed to the line discipline; a thread of its own writes what is printed, since writing to a terminal of the
// host may block and O_NONBLOCK may not be set on a description that others share.
#include <asm/termios.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>

#include "host/host.h"
#include "sentry/arena/arena.h"
#include "sentry/fs/anon/hostfd.h"
#include "sentry/fs/tty/tty_impl.h"
#include "sentry/sched/aux.h"

#define READABLE (EPOLLIN | EPOLLRDNORM)
#define WRITABLE (EPOLLOUT | EPOLLWRNORM)
#define WRITER_STACK (64 * 1024)
#define PIECE 1024

static int writer_fd = -1; // of this process

struct tty *tty_console(void)
{
    return *arena_slot(ARENA_SLOT_TTY);
}

// ---- output -----------------------------------------------------------------------------------------

void console_output(struct tty *t)
{
    if (!tty_out_used(t))
        return;
    __atomic_add_fetch(&t->drain_word, 1, __ATOMIC_SEQ_CST);
    host_futex_wake(&t->drain_word, 1, false);
}

static u32 copy_output(struct tty *t, u8 *buf, u32 size)
{
    u32 n = 0;
    mutex_lock(&t->lock, RANK_FILE);
    for (u32 i = t->out_tail; n < size && i != t->out_head; i++)
        buf[n++] = t->out[i & (TTY_OUT_SIZE - 1)];
    mutex_unlock(&t->lock);
    return n;
}

// `n` bytes are with the host; a flush may have dropped them meanwhile.
static void consume_output(struct tty *t, u32 n)
{
    mutex_lock(&t->lock, RANK_FILE);
    tty_store(&t->out_tail, t->out_tail + min(n, t->out_head - t->out_tail));
    mutex_unlock(&t->lock);
    waitq_wake(&t->queue, WRITABLE);
    waitq_wake(&t->master_queue, WRITABLE);
}

static void *writer_thread(void *arg)
{
    struct tty *t = arg;
    u8 buf[PIECE];
    for (;;) {
        u32 seen = __atomic_load_n(&t->drain_word, __ATOMIC_SEQ_CST);
        aux_enter();
        u32 n = copy_output(t, buf, PIECE);
        aux_exit();
        if (!n) {
            host_futex_wait(&t->drain_word, seen, NULL, false);
            continue;
        }
        long r = host_write(writer_fd, buf, n);
        if (r == -EINTR || r == -EAGAIN)
            continue;
        aux_enter();
        consume_output(t, r < 0 ? n : (u32)r); // nobody is there any more: drop it
        aux_exit();
    }
    return NULL;
}

static int writer_start(struct tty *t)
{
    pthread_attr_t attr;
    pthread_t thread;
    sigset_t all, old;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, max((u64)PTHREAD_STACK_MIN, (u64)WRITER_STACK));
    int r = pthread_create(&thread, &attr, writer_thread, t);
    pthread_attr_destroy(&attr);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return r ? -EAGAIN : 0;
}

void tty_console_drain(s64 deadline)
{
    struct timespec ts = {0, 2000000};
    struct tty *t = tty_console();
    u32 never = 0;
    while (t && tty_out_used(t) && sched_now() < deadline)
        host_futex_wait(&never, 0, &ts, false);
}

// ---- input ------------------------------------------------------------------------------------------

// Reads what the line discipline has room for: a piece at a time, so that what does not fit stays with the host.
static void host_input(void *arg, u32 events)
{
    struct tty *t = arg;
    u8 buf[PIECE];

    if (!ldisc_has_room(t))
        return; // a reader arms it again (console_input_room)
    u32 room = TTY_IN_SIZE - 1 - (tty_load(&t->in_head) - tty_load(&t->in_tail));
    bool canonical = t->t.c_lflag & ICANON;
    u32 size = min((u32)PIECE, canonical && !room ? 1u : max(room, 1u));
    long n = host_read(hostfd_get(t->in_watch), buf, size);
    if (n == 0 || (n < 0 && n != -EINTR && n != -EAGAIN)) {
        tty_hangup(t);
        return;
    }
    u32 done = 0;
    while (n > 0 && done < (u32)n) {
        mutex_lock(&t->lock, RANK_FILE);
        u32 got = ldisc_receive(t, buf + done, (u32)n - done);
        mutex_unlock(&t->lock);
        if (!got)
            break; // the mode changed in between: the rest is lost
        done += got;
    }
    tty_wake(t);
    console_input_room(t);
}

void console_input_room(struct tty *t)
{
    if (ldisc_has_room(t))
        (void)hostfd_arm(t->in_watch, EPOLLIN);
}

// ---- setting up ---------------------------------------------------------------------------------------

int tty_console_init(int in_fd, int out_fd, u16 rows, u16 columns)
{
    if (tty_console())
        return -EBUSY;
    struct tty *t = tty_new(TTY_CONSOLE);
    if (!t)
        return -ENOMEM;
    t->t.c_iflag |= IUTF8;
    t->size = (struct tty_winsize){.rows = rows, .columns = columns};
    t->in_watch = hostfd_watch(in_fd, host_input, t);
    writer_fd = out_fd;
    int r = t->in_watch ? writer_start(t) : -ENOMEM;
    if (r) {
        tty_unref(t);
        return r;
    }
    *arena_slot(ARENA_SLOT_TTY) = t;
    console_input_room(t);
    return 0;
}

int tty_console_reattach(int in_fd, int out_fd)
{
    struct tty *t = tty_console();
    if (!t)
        return 0;
    t->in_watch = hostfd_watch(in_fd, host_input, t);
    writer_fd = out_fd;
    int r = t->in_watch ? writer_start(t) : -ENOMEM;
    if (!r)
        console_input_room(t);
    return r;
}

int tty_console_open(struct file **ret)
{
    struct tty *t = tty_console();
    if (!t)
        return -ENXIO;
    struct file *f = file_new(FILE_NONE, O_RDWR | O_NOCTTY);
    if (!f)
        return -ENOMEM;
    f->inode = inode_new_anon(S_IFCHR | 0620);
    int r = f->inode ? tty_attach(t, f) : -ENOMEM;
    if (r) {
        file_unref(f);
        return r;
    }
    f->inode->rdev = DEV_MAKE(136, t->index);
    f->flags = O_RDWR;
    f->may_read = f->may_write = 1;
    *ret = f;
    return 0;
}

bool tty_is_console(const struct file *f)
{
    return f->kind == FILE_TTY && f->priv == tty_console();
}

void tty_console_resize(u16 rows, u16 columns)
{
    struct tty_winsize size = {.rows = rows, .columns = columns};
    if (tty_console())
        tty_set_size(tty_console(), &size);
}
