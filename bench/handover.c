// SPDX-License-Identifier: Apache-2.0
// What the platform costs, without the kernel above it: the hand-over by trap and by the rewritten way,
// operations, forks and threads. Prints one line a figure: name, microseconds (median of runs).
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "host/host.h"
#include "sentry/platform/platform.h"
#include "stub/image.h"
#include "stub/layout.h"

#define RUNS 7
#define TEXT 0x400000ull
#define DATA 0x10000000ull
#define DATA_SIZE 0x100000ull
#define SLOT_DATA 2

// loop: syscall in a loop, by trap
static const u8 code_trap[] = {
    0xb8, 0xe8, 0x03, 0x00, 0x00, // mov $1000, %eax
    0x0f, 0x05,                   // syscall
    0xeb, 0xf7,                   // jmp to the start
};

// The same through the stub's entrance, as a trampoline does.
static const u8 code_fast[] = {
    0xb8, 0xe8, 0x03, 0x00, 0x00,             // mov $1000, %eax
    0x4c, 0x8d, 0x1d, 0x0c, 0x00, 0x00, 0x00, // lea 12(%rip), %r11
    0xff, 0xe3,                               // jmp *%rbx
    0, 0, 0, 0, 0, 0, 0, 0,                   // the site
    0x0f, 0x05,                               // syscall
    0xeb, 0xe6,                               // jmp to the start
};

// A count in memory of calls that the stub answers.
static const u8 code_getpid[] = {
    0xb8, 0x27, 0x00, 0x00, 0x00,             // mov $39, %eax
    0x4c, 0x8d, 0x1d, 0x0c, 0x00, 0x00, 0x00, // lea 12(%rip), %r11
    0xff, 0xe3,                               // jmp *%rbx
    0, 0, 0, 0, 0, 0, 0, 0,                   // the site
    0x0f, 0x05,                               // syscall
    0x48, 0xff, 0x0f,                         // decq (%rdi)
    0x75, 0xe3,                               // jnz to the start
    0xb8, 0xe8, 0x03, 0x00, 0x00,             // mov $1000, %eax
    0x0f, 0x05,                               // syscall
};

// The bench enters the stub by itself; nothing is rewritten.
long platform_hook_read_text(u32 as, u64 addr, void *buf, u32 size)
{
    return -1;
}

int platform_hook_trampoline(u32 as, u64 near, u64 *ret_addr, void **ret_write)
{
    return -1;
}

int platform_hook_patch(u32 as, const struct platform_patch *patch)
{
    return -1;
}

bool platform_hook_single_threaded(u32 as)
{
    return true;
}

struct guest {
    u32 as, thread;
    struct user_regs regs;
    u32 flags;
    struct platform_event event;
    u8 *data;
    int fd;
};

static void check(bool good, const char *what)
{
    if (good)
        return;
    fprintf(stderr, "handover: %s failed\n", what);
    exit(1);
}

static void guest_new(struct guest *g, const u8 *code, u64 size)
{
    memset(g, 0, sizeof(*g));
    check(platform_as_new(0, &g->as, &g->thread) == 0, "platform_as_new");
    g->fd = host_memfd_create("bench", MFD_CLOEXEC);
    host_ftruncate(g->fd, DATA_SIZE + PAGE_SIZE);
    g->data = host_mmap(NULL, DATA_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, g->fd, 0);
    host_pwrite(g->fd, code, size, DATA_SIZE);
    check(platform_as_set_fd(g->as, SLOT_DATA, g->fd) == 0, "set_fd");
    check(platform_as_map(g->as, DATA, DATA_SIZE, 3, SLOT_DATA, 0, false) == 0, "map");
    check(platform_as_map(g->as, TEXT, PAGE_SIZE, 5, SLOT_DATA, DATA_SIZE, false) == 0, "map");
    // The word before a trampoline's instruction names the site: here the instruction's end.
    u64 end = TEXT + 24;
    if (code != code_trap)
        host_pwrite(g->fd, &end, 8, DATA_SIZE + 14);
    g->regs.rip = TEXT;
    g->regs.rsp = DATA + DATA_SIZE - 64;
    g->regs.rbx = ((const struct stub_header *)stub_image)->fast_entry;
    g->regs.rdi = DATA;
    g->flags = PLATFORM_REGS_ALL;
}

