// SPDX-License-Identifier: Apache-2.0
// Signal-handler context throughout: no allocation, no locks, bounded buffers.
#include "sentry/boot/crash.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <ucontext.h>

#include "host/host.h"
#include "wire/control.h"

#define CRASH_STATUS 134
#define BACKTRACE_MAX 48
#define STACK_SPAN (8ul << 20)

static int report_fd = -1;
static int words_fd = -1;
static u32 crashing;

extern const char __executable_start[];
#pragma weak crash_describe_task

static void crash_handler(int sig, siginfo_t *info, void *context)
{
    crash_report(sig, info, context);
}

void crash_init(int fd, int control_fd)
{
    static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGSYS};
    static u8 stack[65536] __attribute__((aligned(64)));
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof(stack)};
    struct sigaction act = {.sa_sigaction = crash_handler,
                            .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    report_fd = fd;
    words_fd = control_fd;
    sigaltstack(&alternate, NULL);
    for (size_t i = 0; i < array_size(signals); i++)
        sigaction(signals[i], &act, NULL);
}

struct report {
    char text[4096];
    size_t size;
};

static void __attribute__((format(printf, 2, 3))) say(struct report *r, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(r->text + r->size, sizeof(r->text) - r->size, fmt, ap);
    va_end(ap);
    if (n > 0)
        r->size = min(r->size + (size_t)n, sizeof(r->text) - 1);
}

static const char *signal_word(int sig)
{
    switch (sig) {
    case SIGSEGV: return "SIGSEGV";
    case SIGBUS: return "SIGBUS";
    case SIGFPE: return "SIGFPE";
    case SIGILL: return "SIGILL";
    case SIGABRT: return "SIGABRT";
    case SIGSYS: return "SIGSYS";
    default: return "signal";
    }
}

static u64 image_offset(u64 address)
{
    u64 base = (u64)(uintptr_t)__executable_start;
    return address >= base && address - base < (1ul << 30) ? address - base : address;
}

static void say_registers(struct report *r, const greg_t *g)
{
    static const struct {
        const char *name;
        int index;
    } registers[] = {
        {"rax", REG_RAX}, {"rbx", REG_RBX}, {"rcx", REG_RCX}, {"rdx", REG_RDX}, {"rsi", REG_RSI},
        {"rdi", REG_RDI}, {"rbp", REG_RBP}, {"rsp", REG_RSP}, {"r8", REG_R8},   {"r9", REG_R9},
        {"r10", REG_R10}, {"r11", REG_R11}, {"r12", REG_R12}, {"r13", REG_R13}, {"r14", REG_R14},
        {"r15", REG_R15}, {"rip", REG_RIP}, {"efl", REG_EFL}, {"err", REG_ERR}, {"trap", REG_TRAPNO},
    };
    for (size_t i = 0; i < array_size(registers); i++)
        say(r, "%s%s=%016llx", i % 4 ? " " : "\n  ", registers[i].name,
            (unsigned long long)g[registers[i].index]);
    say(r, "\n");
}

// By frame pointers; stops at the first that does not rise within one stack.
static void say_backtrace(struct report *r, u64 rip, u64 rbp, u64 rsp)
{
    say(r, "backtrace (addr2line -f -e bailey-sentry ...): %llx",
        (unsigned long long)image_offset(rip));
    u64 low = rsp, high = rsp + STACK_SPAN;
    for (int i = 0; i < BACKTRACE_MAX && rbp >= low && rbp < high && !(rbp & 7); i++) {
        const u64 *frame = (const u64 *)(uintptr_t)rbp;
        u64 next = frame[0], address = frame[1];
        if (!address)
            break;
        say(r, " %llx", (unsigned long long)image_offset(address));
        low = rbp + 16;
        rbp = next;
    }
    say(r, "\n");
}

static void tell_bailey(const char *text)
{
    u8 packet[1024];
    int size = control_encode(
        &(struct control_message){.type = CONTROL_FAILED, .error = -5, .text = text}, packet,
        sizeof(packet));
    if (words_fd >= 0 && size > 0)
        host_sys(SYS_sendto, words_fd, packet, size, MSG_DONTWAIT | MSG_NOSIGNAL, 0, 0);
}

_Noreturn void crash_report(int sig, const siginfo_t *info, const void *context)
{
    static struct report words, full;
    const ucontext_t *uc = context;
    const greg_t *g = uc->uc_mcontext.gregs;
    char task[256];

    // The first fault's report counts: a second thread that faults waits for it, and a fault in here
    // ends it.
    u32 reporting = 0, self = (u32)host_gettid();
    if (!__atomic_compare_exchange_n(&crashing, &reporting, self, false, __ATOMIC_ACQ_REL,
                                     __ATOMIC_ACQUIRE)) {
        struct timespec a_while = {1, 0};
        if (reporting != self)
            host_sys(SYS_nanosleep, &a_while, 0);
        host_sys(SYS_exit_group, CRASH_STATUS);
    }
    say(&words, "%s", signal_word(sig));
    if (sig == SIGSYS)
        say(&words, " (system call %d is not in the jail's list)", info->si_syscall);
    else if (sig != SIGABRT)
        say(&words, " at address %llx", (unsigned long long)(uintptr_t)info->si_addr);
    say(&words, ", rip %llx", (unsigned long long)image_offset((u64)g[REG_RIP]));
    size_t n = crash_describe_task ? crash_describe_task(task, sizeof(task) - 1) : 0;
    task[min(n, sizeof(task) - 1)] = 0;
    if (n)
        say(&words, ", %s", task);
    tell_bailey(words.text);

    int fd = report_fd >= 0 ? report_fd : 2;
    say(&full, "sentry died: %s", words.text);
    say_registers(&full, g);
    host_write(fd, full.text, full.size);
    full.size = 0;
    say_backtrace(&full, (u64)g[REG_RIP], (u64)g[REG_RBP], (u64)g[REG_RSP]);
    host_write(fd, full.text, full.size);
    host_sys(SYS_exit_group, CRASH_STATUS);
    __builtin_unreachable();
}
