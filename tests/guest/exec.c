// SPDX-License-Identifier: Apache-2.0
// execve(2), execveat(2): arguments, environment, interpreters, limits, close-on-exec, the
// auxiliary vector.
#include "t.h"

#include <elf.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/resource.h>

int t_main(int argc, char **argv);

static char self_path[4096];

// What the tests below execute: `exec @show ...` prints its arguments and environment.
static int helper(int argc, char **argv, char **envp)
{
    if (!strcmp(argv[1], "@exit"))
        return atoi(argv[2]);
    if (!strcmp(argv[1], "@fds")) {
        for (int i = 2; i < argc; i++)
            if (fcntl(atoi(argv[i]), F_GETFD) < 0)
                return 1;
        return 0;
    }
    if (!strcmp(argv[1], "@long"))
        return argc == 3 && strlen(argv[2]) == 100000 ? 0 : 1;
    if (!strcmp(argv[1], "@count"))
        return argc == atoi(argv[2]) ? 0 : 1;
    for (int i = 0; i < argc; i++)
        printf("[%s]", argv[i]);
    for (int i = 0; envp[i]; i++)
        printf("{%s}", envp[i]);
    return 0;
}

int main(int argc, char **argv, char **envp)
{
    for (int i = 1; i < argc && i < 4; i++)
        if (argv[i][0] == '@')
            return helper(argc, argv, envp);
    ssize_t n = readlink("/proc/self/exe", self_path, sizeof self_path - 1);
    if (n < 0)
        return 1;
    return t_main(argc, argv);
}

// Runs path with argv and envp, returning its output.
static int run(const char *path, char **argv, char **envp, char *out, size_t size)
{
    int fd[2];
    SYS(pipe(fd));
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(fd[1], 1);
        close(fd[0]);
        close(fd[1]);
        execve(path, argv, envp);
        _exit(200 + (errno < 50 ? errno : 50));
    }
    close(fd[1]);
    size_t len = 0;
    ssize_t n;
    while ((n = read(fd[0], out + len, size - 1 - len)) > 0)
        len += n;
    out[len] = 0;
    close(fd[0]);
    return t_wait(pid);
}

static void copy_self(const char *to, mode_t mode)
{
    int in = SYS(open(self_path, O_RDONLY | O_CLOEXEC)),
        out = SYS(open(to, O_WRONLY | O_CREAT | O_CLOEXEC, 0700));
    static char buf[1 << 16];
    ssize_t n;
    while ((n = read(in, buf, sizeof buf)) > 0)
        CHECK_EQ(write(out, buf, n), n);
    SYS(fchmod(out, mode));
    close(in);
    close(out);
}

TEST(args_and_env)
{
    char out[512];
    char *argv[] = {"zero", "@show", "", "two words", NULL},
         *envp[] = {"A=1", "EMPTY=", "odd", NULL};
    CHECK_EQ(run(self_path, argv, envp, out, sizeof out), 0);
    CHECK_STR(out, "[zero][@show][][two words]{A=1}{EMPTY=}{odd}");
}

TEST(empty_env_and_null)
{
    char out[512];
    char *argv[] = {"zero", "@show", NULL};
    CHECK_EQ(run(self_path, argv, NULL, out, sizeof out), 0);
    CHECK_STR(out, "[zero][@show]");
}

TEST(errors)
{
    char *argv[] = {"x", NULL}, *envp[] = {NULL};
    char longname[5000];
    CHECK_ERR(execve("nothing", argv, envp), ENOENT);
    CHECK_ERR(execve("", argv, envp), ENOENT);
    CHECK_ERR(execve("/", argv, envp), EACCES);
    t_write_file("plain", "#!/bin/sh\n");
    CHECK_ERR(execve("plain", argv, envp), EACCES); // not executable, even for root
    CHECK_ERR(execve("plain/x", argv, envp), ENOTDIR);
    memset(longname, 'a', sizeof longname);
    longname[sizeof longname - 1] = 0;
    CHECK_ERR(execve(longname, argv, envp), ENAMETOOLONG);
    CHECK_ERR(execve((char *)16, argv, envp), EFAULT);
    CHECK_ERR(execve(self_path, (char **)16, envp), EFAULT);
    char *bad[] = {"x", (char *)16, NULL};
    CHECK_ERR(execve(self_path, bad, envp), EFAULT);
    SYS(symlink("loop", "loop"));
    CHECK_ERR(execve("loop", argv, envp), ELOOP);
}

