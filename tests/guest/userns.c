// SPDX-License-Identifier: Apache-2.0
// user_namespaces(7): ids, maps, capabilities, and what else is namespaced for who has made one.
#include "userns.h"

#include <linux/nsfs.h>
#include <pthread.h>
#include <sys/fsuid.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <sys/xattr.h>

// ---- making one ----

static void makes_one(void *arg)
{
    char text[256];
    ino_t before = ns_number("user");
    be_user();
    CHECK_EQ(effective_caps(), 0);
    SYS(unshare(CLONE_NEWUSER));
    CHECK(ns_number("user") != before);
    CHECK_EQ(getuid(), 65534);
    CHECK_EQ(getgid(), 65534);
    CHECK_EQ(effective_caps(), (1ull << 41) - 1);
    t_read_file("/proc/self/uid_map", text, sizeof text);
    CHECK_STR(text, "");
    t_read_file("/proc/self/setgroups", text, sizeof text);
    CHECK_STR(text, "allow\n");
    CHECK_ERR(setuid(0), EINVAL);
    CHECK_ERR(setgroups(0, NULL), EPERM);
}

TEST(unshare_makes_one)
{
    as_child(makes_one, NULL);
}

static void maps_itself(void *arg)
{
    char text[256];
    be_user();
    SYS(unshare(CLONE_NEWUSER));
    CHECK_EQ(try_to_give("/proc/self/gid_map", "0 1000 1\n"), EPERM);
    give("/proc/self/uid_map", "7 1000 1\n");
    CHECK_EQ(getuid(), 7);
    CHECK_EQ(try_to_give("/proc/self/uid_map", "7 1000 1\n"), EPERM);
    give("/proc/self/setgroups", "deny");
    CHECK_EQ(try_to_give("/proc/self/setgroups", "allow"), EPERM);
    give("/proc/self/gid_map", "0 1000 1\n");
    CHECK_EQ(getgid(), 0);
    t_read_file("/proc/self/uid_map", text, sizeof text);
    CHECK_STR(text, "         7       1000          1\n");
    CHECK_ERR(setgroups(0, NULL), EPERM);
    CHECK_ERR(setuid(1000), EINVAL);
    uid_t r, e, s;
    SYS(setresuid(7, 7, 7));
    SYS(getresuid(&r, &e, &s));
    CHECK_EQ(s, 7);
}

TEST(a_user_maps_itself)
{
    as_child(maps_itself, NULL);
}

static void bad_maps(void *arg)
{
    static const char *const bad[] = {"", "0", "0 1000", "0 1000 0", "x 1000 1", "0 1000 1 1", "-1 1000 1",
                                      "4294967295 1000 1", "0 4294967295 1", "4294967290 0 10",
                                      "0 1000 4294967296", "0 0 10\n5 100 10", "0 0 10\n100 5 10"};
    SYS(unshare(CLONE_NEWUSER));
    for (size_t i = 1; i < sizeof bad / sizeof *bad; i++)
        if (try_to_give("/proc/self/uid_map", bad[i]) != EINVAL)
            FAIL("%s was not EINVAL (errno %d)", bad[i], errno);
    CHECK_EQ(try_to_give("/proc/self/setgroups", "perhaps"), EINVAL);
}

TEST(bad_maps_are_refused)
{
    as_child(bad_maps, NULL);
}

static void privileged_maps(void *arg)
{
    be_user();
    SYS(unshare(CLONE_NEWUSER));
    // Others' ids, or more than one, are for those who have the capability outside.
    CHECK_EQ(try_to_give("/proc/self/uid_map", "0 1001 1"), EPERM);
    CHECK_EQ(try_to_give("/proc/self/uid_map", "0 1000 2"), EPERM);
    CHECK_EQ(try_to_give("/proc/self/uid_map", "0 1000 1\n1 2000 1\n"), EPERM);
    give("/proc/self/uid_map", "0 1000 1");
}

