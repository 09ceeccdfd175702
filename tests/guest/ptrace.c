// SPDX-License-Identifier: Apache-2.0
// ptrace(2): what strace and gdb make of it.
#include "t.h"

#include <elf.h>
#include <linux/filter.h>
#include <linux/ptrace.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/utsname.h>

#ifndef PTRACE_O_EXITKILL
#define PTRACE_O_EXITKILL (1 << 20)
#endif

static long pt(long request, pid_t pid, unsigned long addr, unsigned long data)
{
    return syscall(SYS_ptrace, request, pid, addr, data);
}

static int wait_any(pid_t *ret_pid)
{
    int status;
    *ret_pid = (pid_t)SYS(waitpid(-1, &status, __WALL));
    return status;
}

static int wait_for(pid_t pid)
{
    int status;
    CHECK_EQ(SYS(waitpid(pid, &status, __WALL)), pid);
    return status;
}

#define STOPPED(sig) ((sig) << 8 | 0x7f)
#define EVENT(e) ((e) << 16 | SIGTRAP << 8 | 0x7f)

// A child that lets itself be traced and stops.
static pid_t traced(void (*fn)(void *), void *arg)
{
    pid_t pid = fork();
    if (pid == 0) {
        SYS(pt(PTRACE_TRACEME, 0, 0, 0));
        raise(SIGSTOP);
        fn(arg);
        _exit(0);
    }
    CHECK_EQ(wait_for(pid), STOPPED(SIGSTOP));
    SYS(pt(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD));
    return pid;
}

static struct user_regs_struct regs_of(pid_t pid)
{
    struct user_regs_struct r;
    SYS(pt(PTRACE_GETREGS, pid, 0, (unsigned long)&r));
    return r;
}

static unsigned long peek(pid_t pid, const volatile void *at)
{
    unsigned long v;
    SYS(pt(PTRACE_PEEKDATA, pid, (unsigned long)at, (unsigned long)&v));
    return v;
}

static void nothing(void *arg)
{
}

static void exit_with(void *arg)
{
    _exit((int)(long)arg);
}

TEST(stops_and_goes_on)
{
    pid_t pid = traced(exit_with, (void *)42);
    char text[4096], want[64];
    t_wait_state(pid, 't');
    snprintf(text, sizeof(text), "/proc/%d/status", pid);
    t_read_file(text, text, sizeof(text));
    snprintf(want, sizeof(want), "TracerPid:\t%d\n", getpid());
    CHECK(strstr(text, want) != NULL);
    CHECK_EQ(waitpid(pid, NULL, WNOHANG | __WALL), 0); // told once
    SYS(pt(PTRACE_CONT, pid, 0, 0));
    CHECK_EQ(wait_for(pid), 42 << 8);
}

static void two_calls(void *arg)
{
    syscall(SYS_getppid);
    syscall(SYS_lseek, -1, 5l, 6);
}

// Goes on to the next stop at a system call.
static void to_syscall(pid_t pid)
{
    SYS(pt(PTRACE_SYSCALL, pid, 0, 0));
    CHECK_EQ(wait_for(pid), STOPPED(SIGTRAP | 0x80));
}

TEST(system_calls_are_seen)
{
    pid_t pid = traced(two_calls, NULL);
    struct ptrace_syscall_info info;
    to_syscall(pid);
    struct user_regs_struct r = regs_of(pid);
    CHECK_EQ(r.orig_rax, SYS_getppid);
    CHECK_EQ((long)r.rax, -ENOSYS);
    CHECK_EQ(pt(PTRACE_GET_SYSCALL_INFO, pid, sizeof(info), (unsigned long)&info), 80);
    CHECK_EQ(info.op, PTRACE_SYSCALL_INFO_ENTRY);
    CHECK_EQ(info.entry.nr, SYS_getppid);
    CHECK_EQ(info.instruction_pointer, r.rip);
    CHECK_EQ(info.stack_pointer, r.rsp);
    to_syscall(pid);
    CHECK_EQ(regs_of(pid).rax, getpid());
    CHECK_EQ(pt(PTRACE_GET_SYSCALL_INFO, pid, sizeof(info), (unsigned long)&info), 33);
    CHECK_EQ(info.op, PTRACE_SYSCALL_INFO_EXIT);
    CHECK_EQ(info.exit.rval, getpid());
    CHECK_EQ(info.exit.is_error, 0);
    to_syscall(pid);
    r = regs_of(pid);
    CHECK_EQ(r.orig_rax, SYS_lseek);
    CHECK_EQ(r.rsi, 5);
    CHECK_EQ(r.rdx, 6);
    to_syscall(pid);
    CHECK_EQ((long)regs_of(pid).rax, -EBADF);
    siginfo_t si;
    SYS(pt(PTRACE_GETSIGINFO, pid, 0, (unsigned long)&si));
    CHECK_EQ(si.si_code, SIGTRAP | 0x80);
    SYS(pt(PTRACE_CONT, pid, 0, 0));
    CHECK_EQ(wait_for(pid), 0);
}

