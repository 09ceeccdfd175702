// SPDX-License-Identifier: Apache-2.0
// bailey-proxy CONTAINER PID REQUEST: stands on the host for a process in a sandbox. Its pid is what clients are told:
// signals sent to it are passed on, and it ends with the status of the process.
//
// Descriptors: PROXY_CONTROL_FD, the connection on which the end of the process is told, as the answer to REQUEST;
// PROXY_TTY_FD, its terminal (the controlling one, so that changes of size are heard of), or not open; PROXY_EXIT_FD,
// where the end is recorded (wire/exit_record.h), or /dev/null. Started by
// bailey only, with all signals blocked. What the sandbox says is hostile: one kind of message is understood, of
// bounded size.
#include <errno.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/syscall.h"
#include "proxy-filter.h"
#include "runtime/proxy/proxy_fds.h"
#include "wire/control.h"
#include "wire/exit_record.h"

#define STATUS_LOST (128 + SIGKILL) // the sandbox has ended, and all in it
#define STATUS_BROKEN 255

static const char *container;
static u32 pid, request;
static u8 packet[CONTROL_SIZE_MAX];

static int open_signals(void)
{
    sigset_t all;
    sigfillset(&all);
    sigdelset(&all, SIGCHLD);
    return signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int close_jail(void)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct none[2] = {0};
    for (long cap = 0; cap <= 63; cap++)
        prctl(PR_CAPBSET_DROP, cap, 0, 0, 0); // those that do not exist, or may not be dropped
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    if (syscall(SYS_capset, &header, none) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -errno;
#ifdef BAILEY_SANITIZE
    return 0;
#endif
    struct sock_fprog program = {array_size(proxy_kill),
                                 (struct sock_filter *)(uintptr_t)proxy_kill};
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0 ? -errno : 0;
}

static void forward(int sig)
{
    struct winsize size;
    struct control_message m = {.type = CONTROL_SIGNAL, .container = container, .pid = pid,
                                .signal = (u32)sig, .text = ""};
    if (sig == SIGWINCH && ioctl(PROXY_TTY_FD, TIOCGWINSZ, &size) == 0) {
        m.type = CONTROL_WINSIZE;
        m.signal = 0;
        m.rows = size.ws_row;
        m.columns = size.ws_col;
    }
    int n = control_encode(&m, packet, sizeof(packet));
    if (n > 0)
        send(PROXY_CONTROL_FD, packet, (size_t)n, MSG_NOSIGNAL);
}

// Reads a message; the status to end with, or -1 to go on.
static int hear(void)
{
    struct control_message m;
    ssize_t n = recv(PROXY_CONTROL_FD, packet, sizeof(packet), MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return -1;
    if (n <= 0)
        return STATUS_LOST;
    if (control_decode(packet, (size_t)n, &m) < 0)
        return STATUS_BROKEN;
    if (m.id != request || (m.type != CONTROL_EXIT && m.type != CONTROL_REPLY))
        return -1;
    if (m.error)
        return STATUS_BROKEN;
    int status = (int)m.status;
    const struct exit_record record = {EXIT_RECORD_MAGIC, m.status};
    if (pwrite(PROXY_EXIT_FD, &record, sizeof(record), 0) < 0)
        return STATUS_BROKEN;
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return STATUS_BROKEN;
    container = argv[1];
    pid = (u32)strtoul(argv[2], NULL, 10);
    request = (u32)strtoul(argv[3], NULL, 10);
    int signals = open_signals(), status = -1;
    if (signals < 0 || close_jail() < 0)
        return STATUS_BROKEN;
    while (status < 0) {
        struct pollfd fds[] = {{.fd = signals, .events = POLLIN},
                               {.fd = PROXY_CONTROL_FD, .events = POLLIN}};
        struct signalfd_siginfo info;
        if (poll(fds, array_size(fds), -1) < 0)
            continue;
        while (fds[0].revents && read(signals, &info, sizeof(info)) == sizeof(info))
            forward((int)info.ssi_signo);
        if (fds[1].revents)
            status = hear();
    }
    _exit(status);
}