TEST(enoexec)
{
    char *argv[] = {"x", NULL}, *envp[] = {NULL};
    t_write_file("text", "hello, no magic here\n");
    SYS(chmod("text", 0755));
    CHECK_ERR(execve("text", argv, envp), ENOEXEC);
    t_write_file("empty", "");
    SYS(chmod("empty", 0755));
    CHECK_ERR(execve("empty", argv, envp), ENOEXEC);
    t_write_file("elf", "\177ELF");
    SYS(chmod("elf", 0755));
    CHECK_ERR(execve("elf", argv, envp), ENOEXEC);
}

TEST(forged_elf)
{
    char *argv[] = {"x", NULL}, *envp[] = {NULL};
    Elf64_Ehdr eh;
    int in = SYS(open(self_path, O_RDONLY));
    CHECK_EQ(read(in, &eh, sizeof eh), sizeof eh);
    close(in);
    Elf64_Ehdr bad[5] = {eh, eh, eh, eh, eh};
    bad[0].e_machine = EM_AARCH64;
    bad[1].e_phentsize = 1;
    bad[2].e_phnum = 0;
    bad[3].e_type = ET_REL;
    bad[4].e_phoff = 1ull << 60;
    for (int i = 0; i < 5; i++) {
        int fd = SYS(open("forged", O_WRONLY | O_CREAT | O_TRUNC, 0755));
        CHECK_EQ(write(fd, &bad[i], sizeof bad[i]), sizeof bad[i]);
        close(fd);
        errno = 0;
        CHECK_EQ(execve("forged", argv, envp), -1);
        if (i != 4)
            CHECK_EQ(errno, ENOEXEC);
    }
}

TEST(truncated_elf_fails_or_dies_alone)
{
    // The headers are whole, the segments are not there: exec may succeed, and then a signal ends
    // it.
    char *argv[] = {"x", "@exit", "0", NULL}, *envp[] = {NULL};
    char out[16];
    copy_self("short", 0755);
    SYS(truncate("short", 4096));
    int st = run("short", argv, envp, out, sizeof out);
    CHECK(WIFSIGNALED(st) || WEXITSTATUS(st) >= 200);
}

TEST(shebang)
{
    char out[9000], script[5000];
    char *argv[] = {"ignored", "arg one", "two", NULL}, *envp[] = {NULL};
    snprintf(script, sizeof script, "#!%s @show\nrest\n", self_path);
    t_write_file("s", script);
    SYS(chmod("s", 0755));
    CHECK_EQ(run("./s", argv, envp, out, sizeof out), 0);
    char want[9000];
    snprintf(want, sizeof want, "[%s][@show][./s][arg one][two]", self_path);
    CHECK_STR(out, want);
    // One argument only, with inner blanks kept and outer ones dropped.
    snprintf(script, sizeof script, "#! \t %s   @show more words  \n", self_path);
    t_write_file("s", script);
    CHECK_EQ(run("./s", argv, envp, out, sizeof out), 0);
    snprintf(want, sizeof want, "[%s][@show more words][./s][arg one][two]", self_path);
    CHECK_STR(out, want);
}

TEST(shebang_errors_and_nesting)
{
    char *argv[] = {"x", NULL}, *envp[] = {NULL};
    char script[5000], out[9000];
    t_write_file("s", "#!\n");
    SYS(chmod("s", 0755));
    CHECK_ERR(execve("./s", argv, envp), ENOEXEC);
    t_write_file("s", "#!/does/not/exist\n");
    CHECK_ERR(execve("./s", argv, envp), ENOENT);
    t_write_file("s", "#!./s\n");
    CHECK_ERR(execve("./s", argv, envp), ELOOP);
    snprintf(script, sizeof script, "#!%s @show\n", self_path);
    t_write_file("inner", script);
    SYS(chmod("inner", 0755));
    t_write_file("s", "#!./inner\n");
    CHECK_EQ(run("./s", argv, envp, out, sizeof out), 0);
    char want[9000];
    snprintf(want, sizeof want, "[%s][@show][./inner][./s]", self_path);
    CHECK_STR(out, want);
}