static void one_call(void *arg)
{
    long r = syscall(SYS_getppid);
    _exit(r == 1234 ? 1 : r == -1 && errno == ENOSYS ? 2 : r == getpid() ? 3 : 4);
}

TEST(a_call_can_be_changed)
{
    // The result.
    pid_t pid = traced(one_call, NULL);
    to_syscall(pid);
    to_syscall(pid);
    struct user_regs_struct r = regs_of(pid);
    r.rax = 1234;
    SYS(pt(PTRACE_SETREGS, pid, 0, (unsigned long)&r));
    SYS(pt(PTRACE_CONT, pid, 0, 0));
    CHECK_EQ(wait_for(pid), 1 << 8);
    // Whether it runs at all.
    pid = traced(one_call, NULL);
    to_syscall(pid);
    r = regs_of(pid);
    r.orig_rax = -1ul;
    SYS(pt(PTRACE_SETREGS, pid, 0, (unsigned long)&r));
    to_syscall(pid);
    CHECK_EQ((long)regs_of(pid).rax, -ENOSYS);
    SYS(pt(PTRACE_CONT, pid, 0, 0));
    CHECK_EQ(wait_for(pid), 2 << 8);
    // Which it is.
    pid = traced(one_call, NULL);
    to_syscall(pid);
    SYS(pt(PTRACE_POKEUSR, pid, offsetof(struct user_regs_struct, orig_rax), SYS_getpid));
    SYS(pt(PTRACE_CONT, pid, 0, 0));
    CHECK_EQ(wait_for(pid), 3 << 8);
}

static volatile unsigned long word = 0x1122334455667788;
static const volatile unsigned long constant = 77;

static void check_words(void *arg)
{
    raise(SIGUSR1);
    CHECK_EQ(word, 99);
    CHECK_EQ(constant, 78);
}

TEST(memory)
{
    pid_t pid = traced(check_words, NULL);
    unsigned long v, mine[2] = {0};
    CHECK_EQ(peek(pid, &word), 0x1122334455667788);
    SYS(pt(PTRACE_POKEDATA, pid, (unsigned long)&word, 99));
    SYS(pt(PTRACE_POKETEXT, pid, (unsigned long)&constant, 78)); // read-only to itself
    CHECK_EQ(peek(pid, &constant), 78);
    CHECK_EQ(word, 0x1122334455667788); // ours is another
    CHECK_EQ(constant, 77);
    CHECK_ERR(pt(PTRACE_PEEKDATA, pid, 8, (unsigned long)&v), EIO);
    CHECK_ERR(pt(PTRACE_POKEDATA, pid, 8, 1), EIO);
    CHECK_ERR(pt(PTRACE_PEEKDATA, pid, (unsigned long)&word, 8), EFAULT);
    struct iovec local = {mine, 8}, remote = {(void *)&word, 8};
    CHECK_EQ(process_vm_readv(pid, &local, 1, &remote, 1, 0), 8);
    CHECK_EQ(mine[0], 99);
    SYS(pt(PTRACE_CONT, pid, 0, 0));
    CHECK_EQ(wait_for(pid), STOPPED(SIGUSR1));
    SYS(pt(PTRACE_CONT, pid, 0, 0)); // without the signal
    CHECK_EQ(wait_for(pid), 0);
}