TEST(maps_of_others_need_capabilities)
{
    as_child(privileged_maps, NULL);
}

static void changes_root(void *arg)
{
    SYS(mkdir("r", 0755));
    SYS(chroot("r"));
    CHECK_ERR(unshare(CLONE_NEWUSER), EPERM);
}

TEST(chroot_makes_none)
{
    as_child(changes_root, NULL);
}

static void *sleeps(void *arg)
{
    pause();
    return NULL;
}

static void threaded(void *arg)
{
    pthread_t t;
    pthread_create(&t, NULL, sleeps, NULL);
    CHECK_ERR(unshare(CLONE_NEWUSER), EINVAL);
    CHECK_ERR(unshare(CLONE_THREAD), EINVAL);
    CHECK_ERR(syscall(SYS_clone, CLONE_NEWUSER | CLONE_FS | SIGCHLD, 0, 0, 0, 0), EINVAL);
    exit(0);
}

TEST(not_with_threads_or_shared_fs)
{
    as_child(threaded, NULL);
}

// ---- ids ----

// A child in a namespace whose ids are 100000 and up outside: the parent, root, maps it.
struct mapped {
    struct t_event made, mapped, done;
    void (*run)(void);
};

static void mapped_child(void *arg)
{
    struct mapped *m = arg;
    SYS(unshare(CLONE_NEWUSER));
    t_event_set(&m->made);
    t_event_wait(&m->mapped);
    m->run();
}

static void in_mapped(void (*run)(void))
{
    struct mapped m = {.run = run};
    char path[64];
    t_event_init(&m.made);
    t_event_init(&m.mapped);
    pid_t pid = t_fork(mapped_child, &m);
    t_event_wait(&m.made);
    snprintf(path, sizeof path, "/proc/%d/uid_map", pid);
    give(path, "0 100000 1000\n1000 0 1\n");
    snprintf(path, sizeof path, "/proc/%d/gid_map", pid);
    give(path, "0 200000 1000\n1000 0 1\n");
    t_event_set(&m.mapped);
    t_join(pid);
}

static void changes_ids(void)
{
    gid_t groups[3] = {4, 9, 1000}, got[3];
    CHECK_EQ(getuid(), 1000);
    SYS(setgroups(3, groups));
    CHECK_EQ(SYS(getgroups(3, got)), 3);
    CHECK_EQ(got[0], 1000); // in the order of the ids outside
    CHECK_EQ(got[2], 9);
    groups[0] = 5000;
    CHECK_ERR(setgroups(1, groups), EINVAL);
    SYS(setgid(0));
    SYS(setuid(0));
    CHECK_EQ(getuid(), 0);
    CHECK_EQ(effective_caps(), (1ull << 41) - 1);
    CHECK_EQ(setfsuid(5), 0);
    CHECK_EQ(setfsuid(0), 5);
    SYS(seteuid(7));
    CHECK_EQ(effective_caps(), 0);
    CHECK_EQ(geteuid(), 7);
    CHECK_ERR(seteuid(1000), EPERM);
    CHECK_ERR(seteuid(5000), EINVAL);
    SYS(seteuid(0));
    CHECK_EQ(effective_caps(), (1ull << 41) - 1);
}

TEST(ids_are_mapped)
{
    in_mapped(changes_ids);
}

static void owns_files(void)
{
    struct stat st;
    SYS(setgid(0));
    SYS(setuid(0));
    SYS(chdir("open"));
    int fd = (int)SYS(open("new", O_CREAT | O_RDWR, 0644));
    SYS(fstat(fd, &st));
    CHECK_EQ(st.st_uid, 0);
    CHECK_EQ(st.st_gid, 0);
    SYS(fchown(fd, 12, 13));
    SYS(fstat(fd, &st));
    CHECK_EQ(st.st_uid, 12);
    CHECK_EQ(st.st_gid, 13);
    CHECK_ERR(fchown(fd, 2000, -1), EINVAL);
    SYS(fchown(fd, 1000, 1000));
    SYS(stat("stranger", &st));
    CHECK_EQ(st.st_uid, 65534);
    CHECK_EQ(st.st_gid, 65534);
    CHECK_ERR(chown("stranger", 0, 0), EPERM);
    CHECK_ERR(chmod("stranger", 0777), EPERM);
    CHECK_ERR(open("stranger", O_RDWR), EACCES);
    SYS(open("mine", O_RDWR)); // by CAP_DAC_OVERRIDE
    CHECK_ERR(mknod("dev", S_IFCHR | 0666, 1 << 8 | 3), EPERM);
}

