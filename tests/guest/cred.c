// SPDX-License-Identifier: Apache-2.0
// credentials(7), capabilities(7), prctl(2), rlimits, PR_SET_NO_NEW_PRIVS, setgroups(2), sessions'
// ids.
#include "t.h"

#include <grp.h>
#include <linux/capability.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/utsname.h>

static void ids(uid_t r, uid_t e, uid_t s)
{
    uid_t a, b, c;
    SYS(getresuid(&a, &b, &c));
    CHECK_EQ(a, r);
    CHECK_EQ(b, e);
    CHECK_EQ(c, s);
}

static struct __user_cap_data_struct caps[2];

static int capget_pid(pid_t pid)
{
    struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, pid};
    return (int)syscall(SYS_capget, &h, caps);
}

static int capset_self(void)
{
    struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
    return (int)syscall(SYS_capset, &h, caps);
}

static bool has_cap(int n)
{
    SYS(capget_pid(0));
    return caps[n / 32].effective & (1u << (n % 32));
}

static void in_child(void (*fn)(void))
{
    pid_t pid = fork();
    if (pid == 0) {
        fn();
        _exit(0);
    }
    t_join(pid);
}

TEST(starts_as_root)
{
    ids(0, 0, 0);
    CHECK_EQ(getegid(), 0);
    CHECK(has_cap(CAP_CHOWN));
}

static void setuid_drops(void)
{
    SYS(setuid(1000));
    ids(1000, 1000, 1000);
    CHECK(!has_cap(CAP_CHOWN));
    CHECK_EQ(caps[0].permitted, 0);
    CHECK_ERR(setuid(0), EPERM);
    CHECK_ERR(seteuid(0), EPERM);
    CHECK_ERR(setresuid(0, -1, -1), EPERM);
    SYS(setuid(1000));
    SYS(setresuid(-1, -1, -1));
}

TEST(setuid_of_root_is_final)
{
    in_child(setuid_drops);
}

static void seteuid_back(void)
{
    SYS(seteuid(1000));
    ids(0, 1000, 0);
    CHECK(!has_cap(CAP_CHOWN)); // effective is cleared, permitted stays
    CHECK(caps[0].permitted & (1 << CAP_CHOWN));
    SYS(seteuid(0));
    CHECK(has_cap(CAP_CHOWN));
    SYS(setreuid(1000, 1001));
    ids(1000, 1001, 1001);
    SYS(setreuid(1001, 1000)); // swapping is allowed
    ids(1001, 1000, 1000);
    CHECK_ERR(setreuid(5, -1), EPERM);
}

TEST(seteuid_and_setreuid)
{
    in_child(seteuid_back);
}

static void groups(void)
{
    gid_t list[3] = {5, 6, 7}, got[8], r, e, s;
    SYS(setgroups(3, list));
    CHECK_EQ(getgroups(0, NULL), 3);
    CHECK_EQ(getgroups(8, got), 3);
    CHECK_EQ(got[2], 7);
    CHECK_ERR(getgroups(2, got), EINVAL);
    CHECK_ERR(setgroups(70000, list), EINVAL);
    SYS(setresgid(10, 11, 12));
    SYS(getresgid(&r, &e, &s));
    CHECK(r == 10 && e == 11 && s == 12);
    CHECK_EQ(setfsgid(77), 11);
    CHECK_EQ(setfsgid(-1), 77);
    SYS(setuid(1000));
    CHECK_ERR(setgroups(1, list), EPERM);
    CHECK_ERR(setgid(99), EPERM);
    SYS(setgid(10));
    SYS(setegid(12));
}

TEST(groups_and_gids)
{
    in_child(groups);
}

static void fsuid(void)
{
    SYS(chmod(".", 0777));
    CHECK_EQ(setfsuid(1000), 0);
    int fd = SYS(open("mine", O_CREAT | O_RDWR, 0600));
    struct stat st;
    SYS(fstat(fd, &st));
    CHECK_EQ(st.st_uid, 1000);
    CHECK_EQ(geteuid(), 0);
    SYS(seteuid(1001)); // the effective id drags the fsuid along
    CHECK_EQ(setfsuid(-1), 1001);
}

TEST(fsuid_follows)
{
    in_child(fsuid);
}