static volatile sig_atomic_t got, got_value;

static void on_signal(int sig, siginfo_t *info, void *ctx)
{
    got = sig;
    got_value = info->si_value.sival_int;
}

static void three_signals(void *arg)
{
    t_handle_info(SIGUSR1, on_signal, 0);
    t_handle_info(SIGUSR2, on_signal, 0);
    raise(SIGUSR1);
    CHECK_EQ(got, 0); // swallowed
    raise(SIGUSR1);
    CHECK_EQ(got, SIGUSR2); // another in its place
    got = 0;
    sigqueue(getpid(), SIGUSR1, (union sigval){5});
    CHECK_EQ(got, SIGUSR1);
    CHECK_EQ(got_value, 6);
}

TEST(signals)
{
    pid_t pid = traced(three_signals, NULL);
    siginfo_t si;
    SYS(pt(PTRACE_CONT, pid, 0, 0));
    CHECK_EQ(wait_for(pid), STOPPED(SIGUSR1));
    SYS(pt(PTRACE_GETSIGINFO, pid, 0, (unsigned long)&si));
    CHECK_EQ(si.si_signo, SIGUSR1);
    CHECK_EQ(si.si_pid, pid);
    SYS(pt(PTRACE_CONT, pid, 0, 0));
    CHECK_EQ(wait_for(pid), STOPPED(SIGUSR1));
    SYS(pt(PTRACE_CONT, pid, 0, SIGUSR2));
    CHECK_EQ(wait_for(pid), STOPPED(SIGUSR1));
    SYS(pt(PTRACE_GETSIGINFO, pid, 0, (unsigned long)&si));
    CHECK_EQ(si.si_value.sival_int, 5);
    si.si_value.sival_int = 6;
    SYS(pt(PTRACE_SETSIGINFO, pid, 0, (unsigned long)&si));
    SYS(pt(PTRACE_CONT, pid, 0, SIGUSR1));
    CHECK_EQ(wait_for(pid), 0);
    // Even an ignored signal is shown, and a deadly one can be kept away.
    pid = traced(nothing, NULL);
    SYS(kill(pid, SIGTERM));
    SYS(pt(PTRACE_CONT, pid, 0, 0));
    CHECK_EQ(wait_for(pid), STOPPED(SIGTERM));
    SYS(kill(pid, SIGURG));
    SYS(pt(PTRACE_CONT, pid, 0, 0));
    CHECK_EQ(wait_for(pid), STOPPED(SIGURG));
    SYS(pt(PTRACE_CONT, pid, 0, SIGTERM));
    CHECK_EQ(wait_for(pid), SIGTERM);
}

TEST(killing)
{
    pid_t pid = traced(nothing, NULL);
    SYS(kill(pid, SIGKILL));
    CHECK_EQ(wait_for(pid), SIGKILL);
    pid = traced(nothing, NULL);
    SYS(pt(PTRACE_KILL, pid, 0, 0));
    CHECK_EQ(wait_for(pid), SIGKILL);
}

// The address is known to both sides: the child is a fork.
__attribute__((noinline)) static int breakpoint_here(int x)
{
    __asm__ volatile("" : "+r"(x));
    return x + 1;
}

static void call_it(void *arg)
{
    _exit(breakpoint_here(5));
}

TEST(breakpoint_and_single_step)
{
    pid_t pid = traced(call_it, NULL);
    unsigned long at = (unsigned long)breakpoint_here, old = peek(pid, (void *)at);
    SYS(pt(PTRACE_POKETEXT, pid, at, (old & ~0xfful) | 0xcc));
    SYS(pt(PTRACE_CONT, pid, 0, 0));
    CHECK_EQ(wait_for(pid), STOPPED(SIGTRAP));
    struct user_regs_struct r = regs_of(pid);
    CHECK_EQ(r.rip, at + 1);
    CHECK_EQ(r.rdi & 0xffffffff, 5);
    r.rip = at;
    r.rdi = 10;
    SYS(pt(PTRACE_SETREGS, pid, 0, (unsigned long)&r));
    SYS(pt(PTRACE_POKETEXT, pid, at, old));
    for (int i = 0; i < 3; i++) {
        unsigned long before = regs_of(pid).rip;
        SYS(pt(PTRACE_SINGLESTEP, pid, 0, 0));
        CHECK_EQ(wait_for(pid), STOPPED(SIGTRAP));
        unsigned long after = regs_of(pid).rip;
        CHECK(after != before && (i || after - before < 16));
        CHECK(!(regs_of(pid).eflags & 0x100));
    }
    SYS(pt(PTRACE_CONT, pid, 0, 0));
    CHECK_EQ(wait_for(pid), 11 << 8);
}

