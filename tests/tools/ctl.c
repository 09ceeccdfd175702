// SPDX-License-Identifier: Apache-2.0
// Speaks the control protocol with a sentry, for tests:
//
//   ctl SOCKET CONTAINER start | wait [PID] | signal N [PID] | signal-all N | ps | pause | resume | state | stats |
//       update TASKS [MEMORY] | destroy | winsize ROWS COLUMNS [PID] | events | stacks
//   ctl SOCKET ID create [-p OTHER] [-h OTHER] ROOTFS ARGS...  OTHER: whose PID (hostname) namespace it shares
//   ctl SOCKET CONTAINER exec [-t] [-T] [-u UID] [-d CWD] [-e NAME=VALUE] ARGS...  stdio is passed on; "pid N" on
// stderr
//
// Prints the reply's text, or "error N text" on stderr with status 255; the wait status of wait and exec becomes its
// own.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#include "wire/boot.h"
#include "wire/control.h"

static u8 packet[CONTROL_SIZE_MAX];

static void __attribute__((noreturn)) die(const char *what)
{
    perror(what);
    exit(254);
}

static void send_message(int fd, const struct control_message *m, const int *fds, u32 count)
{
    union {
        u8 bytes[CMSG_SPACE(8 * sizeof(int))];
        struct cmsghdr align;
    } space = {0};
    int size = control_encode(m, packet, sizeof(packet));
    struct iovec iov = {packet, (size_t)size};
    struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1};
    if (count) {
        h.msg_control = space.bytes;
        h.msg_controllen = CMSG_SPACE(count * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&h);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(count * sizeof(int));
        memcpy(CMSG_DATA(c), fds, count * sizeof(int));
    }
    if (size < 0 || sendmsg(fd, &h, MSG_NOSIGNAL) < 0)
        die("send");
}

static void receive(int fd, struct control_message *ret)
{
    ssize_t n = recv(fd, packet, sizeof(packet), 0);
    if (n <= 0 || control_decode(packet, (size_t)n, ret) < 0) {
        fprintf(stderr, "the sentry has gone\n");
        exit(253);
    }
    if (ret->error) {
        fprintf(stderr, "error %d %s\n", -ret->error, ret->text);
        exit(255);
    }
}

static int connect_to(const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
        die(path);
    return fd;
}

static int exit_code(u32 status)
{
    return status & 0x7f ? 128 + (int)(status & 0x7f) : (int)(status >> 8);
}

static int exec_file(const struct boot_message *m)
{
    void *buf;
    size_t size;
    int fd = memfd_create("exec", MFD_CLOEXEC);
    int r = boot_encode(m, &buf, &size);
    if (r < 0 || fd < 0 || write(fd, buf, size) != (ssize_t)size) {
        errno = -r;
        die("boot message");
    }
    free(buf);
    return fd;
}

static int do_exec(int fd, struct control_message *m, char **argv)
{
    static const char *env[16] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin"};
    struct boot_message b = {.role = BOOT_EXEC, .id = m->container, .stdio = {1, 2, 3},
                             .process = {.cwd = "/", .env = env, .env_count = 1, .umask = 022}};
    struct boot_process *p = &b.process;
    for (; *argv && (*argv)[0] == '-'; argv++) {
        if (!strcmp(*argv, "-t")) {
            p->terminal = true;
            p->console_rows = 24;
            p->console_columns = 80;
        } else if (!strcmp(*argv, "-T")) {
            m->flags |= CONTROL_TIED;
        } else if (!strcmp(*argv, "-u")) {
            p->uid = p->gid = (u32)atoi(*++argv);
        } else if (!strcmp(*argv, "-d")) {
            p->cwd = *++argv;
        } else if (!strcmp(*argv, "-e")) {
            env[p->env_count++] = *++argv;
        }
    }
    struct termios raw;
    if (p->terminal && tcgetattr(0, &raw) == 0) {
        cfmakeraw(&raw);
        tcsetattr(0, TCSANOW, &raw);
    }
    p->args = (const char **)argv;
    while (argv[p->arg_count])
        p->arg_count++;
    int fds[] = {exec_file(&b), 0, 1, 2};
    m->type = CONTROL_EXEC;
    send_message(fd, m, fds, 4);
    struct control_message r;
    receive(fd, &r);
    if (!p->terminal) // whose output it would disturb
        fprintf(stderr, "pid %u\n", r.pid);
    for (int i = 0; i < 2; i++)
        close(i);
    while (r.type != CONTROL_EXIT)
        receive(fd, &r);
    return exit_code(r.status);
}

