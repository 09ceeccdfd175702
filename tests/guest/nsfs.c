// SPDX-License-Identifier: Apache-2.0
// namespaces(7): the files in /proc/PID/ns, setns(2), ioctl_ns(2).
#include "userns.h"

#include <linux/nsfs.h>
#include <sys/ioctl.h>
#include <sys/utsname.h>

static void shows_type(const char *name, int type)
{
    char path[64], text[64], want[64];
    struct stat st;
    snprintf(path, sizeof path, "/proc/self/ns/%s", name);
    int fd = (int)SYS(open(path, O_RDONLY));
    SYS(fstat(fd, &st));
    CHECK(S_ISREG(st.st_mode));
    CHECK_EQ(SYS(ioctl(fd, NS_GET_NSTYPE)), type);
    ssize_t n = SYS(readlink(path, text, sizeof text - 1));
    text[n] = 0;
    snprintf(want, sizeof want, "%s:[%lu]", name, (unsigned long)st.st_ino);
    CHECK_STR(text, want);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    n = SYS(readlink(path, text, sizeof text - 1));
    text[n] = 0;
    CHECK_STR(text, want);
    close(fd);
}

TEST(files_of_namespaces)
{
    shows_type("user", CLONE_NEWUSER);
    shows_type("uts", CLONE_NEWUTS);
    shows_type("ipc", CLONE_NEWIPC);
    shows_type("pid", CLONE_NEWPID);
    shows_type("mnt", CLONE_NEWNS);
    shows_type("net", CLONE_NEWNET);
    shows_type("cgroup", CLONE_NEWCGROUP);
    CHECK_ERR(open("/proc/self/ns/uts", O_RDWR), EPERM);
}

static void looks_around(void *arg)
{
    struct stat a, b;
    uid_t owner;
    int outer = (int)SYS(open("/proc/self/ns/user", O_RDONLY));
    be_user();
    SYS(fstat(outer, &a));
    become_root();
    SYS(unshare(CLONE_NEWUTS));
    int uts = (int)SYS(open("/proc/self/ns/uts", O_RDONLY));
    int user = (int)SYS(ioctl(uts, NS_GET_USERNS));
    SYS(fstat(user, &b));
    CHECK_EQ(b.st_ino, ns_number("user"));
    CHECK_EQ(b.st_dev, a.st_dev);
    SYS(ioctl(user, NS_GET_OWNER_UID, &owner));
    CHECK_EQ(owner, 0);
    // What is outside is not shown.
    CHECK_ERR(ioctl(user, NS_GET_PARENT), EPERM);
    CHECK_ERR(ioctl(user, NS_GET_USERNS), EPERM);
    CHECK_ERR(ioctl(uts, NS_GET_PARENT), EINVAL);
    CHECK_ERR(ioctl(uts, NS_GET_OWNER_UID, &owner), EINVAL);
    CHECK_ERR(ioctl(uts, 0xb7ff), ENOTTY);
    // A child of this one is.
    SYS(unshare(CLONE_NEWUSER));
    int inner = (int)SYS(open("/proc/self/ns/user", O_RDONLY));
    CHECK_ERR(ioctl(inner, NS_GET_PARENT), EPERM);
    CHECK_ERR(setns(outer, 0), EPERM);
    CHECK_ERR(setns(inner, 0), EINVAL);
}

TEST(ioctls_of_namespaces)
{
    as_child(looks_around, NULL);
}

struct lives {
    struct t_event ready, done;
};

static void renames(void *arg)
{
    struct lives *l = arg;
    be_user();
    become_root();
    SYS(unshare(CLONE_NEWUTS | CLONE_NEWIPC));
    SYS(sethostname("theirs", 6));
    t_event_set(&l->ready);
    t_event_wait(&l->done);
}

static void enters(void *arg)
{
    char path[64];
    struct utsname u;
    pid_t pid = *(pid_t *)arg;
    snprintf(path, sizeof path, "/proc/%d/ns/uts", pid);
    int uts = (int)SYS(open(path, O_RDONLY));
    snprintf(path, sizeof path, "/proc/%d/ns/user", pid);
    int user = (int)SYS(open(path, O_RDONLY));
    CHECK_ERR(setns(uts, CLONE_NEWIPC), EINVAL);
    CHECK_ERR(setns(0, 0), EINVAL);
    CHECK_ERR(setns(-1, 0), EBADF);
    SYS(setns(uts, CLONE_NEWUTS));
    SYS(uname(&u));
    CHECK_STR(u.nodename, "theirs");
    SYS(setns(user, 0));
    CHECK_EQ(effective_caps(), (1ull << 41) - 1);
    CHECK_EQ(getuid(), 65534); // root has no number there
    SYS(sethostname("ours", 4));
    CHECK_ERR(setns(user, 0), EINVAL);
}

static void enters_by_pidfd(void *arg)
{
    struct utsname u;
    int fd = (int)SYS(syscall(SYS_pidfd_open, *(pid_t *)arg, 0));
    CHECK_ERR(setns(fd, 0), EINVAL);
    SYS(setns(fd, CLONE_NEWUSER | CLONE_NEWUTS | CLONE_NEWIPC));
    SYS(uname(&u));
    CHECK_STR(u.nodename, "ours");
    SYS(sethostname("again", 5));
}

static void may_not_enter(void *arg)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/ns/uts", getppid());
    int uts = (int)SYS(open(path, O_RDONLY));
    be_user();
    CHECK_ERR(setns(uts, 0), EPERM);
    become_root();
    CHECK_ERR(setns(uts, 0), EPERM);
}

TEST(setns_enters)
{
    struct lives l;
    t_event_init(&l.ready);
    t_event_init(&l.done);
    pid_t pid = t_fork(renames, &l);
    t_event_wait(&l.ready);
    as_child(enters, &pid);
    as_child(enters_by_pidfd, &pid);
    as_child(may_not_enter, NULL);
    t_event_set(&l.done);
    t_join(pid);
}

TEST(an_open_file_keeps_it)
{
    struct utsname u;
    int back = (int)SYS(open("/proc/self/ns/uts", O_RDONLY));
    SYS(unshare(CLONE_NEWUTS));
    SYS(sethostname("kept", 4));
    int fd = (int)SYS(open("/proc/self/ns/uts", O_RDONLY));
    SYS(setns(back, 0));
    SYS(setns(fd, 0));
    SYS(uname(&u));
    CHECK_STR(u.nodename, "kept");
    SYS(setns(back, 0));
}
