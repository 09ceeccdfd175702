// SPDX-License-Identifier: Apache-2.0
#include "sentry/control/control.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>

#include "base/lock.h"
#include "base/log.h"
#include "host/host.h"
#include "sentry/control/client.h"
#include "sentry/kernel/container.h"
#include "sentry/sched/doorbell.h"

#define WAITS_MAX 4096
#define ENDING_MSEC 2000 // how long the sandbox' end waits for answers

enum { ENDING_NOT, ENDING_ASKED, ENDING_DONE };

static struct {
    int start_fd, listen_fd, signal_fd;
    struct doorbell bell;     // something may have changed
    bool ends_with_starter;   // BOOT_DIE_WITH_PARENT
    u32 ready;                // atomic: requests are served
    u32 busy;                 // atomic: the thread is not waiting for what to do
    u32 waits_count;          // atomic
    u32 ending;               // futex word: ENDING_*
    struct control_wait *waits;
    struct mutex send_lock;   // RANK_LEAF: packets of different threads on start_fd
} control = {.start_fd = -1, .listen_fd = -1, .bell.fd = -1, .signal_fd = -1};

// ---- what other threads tell ---------------------------------------------------------------------

// Small messages, from any thread. The peer always reads; one that does not is not waited for.
static void tell(int fd, const struct control_message *m)
{
    u8 buf[2048];
    int size = control_encode(m, buf, sizeof(buf));
    if (fd < 0 || size < 0)
        return;
    mutex_lock(&control.send_lock, RANK_LEAF);
    client_send_packet(fd, buf, (size_t)size, 0);
    mutex_unlock(&control.send_lock);
}

static void poke(void)
{
    doorbell_ring(&control.bell);
}

void container_changed(void)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST); // what has changed, before the look for who waits
    if (__atomic_load_n(&control.waits_count, __ATOMIC_SEQ_CST))
        poke();
}

static int start_fd(void)
{
    return __atomic_load_n(&control.start_fd, __ATOMIC_RELAXED);
}

void control_tell_ready(void)
{
    __atomic_store_n(&control.ready, 1, __ATOMIC_SEQ_CST);
    tell(start_fd(), &(struct control_message){.type = CONTROL_READY});
    poke();
}

void control_tell_failed(int control_fd, int error, const char *text)
{
    tell(control_fd,
         &(struct control_message){.type = CONTROL_FAILED, .error = error, .text = text});
}

void control_tell_exit(int wait_status)
{
    const struct timespec most = {ENDING_MSEC / 1000, 0};
    u32 ending;
    __atomic_store_n(&control.ending, ENDING_ASKED, __ATOMIC_SEQ_CST);
    // A request that is being served, such as the one that brought this end about, is answered too.
    if (__atomic_load_n(&control.waits_count, __ATOMIC_SEQ_CST) ||
        __atomic_load_n(&control.busy, __ATOMIC_SEQ_CST)) {
        poke();
        while ((ending = __atomic_load_n(&control.ending, __ATOMIC_SEQ_CST)) == ENDING_ASKED)
            if (host_futex_wait(&control.ending, ending, &most, false) == -ETIMEDOUT)
                break;
    }
    tell(start_fd(), &(struct control_message){.type = CONTROL_EXIT,
                                                     .status = (u32)wait_status & 0xffff});
}

// Ends a connection. The starter's end is that of a sandbox that is not made yet, or was to end with it; one
// that is goes on without it.
static void drop(struct client *c)
{
    if (c->starter) {
        __atomic_store_n(&control.start_fd, -1, __ATOMIC_RELAXED);
        if (!__atomic_load_n(&control.ready, __ATOMIC_SEQ_CST) || control.ends_with_starter)
            host_sys(SYS_exit_group, 1);
    }
    client_close(c);
}

// ---- answers that wait ---------------------------------------------------------------------------

static void add_wait(struct control_wait *w)
{
    w->next = control.waits;
    control.waits = w;
    __atomic_add_fetch(&control.waits_count, 1, __ATOMIC_SEQ_CST);
}

void control_wait_alone(struct control_wait *w)
{
    w->gone = true;
    add_wait(w);
}

// Looks at one; true when it is over.
static bool look_at(struct control_wait *w)
{
    for (;;) {
        struct control_message m = {.type = CONTROL_REPLY, .id = w->id, .container = "", .text = ""};
        struct client *c = w->gone ? NULL : client_get(w->client, w->generation);
        if (!c)
            w->gone = true;
        if (w->gone && !w->ops->lingers)
            return true;
        enum control_progress p = w->ops->look(w, &m);
        if (c && (p == CONTROL_TELL || p == CONTROL_DONE) && !client_send(c, &m))
            drop(c);
        if (p != CONTROL_TELL)
            return p != CONTROL_NOT_YET;
    }
}

static void look_at_all(void)
{
    struct control_wait **p = &control.waits, *w;
    while ((w = *p)) {
        if (!look_at(w)) {
            p = &w->next;
            continue;
        }
        // Looking may have added others in front.
        for (p = &control.waits; *p != w;)
            p = &(*p)->next;
        *p = w->next;
        __atomic_sub_fetch(&control.waits_count, 1, __ATOMIC_SEQ_CST);
        w->ops->free(w);
    }
    if (__atomic_load_n(&control.ending, __ATOMIC_SEQ_CST) == ENDING_ASKED && !control.waits) {
        __atomic_store_n(&control.ending, ENDING_DONE, __ATOMIC_SEQ_CST);
        host_futex_wake(&control.ending, 1, false);
    }
}

