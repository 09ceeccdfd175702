// SPDX-License-Identifier: Apache-2.0
// The zygote: a fork of the sentry that keeps nothing of it. It maps the stub at its place, lets go of
// all memory, descriptors and rights, and puts on the filter that every stub inherits.
//
// The child runs on a stack of its own, on raw host calls alone: libc's state in it is a copy that
// is about to vanish.
#include <linux/capability.h>
#include <linux/filter.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "base/log.h"
#include "host/host.h"
#include "host/process.h"
#include "sentry/platform/internal.h"
#include "stub/image.h"

#define CHILD_STACK 0x10000
#define TASK_TOP 0x7ffffffff000ull
// Above this only a process's first stack and its vDSO lie.
#define STACKS_START 0x7ffc00000000ull
#define SA_RESTORER_FLAG 0x04000000
#define RSEQ_SIGNATURE 0x53053053
#define RSEQ_UNREGISTER 1
#define RSEQ_SIZE 32

extern const ptrdiff_t __rseq_offset;
extern const unsigned int __rseq_size;

static const struct sock_filter filter[] = {
#include "stub_filter.inc"
};

// What the child needs, on its stack.
struct zygote_job {
    int memfd;
    u8 *scratch; // reserved memory to move the vDSO through
    void *rseq;
};

static int seal(int fd)
{
    return host_fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL);
}