static void step_through(void *arg)
{
    long r;
    __asm__ volatile("nop; syscall; nop; nop"
                     : "=a"(r)
                     : "a"(SYS_getppid)
                     : "rcx", "r11", "memory");
    _exit(r > 0 ? 7 : 8);
}

TEST(single_steps_over_a_system_call)
{
    pid_t pid = traced(step_through, NULL);
    bool seen = false;
    for (int i = 0; i < 20000 && !seen; i++) {
        SYS(pt(PTRACE_SINGLESTEP, pid, 0, 0));
        CHECK_EQ(wait_for(pid), STOPPED(SIGTRAP));
        struct user_regs_struct r = regs_of(pid);
        // nop; nop behind syscall: this is where a step over it ends.
        seen = (peek(pid, (void *)(r.rip - 2)) & 0xffffffff) == 0x9090050f;
        if (seen)
            CHECK_EQ(r.rax, getpid());
    }
    CHECK(seen);
    SYS(pt(PTRACE_CONT, pid, 0, 0));
    CHECK_EQ(wait_for(pid), 7 << 8);
}

static void use_sse(void *arg)
{
    double out[2], in[2] = {1.5, 2.5};
    __asm__ volatile("movupd %1, %%xmm5; int3; movupd %%xmm5, %0" : "=m"(out) : "m"(in) : "xmm5");
    _exit(out[0] == 7.0 && out[1] == 2.5 ? 0 : 1);
}

TEST(fp_registers)
{
    pid_t pid = traced(use_sse, NULL);
    struct user_fpregs_struct fp;
    static char image[8192];
    struct iovec v = {image, sizeof(image)};
    double d[2];
    SYS(pt(PTRACE_CONT, pid, 0, 0));
    CHECK_EQ(wait_for(pid), STOPPED(SIGTRAP));
    SYS(pt(PTRACE_GETFPREGS, pid, 0, (unsigned long)&fp));
    memcpy(d, (char *)fp.xmm_space + 5 * 16, sizeof(d));
    CHECK(d[0] == 1.5 && d[1] == 2.5);
    d[0] = 7.0;
    memcpy((char *)fp.xmm_space + 5 * 16, d, sizeof(d));
    SYS(pt(PTRACE_SETFPREGS, pid, 0, (unsigned long)&fp));
    SYS(pt(PTRACE_GETREGSET, pid, NT_X86_XSTATE, (unsigned long)&v));
    CHECK(v.iov_len >= 576);
    CHECK(((unsigned long *)(image + 464))[0] & 3);
    memcpy(d, image + 160 + 5 * 16, sizeof(d));
    CHECK(d[0] == 7.0);
    SYS(pt(PTRACE_SETREGSET, pid, NT_X86_XSTATE, (unsigned long)&v));
    struct user_regs_struct r, r2 = regs_of(pid);
    v = (struct iovec){&r, sizeof(r) + 104};
    SYS(pt(PTRACE_GETREGSET, pid, NT_PRSTATUS, (unsigned long)&v));
    CHECK_EQ(v.iov_len, sizeof(r));
    CHECK_EQ(r.rip, r2.rip);
    CHECK_EQ(r.fs_base, r2.fs_base);
    SYS(pt(PTRACE_SETREGSET, pid, NT_PRSTATUS, (unsigned long)&v));
    CHECK_ERR(pt(PTRACE_GETREGSET, pid, 12345, (unsigned long)&v), EINVAL);
    SYS(pt(PTRACE_CONT, pid, 0, 0));
    CHECK_EQ(wait_for(pid), 0);
}

static void fork_and_wait(void *arg)
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(3);
    int status;
    SYS(waitpid(pid, &status, 0));
    CHECK_EQ(status, 3 << 8);
}