TEST(files_of_mapped_ids)
{
    struct stat st;
    SYS(chmod(".", 0755));
    SYS(mkdir("open", 0777));
    SYS(chmod("open", 0777));
    t_write_file("open/stranger", "x");
    SYS(chmod("open/stranger", 0600));
    SYS(chown("open/stranger", 5, 5));
    t_write_file("open/mine", "x");
    SYS(chmod("open/mine", 0));
    SYS(chown("open/mine", 100003, 200003));
    in_mapped(owns_files);
    SYS(stat("open/new", &st));
    CHECK_EQ(st.st_uid, 0);
    CHECK_EQ(st.st_gid, 0);
}

static void says_who(void *arg)
{
    int fd = *(int *)arg;
    be_user();
    become_root();
    struct ucred c = {getpid(), 0, 0};
    char data = 'x', space[CMSG_SPACE(sizeof c)] = {0};
    struct iovec iov = {&data, 1};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    h->cmsg_level = SOL_SOCKET;
    h->cmsg_type = SCM_CREDENTIALS;
    h->cmsg_len = CMSG_LEN(sizeof c);
    memcpy(CMSG_DATA(h), &c, sizeof c);
    SYS(sendmsg(fd, &m, 0));
    c.uid = 5;
    memcpy(CMSG_DATA(h), &c, sizeof c);
    CHECK_ERR(sendmsg(fd, &m, 0), EINVAL);
}

