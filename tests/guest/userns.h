// SPDX-License-Identifier: Apache-2.0
// What the tests of namespaces share: an ordinary user, and root of a user namespace.
#ifndef BAILEY_TESTS_GUEST_USERNS_H
#define BAILEY_TESTS_GUEST_USERNS_H

#include "t.h"

#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/prctl.h>

#define USER 1000

static inline void as_child(void (*fn)(void *), void *arg)
{
    t_join(t_fork(fn, arg));
}

// Not root any more, and whose /proc files are one's own again.
static inline void be_user(void)
{
    SYS(setgroups(0, NULL));
    SYS(setresgid(USER, USER, USER));
    SYS(setresuid(USER, USER, USER));
    SYS(prctl(PR_SET_DUMPABLE, 1));
}

static inline void give(const char *file, const char *text)
{
    int fd = (int)SYS(open(file, O_WRONLY));
    CHECK_EQ(SYS(write(fd, text, strlen(text))), strlen(text));
    close(fd);
}

static inline int try_to_give(const char *file, const char *text)
{
    int fd = open(file, O_WRONLY);
    if (fd < 0)
        return errno;
    int r = write(fd, text, strlen(text)) < 0 ? errno : 0;
    close(fd);
    return r;
}

// A user namespace in which the caller is root.
static inline void become_root(void)
{
    char text[64];
    unsigned uid = geteuid(), gid = getegid();
    SYS(unshare(CLONE_NEWUSER));
    give("/proc/self/setgroups", "deny");
    snprintf(text, sizeof text, "0 %u 1", uid);
    give("/proc/self/uid_map", text);
    snprintf(text, sizeof text, "0 %u 1", gid);
    give("/proc/self/gid_map", text);
}

static inline uint64_t effective_caps(void)
{
    struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct d[2];
    SYS(syscall(SYS_capget, &h, d));
    return d[0].effective | (uint64_t)d[1].effective << 32;
}

static inline ino_t ns_number(const char *name)
{
    char path[64];
    struct stat st;
    snprintf(path, sizeof path, "/proc/self/ns/%s", name);
    SYS(stat(path, &st));
    return st.st_ino;
}

#endif