TEST(fork_event)
{
    pid_t pid = traced(fork_and_wait, NULL), child;
    unsigned long message;
    SYS(pt(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_EXITKILL | PTRACE_O_TRACEFORK));
    SYS(pt(PTRACE_CONT, pid, 0, 0));
    CHECK_EQ(wait_for(pid), EVENT(PTRACE_EVENT_FORK));
    SYS(pt(PTRACE_GETEVENTMSG, pid, 0, (unsigned long)&message));
    child = (pid_t)message;
    CHECK_EQ(wait_for(child), STOPPED(SIGSTOP));
    SYS(pt(PTRACE_CONT, child, 0, 0));
    CHECK_EQ(wait_for(child), 3 << 8); // the tracer is told, and then its parent
    SYS(pt(PTRACE_CONT, pid, 0, 0));
    int status = wait_for(pid);
    if (status == STOPPED(SIGCHLD)) {
        SYS(pt(PTRACE_CONT, pid, 0, SIGCHLD));
        status = wait_for(pid);
    }
    CHECK_EQ(status, 0);
}

static void vfork_child(void *arg)
{
    pid_t pid = vfork();
    if (pid == 0)
        _exit(0);
    while (waitpid(pid, NULL, 0) < 0)
        ;
}

TEST(vfork_events)
{
    pid_t pid = traced(vfork_child, NULL);
    unsigned long message, done;
    SYS(pt(PTRACE_SETOPTIONS, pid, 0,
           PTRACE_O_EXITKILL | PTRACE_O_TRACEVFORK | PTRACE_O_TRACEVFORKDONE));
    SYS(pt(PTRACE_CONT, pid, 0, 0));
    CHECK_EQ(wait_for(pid), EVENT(PTRACE_EVENT_VFORK));
    SYS(pt(PTRACE_GETEVENTMSG, pid, 0, (unsigned long)&message));
    CHECK_EQ(wait_for((pid_t)message), STOPPED(SIGSTOP));
    SYS(pt(PTRACE_DETACH, (pid_t)message, 0, 0));
    SYS(pt(PTRACE_CONT, pid, 0, 0));
    int status = wait_for(pid);
    while (status == STOPPED(SIGCHLD)) {
        SYS(pt(PTRACE_CONT, pid, 0, SIGCHLD));
        status = wait_for(pid);
    }
    CHECK_EQ(status, EVENT(PTRACE_EVENT_VFORK_DONE));
    SYS(pt(PTRACE_GETEVENTMSG, pid, 0, (unsigned long)&done));
    CHECK_EQ(done, message);
    SYS(pt(PTRACE_CONT, pid, 0, 0));
    while ((status = wait_for(pid)) == STOPPED(SIGCHLD))
        SYS(pt(PTRACE_CONT, pid, 0, SIGCHLD));
    CHECK_EQ(status, 0);
}

static void *thread_main(void *arg)
{
    syscall(SYS_exit, 5);
    return NULL;
}

static void make_thread(void *arg)
{
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, thread_main, NULL), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
}

TEST(threads)
{
    pid_t pid = traced(make_thread, NULL), who;
    unsigned long message;
    SYS(pt(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_EXITKILL | PTRACE_O_TRACECLONE));
    SYS(pt(PTRACE_CONT, pid, 0, 0));
    CHECK_EQ(wait_for(pid), EVENT(PTRACE_EVENT_CLONE));
    SYS(pt(PTRACE_GETEVENTMSG, pid, 0, (unsigned long)&message));
    CHECK_EQ(wait_for((pid_t)message), STOPPED(SIGSTOP));
    SYS(pt(PTRACE_CONT, (pid_t)message, 0, 0));
    int status = wait_any(&who);
    CHECK_EQ(who, message); // a thread's end is told, too
    CHECK_EQ(status, 5 << 8);
    SYS(pt(PTRACE_CONT, pid, 0, 0));
    CHECK_EQ(wait_for(pid), 0);
}

static void exec_again(void *arg)
{
    execl("/proc/self/exe", "ptrace", "--exit-9", NULL);
    _exit(99);
}

