// SPDX-License-Identifier: Apache-2.0
#include "t.h"

#include <dirent.h>
#include <ftw.h>
#include <stdarg.h>
#include <sys/mman.h>

enum { T_LIMIT_SECONDS = 30, T_MESSAGE = 500 };

// Shared with every process of a case.
struct shared {
    int failed; // set by the first failure, by compare and swap
    int skipped;
    char message[T_MESSAGE];
};

static struct t_case *first, *last;
static struct shared *shared;
static bool no_fork;

void t_register(struct t_case *c)
{
    if (last)
        last->next = c;
    else
        first = c;
    last = c;
}

void t_fail(const char *file, int line, const char *fmt, ...)
{
    int zero = 0;
    const char *base = strrchr(file, '/');
    va_list ap;
    va_start(ap, fmt);
    if (__atomic_compare_exchange_n(&shared->failed, &zero, 1, false, __ATOMIC_SEQ_CST,
                                    __ATOMIC_SEQ_CST)) {
        int n = snprintf(shared->message, sizeof shared->message, "%s:%d: ", base ? base + 1 : file,
                         line);
        vsnprintf(shared->message + n, sizeof shared->message - n, fmt, ap);
    }
    va_end(ap);
    if (no_fork) {
        printf("not ok - %s\n", shared->message);
        fflush(stdout);
    }
    _exit(1);
}

void t_skip(const char *why)
{
    shared->skipped = 1;
    snprintf(shared->message, sizeof shared->message, "%s", why);
    _exit(0);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path), 0;
}

static volatile sig_atomic_t timed_out;
static volatile pid_t running;

static void on_alarm(int sig)
{
    (void)sig;
    timed_out = 1;
    kill(running, SIGKILL);
}

// Runs the case in a child in a directory of its own. Returns true if it passed.
static bool run_case(const struct t_case *c)
{
    char dir[] = "t-XXXXXX";
    memset(shared, 0, sizeof *shared);
    fflush(stdout);
    if (!mkdtemp(dir)) {
        printf("not ok - %s: mkdtemp: %s\n", c->name, strerror(errno));
        return false;
    }
    if (chmod(dir, 0755) != 0 || no_fork) {
        if (chdir(dir) != 0)
            return false;
        c->run();
        printf("ok - %s\n", c->name);
        return chdir("..") == 0;
    }
    pid_t pid = fork();
    if (pid == 0) {
        setpgid(0, 0);
        if (chdir(dir) != 0)
            FAIL("chdir: %s", strerror(errno));
        c->run();
        fflush(stdout);
        _exit(0);
    }
    int status = 0;
    if (pid < 0) {
        printf("not ok - %s: fork: %s\n", c->name, strerror(errno));
        return false;
    }
    setpgid(pid, pid);
    running = pid;
    timed_out = 0;
    alarm(T_LIMIT_SECONDS);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    alarm(0);
    kill(-pid, SIGKILL); // whatever the case left behind in its process group
    nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    if (shared->failed)
        printf("not ok - %s: %s\n", c->name, shared->message);
    else if (timed_out)
        printf("not ok - %s: timed out after %d s\n", c->name, T_LIMIT_SECONDS);
    else if (WIFSIGNALED(status))
        printf("not ok - %s: killed by signal %d\n", c->name, WTERMSIG(status));
    else if (WEXITSTATUS(status) != 0)
        printf("not ok - %s: exit status %d\n", c->name, WEXITSTATUS(status));
    else if (shared->skipped)
        printf("ok - %s # SKIP %s\n", c->name, shared->message);
    else
        printf("ok - %s\n", c->name);
    fflush(stdout);
    return !shared->failed && !timed_out && status == 0;
}

static bool selected(const char *name, char **patterns, int count)
{
    for (int i = 0; i < count; i++)
        if (patterns[i][0] == '=' ? !strcmp(name, patterns[i] + 1)
                                  : strstr(name, patterns[i]) != NULL)
            return true;
    return count == 0;
}