// A container with its root at a directory, proc, devpts and a tmpfs.
static void do_create(int fd, struct control_message *m, char **argv)
{
    static const char *env[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL};
    struct boot_mount mounts[] = {
        {.destination = "/", .kind = BOOT_MOUNT_HOST, .source = "root", .fstype = "bailey", .root_fd = 4},
        {.destination = "/proc", .kind = BOOT_MOUNT_PROC, .source = "proc", .fstype = "proc", .root_fd = -1},
        {.destination = "/dev", .kind = BOOT_MOUNT_TMPFS, .source = "dev", .fstype = "tmpfs", .root_fd = -1},
        {.destination = "/dev/pts", .kind = BOOT_MOUNT_DEVPTS, .source = "pts", .fstype = "devpts", .root_fd = -1},
        {.destination = "/tmp", .kind = BOOT_MOUNT_TMPFS, .source = "tmp", .fstype = "tmpfs", .root_fd = -1},
    };
    struct boot_message b = {.role = BOOT_CONTAINER, .id = m->container, .stdio = {1, 2, 3}, .oom_fd = -1,
                             .notify_fd = -1, .cgroup_path = "/",
                             .hostname = m->container, .mounts = mounts, .mount_count = 5,
                             .process = {.cwd = "/", .env = env, .env_count = 1, .umask = 022}};
    for (int i = 0; i < 5; i++) {
        mounts[i].write_fd = mounts[i].gofer_fd = -1;
        mounts[i].traits = i ? BOOT_TRAIT_MAKE_POINT : 0;
    }
    for (; *argv && (*argv)[0] == '-'; argv += 2)
        *(!strcmp(*argv, "-p") ? &b.pid_ns_of : &b.uts_ns_of) = argv[1];
    int root = open(*argv, O_PATH | O_DIRECTORY | O_CLOEXEC);
    b.process.args = (const char **)argv + 1;
    while (argv[1 + b.process.arg_count])
        b.process.arg_count++;
    int fds[] = {exec_file(&b), 0, 1, 2, root};
    // The last one by itself, before the request: descriptors come in any number of packets.
    struct control_message more = {.type = CONTROL_FDS, .container = "", .text = ""}, r;
    send_message(fd, &more, fds, 3);
    m->type = CONTROL_CREATE;
    send_message(fd, m, fds + 3, 2);
    receive(fd, &r);
}

static const struct {
    const char *word;
    u32 type;
} words[] = {{"start", CONTROL_START},   {"wait", CONTROL_WAIT},     {"signal", CONTROL_SIGNAL},
             {"signal-all", CONTROL_SIGNAL}, {"ps", CONTROL_PS},     {"pause", CONTROL_PAUSE},
             {"resume", CONTROL_RESUME}, {"state", CONTROL_STATE},   {"stats", CONTROL_STATS},
             {"update", CONTROL_UPDATE}, {"destroy", CONTROL_DESTROY}, {"winsize", CONTROL_WINSIZE},
             {"events", CONTROL_EVENTS}, {"stacks", CONTROL_STACKS}};

static u32 number(char **argv, int i)
{
    for (int j = 0; j < i; j++)
        if (!argv[j])
            return 0;
    return argv[i] ? (u32)atoi(argv[i]) : 0;
}

int main(int argc, char **argv)
{
    if (argc < 4)
        return 254;
    struct control_message m = {.id = 1, .container = argv[2], .text = ""}, r;
    int fd = connect_to(argv[1]);
    const char *word = argv[3];
    argv += 4;
    if (!strcmp(word, "exec"))
        return do_exec(fd, &m, argv);
    if (!strcmp(word, "create")) {
        do_create(fd, &m, argv);
        return 0;
    }
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (!strcmp(words[i].word, word))
            m.type = words[i].type;
    for (int i = 0; i < CONTROL_VALUES; i++)
        m.values[i] = ~0ull;
    if (m.type == CONTROL_SIGNAL) {
        m.signal = number(argv, 0);
        m.pid = number(argv, 1);
        m.flags = strcmp(word, "signal-all") ? 0 : CONTROL_ALL;
    } else if (m.type == CONTROL_WINSIZE) {
        m.rows = (u16)number(argv, 0);
        m.columns = (u16)number(argv, 1);
        m.pid = number(argv, 2);
    } else if (m.type == CONTROL_UPDATE) {
        m.values[CONTROL_LIMIT_TASKS] = number(argv, 0);
        if (argv[0] && argv[1])
            m.values[CONTROL_LIMIT_MEMORY] = strtoull(argv[1], NULL, 10);
    } else {
        m.pid = number(argv, 0);
        m.flags = argv[0] && !strcmp(argv[0], "all") ? CONTROL_ALL : 0;
    }
    send_message(fd, &m, NULL, 0);
    if (m.type == CONTROL_WAIT || m.type == CONTROL_EVENTS)
        fputs("asked\n", stderr);
    do {
        receive(fd, &r);
        fputs(r.text, stdout);
        if (m.type == CONTROL_EVENTS && r.more)
            fputs("\n", stdout);
        fflush(stdout);
    } while (r.more);
    if (m.type == CONTROL_STATE)
        printf("%llu %llu %llu\n", (unsigned long long)r.values[0], (unsigned long long)r.values[1],
               (unsigned long long)r.values[2]);
    if (m.type == CONTROL_STATS)
        for (int i = 0; i <= CONTROL_STATS_OOM_KILLS; i++)
            printf("%llu\n", (unsigned long long)r.values[i]);
    return m.type == CONTROL_WAIT ? exit_code(r.status) : 0;
}