__attribute__((constructor)) static void child_of_exec(int argc, char **argv)
{
    if (argc == 2 && !strcmp(argv[1], "--exit-9"))
        _exit(9);
}

TEST(exec_event)
{
    pid_t pid = traced(exec_again, NULL);
    unsigned long message;
    SYS(pt(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_EXITKILL | PTRACE_O_TRACEEXEC));
    SYS(pt(PTRACE_CONT, pid, 0, 0));
    CHECK_EQ(wait_for(pid), EVENT(PTRACE_EVENT_EXEC));
    SYS(pt(PTRACE_GETEVENTMSG, pid, 0, (unsigned long)&message));
    CHECK_EQ(message, pid);
    SYS(pt(PTRACE_CONT, pid, 0, 0));
    CHECK_EQ(wait_for(pid), 9 << 8);
    // Without the option it is a SIGTRAP.
    pid = traced(exec_again, NULL);
    SYS(pt(PTRACE_CONT, pid, 0, 0));
    CHECK_EQ(wait_for(pid), STOPPED(SIGTRAP));
    SYS(pt(PTRACE_CONT, pid, 0, 0));
    CHECK_EQ(wait_for(pid), 9 << 8);
}

TEST(exit_event)
{
    pid_t pid = traced(exit_with, (void *)6);
    unsigned long message;
    SYS(pt(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_EXITKILL | PTRACE_O_TRACEEXIT));
    SYS(pt(PTRACE_CONT, pid, 0, 0));
    CHECK_EQ(wait_for(pid), EVENT(PTRACE_EVENT_EXIT));
    SYS(pt(PTRACE_GETEVENTMSG, pid, 0, (unsigned long)&message));
    CHECK_EQ(message, 6 << 8);
    CHECK_EQ(regs_of(pid).orig_rax, SYS_exit_group);
    CHECK_EQ(peek(pid, &constant), 77); // its memory is there still
    SYS(pt(PTRACE_CONT, pid, 0, 0));
    CHECK_EQ(wait_for(pid), 6 << 8);
}

static void filtered_calls(void *arg)
{
    struct sock_filter f[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE | 55),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog prog = {4, f};
    SYS(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    SYS(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog));
    long parent = syscall(SYS_getppid), taken = syscall(SYS_getppid);
    long changed = syscall(SYS_getppid);
    _exit(parent != *(pid_t *)arg ? 1 : taken != 77 ? 2 : changed != getpid() ? 3 : 0);
}

TEST(seccomp_event)
{
    pid_t me = getpid(), pid = traced(filtered_calls, &me);
    struct ptrace_syscall_info info;
    unsigned long message;
    SYS(pt(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_EXITKILL | PTRACE_O_TRACESECCOMP));
    SYS(pt(PTRACE_CONT, pid, 0, 0));
    CHECK_EQ(wait_for(pid), EVENT(PTRACE_EVENT_SECCOMP));
    SYS(pt(PTRACE_GETEVENTMSG, pid, 0, (unsigned long)&message));
    CHECK_EQ(message, 55);
    CHECK_EQ(regs_of(pid).orig_rax, SYS_getppid);
    SYS(pt(PTRACE_GET_SYSCALL_INFO, pid, sizeof(info), (unsigned long)&info));
    CHECK_EQ(info.op, PTRACE_SYSCALL_INFO_SECCOMP);
    CHECK_EQ(info.seccomp.ret_data, 55);
    CHECK_EQ(info.seccomp.nr, SYS_getppid);
    SYS(pt(PTRACE_SYSCALL, pid, 0, 0)); // as it is; the next stop is its end
    CHECK_EQ(wait_for(pid), STOPPED(SIGTRAP));
    CHECK_EQ(regs_of(pid).rax, me);
    SYS(pt(PTRACE_CONT, pid, 0, 0));
    CHECK_EQ(wait_for(pid), EVENT(PTRACE_EVENT_SECCOMP));
    struct user_regs_struct r = regs_of(pid); // not at all
    r.orig_rax = -1ul;
    r.rax = 77;
    SYS(pt(PTRACE_SETREGS, pid, 0, (unsigned long)&r));
    SYS(pt(PTRACE_CONT, pid, 0, 0));
    CHECK_EQ(wait_for(pid), EVENT(PTRACE_EVENT_SECCOMP));
    SYS(pt(PTRACE_POKEUSR, pid, offsetof(struct user_regs_struct, orig_rax), SYS_getpid));
    SYS(pt(PTRACE_CONT, pid, 0, 0)); // another
    CHECK_EQ(wait_for(pid), 0);
}

