// SPDX-License-Identifier: Apache-2.0
// Consoles: a terminal whose other side is a pair of host descriptors. The poller feeds what is
// typed to the line discipline; a thread of its own for each console writes what is printed, since writing to a
// terminal of the host may block and O_NONBLOCK may not be set on a description that others share.
#include <asm/termios.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "host/host.h"
#include "host/poll.h"
#include "sentry/arena/arena.h"
#include "sentry/arena/side.h"
#include "sentry/fs/anon/hostfd.h"
#include "sentry/fs/tty/tty_impl.h"
#include "sentry/sched/aux.h"

#define READABLE (EPOLLIN | EPOLLRDNORM)
#define WRITABLE (EPOLLOUT | EPOLLWRNORM)
#define WRITER_STACK (64 * 1024)
#define PIECE 1024

// Of this process: the side of a console that faces the host. Its writer thread owns it.
struct console {
    struct tty *tty; // referenced
    int fd;
    u32 handle;
    u32 closing; // atomic: end once all is written
};

static struct side_table consoles;

// ---- output -----------------------------------------------------------------------------------------

static void wake_writer(struct tty *t)
{
    __atomic_add_fetch(&t->drain_word, 1, __ATOMIC_SEQ_CST);
    host_futex_wake(&t->drain_word, 1, false);
}

void console_output(struct tty *t)
{
    if (!tty_out_used(t))
        return;
    if (!side_get(&consoles, tty_load(&t->host_out))) { // nobody is there any more: drop it
        mutex_lock(&t->lock, RANK_FILE);
        tty_store(&t->out_tail, t->out_head);
        mutex_unlock(&t->lock);
        return;
    }
    wake_writer(t);
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

static void writer_end(struct console *c)
{
    host_close(c->fd);
    side_remove(&consoles, c->handle);
    tty_store(&c->tty->host_out, 0);
    aux_enter();
    tty_unref(c->tty);
    aux_exit();
    job_console_closed();
    free(c);
}

static void *writer_thread(void *arg)
{
    struct console *c = arg;
    struct tty *t = c->tty;
    u8 buf[PIECE];
    for (;;) {
        u32 seen = __atomic_load_n(&t->drain_word, __ATOMIC_SEQ_CST);
        aux_enter();
        u32 n = copy_output(t, buf, PIECE);
        aux_exit();
        if (!n && __atomic_load_n(&c->closing, __ATOMIC_SEQ_CST))
            break;
        if (!n) {
            host_futex_wait(&t->drain_word, seen, NULL, false);
            continue;
        }
        long r = host_write(c->fd, buf, n);
        if (r == -EINTR || r == -EAGAIN)
            continue;
        aux_enter();
        consume_output(t, r < 0 ? n : (u32)r); // nobody is there any more: drop it
        aux_exit();
    }
    writer_end(c);
    return NULL;
}

// Takes over the descriptor on success.
static int writer_start(struct tty *t, int fd)
{
    pthread_attr_t attr;
    pthread_t thread;
    sigset_t all, old;
    struct console *c = calloc(1, sizeof(*c));

    if (c) {
        *c = (struct console){.tty = tty_ref(t), .fd = fd};
        c->handle = side_insert(&consoles, c);
        tty_store(&t->host_out, c->handle);
    }
    if (!c || !c->handle)
        goto fail;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, max((u64)PTHREAD_STACK_MIN, (u64)WRITER_STACK));
    int r = pthread_create(&thread, &attr, writer_thread, c);
    pthread_attr_destroy(&attr);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (!r)
        return 0;
    side_remove(&consoles, c->handle);
    tty_store(&t->host_out, 0);
fail:
    if (c)
        tty_unref(t);
    free(c);
    return -EAGAIN;
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
    bool canonical = tty_is_canonical(t);
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

int tty_console_attach(struct tty *t, int in_fd, int out_fd)
{
    // One of its own: the other is closed while the last output is still being written.
    if (out_fd < 0 || out_fd == in_fd)
        out_fd = host_fcntl(in_fd, F_DUPFD_CLOEXEC, 3);
    t->in_watch = out_fd < 0 ? 0 : hostfd_watch(in_fd, host_input, t);
    if (!t->in_watch) {
        host_close(in_fd);
        if (out_fd >= 0)
            host_close(out_fd);
        return out_fd < 0 ? out_fd : -ENOMEM;
    }
    int r = writer_start(t, out_fd);
    if (r) {
        host_close(out_fd);
        hostfd_unwatch(t->in_watch);
        t->in_watch = 0;
        return r;
    }
    console_input_room(t);
    return 0;
}

int tty_console_new(int in_fd, int out_fd, u16 rows, u16 columns, struct tty **ret)
{
    struct tty *t = tty_new(TTY_CONSOLE);
    if (!t) {
        host_close(in_fd);
        if (out_fd >= 0 && out_fd != in_fd)
            host_close(out_fd);
        return -ENOMEM;
    }
    t->t.c_iflag |= IUTF8;
    t->size = t->host_size = (struct tty_winsize){.rows = rows, .columns = columns};
    int r = tty_console_attach(t, in_fd, out_fd);
    if (r)
        tty_unref(t);
    else
        *ret = t;
    return r;
}

void tty_console_close(struct tty *t)
{
    struct console *c;
    u32 watch = __atomic_exchange_n(&t->in_watch, 0, __ATOMIC_SEQ_CST);
    if (watch)
        hostfd_unwatch(watch);
    devpts_remove(t);
    tty_hangup(t);
    c = side_get(&consoles, tty_load(&t->host_out));
    if (!c || !watch) // closed before
        return;
    __atomic_store_n(&c->closing, 1, __ATOMIC_SEQ_CST);
    wake_writer(t);
}

bool tty_console_is_closed(struct tty *t)
{
    return !side_get(&consoles, tty_load(&t->host_out));
}

int tty_console_open(struct tty *t, struct file **ret)
{
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

struct tty *tty_of_file(const struct file *f)
{
    return f->kind == FILE_TTY ? f->priv : NULL;
}

void tty_resize(struct tty *t, u16 rows, u16 columns)
{
    struct tty_winsize size = {.rows = rows, .columns = columns};
    tty_set_size(t, &size);
}

void tty_take_host_size(struct tty *t)
{
    struct winsize host;
    if (!t->in_watch || host_ioctl(hostfd_get(t->in_watch), TIOCGWINSZ, &host) < 0)
        return;
    struct tty_winsize size = {.rows = host.ws_row, .columns = host.ws_col};
    mutex_lock(&t->lock, RANK_FILE);
    bool same = !memcmp(&t->host_size, &size, sizeof(size));
    t->host_size = size;
    mutex_unlock(&t->lock);
    // What the guest has set itself stays until the host's changes.
    if (!same)
        tty_set_size(t, &size);
}
