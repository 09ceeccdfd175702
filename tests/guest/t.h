// SPDX-License-Identifier: Apache-2.0
//
// A tiny harness for guest tests: ordinary Linux programs that must pass on the host kernel first
// and then inside bailey. Each TEST runs in a child process of its own, in a fresh temporary
// directory under the current one, with a time limit. Output is one line a case: `ok - name`, `not
// ok - name: detail` or `ok - name # SKIP reason`. The exit status is 0 if, and only if, every case
// passed.
//
// A failed CHECK records the first message in memory shared with the runner and ends the process
// that it is in, so checks work in grandchildren and threads too.
#ifndef BAILEY_TESTS_GUEST_T_H
#define BAILEY_TESTS_GUEST_T_H

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct t_case {
    const char *name;
    void (*run)(void);
    struct t_case *next;
};

// Adds a case to the list that main() runs; called by constructors that TEST makes.
void t_register(struct t_case *c);

#define TEST(id)                                                                                   \
    static void test_##id(void);                                                                   \
    __attribute__((constructor)) static void register_##id(void)                                   \
    {                                                                                              \
        static struct t_case c = {#id, test_##id, NULL};                                           \
        t_register(&c);                                                                            \
    }                                                                                              \
    static void test_##id(void)

// Records a failure (the first one wins) and ends this process.
__attribute__((noreturn, format(printf, 3, 4))) void t_fail(const char *file, int line,
                                                            const char *fmt, ...);

// Ends the case as skipped, with a reason. For what the host lacks, never for what bailey lacks.
__attribute__((noreturn)) void t_skip(const char *why);

#define FAIL(...) t_fail(__FILE__, __LINE__, __VA_ARGS__)

#define CHECK(e)                                                                                   \
    do {                                                                                           \
        if (!(e))                                                                                  \
            FAIL("%s (errno %d)", #e, errno);                                                      \
    } while (0)

// Two integers are equal.
#define CHECK_EQ(a, b)                                                                             \
    do {                                                                                           \
        long long t_a_ = (long long)(a), t_b_ = (long long)(b);                                    \
        if (t_a_ != t_b_)                                                                          \
            FAIL("%s is %lld, expected %s = %lld (errno %d)", #a, t_a_, #b, t_b_, errno);          \
    } while (0)

// Two strings are equal.
#define CHECK_STR(a, b)                                                                            \
    do {                                                                                           \
        const char *t_a_ = (a), *t_b_ = (b);                                                       \
        if (strcmp(t_a_, t_b_) != 0)                                                               \
            FAIL("%s is \"%s\", expected \"%s\"", #a, t_a_, t_b_);                                 \
    } while (0)

// A system call succeeds (does not return -1); the value of the expression is its result.
#define SYS(e)                                                                                     \
    __extension__({                                                                                \
        long t_r_ = (long)(e);                                                                     \
        if (t_r_ == -1)                                                                            \
            FAIL("%s failed: %s", #e, strerror(errno));                                            \
        t_r_;                                                                                      \
    })

// A system call fails with -1 and this errno.
#define CHECK_ERR(e, want)                                                                         \
    do {                                                                                           \
        errno = 0;                                                                                 \
        long t_r_ = (long)(e);                                                                     \
        int t_e_ = errno;                                                                          \
        if (t_r_ != -1)                                                                            \
            FAIL("%s returned %ld, expected %s", #e, t_r_, #want);                                 \
        if (t_e_ != (want))                                                                        \
            FAIL("%s failed with %s, expected %s", #e, strerrorname_np(t_e_), #want);              \
    } while (0)

// Forks a child that runs fn(arg) and exits 0 (or by a failed CHECK).
pid_t t_fork(void (*fn)(void *), void *arg);

// Waits for a child and fails unless it exited with 0.
void t_join(pid_t pid);

// Waits for a child and returns its wait status.
int t_wait(pid_t pid);

// A one-way event between processes or threads, on a pipe: set once, wait once.
struct t_event {
    int fd[2];
};
void t_event_init(struct t_event *ev);
void t_event_set(struct t_event *ev);
void t_event_wait(struct t_event *ev);

// Waits until /proc/<pid>/stat (or task/<tid>) shows the state, such as 'S' or 'T'.
void t_wait_state(pid_t pid, char state);
void t_wait_task_state(pid_t pid, pid_t tid, char state);

// Writes a whole file; reads one into buf (NUL terminated), returning its length.
void t_write_file(const char *path, const char *text);
size_t t_read_file(const char *path, char *buf, size_t size);

// Anonymous memory shared with children, zeroed.
void *t_shared(size_t size);

// CLOCK_MONOTONIC in nanoseconds.
uint64_t t_now(void);

// Installs a handler with sigaction and these flags.
void t_handle(int sig, void (*fn)(int), int flags);
void t_handle_info(int sig, void (*fn)(int, siginfo_t *, void *), int flags);

#endif