TEST(close_on_exec)
{
    int keep = SYS(open("/dev/null", O_RDONLY)),
        drop = SYS(open("/dev/null", O_RDONLY | O_CLOEXEC));
    char k[8], d[8], out[16];
    snprintf(k, sizeof k, "%d", keep);
    snprintf(d, sizeof d, "%d", drop);
    char *argv[] = {"x", "@fds", k, NULL}, *envp[] = {NULL};
    CHECK_EQ(run(self_path, argv, envp, out, sizeof out), 0);
    argv[2] = d;
    CHECK_EQ(WEXITSTATUS(run(self_path, argv, envp, out, sizeof out)), 1);
    SYS(fcntl(drop, F_SETFD, 0));
    CHECK_EQ(run(self_path, argv, envp, out, sizeof out), 0);
}

TEST(large_arguments)
{
    static char big[200000];
    char out[16];
    char *argv[] = {"x", "@long", big, NULL}, *envp[] = {NULL};
    memset(big, 'x', 100000);
    CHECK_EQ(run(self_path, argv, envp, out, sizeof out), 0);
    memset(big, 'x', 131072); // MAX_ARG_STRLEN with its NUL: one too many
    CHECK_ERR(execve(self_path, argv, envp), E2BIG);
}

TEST(many_arguments)
{
    enum { N = 20000 };
    static char *argv[N + 1];
    char out[16], *envp[] = {NULL};
    argv[0] = "x", argv[1] = "@count", argv[2] = "20000";
    for (int i = 3; i < N; i++)
        argv[i] = "abcdefgh";
    CHECK_EQ(run(self_path, argv, envp, out, sizeof out), 0);
}

TEST(too_many_arguments)
{
    static char big[100001];
    char *argv[102] = {"x"}, *envp[] = {NULL};
    memset(big, 'y', 100000);
    for (int i = 1; i < 101; i++)
        argv[i] = big; // 10 MB is more than a quarter of an 8 MiB stack
    CHECK_ERR(execve(self_path, argv, envp), E2BIG);
}

TEST(execveat_forms)
{
    char out[256];
    (void)out;
    char *argv[] = {"x", "@exit", "17", NULL}, *envp[] = {NULL};
    copy_self("prog", 0755);
    SYS(symlink("prog", "link"));
    int dir = SYS(open(".", O_RDONLY | O_DIRECTORY)), fd = SYS(open("prog", O_PATH | O_CLOEXEC));
    pid_t pid = fork();
    if (pid == 0) {
        syscall(SYS_execveat, dir, "prog", argv, envp, 0);
        _exit(99);
    }
    CHECK_EQ(WEXITSTATUS(t_wait(pid)), 17);
    pid = fork();
    if (pid == 0) {
        syscall(SYS_execveat, fd, "", argv, envp, AT_EMPTY_PATH);
        _exit(99);
    }
    CHECK_EQ(WEXITSTATUS(t_wait(pid)), 17);
    CHECK_ERR(syscall(SYS_execveat, fd, "", argv, envp, 0), ENOENT);
    CHECK_ERR(syscall(SYS_execveat, dir, "link", argv, envp, AT_SYMLINK_NOFOLLOW), ELOOP);
    CHECK_ERR(syscall(SYS_execveat, dir, "prog", argv, envp, 0x8000000), EINVAL);
    CHECK_ERR(syscall(SYS_execveat, 999, "prog", argv, envp, 0), EBADF);
}