static void pause_for_ever(void *arg)
{
    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
    t_event_set(arg);
    for (;;)
        pause();
}

static pid_t pausing(void)
{
    struct t_event ready;
    t_event_init(&ready);
    pid_t pid = t_fork(pause_for_ever, &ready);
    t_event_wait(&ready);
    t_wait_state(pid, 'S');
    return pid;
}

TEST(attach_and_detach)
{
    pid_t pid = pausing();
    SYS(pt(PTRACE_ATTACH, pid, 0, 0));
    CHECK_EQ(wait_for(pid), STOPPED(SIGSTOP));
    CHECK_ERR(pt(PTRACE_ATTACH, pid, 0, 0), EPERM);
    SYS(pt(PTRACE_DETACH, pid, 0, 0));
    t_wait_state(pid, 'S');
    CHECK_ERR(pt(PTRACE_CONT, pid, 0, 0), ESRCH);
    SYS(pt(PTRACE_ATTACH, pid, 0, 0));
    CHECK_EQ(wait_for(pid), STOPPED(SIGSTOP));
    SYS(pt(PTRACE_DETACH, pid, 0, SIGTERM));
    CHECK_EQ(wait_for(pid), SIGTERM);
}

TEST(seize_and_interrupt)
{
    pid_t pid = pausing();
    CHECK_ERR(pt(PTRACE_SEIZE, pid, 1, 0), EIO);
    SYS(pt(PTRACE_SEIZE, pid, 0, PTRACE_O_TRACESYSGOOD));
    CHECK_EQ(waitpid(pid, NULL, WNOHANG | __WALL), 0); // runs on
    CHECK_ERR(pt(PTRACE_CONT, pid, 0, 0), ESRCH);
    SYS(pt(PTRACE_INTERRUPT, pid, 0, 0));
    CHECK_EQ(wait_for(pid), EVENT(PTRACE_EVENT_STOP));
    SYS(pt(PTRACE_SYSCALL, pid, 0, 0)); // pause(2) begins again
    CHECK_EQ(wait_for(pid), STOPPED(SIGTRAP | 0x80));
    CHECK_EQ(regs_of(pid).orig_rax, SYS_pause);
    SYS(pt(PTRACE_CONT, pid, 0, 0));
    t_wait_state(pid, 'S');
    SYS(kill(pid, SIGKILL));
    CHECK_EQ(wait_for(pid), SIGKILL);
}

TEST(group_stop_of_a_seized_process)
{
    pid_t pid = pausing();
    siginfo_t si;
    SYS(pt(PTRACE_SEIZE, pid, 0, 0));
    SYS(kill(pid, SIGSTOP));
    CHECK_EQ(wait_for(pid), STOPPED(SIGSTOP));
    SYS(pt(PTRACE_GETSIGINFO, pid, 0, (unsigned long)&si));
    SYS(pt(PTRACE_CONT, pid, 0, SIGSTOP));
    CHECK_EQ(wait_for(pid), PTRACE_EVENT_STOP << 16 | STOPPED(SIGSTOP));
    SYS(pt(PTRACE_LISTEN, pid, 0, 0));
    CHECK_EQ(waitpid(pid, NULL, WNOHANG | __WALL), 0);
    SYS(kill(pid, SIGCONT));
    int status = wait_for(pid);
    CHECK_EQ(status, EVENT(PTRACE_EVENT_STOP));
    SYS(pt(PTRACE_CONT, pid, 0, 0));
    CHECK_EQ(wait_for(pid), STOPPED(SIGCONT));
    SYS(pt(PTRACE_CONT, pid, 0, SIGCONT));
    t_wait_state(pid, 'S');
    SYS(kill(pid, SIGKILL));
    CHECK_EQ(wait_for(pid), SIGKILL);
}

