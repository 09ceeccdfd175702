// SPDX-License-Identifier: Apache-2.0
#include "runtime/notify.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/log.h"

#define ROOM_SECONDS 5    // how long the service manager may leave its queue full
#define BARRIER_SECONDS 5 // how long it may take to read what was sent

static const char *host_name(void)
{
    const char *name = getenv("NOTIFY_SOCKET");
    return name && (name[0] == '/' || name[0] == '@') && name[1] ? name : NULL;
}

bool notify_wanted(void)
{
    return host_name() != NULL;
}

void notify_configure(struct spec *s)
{
    struct spec_mount *mounts = pool_alloc(&s->pool, (s->mount_count + 1) * sizeof(*mounts));
    if (s->mount_count)
        memcpy(mounts, s->mounts, s->mount_count * sizeof(*mounts));
    mounts[s->mount_count++] = (struct spec_mount){
        .destination = BOOT_NOTIFY_DIR, .source = "notify", .type = "tmpfs",
        .data = "mode=755,size=64k", .flags = MS_NOSUID | MS_NODEV | MS_NOEXEC,
    };
    s->mounts = mounts;
    spec_set_env(&s->pool, &s->process, "NOTIFY_SOCKET", BOOT_NOTIFY_DIR "/" BOOT_NOTIFY_NAME);
}

void notify_ask(struct client *k, const struct container *c)
{
    struct control_message m = {.type = CONTROL_NOTIFY};
    struct error why;
    int r = client_open(k, c, &why);
    if (!r)
        r = client_send(k, &m, NULL, 0, &why);
    if (r < 0) {
        rlog(RLOG_WARN, "wait for readiness: %s", why.text);
        client_close(k);
    }
}

// ---- the service manager ----------------------------------------------------------------------------

static int wait_for(int fd, short events, int seconds)
{
    struct pollfd p = {.fd = fd, .events = events};
    int n;
    do
        n = poll(&p, 1, seconds * 1000);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n ? 0 : -ETIMEDOUT;
}

static int connect_to(const char *name)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    size_t size = strlen(name);
    if (size >= sizeof(a.sun_path))
        return -ENAMETOOLONG;
    memcpy(a.sun_path, name, size);
    if (name[0] == '@')
        a.sun_path[0] = 0;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    socklen_t all = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size);
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, all) < 0) {
        int r = -errno;
        if (fd >= 0)
            close(fd);
        return r;
    }
    return fd;
}

// `fd` goes along unless it is -1.
static int say(int host, const char *text, int fd)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec iov = {(void *)(uintptr_t)text, strlen(text)};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    if (fd >= 0) {
        m.msg_control = control.space;
        m.msg_controllen = sizeof(control.space);
        control.header = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
        memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
    }
    int r = wait_for(host, POLLOUT, ROOM_SECONDS);
    return r < 0 ? r : sendmsg(host, &m, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

// Waits until all has been read: service managers find out who has sent something by the pid, so bailey must not end
// before (sd_notify_barrier(3)). One that does not know of barriers may keep us waiting, not for ever.
static void barrier(int host)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return;
    int r = say(host, "BARRIER=1", ends[1]);
    close(ends[1]);
    if (!r)
        r = wait_for(ends[0], 0, BARRIER_SECONDS); // POLLHUP
    if (r < 0)
        rlog(RLOG_DEBUG, "NOTIFY_SOCKET: barrier: %s", error_text(-r));
    close(ends[0]);
}

static void tell_ready(pid_t pid)
{
    char main_pid[32];
    int host = connect_to(host_name());
    int r = host < 0 ? host : say(host, "READY=1\n", -1);
    if (!r && pid) {
        snprintf(main_pid, sizeof(main_pid), "MAINPID=%d\n", pid);
        r = say(host, main_pid, -1);
        if (!r)
            barrier(host);
    }
    if (r < 0)
        rlog(RLOG_WARN, "NOTIFY_SOCKET: %s: %s", host_name(), error_text(-r));
    if (host >= 0)
        close(host);
}