static void guest_free(struct guest *g)
{
    platform_as_destroy(g->as);
    host_munmap(g->data, DATA_SIZE);
    host_close(g->fd);
}

static void run(struct guest *g)
{
    check(platform_switch(g->thread, &g->regs, g->flags, &g->event) == 0, "switch");
    if (g->event.kind != PLATFORM_SYSCALL) {
        fprintf(stderr, "handover: event %d signo %d addr %#llx rip %#llx\n", g->event.kind,
                g->event.signo, (unsigned long long)g->event.addr, (unsigned long long)g->regs.rip);
        exit(1);
    }
    g->flags = PLATFORM_REGS_RAX;
}

static double now(void)
{
    return (double)host_clock(CLOCK_MONOTONIC) / 1000.0;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void report(const char *name, void (*fn)(void *, int), void *arg, int count)
{
    double t[RUNS];
    fn(arg, count / 10 + 1);
    for (int i = 0; i < RUNS; i++) {
        double start = now();
        fn(arg, count);
        t[i] = (now() - start) / count;
    }
    if (arg)
        platform_block_begin(((struct guest *)arg)->thread);
    qsort(t, RUNS, sizeof(*t), compare);
    printf("%-34s %9.3f\n", name, t[RUNS / 2]);
    fflush(stdout);
}

static void bench_calls(void *arg, int n)
{
    for (int i = 0; i < n; i++)
        run(arg);
}

static void bench_answered(void *arg, int n)
{
    struct guest *g = arg;
    *(u64 *)g->data = (u64)n;
    g->regs.rip = TEXT;
    g->flags = PLATFORM_REGS_ALL;
    run(g);
}

static void bench_fork(void *arg, int n)
{
    struct guest *g = arg;
    for (int i = 0; i < n; i++) {
        struct guest c = *g;
        check(platform_as_fork(g->thread, &c.as, &c.thread) == 0, "fork");
        c.flags = PLATFORM_REGS_ALL;
        run(&c);
        platform_as_destroy(c.as);
    }
}

static void bench_new(void *arg, int n)
{
    for (int i = 0; i < n; i++) {
        u32 as, thread;
        check(platform_as_new(0, &as, &thread) == 0, "new");
        platform_as_destroy(as);
    }
}

static void bench_thread(void *arg, int n)
{
    struct guest *g = arg;
    for (int i = 0; i < n; i++) {
        u32 thread;
        check(platform_thread_new(g->as, g->thread, &thread) == 0, "thread");
        platform_thread_exit(thread);
    }
}

static void bench_thread_fresh(void *arg, int n)
{
    struct guest *g = arg;
    for (int i = 0; i < n; i++) {
        u32 thread;
        check(platform_thread_new(g->as, g->thread, &thread) == 0, "thread");
    }
}

static void bench_map(void *arg, int n)
{
    struct guest *g = arg;
    for (int i = 0; i < n; i++) {
        check(platform_as_map(g->as, 0x20000000, PAGE_SIZE, 3, SLOT_DATA, 0, false) == 0, "map");
        run(g);
        check(platform_as_unmap(g->as, 0x20000000, PAGE_SIZE) == 0, "unmap");
        run(g);
    }
}

static void bench_protect(void *arg, int n)
{
    struct guest *g = arg;
    for (int i = 0; i < n; i++) {
        check(platform_as_protect(g->as, DATA, PAGE_SIZE, 1 + 2 * (i & 1)) == 0, "protect");
        run(g);
    }
}

static void bench_set_fd(void *arg, int n)
{
    struct guest *g = arg;
    for (int i = 0; i < n; i++) {
        check(platform_as_set_fd(g->as, 5, g->fd) == 0, "set_fd");
        run(g);
    }
}

static void bench_set_fd4(void *arg, int n)
{
    struct guest *g = arg;
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < 4; k++)
            check(platform_as_set_fd(g->as, 5 + k, g->fd) == 0, "set_fd");
        run(g);
    }
}

