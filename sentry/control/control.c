// SPDX-License-Identifier: Apache-2.0
#include "sentry/control/control.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>

#include "base/lock.h"
#include "base/log.h"
#include "host/host.h"
#include "wire/control.h"

#define CLIENTS_MAX 8 // connections to the listening socket at once; more wait in its backlog
#define STACKS_MAX (256u << 10)

enum { START_WAITING, START_GO, START_CANCELLED };

static struct {
    int start_fd, listen_fd;
    int clients[CLIENTS_MAX]; // -1: free
    u32 start;                // futex word: START_*
    struct mutex send_lock;   // RANK_LEAF: packets of different threads on start_fd
} control = {.start_fd = -1, .listen_fd = -1};

static u8 packet_in[CONTROL_SIZE_MAX], packet_out[CONTROL_SIZE_MAX];
static char stacks[STACKS_MAX];

static int host_send(int fd, const void *buf, size_t size, int flags)
{
    return (int)host_sys(SYS_sendto, fd, buf, size, flags | MSG_NOSIGNAL, 0, 0);
}

// Small messages, from any thread. The peer always reads; one that does not is not waited for.
static void tell(int fd, const struct control_message *m)
{
    u8 buf[2048];
    int size = control_encode(m, buf, sizeof(buf));
    if (fd < 0 || size < 0)
        return;
    mutex_lock(&control.send_lock, RANK_LEAF);
    host_send(fd, buf, (size_t)size, 0);
    mutex_unlock(&control.send_lock);
}

void control_tell_ready(void)
{
    tell(control.start_fd, &(struct control_message){.type = CONTROL_READY});
}

void control_tell_failed(int control_fd, int error, const char *text)
{
    tell(control_fd,
         &(struct control_message){.type = CONTROL_FAILED, .error = error, .text = text});
}

void control_tell_exit(int wait_status)
{
    tell(control.start_fd, &(struct control_message){.type = CONTROL_EXIT,
                                                     .status = (u32)wait_status & 0xffff});
}

static void set_start(u32 value)
{
    u32 waiting = START_WAITING;
    if (__atomic_compare_exchange_n(&control.start, &waiting, value, false, __ATOMIC_ACQ_REL,
                                    __ATOMIC_ACQUIRE))
        host_futex_wake(&control.start, 1, false);
}

bool control_wait_start(void)
{
    u32 v;
    while ((v = __atomic_load_n(&control.start, __ATOMIC_ACQUIRE)) == START_WAITING)
        host_futex_wait(&control.start, START_WAITING, NULL, false);
    return v == START_GO;
}

// One packet of an answer. Waits for a slow reader no longer than a socket's buffer lasts: a full one
// ends the connection.
static bool answer(int fd, u32 id, int error, const char *text, bool more)
{
    int size = control_encode(&(struct control_message){.type = CONTROL_REPLY, .id = id,
                                                        .error = error, .text = text,
                                                        .more = more},
                              packet_out, sizeof(packet_out));
    return size > 0 && host_send(fd, packet_out, (size_t)size, MSG_DONTWAIT) >= 0;
}

static bool answer_stacks(int fd, u32 id)
{
    static char piece[CONTROL_TEXT_MAX / 2];
    size_t size = min(kernel_control_stacks(stacks, sizeof(stacks)), sizeof(stacks)), done = 0;
    do {
        size_t n = min(size - done, sizeof(piece) - 1);
        memcpy(piece, stacks + done, n);
        piece[n] = 0;
        done += n;
        if (!answer(fd, id, 0, piece, done < size))
            return false;
    } while (done < size);
    return true;
}