TEST(credentials_of_sockets_are_mapped)
{
    int fd[2], on = 1;
    SYS(socketpair(AF_UNIX, SOCK_DGRAM, 0, fd));
    SYS(setsockopt(fd[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof on));
    pid_t pid = t_fork(says_who, &fd[1]);
    char data, space[CMSG_SPACE(sizeof(struct ucred))];
    struct iovec iov = {&data, 1};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
    SYS(recvmsg(fd[0], &m, 0));
    struct ucred c;
    memcpy(&c, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof c);
    CHECK_EQ(c.uid, USER);
    CHECK_EQ(c.pid, pid);
    t_join(pid);
}

// ---- capabilities ----

static void limited_power(void *arg)
{
    struct utsname u;
    be_user();
    become_root();
    // Of what the parent namespace owns: nothing.
    CHECK_ERR(sethostname("other", 5), EPERM);
    CHECK_ERR(setpriority(PRIO_PROCESS, 0, -5), EACCES);
    CHECK_ERR(kill(getppid(), SIGTERM), EPERM);
    // Of what is made in the new one: all.
    SYS(unshare(CLONE_NEWUTS));
    SYS(sethostname("inner", 5));
    SYS(uname(&u));
    CHECK_STR(u.nodename, "inner");
}

TEST(capabilities_hold_in_the_namespace_only)
{
    struct utsname u;
    as_child(limited_power, NULL);
    SYS(uname(&u));
    CHECK(strcmp(u.nodename, "inner") != 0);
}

static void makes_others(void *arg)
{
    be_user();
    CHECK_ERR(unshare(CLONE_NEWUTS), EPERM);
    CHECK_ERR(unshare(CLONE_NEWIPC), EPERM);
    CHECK_ERR(unshare(CLONE_NEWPID), EPERM);
    CHECK_ERR(unshare(CLONE_NEWCGROUP), EPERM);
    ino_t before = ns_number("cgroup");
    SYS(unshare(CLONE_NEWUSER | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWCGROUP));
    CHECK(ns_number("cgroup") != before);
    SYS(sethostname("x", 1));
}

TEST(others_need_one_or_privilege)
{
    as_child(makes_others, NULL);
}

static void ipc_apart(void *arg)
{
    int id = *(int *)arg;
    struct shmid_ds ds;
    SYS(shmctl(id, IPC_STAT, &ds));
    SYS(unshare(CLONE_NEWIPC));
    CHECK_ERR(shmctl(id, IPC_STAT, &ds), EINVAL);
    SYS(shmget(0x1234, 4096, IPC_CREAT | IPC_EXCL | 0600));
}

TEST(ipc_namespaces)
{
    int id = (int)SYS(shmget(0x1234, 4096, IPC_CREAT | 0600));
    as_child(ipc_apart, &id);
    SYS(shmctl(id, IPC_RMID, NULL));
}

// A set-user-ID file of somebody without a number there is an ordinary one.
static void runs_set_id(void *arg)
{
    be_user();
    become_root();
    execl("./prog", "prog", "-c", "exit 0", (char *)NULL);
    FAIL("exec");
}

TEST(set_id_files_of_others)
{
    char self[4096];
    ssize_t n = SYS(readlink("/proc/self/exe", self, sizeof self - 1));
    self[n] = 0;
    int from = (int)SYS(open(self, O_RDONLY)), to = (int)SYS(open("prog", O_CREAT | O_WRONLY, 0755));
    static char buf[65536];
    while ((n = SYS(read(from, buf, sizeof buf))) > 0)
        CHECK_EQ(SYS(write(to, buf, (size_t)n)), n);
    SYS(fchown(to, 3, 3));
    SYS(fchmod(to, 06755));
    close(to);
    SYS(chmod(".", 0777));
    int fd[2];
    SYS(pipe(fd));
    pid_t pid = fork();
    if (!pid) {
        dup2(fd[1], 1);
        close(fd[0]);
        setenv("T_SAY_IDS", "1", 1);
        runs_set_id(NULL);
    }
    close(fd[1]);
    n = SYS(read(fd[0], buf, sizeof buf - 1));
    buf[n] = 0;
    CHECK_STR(buf, "0 0 0 0\n");
    t_wait(pid);
}

__attribute__((constructor(101))) static void say_ids(void)
{
    if (!getenv("T_SAY_IDS"))
        return;
    dprintf(1, "%u %u %u %u\n", getuid(), geteuid(), getgid(), getegid());
    _exit(0);
}

// execve(2) by root of the namespace keeps the capabilities, by others drops them.
static void execs(void *arg)
{
    be_user();
    SYS(unshare(CLONE_NEWUSER));
    give("/proc/self/uid_map", arg ? "0 1000 1" : "5 1000 1");
    setenv("T_SAY_CAPS", "1", 1);
    execl("/proc/self/exe", "exe", (char *)NULL);
    FAIL("exec");
}

__attribute__((constructor(102))) static void say_caps(void)
{
    if (getenv("T_SAY_CAPS"))
        _exit(effective_caps() == (1ull << 41) - 1 ? 11 : effective_caps() ? 12 : 13);
}

TEST(execve_by_root_keeps_capabilities)
{
    CHECK_EQ(WEXITSTATUS(t_wait(t_fork(execs, ""))), 11);
    CHECK_EQ(WEXITSTATUS(t_wait(t_fork(execs, NULL))), 13);
}

// Capabilities of a file that root of a namespace gives it count there.
static void gives_caps(void *arg)
{
    struct vfs_ns_cap_data v = {.magic_etc = VFS_CAP_REVISION_2 | VFS_CAP_FLAGS_EFFECTIVE,
                                .data[0].permitted = 1 << CAP_NET_RAW};
    struct vfs_ns_cap_data got;
    be_user();
    become_root();
    SYS(setxattr("mine", "security.capability", &v, XATTR_CAPS_SZ_2, 0));
    CHECK_EQ(SYS(getxattr("mine", "security.capability", &got, sizeof got)), XATTR_CAPS_SZ_2);
    CHECK_EQ(got.magic_etc, v.magic_etc);
    v.magic_etc = 0x1000000;
    CHECK_ERR(setxattr("mine", "security.capability", &v, XATTR_CAPS_SZ_2, 0), EINVAL);
    v.magic_etc = VFS_CAP_REVISION_2;
    CHECK_ERR(setxattr("roots", "security.capability", &v, XATTR_CAPS_SZ_2, 0), EPERM);
}

TEST(capabilities_of_files)
{
    struct vfs_ns_cap_data got;
    SYS(chmod(".", 0755));
    t_write_file("mine", "x");
    SYS(chown("mine", USER, USER));
    t_write_file("roots", "x");
    as_child(gives_caps, NULL);
    CHECK_EQ(SYS(getxattr("mine", "security.capability", &got, sizeof got)), XATTR_CAPS_SZ_3);
    CHECK_EQ(got.magic_etc, VFS_CAP_REVISION_3 | VFS_CAP_FLAGS_EFFECTIVE);
    CHECK_EQ(got.rootid, USER);
}

// ---- nesting and limits ----

static void nests(void *arg)
{
    int depth = 0;
    be_user();
    while (depth < 40) {
        unsigned uid = geteuid();
        if (unshare(CLONE_NEWUSER))
            break;
        char text[32];
        snprintf(text, sizeof text, "0 %u 1", uid);
        give("/proc/self/uid_map", text);
        give("/proc/self/setgroups", "deny");
        give("/proc/self/gid_map", depth ? "0 0 1" : "0 1000 1");
        depth++;
    }
    CHECK_EQ(errno, ENOSPC);
    CHECK(depth >= 30 && depth <= 33);
    CHECK_EQ(getuid(), 0);
}

TEST(nested_ones_are_limited)
{
    as_child(nests, NULL);
}

static void reaches_limit(void *arg)
{
    become_root();
    give("/proc/sys/user/max_uts_namespaces", "0\n");
    CHECK_ERR(unshare(CLONE_NEWUTS), ENOSPC);
    give("/proc/sys/user/max_uts_namespaces", "1\n");
    SYS(unshare(CLONE_NEWUTS));
    // The one before lives as long as somebody uses it.
    int fd = (int)SYS(open("/proc/self/ns/uts", O_RDONLY));
    CHECK_ERR(unshare(CLONE_NEWUTS), ENOSPC);
    close(fd);
}

TEST(limits_of_sys_user)
{
    as_child(reaches_limit, NULL);
}

static void makes_many(void *arg)
{
    become_root();
    give("/proc/sys/user/max_user_namespaces", "5\n");
    give("/proc/sys/user/max_pid_namespaces", "5\n");
    for (int i = 0; i < 200; i++) {
        pid_t pid = fork();
        if (!pid) {
            // What ended may be on its way out still.
            while (unshare(CLONE_NEWUSER | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWCGROUP)) {
                CHECK_EQ(errno, ENOSPC);
                sched_yield();
            }
            _exit(0);
        }
        CHECK_EQ(t_wait(pid), 0);
    }
}

TEST(they_end_with_their_users)
{
    as_child(makes_many, NULL);
}

// ---- as programs use them ----

// What a browser does for its helpers: no files to be found at all, by the directory of a process that is gone.
static void finds_nothing(void *arg)
{
    be_user();
    int pid = (int)SYS(syscall(SYS_clone, CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | SIGCHLD, 0, 0, 0, 0));
    if (pid) {
        t_join(pid);
        return;
    }
    give("/proc/self/setgroups", "deny");
    give("/proc/self/uid_map", "1000 1000 1");
    give("/proc/self/gid_map", "1000 1000 1");
    CHECK_EQ(getuid(), USER);
    pid = (int)SYS(syscall(SYS_clone, CLONE_FS | SIGCHLD, 0, 0, 0, 0));
    if (!pid) {
        SYS(chroot("/proc/self/fdinfo"));
        SYS(chdir("/"));
        _exit(0);
    }
    t_join(pid);
    CHECK_EQ(open("/etc", O_RDONLY), -1);
    CHECK_EQ(open("/proc", O_RDONLY), -1);
    CHECK_EQ(open("0", O_RDONLY), -1);
    CHECK_EQ(open("x", O_CREAT | O_RDWR, 0600), -1);
    CHECK_ERR(unshare(CLONE_NEWUSER), EPERM);
    struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct none[2] = {{0}, {0}};
    SYS(syscall(SYS_capset, &h, none));
    CHECK_EQ(chroot("/"), -1);
    _exit(0);
}

TEST(nothing_to_be_found)
{
    as_child(finds_nothing, NULL);
}

// ---- many at once ----

static unsigned random_next(unsigned *seed)
{
    *seed = *seed * 1103515245u + 12345u;
    return *seed >> 16;
}

static const char *const all_files[] = {"user", "uts", "ipc", "pid", "mnt", "net", "cgroup"};

// Anything that makes, enters, shows or ends namespaces, whatever comes of it.
static void does_anything(unsigned *seed, pid_t base)
{
    static const int flags[] = {CLONE_NEWUSER, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWPID,
                                CLONE_NEWNS,   CLONE_NEWNET, CLONE_NEWCGROUP};
    char path[64], buf[512];
    int status, fd;
    pid_t other = base + (pid_t)(random_next(seed) % 40);
    switch (random_next(seed) % 7) {
    case 0:
        unshare(flags[random_next(seed) % 7]);
        break;
    case 1:
        if (!syscall(SYS_clone, flags[random_next(seed) % 7] | SIGCHLD, 0, 0, 0, 0)) {
            for (int i = 0; i < 20; i++)
                does_anything(seed, base);
            _exit(0);
        }
        break;
    case 2:
        snprintf(path, sizeof path, "/proc/%d/ns/%s", other, all_files[random_next(seed) % 7]);
        if ((fd = open(path, O_RDONLY)) >= 0) {
            ioctl(fd, random_next(seed) & 1 ? NS_GET_PARENT : NS_GET_USERNS);
            setns(fd, 0);
            close(fd);
        }
        break;
    case 3:
        snprintf(path, sizeof path, "/proc/%d/%s", other, random_next(seed) & 1 ? "uid_map" : "gid_map");
        if ((fd = open(path, O_RDWR)) >= 0) {
            (void)!write(fd, "0 0 1", 5);
            (void)!read(fd, buf, sizeof buf);
            close(fd);
        }
        break;
    case 4:
        snprintf(path, sizeof path, "/proc/%d/status", other);
        if ((fd = open(path, O_RDONLY)) >= 0) {
            (void)!read(fd, buf, sizeof buf);
            close(fd);
        }
        break;
    case 5:
        if (other > base + 5)
            kill(other, SIGKILL);
        break;
    default:
        waitpid(-1, &status, WNOHANG);
    }
}

TEST(disorder)
{
    // Within a PID namespace of its own, so that nothing outlives it.
    pid_t pid = (pid_t)SYS(syscall(SYS_clone, CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0));
    if (!pid) {
        signal(SIGALRM, SIG_IGN);
        for (unsigned i = 0; i < 4; i++) {
            if (fork())
                continue;
            unsigned seed = i * 77 + 5;
            uint64_t end = t_now() + 400000000ull;
            while (t_now() < end)
                does_anything(&seed, 1);
            _exit(0);
        }
        uint64_t end = t_now() + 800000000ull;
        while (t_now() < end && (waitpid(-1, NULL, 0) > 0 || errno == EINTR))
            continue;
        _exit(9);
    }
    CHECK_EQ(t_wait(pid), 9 << 8);
}
