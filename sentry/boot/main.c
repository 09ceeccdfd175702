// SPDX-License-Identifier: Apache-2.0
// bailey-sentry FD [ID]: the kernel of one sandbox. Started by bailey only; FD holds the boot message.
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/log.h"
#include "host/host.h"
#include "sentry/boot/boot.h"
#include "sentry/boot/crash.h"
#include "sentry/boot/exit_record.h"
#include "sentry/boot/jail.h"
#include "sentry/control/control.h"
#include "sentry/platform/platform.h"
#include "sentry/syscalls/table.h"
#include "sentry/snapshot/snapshot.h"

static __thread char *explanation;

void boot_explain(const char *fmt, ...)
{
    va_list ap;
    if (!explanation)
        return;
    va_start(ap, fmt);
    vsnprintf(explanation, BOOT_EXPLANATION_SIZE, fmt, ap);
    va_end(ap);
}

void boot_explain_here(char *buf)
{
    explanation = buf;
}

const char *boot_explanation(void)
{
    return explanation ? explanation : "";
}

// Maps the boot message for good: its strings are used while the sandbox lives.
static int read_message(const char *number, struct boot_message *ret)
{
    struct stat st;
    char *end;
    long fd = strtol(number, &end, 10);
    if (*end || end == number || fd < 0 || fd > 65535)
        return -EINVAL;
    long r = host_sys(SYS_fstat, fd, &st);
    if (r < 0)
        return (int)r;
    if (st.st_size <= 0 || st.st_size > BOOT_SIZE_MAX)
        return -EBADMSG;
    void *p = host_mmap(NULL, (u64)st.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, (int)fd, 0);
    if (host_is_error(p))
        return (int)(intptr_t)p;
    r = boot_decode(p, (u64)st.st_size, ret);
    if (!r && ret->role != BOOT_SENTRY)
        r = -EBADMSG;
    host_close((int)fd);
    return (int)r;
}

// The directory for named memory files: where bailey has put us, the sandbox's root, an empty tmpfs.
static int open_memdir(struct boot_message *m)
{
    long fd = host_sys(SYS_openat, AT_FDCWD, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    m->memdir_fd = (int)fd;
    return fd < 0 ? (int)fd : 0;
}

static int start_platform(const struct boot_message *m)
{
    struct platform_config config = {
        .use_rewriting = !(m->features & BOOT_NO_REWRITE),
        .in_stub_answers = m->strace == BOOT_STRACE_OFF,
        .debug = m->log_level >= LOG_LEVEL_DEBUG,
        .cpu_count = m->cpu_count,
    };
    return platform_init(&config);
}

struct stage {
    const char *name;
    int (*run)(struct boot_message *m);
};

static int stage_jail_check(struct boot_message *m)
{
    return jail_check();
}

static int stage_platform(struct boot_message *m)
{
    return start_platform(m);
}

static int stage_jail(struct boot_message *m)
{
    return jail_close(m->features & BOOT_TRAP_VIOLATION);
}

static int stage_exit_record(struct boot_message *m)
{
    return exit_record_open(m->exit_fd);
}

static int stage_prepare(struct boot_message *m)
{
    return control_prepare();
}

static int stage_control(struct boot_message *m)
{
    return control_start(m);
}

static int stage_kernel(struct boot_message *m)
{
    if (m->snapshot_fd < 0)
        return kernel_boot(m);
    boot_network(m);
    int r = snapshot_restore(m->snapshot_fd, m);
    if (r == -ENOEXEC)
        boot_explain("the snapshot was written by another build of bailey");
    else if (r)
        boot_explain("cannot go on from the snapshot: error %d", -r);
    host_close(m->snapshot_fd);
    kernel_boot_restored();
    return r;
}

static const struct stage stages[] = {
    {"open what control needs", stage_prepare}, {"look at the jail", stage_jail_check},
    {"open the memory directory", open_memdir}, {"map the record of the end", stage_exit_record},
    {"start the platform", stage_platform}, {"close the jail", stage_jail},
    {"start the control thread", stage_control}, {NULL, stage_kernel},
};

// All stages; tells bailey of a failure.
static int boot(struct boot_message *m)
{
    char text[1200];
    for (size_t i = 0; i < array_size(stages); i++) {
        int r = stages[i].run(m);
        if (r >= 0)
            continue;
        if (stages[i].name)
            snprintf(text, sizeof(text), "sentry: cannot %s: error %d", stages[i].name, -r);
        else
            snprintf(text, sizeof(text), "%s", boot_explanation());
        log_error("boot failed: %s (error %d)", text, -r);
        control_tell_failed(m->control_fd, r, text);
        return r;
    }
    return 0;
}

int main(int argc, char **argv)
{
    static struct boot_message m;
    static char words[BOOT_EXPLANATION_SIZE];
    signal(SIGPIPE, SIG_IGN);
    // One heap: guests' state is in the arena, and to decide on more the allocator would look into /sys.
    mallopt(M_ARENA_MAX, 1);
    if (argc == 2 && !strcmp(argv[1], "--compat")) // for tools/gen-compat
        return syscall_write_compat(1) < 0;
    int r = argc >= 2 ? read_message(argv[1], &m) : -EINVAL;
    if (r < 0) {
        static const char usage[] = "bailey-sentry: started by bailey, with a boot message\n";
        host_write(2, usage, sizeof(usage) - 1);
        return 1;
    }
    log_init(m.log_fd, (enum log_level)m.log_level, "sentry");
    syscall_set_user_log(m.user_log_fd);
    crash_init(m.log_fd, m.control_fd);
    log_debug("booting container %s", m.id);
    boot_explain_here(words);
    if (boot(&m) < 0)
        return 1;
    control_tell_ready();
    if ((m.features & BOOT_AUTOSTART) && kernel_start() < 0)
        return 1;
    int status = kernel_run();
    log_debug("init ended with wait status 0x%x", status);
    exit_record_set(status);
    control_tell_exit(status);
    return status & 0x7f ? 128 + (status & 0x7f) : status >> 8 & 0xff;
}