// Serves one request; false ends the connection.
static bool serve(int fd, const struct control_message *m, int passed)
{
    int r = -ENOSYS;
    switch ((enum control_type)m->type) {
    case CONTROL_START:
        set_start(START_GO);
        r = 0;
        break;
    case CONTROL_SIGNAL:
        r = m->signal ? kernel_control_signal(m->pid, (int)m->signal, m->flags & CONTROL_FOREGROUND) : -EINVAL;
        break;
    case CONTROL_WINSIZE:
        r = kernel_control_winsize(m->rows, m->columns);
        break;
    case CONTROL_STACKS:
        return answer_stacks(fd, m->id);
    case CONTROL_SNAPSHOT:
        r = passed >= 0 ? kernel_control_snapshot(passed) : -EINVAL;
        break;
    case CONTROL_FDS:
    case CONTROL_CREATE:
    case CONTROL_EXEC:
    case CONTROL_WAIT:
    case CONTROL_PS:
    case CONTROL_PAUSE:
    case CONTROL_RESUME:
    case CONTROL_STATE:
    case CONTROL_STATS:
    case CONTROL_UPDATE:
    case CONTROL_DESTROY:
    case CONTROL_EVENTS:
        break; // -ENOSYS
    case CONTROL_READY:
    case CONTROL_FAILED:
    case CONTROL_EXIT:
    case CONTROL_REPLY:
        return false;
    }
    // Id 0: no answer is wanted.
    return m->id == 0 || answer(fd, m->id, r, "", false);
}

// Reads one packet and serves it; false ends the connection. At most one descriptor comes along.
static bool receive(int fd)
{
    struct control_message m;
    u8 space[CMSG_SPACE(sizeof(int))];
    struct iovec iov = {packet_in, sizeof(packet_in)};
    struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = space,
                       .msg_controllen = sizeof(space)};
    int passed = -1;
    long n = host_sys(SYS_recvmsg, fd, &h, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n == -EAGAIN || n == -EINTR)
        return true;
    struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&h) : NULL;
    if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS &&
        c->cmsg_len == CMSG_LEN(sizeof(int)))
        memcpy(&passed, CMSG_DATA(c), sizeof(int));
    bool good = n > 0 && control_decode(packet_in, (size_t)n, &m) == 0 && serve(fd, &m, passed);
    if (passed >= 0)
        host_close(passed);
    return good;
}

static void accept_client(void)
{
    long fd = host_sys(SYS_accept4, control.listen_fd, 0, 0, SOCK_CLOEXEC);
    if (fd < 0)
        return;
    for (u32 i = 0; i < CLIENTS_MAX; i++) {
        if (control.clients[i] < 0) {
            control.clients[i] = (int)fd;
            return;
        }
    }
    host_close((int)fd);
}

static void *control_main(void *unused)
{
    struct pollfd fds[CLIENTS_MAX + 2];
    for (;;) {
        fds[0] = (struct pollfd){.fd = control.start_fd, .events = POLLIN};
        fds[1] = (struct pollfd){.fd = control.listen_fd, .events = POLLIN};
        for (u32 i = 0; i < CLIENTS_MAX; i++)
            fds[i + 2] = (struct pollfd){.fd = control.clients[i], .events = POLLIN};
        if (host_sys(SYS_ppoll, fds, array_size(fds), 0, 0, 0) < 0)
            continue;
        for (u32 i = 0; i < CLIENTS_MAX; i++) {
            if (fds[i + 2].revents && !receive(fds[i + 2].fd)) {
                host_close(fds[i + 2].fd);
                control.clients[i] = -1;
            }
        }
        if (fds[1].revents)
            accept_client();
        // The starter has gone (or talks nonsense): a sandbox that never started ends, one that runs goes on
        // without it, unless it was to die with its parent, which the host sees to.
        if (fds[0].revents && !receive(control.start_fd)) {
            control.start_fd = -1;
            set_start(START_CANCELLED);
        }
    }
    return NULL;
}

int control_start(const struct boot_message *m)
{
    pthread_attr_t attr;
    pthread_t thread;
    control.start_fd = m->control_fd;
    control.listen_fd = m->listen_fd;
    for (u32 i = 0; i < CLIENTS_MAX; i++)
        control.clients[i] = -1;
    if (m->features & BOOT_AUTOSTART)
        control.start = START_GO;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 64 << 10);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    return -pthread_create(&thread, &attr, control_main, NULL);
}