// Options: -l lists the cases, -n runs them in this process (for bring-up), words select by
// substring, or exactly after a '='. Weak, so that a test can supply a main of its own (for what it
// executes itself) and call t_main.
int t_main(int argc, char **argv);
int t_main(int argc, char **argv)
{
    int bad = 0, i = 1;
    bool list = false;
    for (; i < argc && argv[i][0] == '-'; i++) {
        list |= !strcmp(argv[i], "-l");
        no_fork |= !strcmp(argv[i], "-n");
    }
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        perror("mmap");
        return 1;
    }
    struct sigaction sa = {.sa_handler = on_alarm};
    if (!no_fork)
        sigaction(SIGALRM, &sa, NULL);
    umask(022);
    for (struct t_case *c = first; c; c = c->next) {
        if (!selected(c->name, argv + i, argc - i))
            continue;
        if (list)
            printf("%s\n", c->name);
        else if (!run_case(c))
            bad++;
    }
    return bad ? 1 : 0;
}

__attribute__((weak)) int main(int argc, char **argv)
{
    return t_main(argc, argv);
}

pid_t t_fork(void (*fn)(void *), void *arg)
{
    fflush(stdout);
    pid_t pid = fork();
    if (pid < 0)
        FAIL("fork: %s", strerror(errno));
    if (pid == 0) {
        fn(arg);
        _exit(0);
    }
    return pid;
}

int t_wait(pid_t pid)
{
    int status = -1;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            FAIL("waitpid: %s", strerror(errno));
    return status;
}

void t_join(pid_t pid)
{
    int status = t_wait(pid);
    if (status != 0)
        FAIL("child %d ended with status 0x%x", (int)pid, status);
}

void t_event_init(struct t_event *ev)
{
    SYS(pipe2(ev->fd, O_CLOEXEC));
}

void t_event_set(struct t_event *ev)
{
    while (write(ev->fd[1], "", 1) != 1)
        if (errno != EINTR)
            FAIL("event write: %s", strerror(errno));
}

void t_event_wait(struct t_event *ev)
{
    char c;
    while (read(ev->fd[0], &c, 1) != 1)
        if (errno != EINTR)
            FAIL("event read: %s", strerror(errno));
}

static void wait_state(const char *path, char state)
{
    char buf[512];
    for (int i = 0; i < 10000; i++) {
        t_read_file(path, buf, sizeof buf);
        char *p = strrchr(buf, ')');
        if (p && p[1] == ' ' && p[2] == state)
            return;
        struct timespec ts = {0, 1000000};
        nanosleep(&ts, NULL);
    }
    FAIL("%s never showed state %c: %s", path, state, buf);
}

void t_wait_state(pid_t pid, char state)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    wait_state(path, state);
}

void t_wait_task_state(pid_t pid, pid_t tid, char state)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task/%d/stat", (int)pid, (int)tid);
    wait_state(path, state);
}

void t_write_file(const char *path, const char *text)
{
    int fd = SYS(open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    size_t len = strlen(text);
    if (write(fd, text, len) != (ssize_t)len)
        FAIL("write %s: %s", path, strerror(errno));
    close(fd);
}

size_t t_read_file(const char *path, char *buf, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        FAIL("open %s: %s", path, strerror(errno));
    size_t len = 0;
    while (len < size - 1) {
        ssize_t n = read(fd, buf + len, size - 1 - len);
        if (n < 0)
            FAIL("read %s: %s", path, strerror(errno));
        if (n == 0)
            break;
        len += n;
    }
    buf[len] = 0;
    close(fd);
    return len;
}

void *t_shared(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        FAIL("mmap: %s", strerror(errno));
    return p;
}

uint64_t t_now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

void t_handle(int sig, void (*fn)(int), int flags)
{
    struct sigaction sa = {.sa_handler = fn, .sa_flags = flags};
    SYS(sigaction(sig, &sa, NULL));
}

void t_handle_info(int sig, void (*fn)(int, siginfo_t *, void *), int flags)
{
    struct sigaction sa = {.sa_sigaction = fn, .sa_flags = flags | SA_SIGINFO};
    SYS(sigaction(sig, &sa, NULL));
}