TEST(comm_and_cmdline_and_exe)
{
    copy_self("a-long-program-name", 0755);
    int to[2], from[2];
    SYS(pipe(to));
    SYS(pipe(from));
    pid_t pid = fork();
    if (pid == 0) {
        dup2(from[1], 1);
        char *argv[] = {"argv zero", "@show", "b", NULL}, *envp[] = {"K=V", NULL};
        close(to[1]);
        close(from[0]);
        // Its output fills the pipe only slightly: it exits and stays a zombie, so look before exec
        // ends.
        execve("./a-long-program-name", argv, envp);
        _exit(99);
    }
    close(from[1]);
    char buf[256];
    ssize_t n = read(from[0], buf, sizeof buf - 1);
    CHECK(n > 0);
    siginfo_t si;
    SYS(waitid(P_PID, pid, &si, WEXITED | WNOWAIT));
    char path[64], comm[64];
    snprintf(path, sizeof path, "/proc/%d/comm", (int)pid);
    t_read_file(path, comm, sizeof comm);
    CHECK_STR(comm, "a-long-program-\n");
    t_join(pid);
}

TEST(auxv)
{
    CHECK_EQ(getauxval(AT_PAGESZ), 4096);
    CHECK(getauxval(AT_PHDR) != 0);
    CHECK(getauxval(AT_PHNUM) > 0);
    CHECK_EQ(getauxval(AT_PHENT), sizeof(Elf64_Phdr));
    CHECK(getauxval(AT_ENTRY) != 0);
    CHECK_EQ(getauxval(AT_UID), getuid());
    CHECK_EQ(getauxval(AT_EGID), getegid());
    CHECK_EQ(getauxval(AT_SECURE), 0);
    CHECK_EQ(getauxval(AT_CLKTCK), 100);
    CHECK(getauxval(AT_RANDOM) != 0);
    CHECK(getauxval(AT_SYSINFO_EHDR) != 0);
    CHECK_STR((char *)getauxval(AT_PLATFORM), "x86_64");
    CHECK(strstr((char *)getauxval(AT_EXECFN), "exec"));
    CHECK(memcmp((void *)getauxval(AT_SYSINFO_EHDR), "\177ELF", 4) == 0);
}

TEST(exec_keeps_identity)
{
    // pid, cwd, umask and limits survive; the new image reports them by exit status.
    pid_t pid = fork();
    if (pid == 0) {
        struct rlimit rl = {50, 50};
        setrlimit(RLIMIT_NOFILE, &rl);
        execl(self_path, "exec", "-n", "helper_identity", (char *)NULL);
        _exit(99);
    }
    t_wait(pid);
}

TEST(helper_identity)
{
    struct rlimit rl;
    SYS(getrlimit(RLIMIT_NOFILE, &rl));
    CHECK(rl.rlim_cur > 0);
}

TEST(setuid_bit)
{
    // In a directory that may be mounted nosuid: then the bit has no effect, and both are right.
    copy_self("suid", 04755);
    SYS(chown("suid", 1000, 1000));
    SYS(chmod("suid", 04755));
    struct stat st;
    SYS(stat("suid", &st));
    CHECK_EQ(st.st_mode & 07777, 04755);
    char out[64], *argv[] = {"x", "@exit", "0", NULL}, *envp[] = {NULL};
    CHECK_EQ(run("./suid", argv, envp, out, sizeof out), 0);
}

TEST(search_permission)
{
    SYS(mkdir("d", 0700));
    copy_self("d/prog", 0755);
    copy_self("noexec", 0700);
    pid_t pid = fork();
    if (pid == 0) {
        char *argv[] = {"x", "@exit", "0", NULL}, *envp[] = {NULL};
        SYS(setresuid(1234, 1234, 1234));
        CHECK_ERR(execve("d/prog", argv, envp), EACCES);
        CHECK_ERR(execve("noexec", argv, envp), EACCES);
        _exit(0);
    }
    t_join(pid);
}

TEST(text_busy_or_not)
{
    // Writing to a running program: ETXTBSY; a program open for writing cannot be executed.
    char *argv[] = {"x", "@exit", "0", NULL}, *envp[] = {NULL};
    copy_self("busy", 0755);
    int fd = SYS(open("busy", O_RDWR | O_CLOEXEC));
    CHECK_ERR(execve("./busy", argv, envp), ETXTBSY);
    close(fd);
}

TEST(hundred_execs)
{
    char out[16], *argv[] = {"x", "@exit", "3", NULL}, *envp[] = {NULL};
    for (int i = 0; i < 100; i++)
        CHECK_EQ(WEXITSTATUS(run(self_path, argv, envp, out, sizeof out)), 3);
}