TEST(capget_capset_rules)
{
    struct __user_cap_header_struct h = {0x12345, 0};
    CHECK_ERR(syscall(SYS_capget, &h, caps), EINVAL);
    CHECK_EQ(h.version, _LINUX_CAPABILITY_VERSION_3); // told the right one
    CHECK_ERR(capget_pid(0x3ffffffe), ESRCH);
    SYS(capget_pid(getpid()));
    SYS(capget_pid(0));
    uint32_t permitted = caps[0].permitted;
    caps[0].effective &= ~(1u << CAP_CHOWN);
    SYS(capset_self());
    t_write_file("f", "");
    CHECK_ERR(chown("f", 5, 5), EPERM);
    caps[0].effective |= 1u << CAP_CHOWN;
    SYS(capset_self()); // still permitted
    SYS(chown("f", 5, 5));
    caps[0].permitted = permitted & ~(1u << CAP_CHOWN);
    CHECK_ERR(capset_self(), EPERM); // effective beyond permitted
    caps[0].effective &= caps[0].permitted;
    SYS(capset_self());
    caps[0].permitted = permitted;
    CHECK_ERR(capset_self(), EPERM); // never back
}

static void keepcaps(void)
{
    CHECK_EQ(prctl(PR_GET_KEEPCAPS), 0);
    SYS(prctl(PR_SET_KEEPCAPS, 1));
    SYS(setuid(1000));
    SYS(capget_pid(0));
    CHECK(caps[0].permitted & (1 << CAP_CHOWN));
    CHECK_EQ(caps[0].effective, 0);
}

TEST(keepcaps_works)
{
    in_child(keepcaps);
}

static void bounding(void)
{
    CHECK_EQ(prctl(PR_CAPBSET_READ, CAP_CHOWN), 1);
    SYS(prctl(PR_CAPBSET_DROP, CAP_CHOWN));
    CHECK_EQ(prctl(PR_CAPBSET_READ, CAP_CHOWN), 0);
    CHECK_ERR(prctl(PR_CAPBSET_READ, 200), EINVAL);
    CHECK_ERR(prctl(PR_CAPBSET_DROP, 200), EINVAL);
    SYS(setuid(1000));
    CHECK_ERR(prctl(PR_CAPBSET_DROP, CAP_KILL), EPERM);
}

TEST(bounding_set)
{
    in_child(bounding);
}

static void ambient(void)
{
    SYS(capget_pid(0));
    CHECK_ERR(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_CHOWN, 0, 0),
              EPERM); // not inheritable yet
    caps[0].inheritable |= 1 << CAP_CHOWN;
    SYS(capset_self());
    SYS(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_CHOWN, 0, 0));
    CHECK_EQ(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_CHOWN, 0, 0), 1);
    SYS(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0));
    CHECK_EQ(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_CHOWN, 0, 0), 0);
    CHECK_ERR(prctl(PR_CAP_AMBIENT, 99, 0, 0, 0), EINVAL);
}

TEST(ambient_set)
{
    in_child(ambient);
}

static void securebits(void)
{
    CHECK_EQ(prctl(PR_GET_SECUREBITS), 0);
    SYS(prctl(PR_SET_SECUREBITS, 4)); // NO_SETUID_FIXUP
    SYS(setuid(1000));
    CHECK(has_cap(CAP_CHOWN));
}

TEST(securebits_work)
{
    in_child(securebits);
}

TEST(no_new_privs)
{
    CHECK_EQ(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 0);
    CHECK_ERR(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0), EINVAL);
    CHECK_ERR(prctl(PR_SET_NO_NEW_PRIVS, 1, 1, 0, 0), EINVAL);
    SYS(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    CHECK_EQ(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 1);
    pid_t pid = fork();
    if (pid == 0)
        _exit(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 ? 0 : 1);
    t_join(pid);
}

TEST(dumpable_and_other_prctls)
{
    CHECK_EQ(prctl(PR_GET_DUMPABLE), 1);
    SYS(prctl(PR_SET_DUMPABLE, 0));
    CHECK_EQ(prctl(PR_GET_DUMPABLE), 0);
    CHECK_ERR(prctl(PR_SET_DUMPABLE, 7), EINVAL);
    SYS(prctl(PR_SET_DUMPABLE, 1));
    CHECK_ERR(prctl(99999, 0, 0, 0, 0), EINVAL);
    CHECK_ERR(prctl(PR_SET_PDEATHSIG, 100), EINVAL);
    SYS(prctl(PR_SET_TIMERSLACK, 12345));
    CHECK_EQ(prctl(PR_GET_TIMERSLACK), 12345);
}