static void attach_and_die(void *arg)
{
    pid_t pid = *(pid_t *)arg;
    SYS(pt(PTRACE_SEIZE, pid, 0, 0));
    SYS(pt(PTRACE_INTERRUPT, pid, 0, 0));
    CHECK_EQ(wait_for(pid), EVENT(PTRACE_EVENT_STOP));
}

static void attach_and_kill(void *arg)
{
    SYS(pt(PTRACE_SEIZE, *(pid_t *)arg, 0, PTRACE_O_EXITKILL));
}

TEST(end_of_the_tracer)
{
    pid_t pid = pausing();
    t_join(t_fork(attach_and_die, &pid));
    t_wait_state(pid, 'S');
    t_join(t_fork(attach_and_kill, &pid));
    CHECK_EQ(wait_for(pid), SIGKILL);
}

// A tracer that is not the parent is told of the end, and so is the parent.
static void trace_to_the_end(void *arg)
{
    pid_t pid = *(pid_t *)arg;
    SYS(pt(PTRACE_SEIZE, pid, 0, 0));
    SYS(kill(pid, SIGTERM));
    CHECK_EQ(wait_for(pid), STOPPED(SIGTERM));
    SYS(pt(PTRACE_CONT, pid, 0, SIGTERM));
    CHECK_EQ(wait_for(pid), SIGTERM);
}

TEST(end_of_somebody_elses_child)
{
    pid_t pid = pausing();
    pid_t tracer = t_fork(trace_to_the_end, &pid);
    CHECK_EQ(wait_for(pid), SIGTERM);
    t_join(tracer);
}

static void not_permitted(void *arg)
{
    SYS(setuid(1000));
    CHECK_ERR(pt(PTRACE_ATTACH, *(pid_t *)arg, 0, 0), EPERM);
    CHECK_ERR(pt(PTRACE_SEIZE, *(pid_t *)arg, 0, 0), EPERM);
}

TEST(bad_requests)
{
    pid_t pid = pausing();
    CHECK_ERR(pt(PTRACE_ATTACH, getpid(), 0, 0), EPERM);
    CHECK_ERR(pt(PTRACE_ATTACH, 999999, 0, 0), ESRCH);
    CHECK_ERR(pt(PTRACE_CONT, pid, 0, 0), ESRCH);
    CHECK_ERR(pt(PTRACE_INTERRUPT, pid, 0, 0), ESRCH);
    t_join(t_fork(not_permitted, &pid));
    SYS(pt(PTRACE_ATTACH, pid, 0, 0));
    CHECK_EQ(wait_for(pid), STOPPED(SIGSTOP));
    CHECK_ERR(pt(PTRACE_CONT, pid, 0, 65), EIO);
    CHECK_ERR(pt(PTRACE_SETOPTIONS, pid, 0, 0x80000000), EINVAL);
    CHECK_ERR(pt(PTRACE_PEEKUSR, pid, 1, 0), EIO);
    CHECK_ERR(pt(PTRACE_PEEKUSR, pid, 4096, 0), EIO);
    CHECK_ERR(pt(PTRACE_GETREGS, pid, 0, 8), EFAULT);
    CHECK_ERR(pt(PTRACE_LISTEN, pid, 0, 0), EIO);
    CHECK_ERR(pt(12345, pid, 0, 0), EIO);
    SYS(kill(pid, SIGKILL));
    CHECK_EQ(wait_for(pid), SIGKILL);
}

TEST(signal_mask)
{
    pid_t pid = traced(nothing, NULL);
    unsigned long mask;
    SYS(pt(PTRACE_GETSIGMASK, pid, 8, (unsigned long)&mask));
    CHECK_EQ(mask, 0);
    mask = 1ul << (SIGUSR1 - 1);
    SYS(pt(PTRACE_SETSIGMASK, pid, 8, (unsigned long)&mask));
    CHECK_ERR(pt(PTRACE_GETSIGMASK, pid, 4, (unsigned long)&mask), EINVAL);
    SYS(kill(pid, SIGUSR1));
    SYS(pt(PTRACE_CONT, pid, 0, 0));
    CHECK_EQ(wait_for(pid), 0); // it stayed blocked
}
