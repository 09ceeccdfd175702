// SPDX-License-Identifier: Apache-2.0
#include "runtime/sandbox_mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "wire/boot.h"

struct place {
    char name[40];
};

// An id may be longer than a name.
static struct place place_of(const char *id, u32 index)
{
    struct place p;
    u64 hash = 0xcbf29ce484222325ull;
    for (; *id; id++)
        hash = (hash ^ (u8)*id) * 0x100000001b3ull;
    snprintf(p.name, sizeof(p.name), "%016llx.%u", (unsigned long long)hash, index);
    return p;
}

static int detach_all(int root, const char *id)
{
    if (fchdir(root) < 0)
        return -errno;
    for (u32 i = 0; i < BOOT_MOUNTS_MAX; i++) {
        struct place p = place_of(id, i);
        if (umount2(p.name, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 && errno == ENOENT)
            break;
        unlinkat(root, p.name, AT_REMOVEDIR);
    }
    return 0;
}

static int attach_all(int root, const char *id, const int *trees, u32 count)
{
    int r = detach_all(root, id); // what a creation that was cut off has left
    if (r < 0)
        return r;
    for (u32 i = 0; i < count; i++) {
        struct place p = place_of(id, i);
        if (mkdirat(root, p.name, 0700) < 0 ||
            syscall(SYS_move_mount, trees[i], "", root, p.name, MOVE_MOUNT_F_EMPTY_PATH) < 0)
            return -errno;
    }
    return 0;
}

// Does it in a child that goes into the sentry's mount namespace; `trees` NULL: detaches.
static int run_inside(const struct container *sandbox, const char *id, const int *trees, u32 count)
{
    char path[64];
    int status = 0, pidfd = host_process_open(&sandbox->process);
    if (pidfd < 0)
        return pidfd;
    snprintf(path, sizeof(path), "/proc/%d/root", sandbox->process.pid);
    int root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int r = root < 0 ? -errno : host_process_alive(&sandbox->process) ? 0 : -ESRCH;
    pid_t child = r < 0 ? 0 : fork();
    if (!r && child == 0) {
        r = setns(pidfd, CLONE_NEWNS) < 0 ? -errno
            : trees                       ? attach_all(root, id, trees, count)
                                          : detach_all(root, id);
        _exit(-r & 0xff);
    }
    if (child < 0)
        r = -errno;
    if (child > 0) {
        while (waitpid(child, &status, 0) < 0 && errno == EINTR)
            ;
        r = WIFEXITED(status) ? -WEXITSTATUS(status) : -ESRCH;
    }
    if (root >= 0)
        close(root);
    close(pidfd);
    return r;
}

int sandbox_mounts_attach(const struct container *sandbox, const char *id, const int *trees,
                          u32 count, struct error *e)
{
    int r = count ? run_inside(sandbox, id, trees, count) : 0;
    return r < 0 ? error_errno(e, r, "attach mounts in the sandbox") : 0;
}

void sandbox_mounts_detach(const struct container *sandbox, const char *id)
{
    if (host_process_alive(&sandbox->process) && run_inside(sandbox, id, NULL, 0) < 0)
        return; // they go with the sandbox
}