static void bench_fp(void *arg, int n)
{
    struct guest *g = arg;
    u8 image[PLATFORM_FP_MAX];
    for (int i = 0; i < n; i++) {
        check(platform_fp_get(g->thread, image) == 0, "fp_get");
        check(platform_fp_set(g->thread, image) == 0, "fp_set");
    }
}

static void bench_blocked(void *arg, int n)
{
    struct guest *g = arg;
    for (int i = 0; i < n; i++) {
        platform_block_begin(g->thread);
        platform_block_end(g->thread, 0);
        run(g);
    }
}

static void *pair_main(void *arg)
{
    bench_calls(arg, 20000);
    return NULL;
}

static void bench_two(void *arg, int n)
{
    struct guest *g = arg;
    pthread_t t[2];
    (void)n;
    for (int i = 0; i < 2; i++)
        pthread_create(&t[i], NULL, pair_main, &g[i]);
    for (int i = 0; i < 2; i++)
        pthread_join(t[i], NULL);
}

// --- with other work on each CPU, and after it ---

#define HOGS_MAX 64

static bool hogs_stop;

static void *hog_main(void *arg)
{
    while (!__atomic_load_n(&hogs_stop, __ATOMIC_RELAXED))
        ;
    return arg;
}

static void bench_busy(struct guest *g)
{
    pthread_t hogs[HOGS_MAX];
    struct timespec ts = {.tv_sec = 1};
    long n = min(sysconf(_SC_NPROCESSORS_ONLN), (long)HOGS_MAX);

    for (long i = 0; i < n; i++)
        pthread_create(&hogs[i], NULL, hog_main, NULL);
    report("call, all CPUs busy", bench_calls, g, 2000);
    __atomic_store_n(&hogs_stop, true, __ATOMIC_RELAXED);
    for (long i = 0; i < n; i++)
        pthread_join(hogs[i], NULL);
    nanosleep(&ts, NULL);
    report("call, a second later", bench_calls, g, 200000);
}

int main(void)
{
    struct platform_config config = {.in_stub_answers = true};
    struct platform_identity id = {.pid = 7};
    struct guest trap, fast, answered, pair[2];

    log_init(2, LOG_LEVEL_WARN, "handover");
    check(platform_init(&config) == 0, "platform_init");
    guest_new(&trap, code_trap, sizeof(code_trap));
    guest_new(&fast, code_fast, sizeof(code_fast));
    guest_new(&answered, code_getpid, sizeof(code_getpid));
    report("call by trap", bench_calls, &trap, 100000);
    report("call by the rewritten way", bench_calls, &fast, 200000);
    run(&answered);
    platform_block_begin(answered.thread);
    platform_set_identity(answered.thread, &id);
    report("call answered in the stub", bench_answered, &answered, 2000000);
    report("call after the thread has slept", bench_blocked, &fast, 2000);
    report("FP get and set", bench_fp, &fast, 20000);
    report("map, call, unmap, call", bench_map, &fast, 20000);
    report("mprotect, call", bench_protect, &fast, 20000);
    report("set_fd, call", bench_set_fd, &fast, 5000);
    report("set_fd x4, call", bench_set_fd4, &fast, 5000);
    report("thread new (parked), exit", bench_thread, &fast, 2000);
    report("thread new (fresh)", bench_thread_fresh, &answered, 100);
    report("fork, call, kill", bench_fork, &fast, 300);
    report("new address space, kill", bench_new, NULL, 300);
    guest_new(&pair[0], code_fast, sizeof(code_fast));
    guest_new(&pair[1], code_fast, sizeof(code_fast));
    report("two at once, rewritten: a call", bench_two, pair, 20000);
    bench_busy(&fast);
    guest_free(&trap);
    guest_free(&fast);
    guest_free(&answered);
    return 0;
}