static int text_file(void)
{
    u64 size = (u64)(stub_image_end - stub_image);
    int fd = host_memfd_create("stub-text", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);
    if (fd == -EINVAL)
        fd = host_memfd_create("stub-text", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return fd;
    int r = host_ftruncate(fd, STUB_TEXT_MAX);
    if (r == 0)
        r = host_pwrite(fd, stub_image, size, 0) == (long)size ? seal(fd) : -EIO;
    if (r < 0) {
        host_close(fd);
        return r;
    }
    return fd;
}

static int page_file(void)
{
    int fd = host_memfd_create("stub-page", MFD_CLOEXEC);
    if (fd < 0)
        return fd;
    int r = host_ftruncate(fd, PAGE_SIZE);
    if (r < 0)
        return r;
    pt.page = host_mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    return host_is_error(pt.page) ? (int)(intptr_t)pt.page : fd;
}

#define child_code __attribute__((no_sanitize("address", "thread", "undefined"), optimize("no-stack-protector")))

static child_code _Noreturn void child_fail(int step)
{
    for (;;)
        host_sys(SYS_exit_group, step);
}

// Moves the vDSO's mappings, whose borders only the kernel knows and which cannot be split: the longest
// piece that moves is one.
static child_code void move_mappings(u64 from, u64 to, u64 size)
{
    for (u64 at = 0; at < size;) {
        u64 n = size - at;
        while (n && host_sys(SYS_mremap, from + at, n, n, 3, to + at) < 0)
            n -= PAGE_SIZE;
        at += n ? n : PAGE_SIZE;
    }
}

static child_code void child_map(u64 addr, u64 size, int prot, int fd, int step)
{
    long r = host_sys(SYS_mmap, addr, size, prot, MAP_SHARED | MAP_FIXED, fd, 0);
    if (r != (long)addr)
        child_fail(step);
}

static child_code void child_signals(void)
{
    struct {
        u64 handler, flags, restorer, mask;
    } act;
    static const u8 handled[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS,
                                 STUB_SIG_INTERRUPT};
    for (int sig = 1; sig <= 64; sig++) {
        act.handler = sig == SIGCHLD || sig == SIGCONT ? 0 : 1; // default or ignored
        act.flags = SA_RESTORER_FLAG;
        act.restorer = pt.stub->restorer;
        act.mask = 0;
        for (u32 i = 0; i < sizeof(handled); i++) {
            if (handled[i] != sig)
                continue;
            act.handler = pt.stub->signal_entry;
            act.flags |= SA_SIGINFO | SA_ONSTACK | SA_NODEFER | SA_RESTART;
        }
        host_sys(SYS_rt_sigaction, sig, &act, 0, 8);
    }
    act.mask = 0;
    host_sys(SYS_rt_sigprocmask, SIG_SETMASK, &act.mask, 0, 8);
}

static child_code void child_rights(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    struct rlimit none = {0, 0};

    data[0].effective = data[0].permitted = data[0].inheritable = 0;
    data[1].effective = data[1].permitted = data[1].inheritable = 0;
    host_sys(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    host_sys(SYS_prlimit64, 0, RLIMIT_CORE, &none, 0);
    host_sys(SYS_setsid);
    if (host_sys(SYS_capset, &header, data) < 0)
        child_fail(10);
    if (host_sys(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        child_fail(11);
}

static child_code _Noreturn void child_main(const struct zygote_job *job)
{
    void (*start)(u64) = (void *)pt.stub->zygote_start;

    if (job->rseq)
        host_sys(SYS_rseq, job->rseq, RSEQ_SIZE, RSEQ_UNREGISTER, RSEQ_SIGNATURE);
    if (pt.vdso_size)
        move_mappings(pt.vdso_start, (u64)job->scratch, pt.vdso_size);
    if (host_sys(SYS_munmap, STACKS_START, TASK_TOP - STACKS_START) < 0)
        child_fail(1);
    child_map(STUB_TEXT, STUB_TEXT_MAX, PROT_READ | PROT_EXEC, pt.text_fd, 2);
    child_map(STUB_GLOBAL, PAGE_SIZE, PROT_READ, pt.page_fd, 3);
    child_map(STUB_CTX, STUB_CTX_REGION, PROT_READ | PROT_WRITE, job->memfd, 4);
    if (pt.vdso_size)
        move_mappings((u64)job->scratch, STUB_VDSO, pt.vdso_size);
    child_signals();
    child_rights();
    start(STUB_CTX);
    child_fail(5);
}

// Forks a child that runs child_main(job) on `stack_top`: its pid or -errno.
static int child_spawn(void *stack_top, const struct zygote_job *job)
{
    long r;
    register const struct zygote_job *arg __asm__("r13") = job;
    register void (*fn)(const struct zygote_job *) __asm__("r12") = child_main;
    register long none1 __asm__("r10") = 0;
    register long none2 __asm__("r8") = 0;
    __asm__ volatile("syscall\n"
                     "test %%rax, %%rax\n"
                     "jnz 1f\n"
                     "xor %%ebp, %%ebp\n"
                     "mov %%r13, %%rdi\n"
                     "call *%%r12\n"
                     "ud2\n"
                     "1:"
                     : "=a"(r)
                     : "a"(SYS_clone), "D"(0l), "S"(stack_top), "d"(0l), "r"(none1), "r"(none2),
                       "r"(fn), "r"(arg)
                     : "rcx", "r11", "memory");
    return (int)r;
}

// The number that the zygote's listener has there, fetched as a descriptor of ours.
static int listener_fetch(struct pt_thread *t)
{
    s64 number = (s64)__atomic_load_n(&t->ctx->listener, __ATOMIC_ACQUIRE);
    if (number < 0 || number > INT32_MAX)
        return number < -4095 ? -EIO : (int)number;
    int pidfd = host_pidfd_open(t->space->pid, 0);
    if (pidfd < 0)
        return pidfd;
    int fd = host_pidfd_getfd(pidfd, (int)number, 0);
    host_close(pidfd);
    return fd;
}

// Waits for the zygote's first word, or its end.
static int zygote_greet(struct pt_thread *t, int pid)
{
    struct timespec patience = {.tv_nsec = 2000000};
    siginfo_t info = {.si_pid = 0};

    for (;;) {
        u32 turn = __atomic_load_n(&t->ctx->turn, __ATOMIC_ACQUIRE);
        if ((turn & ~TURN_SLEEPS) == TURN_SENTRY)
            return 0;
        if (host_waitid(P_PID, pid, &info, WEXITED | WNOHANG | __WALL) == 0 && info.si_pid) {
            log_error("the zygote ended at start, status %d", info.si_status);
            return -EIO;
        }
        host_futex_wait(&t->ctx->turn, turn, &patience, true);
    }
}

static int zygote_start(struct pt_space *s, struct pt_thread *t)
{
    struct zygote_job job = {.memfd = s->memfd};
    u64 reserve = CHILD_STACK + STUB_VDSO_MAX;
    u8 *memory = host_mmap(NULL, reserve, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (host_is_error(memory))
        return (int)(intptr_t)memory;
    job.scratch = memory + CHILD_STACK;
    if (__rseq_size)
        job.rseq = (u8 *)__builtin_thread_pointer() + __rseq_offset;
    __builtin_memcpy((u8 *)t->ctx + CTX_OPS, filter, sizeof(filter));
    t->ctx->fprog_count = array_size(filter);
    t->ctx->turn = TURN_STUB;
    struct zygote_job *copy = (void *)(memory + CHILD_STACK - sizeof(job) - 64);
    *copy = job;
    int pid = child_spawn((void *)align_down((u64)copy - 64, 64), copy);
    int r = pid < 0 ? pid : zygote_greet(t, pid);
    host_munmap(memory, reserve);
    if (r < 0)
        return r;
    t->tid = pid;
    return pt_adopt(s, pid);
}

int pt_zygote_make(void)
{
    struct pt_space *s;
    struct pt_thread *t;

    pt.stub = (const struct stub_header *)stub_image;
    pt.page_fd = page_file();
    if (pt.page_fd < 0)
        return pt.page_fd;
    pt.text_fd = text_file();
    if (pt.text_fd < 0)
        return pt.text_fd;
    pt.page->fp_features = pt.fp_features;
    pt.page->has_fsgsbase = getauxval(AT_HWCAP2) >> 1 & 1;
    pt.page->has_rdpid = pt_cpu_init();
    pt.page->slow_yield = (u32)pt.spin_cycles / 2;
    pt_vdso_init();
    s = pt_space_alloc();
    t = s ? pt_thread_alloc(s) : NULL;
    if (!t)
        return -ENOMEM;
    int r = zygote_start(s, t);
    if (r < 0)
        return r;
    pt.listener = listener_fetch(t);
    if (pt.listener < 0)
        return pt.listener;
    pt_space_sow(s);
    pt.zygote = t;
    return 0;
}
