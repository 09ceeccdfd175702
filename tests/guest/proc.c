// SPDX-License-Identifier: Apache-2.0
// proc(5): the truth about oneself, one's children and the system.
#include "t.h"

#include <ctype.h>
#include <dirent.h>
#include <pthread.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/statfs.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>

static char buf[1 << 18];

static const char *slurp(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static const char *slurp(const char *fmt, ...)
{
    char path[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(path, sizeof path, fmt, ap);
    va_end(ap);
    t_read_file(path, buf, sizeof buf);
    return buf;
}

// The value of a "Key:\tvalue" line in buf.
static long field(const char *key)
{
    char want[64];
    snprintf(want, sizeof want, "%s:", key);
    char *p = strncmp(buf, want, strlen(want)) == 0 ? buf : NULL;
    if (!p) {
        snprintf(want, sizeof want, "\n%s:", key);
        p = strstr(buf, want);
    }
    if (!p)
        FAIL("no line %s", key);
    return strtol(strchr(p + 1, ':') + 1, NULL, 0);
}

static bool has_entry(const char *dir, const char *name)
{
    DIR *d = opendir(dir);
    bool found = false;
    CHECK(d);
    for (struct dirent *e; (e = readdir(d));)
        found |= !strcmp(e->d_name, name);
    closedir(d);
    return found;
}

TEST(self_links)
{
    char link[256] = "", want[32];
    SYS(readlink("/proc/self", link, sizeof link - 1));
    snprintf(want, sizeof want, "%d", (int)getpid());
    CHECK_STR(link, want);
    memset(link, 0, sizeof link);
    SYS(readlink("/proc/thread-self", link, sizeof link - 1));
    snprintf(want, sizeof want, "%d/task/%ld", (int)getpid(), syscall(SYS_gettid));
    CHECK_STR(link, want);
    memset(link, 0, sizeof link);
    SYS(readlink("/proc/self/exe", link, sizeof link - 1));
    CHECK(link[0] == '/' && strstr(link, "proc"));
    char cwd[4096], got[4096] = "";
    CHECK(getcwd(cwd, sizeof cwd));
    SYS(readlink("/proc/self/cwd", got, sizeof got - 1));
    CHECK_STR(got, cwd);
    memset(got, 0, sizeof got);
    SYS(readlink("/proc/self/root", got, sizeof got - 1));
    CHECK_STR(got, "/");
}

TEST(status_fields)
{
    slurp("/proc/self/status");
    CHECK(strstr(buf, "Name:\tproc\n"));
    CHECK_EQ(field("Pid"), getpid());
    CHECK_EQ(field("Tgid"), getpid());
    CHECK_EQ(field("PPid"), getppid());
    CHECK_EQ(field("TracerPid"), 0);
    CHECK_EQ(field("Threads"), 1);
    CHECK_EQ(field("Umask"), 022);
    CHECK(strstr(buf, "State:\tR (running)\n"));
    CHECK(strstr(buf, "Uid:\t0\t0\t0\t0\n"));
    CHECK(field("VmRSS") > 0);
    CHECK(field("VmSize") >= field("VmRSS"));
    CHECK(strstr(buf, "SigBlk:\t"));
    CHECK(strstr(buf, "CapEff:\t"));
    CHECK(strstr(buf, "NoNewPrivs:\t"));
    CHECK(strstr(buf, "Seccomp:\t"));
}

static void on_sig(int sig)
{
    (void)sig;
}

TEST(status_signals)
{
    sigset_t s;
    sigemptyset(&s);
    sigaddset(&s, SIGUSR1);
    SYS(sigprocmask(SIG_BLOCK, &s, NULL));
    signal(SIGUSR2, SIG_IGN);
    t_handle(SIGHUP, on_sig, 0);
    raise(SIGUSR1);
    slurp("/proc/self/status");
    CHECK(strstr(buf, "SigBlk:\t0000000000000200\n"));
    CHECK(strtoull(strstr(buf, "SigIgn:\t") + 8, NULL, 16) & 0x800);
    CHECK(strtoull(strstr(buf, "SigCgt:\t") + 8, NULL, 16) & 1);
    CHECK((strtoull(strstr(buf, "SigPnd:\t") + 8, NULL, 16) |
           strtoull(strstr(buf, "ShdPnd:\t") + 8, NULL, 16)) &
          0x200);
}

TEST(stat_line)
{
    int pid, ppid, pgrp, session, tty;
    char comm[64], state;
    SYS(prctl(PR_SET_NAME, "odd) (name"));
    slurp("/proc/self/stat");
    char *close = strrchr(buf, ')');
    CHECK(close);
    CHECK_EQ(sscanf(buf, "%d (%63[^\n]", &pid, comm), 2);
    CHECK(strncmp(comm, "odd) (name)", 11) == 0);
    CHECK_EQ(sscanf(close + 1, " %c %d %d %d %d", &state, &ppid, &pgrp, &session, &tty), 5);
    CHECK_EQ(pid, getpid());
    CHECK_EQ(ppid, getppid());
    CHECK_EQ(pgrp, getpgrp());
    CHECK_EQ(session, getsid(0));
    CHECK_EQ(state, 'R');
    int fields = 2;
    for (char *p = close + 1; *p; p++)
        fields += *p == ' ';
    CHECK_EQ(fields, 52);
}

TEST(states_of_children)
{
    pid_t pid = fork();
    if (pid == 0) {
        pause();
        _exit(0);
    }
    t_wait_state(pid, 'S');
    kill(pid, SIGSTOP);
    t_wait_state(pid, 'T');
    kill(pid, SIGKILL);
    t_wait_state(pid, 'Z');
    slurp("/proc/%d/status", (int)pid);
    CHECK(strstr(buf, "State:\tZ (zombie)"));
    CHECK_EQ(field("PPid"), getpid());
    slurp("/proc/%d/cmdline", (int)pid);
    CHECK_EQ(buf[0], 0); // a zombie has none
    t_wait(pid);
    char path[64];
    snprintf(path, sizeof path, "/proc/%d", (int)pid);
    CHECK_ERR(open(path, O_RDONLY), ENOENT);
}

TEST(cmdline_environ_comm)
{
    slurp("/proc/self/cmdline");
    CHECK(strstr(buf, "proc"));
    slurp("/proc/self/environ");
    const char *first = environ[0];
    if (first)
        CHECK_STR(buf, first);
    SYS(prctl(PR_SET_NAME, "renamed"));
    CHECK_STR(slurp("/proc/self/comm"), "renamed\n");
    t_write_file("/proc/self/comm", "again");
    char name[16] = "";
    SYS(prctl(PR_GET_NAME, name));
    CHECK_STR(name, "again");
}

static void parse_maps(unsigned long addr, char *line, size_t size)
{
    slurp("/proc/self/maps");
    unsigned long prev = 0;
    line[0] = 0;
    for (char *p = strtok(buf, "\n"); p; p = strtok(NULL, "\n")) {
        unsigned long lo, hi;
        CHECK_EQ(sscanf(p, "%lx-%lx", &lo, &hi), 2);
        CHECK(lo < hi && lo >= prev);
        prev = hi;
        if (addr >= lo && addr < hi)
            snprintf(line, size, "%s", p);
    }
}

TEST(maps_content)
{
    char line[512];
    parse_maps((unsigned long)&line, line, sizeof line);
    CHECK(strstr(line, "rw-p") && strstr(line, "[stack]"));
    parse_maps((unsigned long)slurp, line, sizeof line);
    CHECK(strstr(line, "r-xp") && strstr(line, "/proc"));
    char *p = mmap(NULL, 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    parse_maps((unsigned long)p, line, sizeof line);
    CHECK(strstr(line, "r--p 00000000 00:00 0"));
    mprotect(p, 8192, PROT_NONE);
    parse_maps((unsigned long)p, line, sizeof line);
    CHECK(strstr(line, "---p"));
    munmap(p, 8192);
    parse_maps((unsigned long)p, line, sizeof line);
    CHECK_STR(line, "");
    parse_maps((unsigned long)sbrk(0) - 1, line, sizeof line);
    CHECK(line[0] == 0 || strstr(line, "[heap]"));
    slurp("/proc/self/maps");
    CHECK(strstr(buf, "[vdso]"));
}

TEST(statm_and_smaps)
{
    unsigned long size, rss;
    CHECK_EQ(sscanf(slurp("/proc/self/statm"), "%lu %lu", &size, &rss), 2);
    CHECK(size >= rss && rss > 0);
    slurp("/proc/self/smaps");
    CHECK(strstr(buf, "Rss:") && strstr(buf, "Size:"));
}

TEST(fd_directory)
{
    char path[64], link[256] = "", name[16];
    int fd = SYS(open("f", O_RDWR | O_CREAT | O_APPEND, 0600)), p[2];
    SYS(pipe(p));
    snprintf(name, sizeof name, "%d", fd);
    CHECK(has_entry("/proc/self/fd", name));
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    SYS(readlink(path, link, sizeof link - 1));
    CHECK(strstr(link, "/f"));
    CHECK_EQ(write(fd, "12345", 5), 5);
    slurp("/proc/self/fdinfo/%d", fd);
    CHECK_EQ(field("pos"), 5);
    CHECK(strtol(strstr(buf, "flags:") + 6, NULL, 8) & O_APPEND);
    int again = SYS(open(path, O_RDONLY)); // another description of the same file
    CHECK_EQ(lseek(again, 0, SEEK_CUR), 0);
    close(fd);
    CHECK_ERR(open(path, O_RDONLY), ENOENT);
}

static void *park(void *arg)
{
    (void)arg;
    pause();
    return NULL;
}

TEST(task_directory)
{
    pthread_t th;
    pthread_create(&th, NULL, park, NULL);
    DIR *d = opendir("/proc/self/task");
    int n = 0;
    for (struct dirent *e; (e = readdir(d));)
        n += isdigit(e->d_name[0]) != 0;
    closedir(d);
    CHECK_EQ(n, 2);
    slurp("/proc/self/status");
    CHECK_EQ(field("Threads"), 2);
}

TEST(pids_are_listed)
{
    char name[16];
    pid_t pid = fork();
    if (pid == 0) {
        pause();
        _exit(0);
    }
    snprintf(name, sizeof name, "%d", (int)pid);
    CHECK(has_entry("/proc", name));
    kill(pid, SIGKILL);
    t_wait(pid);
    CHECK(!has_entry("/proc", name));
    CHECK(has_entry("/proc", "self"));
    CHECK(has_entry("/proc", "meminfo"));
}

TEST(mounts_and_mountinfo)
{
    slurp("/proc/self/mounts");
    CHECK(strstr(buf, " /proc proc "));
    slurp("/proc/mounts");
    CHECK(strstr(buf, " / "));
    slurp("/proc/self/mountinfo");
    CHECK(strstr(buf, " - proc "));
}

TEST(system_files)
{
    slurp("/proc/meminfo");
    CHECK(field("MemTotal") > 0);
    CHECK(field("MemFree") > 0);
    CHECK(field("MemAvailable") > 0);
    slurp("/proc/cpuinfo");
    CHECK(strstr(buf, "processor\t: 0"));
    CHECK(strstr(buf, "flags\t\t: "));
    slurp("/proc/stat");
    CHECK(strncmp(buf, "cpu  ", 5) == 0);
    CHECK(strstr(buf, "\nbtime "));
    double up, idle;
    CHECK_EQ(sscanf(slurp("/proc/uptime"), "%lf %lf", &up, &idle), 2);
    CHECK(up > 0);
    float a, b, c;
    CHECK_EQ(sscanf(slurp("/proc/loadavg"), "%f %f %f", &a, &b, &c), 3);
    struct utsname u;
    SYS(uname(&u));
    slurp("/proc/version");
    CHECK(strncmp(buf, "Linux version ", 14) == 0);
    CHECK(strstr(buf, u.release));
    slurp("/proc/filesystems");
    CHECK(strstr(buf, "\tproc\n") && strstr(buf, "\ttmpfs\n"));
}

TEST(sysctls)
{
    struct utsname u;
    char want[128];
    SYS(uname(&u));
    snprintf(want, sizeof want, "%s\n", u.nodename);
    CHECK_STR(slurp("/proc/sys/kernel/hostname"), want);
    snprintf(want, sizeof want, "%s\n", u.release);
    CHECK_STR(slurp("/proc/sys/kernel/osrelease"), want);
    CHECK_STR(slurp("/proc/sys/kernel/ostype"), "Linux\n");
    CHECK(atol(slurp("/proc/sys/kernel/pid_max")) > 100);
    CHECK(atol(slurp("/proc/sys/fs/pipe-max-size")) >= 4096);
    CHECK(atol(slurp("/proc/sys/vm/overcommit_memory")) >= 0);
    CHECK(atol(slurp("/proc/sys/fs/file-max")) > 0);
    slurp("/proc/sys/kernel/random/boot_id");
    CHECK_EQ(strlen(buf), 37);
    char first[64];
    snprintf(first, sizeof first, "%s", slurp("/proc/sys/kernel/random/uuid"));
    CHECK(strcmp(first, slurp("/proc/sys/kernel/random/uuid")) != 0);
    slurp("/proc/sys/kernel/cap_last_cap");
    CHECK(atol(buf) >= 37);
}

TEST(limits_and_oom_and_cgroup)
{
    struct rlimit rl;
    slurp("/proc/self/limits");
    CHECK(strstr(buf, "Max open files"));
    SYS(getrlimit(RLIMIT_NOFILE, &rl));
    CHECK_EQ(strtoul(strstr(buf, "Max open files") + 26, NULL, 10), rl.rlim_cur);
    slurp("/proc/self/oom_score_adj");
    CHECK(isdigit(buf[0]) || buf[0] == '-');
    slurp("/proc/self/cgroup");
    CHECK(strstr(buf, ":/") || buf[0] == 0);
}

TEST(namespaces_links)
{
    const char *names[] = {"pid", "mnt", "net", "uts", "ipc", "user", "cgroup"};
    for (size_t i = 0; i < 7; i++) {
        char path[64], link[64] = "", want[64];
        snprintf(path, sizeof path, "/proc/self/ns/%s", names[i]);
        SYS(readlink(path, link, sizeof link - 1));
        snprintf(want, sizeof want, "%s:[", names[i]);
        CHECK(strncmp(link, want, strlen(want)) == 0);
    }
    CHECK(strstr(slurp("/proc/self/uid_map"), "0"));
}

TEST(not_writable_and_errors)
{
    char path[64];
    CHECK_ERR(open("/proc/nothing", O_RDONLY), ENOENT);
    CHECK_ERR(mkdir("/proc/dir", 0755), ENOENT);
    CHECK_ERR(open("/proc/file", O_CREAT | O_RDWR, 0600), ENOENT);
    CHECK_ERR(open("/proc/99999999", O_RDONLY), ENOENT);
    CHECK(unlink("/proc/self/status") == -1);
    snprintf(path, sizeof path, "/proc/%d/status/x", (int)getpid());
    CHECK_ERR(open(path, O_RDONLY), ENOTDIR);
    struct stat st;
    SYS(stat("/proc/self/status", &st));
    CHECK(S_ISREG(st.st_mode));
    CHECK_EQ(st.st_size, 0);
}

TEST(others_are_protected)
{
    pid_t root = fork();
    if (root == 0) {
        pause();
        _exit(0);
    }
    pid_t pid = fork();
    if (pid == 0) {
        char path[64], link[64];
        SYS(setresuid(1234, 1234, 1234));
        snprintf(path, sizeof path, "/proc/%d/environ", (int)root);
        CHECK_ERR(open(path, O_RDONLY), EACCES);
        snprintf(path, sizeof path, "/proc/%d/exe", (int)root);
        CHECK_ERR(readlink(path, link, sizeof link), EACCES);
        snprintf(path, sizeof path, "/proc/%d/fd", (int)root);
        CHECK_ERR(open(path, O_RDONLY), EACCES);
        slurp("/proc/%d/status", (int)root);
        CHECK_EQ(field("Pid"), root);
        _exit(0);
    }
    t_join(pid);
    kill(root, SIGKILL);
    t_wait(root);
}

TEST(mem_file)
{
    static volatile int secret = 77;
    int v = 0, fd = SYS(open("/proc/self/mem", O_RDWR));
    CHECK_EQ(pread(fd, &v, sizeof v, (off_t)(uintptr_t)&secret), sizeof v);
    CHECK_EQ(v, 77);
    v = 78;
    CHECK_EQ(pwrite(fd, &v, sizeof v, (off_t)(uintptr_t)&secret), sizeof v);
    CHECK_EQ(secret, 78);
    CHECK_ERR(pread(fd, &v, sizeof v, 16), EIO);
}

TEST(sysinfo_agrees)
{
    struct sysinfo si;
    SYS(sysinfo(&si));
    slurp("/proc/meminfo");
    long total = field("MemTotal");
    unsigned long kib = si.totalram / 1024 * si.mem_unit;
    CHECK(kib > (unsigned long)total / 2 && kib < (unsigned long)total * 2);
    CHECK(si.procs > 0);
    CHECK(si.uptime > 0);
}

TEST(sys_and_dev)
{
    struct statfs sf;
    CHECK(access("/sys", F_OK) == 0);
    SYS(statfs("/sys", &sf));
    CHECK_EQ(sf.f_type, 0x62656572);
    CHECK(access("/dev/null", R_OK | W_OK) == 0);
    CHECK(access("/dev/pts", F_OK) == 0);
    char link[64] = "";
    SYS(readlink("/dev/fd", link, sizeof link - 1));
    CHECK_STR(link, "/proc/self/fd");
    CHECK(strchr(slurp("/sys/devices/system/cpu/online"), '0'));
}

static void *sleep_for(void *arg)
{
    t_event_wait(arg);
    return arg;
}

// Programs tell by it whether they have threads.
TEST(links_of_the_task_directory)
{
    struct stat st;
    struct t_event over;
    pthread_t th;
    t_event_init(&over);
    SYS(stat("/proc/self/task", &st));
    CHECK_EQ(st.st_nlink, 3);
    pthread_create(&th, NULL, sleep_for, &over);
    SYS(stat("/proc/self/task/", &st));
    CHECK_EQ(st.st_nlink, 4);
    t_event_set(&over);
    pthread_join(th, NULL);
    do
        SYS(stat("/proc/self/task", &st)); // until it has left
    while (st.st_nlink != 3);
}

TEST(login_uid)
{
    char text[32];
    int fd = open("/proc/self/loginuid", O_RDWR);
    if (fd < 0)
        t_skip("the kernel does not audit");
    t_read_file("/proc/self/loginuid", text, sizeof text);
    if (strcmp(text, "4294967295") != 0)
        t_skip("somebody has logged in");
    CHECK_EQ(SYS(write(fd, "1000", 4)), 4);
    t_read_file("/proc/self/loginuid", text, sizeof text);
    CHECK_STR(text, "1000");
    CHECK_ERR(write(fd, "x", 1), EINVAL);
}