void notify_pass_on(struct client *k, pid_t pid)
{
    struct control_message answer;
    struct error ignored;
    int r = client_receive(k, -1, &answer, &ignored);
    client_close(k);
    // No answer: the sandbox has ended. An error: it has no such socket, having been created by a call without.
    if (!r && answer.type == CONTROL_REPLY && !answer.error && answer.values[0] == 1)
        tell_ready(pid);
}

void notify_wait(const struct container *c)
{
    struct client k;
    notify_ask(&k, c);
    if (k.fd >= 0)
        notify_pass_on(&k, c->process.pid);
}

// ---- one that is mounted -----------------------------------------------------------------------------

// In a child: it leaves bailey's network namespace, where the socket could be given the names of others.
static void connect_elsewhere(int answer, const char *name)
{
    int fd = unshare(CLONE_NEWNET) < 0 ? -errno : connect_to(name);
    _exit(fd >= 0 && say(answer, "x", fd) == 0 ? 0 : 1);
}

static int receive_fd(int from)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    char byte;
    struct iovec iov = {&byte, 1};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.space,
                       .msg_controllen = sizeof(control.space)};
    int fd;
    if (recvmsg(from, &m, MSG_CMSG_CLOEXEC) <= 0 || m.msg_controllen < CMSG_LEN(sizeof(fd)))
        return -ECONNREFUSED;
    memcpy(&fd, CMSG_DATA(&control.header), sizeof(fd));
    return fd;
}

static int connect_apart(const char *name)
{
    int ends[2], fd = -ECHILD;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
        return -errno;
    pid_t pid = fork();
    if (pid == 0)
        connect_elsewhere(ends[1], name);
    close(ends[1]);
    if (pid > 0) {
        fd = receive_fd(ends[0]);
        waitpid(pid, NULL, 0);
    }
    close(ends[0]);
    return fd;
}

// The mount that a path is in, if it is a bind mount: the last one that covers it.
static const struct spec_mount *bind_of(const struct spec *s, const char *path, const char **ret_rest)
{
    for (u32 i = s->mount_count; i > 0; i--) {
        const struct spec_mount *m = &s->mounts[i - 1];
        size_t size = strlen(m->destination);
        if (strncmp(path, m->destination, size) || (path[size] && path[size] != '/'))
            continue;
        *ret_rest = path + size + (path[size] == '/');
        return m->bind ? m : NULL;
    }
    return NULL;
}

// An O_PATH descriptor of a socket in a mount, through no link: others may have made what lies there.
static int open_socket(struct spec *s, const struct spec_mount *m, const char *rest, const char *bundle)
{
    const struct open_how how = {.flags = O_PATH | O_CLOEXEC | O_NOFOLLOW,
                                 .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};
    const char *source = m->source[0] == '/' ? m->source : pool_printf(&s->pool, "%s/%s", bundle, m->source);
    struct stat st;
    int dir = open(source, O_PATH | O_CLOEXEC);
    int fd = dir < 0 || !*rest ? dir : (int)syscall(SYS_openat2, dir, rest, &how, sizeof(how));
    if (dir >= 0 && fd != dir)
        close(dir);
    if (fd >= 0 && (fstat(fd, &st) < 0 || !S_ISSOCK(st.st_mode))) {
        close(fd);
        fd = -1;
    }
    return fd;
}

int notify_connect_mounted(struct spec *s, const char *bundle, const char **ret_path)
{
    const char *path = NULL, *rest, *prefix = "NOTIFY_SOCKET=/";
    char name[64];
    for (u32 i = 0; i < s->process.env_count; i++)
        if (!strncmp(s->process.env[i], prefix, strlen(prefix)))
            path = spec_clean_path(&s->pool, s->process.env[i] + strlen(prefix) - 1);
    const struct spec_mount *m = path ? bind_of(s, path, &rest) : NULL;
    int socket = m ? open_socket(s, m, rest, bundle) : -1;
    if (socket < 0)
        return -1;
    snprintf(name, sizeof(name), "/proc/self/fd/%d", socket);
    int fd = connect_apart(name);
    close(socket);
    if (fd < 0)
        rlog(RLOG_WARN, "NOTIFY_SOCKET %s: no connection to the socket that is mounted there", path);
    *ret_path = path;
    return max(fd, -1);
}