// Until the first deadline, in ms; -1: none.
static int next_look(void)
{
    s64 first = client_end_stale(sched_now());
    for (struct control_wait *w = control.waits; w; w = w->next)
        if (w->deadline && (!first || w->deadline < first))
            first = w->deadline;
    if (!first)
        return -1;
    s64 left = first - sched_now();
    return left <= 0 ? 0 : (int)min(left / 1000000 + 1, (s64)60000);
}

// ---- requests ------------------------------------------------------------------------------------

static bool answer_long(struct client *c, struct control_call *call)
{
    static char piece[CONTROL_TEXT_MAX / 2];
    size_t done = 0;
    bool sent;
    do {
        size_t n = min(call->long_size - done, sizeof(piece) - 1);
        memcpy(piece, call->long_text + done, n);
        piece[n] = 0;
        done += n;
        call->reply.text = piece;
        call->reply.more = done < call->long_size;
        sent = client_send(c, &call->reply);
    } while (sent && call->reply.more);
    free(call->long_text);
    return sent;
}

// Serves one request; false ends the connection.
static bool serve(struct client *c, const struct control_message *m)
{
    if (m->type == CONTROL_FDS)
        return true; // client.c has kept them
    if (m->type == 0 || m->type >= CONTROL_READY)
        return false;
    static struct control_call call;
    call = (struct control_call){.m = m, .fds = c->fds, .fd_count = c->fd_count,
                                 .reply = {.type = CONTROL_REPLY, .id = m->id}};
    // Before it is ready there is no kernel to ask.
    if (__atomic_load_n(&control.ready, __ATOMIC_SEQ_CST) &&
        __atomic_load_n(&control.waits_count, __ATOMIC_RELAXED) < WAITS_MAX)
        kernel_control_serve(&call);
    else
        call.reply.error = -EAGAIN;
    client_drop_fds(c);
    if (call.wait) {
        call.wait->client = client_number(c);
        call.wait->generation = c->generation;
        call.wait->id = m->id;
        add_wait(call.wait);
        poke(); // it may have happened already
        return true;
    }
    if (call.long_text)
        return answer_long(c, &call);
    return m->id == 0 || client_send(c, &call.reply); // id 0: no answer is wanted
}

static void receive(struct client *c)
{
    struct control_message m;
    int r = client_receive(c, &m);
    if (r == -EAGAIN)
        return;
    if (r == 0 && serve(c, &m))
        return;
    drop(c); // it has gone, or talks nonsense
    poke(); // waits of it are to go
}

static void read_signals(void)
{
    struct signalfd_siginfo info;
    while (host_read(control.signal_fd, &info, sizeof(info)) == (long)sizeof(info))
        if (__atomic_load_n(&control.ready, __ATOMIC_SEQ_CST))
            kernel_control_host_signal((int)info.ssi_signo);
}

// Waits for what is to be done, and does it.
static void turn(void)
{
    struct pollfd fds[CLIENTS_MAX + 3];
    u32 numbers[CLIENTS_MAX];
    bool ready = __atomic_load_n(&control.ready, __ATOMIC_SEQ_CST);
    u32 n = client_fill_poll(fds + 3, numbers);
    fds[0] = (struct pollfd){.fd = control.bell.fd, .events = POLLIN};
    fds[1] = (struct pollfd){.fd = control.signal_fd, .events = POLLIN};
    fds[2] = (struct pollfd){.fd = ready ? control.listen_fd : -1, .events = POLLIN};
    int msec = next_look();
    struct timespec most = {msec / 1000, msec % 1000 * 1000000};
    __atomic_store_n(&control.busy, 0, __ATOMIC_SEQ_CST);
    long r = host_sys(SYS_ppoll, fds, n + 3, msec < 0 ? NULL : &most, 0, 0);
    __atomic_store_n(&control.busy, 1, __ATOMIC_SEQ_CST);
    if (r < 0)
        return;
    if (fds[0].revents)
        doorbell_answer(&control.bell);
    if (fds[1].revents)
        read_signals();
    for (u32 i = 0; i < n; i++)
        if (fds[i + 3].revents)
            receive(client_at(numbers[i]));
    if (fds[2].revents)
        client_accept(control.listen_fd);
    look_at_all();
}

static void *control_main(void *unused)
{
    for (;;)
        turn();
    return NULL;
}

// ---- starting ------------------------------------------------------------------------------------

int control_prepare(void)
{
    sigset_t set;
    sigfillset(&set);
    static const int own[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGSYS, SIGTRAP};
    for (u32 i = 0; i < array_size(own); i++)
        sigdelset(&set, own[i]);
    pthread_sigmask(SIG_BLOCK, &set, NULL); // and so in every thread to come
    sigdelset(&set, SIGCHLD); // of stubs
    sigdelset(&set, SIGPIPE);
    control.signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return control.signal_fd < 0 ? -errno : doorbell_init(&control.bell);
}

int control_start(const struct boot_message *m)
{
    pthread_attr_t attr;
    pthread_t thread;
    control.start_fd = m->control_fd;
    control.listen_fd = m->listen_fd;
    control.ends_with_starter = m->features & BOOT_DIE_WITH_PARENT;
    if (m->control_fd >= 0)
        client_add(m->control_fd)->starter = true;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 64 << 10);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    return -pthread_create(&thread, &attr, control_main, NULL);
}