TEST(rlimits)
{
    struct rlimit rl, old;
    SYS(getrlimit(RLIMIT_NOFILE, &old));
    rl = (struct rlimit){100, old.rlim_max};
    SYS(setrlimit(RLIMIT_NOFILE, &rl));
    SYS(prlimit(0, RLIMIT_NOFILE, NULL, &rl));
    CHECK_EQ(rl.rlim_cur, 100);
    rl = (struct rlimit){200, 100};
    CHECK_ERR(setrlimit(RLIMIT_NOFILE, &rl), EINVAL);
    CHECK_ERR(getrlimit(99, &rl), EINVAL);
    CHECK_ERR(prlimit(0x3ffffffe, RLIMIT_CORE, NULL, &rl), ESRCH);
    CHECK_ERR(syscall(SYS_getrlimit, RLIMIT_CORE, 16), EFAULT);
    pid_t pid = fork();
    if (pid == 0) {
        SYS(getrlimit(RLIMIT_NOFILE, &rl));
        CHECK_EQ(rl.rlim_cur, 100); // inherited
        SYS(setuid(1000));
        rl = (struct rlimit){50, 60};
        SYS(setrlimit(RLIMIT_NOFILE, &rl));
        rl = (struct rlimit){50, 70};
        CHECK_ERR(setrlimit(RLIMIT_NOFILE, &rl), EPERM);
        _exit(0);
    }
    t_join(pid);
    for (int i = 0; i < RLIM_NLIMITS; i++)
        SYS(getrlimit(i, &rl));
}

TEST(rlimit_nproc)
{
    pid_t pid = fork();
    if (pid == 0) {
        struct rlimit rl = {3, 3};
        SYS(setrlimit(RLIMIT_NPROC, &rl));
        SYS(setuid(4321));
        // root's privileges are gone: at most 3 processes of this user
        int n = 0;
        pid_t kids[8];
        for (; n < 8; n++) {
            kids[n] = fork();
            if (kids[n] == 0) {
                pause();
                _exit(0);
            }
            if (kids[n] < 0)
                break;
        }
        CHECK_EQ(errno, EAGAIN);
        CHECK_EQ(n, 2);
        while (n-- > 0) {
            kill(kids[n], SIGKILL);
            t_wait(kids[n]);
        }
        _exit(0);
    }
    t_join(pid);
}

TEST(rlimit_cpu_signals)
{
    pid_t pid = fork();
    if (pid == 0) {
        struct rlimit rl = {1, 2};
        SYS(setrlimit(RLIMIT_CPU, &rl));
        for (volatile uint64_t x = 0;; x++)
            ;
    }
    CHECK_EQ(WTERMSIG(t_wait(pid)), SIGXCPU);
}

TEST(hostname)
{
    struct utsname u;
    char name[65];
    SYS(uname(&u));
    SYS(gethostname(name, sizeof name));
    CHECK_STR(u.nodename, name);
    pid_t pid = fork();
    if (pid == 0) {
        SYS(setuid(1000));
        CHECK_ERR(sethostname("x", 1), EPERM);
        _exit(0);
    }
    t_join(pid);
    CHECK_ERR(sethostname(name, 100), EINVAL);
}

TEST(unprivileged_cannot)
{
    pid_t pid = fork();
    if (pid == 0) {
        SYS(setuid(1000));
        CHECK_ERR(mknod("dev", S_IFCHR | 0600, 0x103), EACCES);
        CHECK_ERR(chroot("/"), EPERM);
        struct rlimit rl = {RLIM_INFINITY, RLIM_INFINITY};
        CHECK_ERR(setrlimit(RLIMIT_NOFILE, &rl), EPERM);
        CHECK_ERR(setpriority(PRIO_PROCESS, 0, -5), EACCES);
        CHECK_ERR(syscall(SYS_reboot, 0xfee1dead, 672274793, 0, NULL), EPERM);
        _exit(0);
    }
    t_join(pid);
}
