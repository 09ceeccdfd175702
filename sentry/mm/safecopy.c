// SPDX-License-Identifier: Apache-2.0
#include "sentry/mm/safecopy.h"

#include <signal.h>
#include <string.h>
#include <ucontext.h>

#include "abi/errno.h"

// Copies of up to 32 bytes go through general registers in two overlapping halves; longer ones are `rep movsb`,
// whose registers tell how far it came when it faults. A fault in a short copy falls back to it, so that the
// count is exact. Each function is framed by two symbols; the handler goes to the symbol between.
//
// u64 safecopy_bytes(dst rdi, src rsi, size rdx)
__asm__(".text\n"
        ".p2align 4\n"
        ".globl safecopy_bytes\n"
        ".hidden safecopy_bytes\n"
        ".type safecopy_bytes, @function\n"
        "safecopy_bytes:\n"
        "    endbr64\n"
        "safecopy_short_begin:\n"
        "    cmp $16, %rdx\n"
        "    ja 3f\n"
        "    cmp $8, %rdx\n"
        "    jae 2f\n"
        "    cmp $4, %rdx\n"
        "    jb safecopy_rep\n"
        "    mov (%rsi), %eax\n"
        "    mov -4(%rsi,%rdx), %ecx\n"
        "    mov %eax, (%rdi)\n"
        "    mov %ecx, -4(%rdi,%rdx)\n"
        "    xor %eax, %eax\n"
        "    ret\n"
        "2:  mov (%rsi), %rax\n"
        "    mov -8(%rsi,%rdx), %rcx\n"
        "    mov %rax, (%rdi)\n"
        "    mov %rcx, -8(%rdi,%rdx)\n"
        "    xor %eax, %eax\n"
        "    ret\n"
        "3:  cmp $32, %rdx\n"
        "    ja safecopy_rep\n"
        "    mov (%rsi), %rax\n"
        "    mov 8(%rsi), %rcx\n"
        "    mov -16(%rsi,%rdx), %r8\n"
        "    mov -8(%rsi,%rdx), %r9\n"
        "    mov %rax, (%rdi)\n"
        "    mov %rcx, 8(%rdi)\n"
        "    mov %r8, -16(%rdi,%rdx)\n"
        "    mov %r9, -8(%rdi,%rdx)\n"
        "    xor %eax, %eax\n"
        "    ret\n"
        "safecopy_short_end:\n"
        "safecopy_rep:\n"
        "    mov %rdx, %rcx\n"
        "safecopy_rep_begin:\n"
        "    rep movsb\n"
        "safecopy_rep_end:\n"
        "    mov %rcx, %rax\n"
        "    ret\n"
        ".size safecopy_bytes, .-safecopy_bytes\n"
        // u64 safecopy_zeros(dst rdi, size rsi)
        ".p2align 4\n"
        ".globl safecopy_zeros\n"
        ".hidden safecopy_zeros\n"
        ".type safecopy_zeros, @function\n"
        "safecopy_zeros:\n"
        "    endbr64\n"
        "    mov %rsi, %rcx\n"
        "    xor %eax, %eax\n"
        "safecopy_zero_begin:\n"
        "    rep stosb\n"
        "safecopy_zero_end:\n"
        "    mov %rcx, %rax\n"
        "    ret\n"
        ".size safecopy_zeros, .-safecopy_zeros\n"
        // The words: result in eax (old value), 0 in edx; the fix-up makes edx 1.
        ".macro safecopy_word name, body:vararg\n"
        ".p2align 4\n"
        ".globl \\name\n"
        ".hidden \\name\n"
        ".type \\name, @function\n"
        "\\name:\n"
        "    endbr64\n"
        "    mov %rdx, %r8\n"
        "    xor %edx, %edx\n"
        "\\name\\()_begin:\n"
        "    \\body\n"
        "\\name\\()_end:\n"
        "    mov %eax, (%r8)\n"
        "    mov %edx, %eax\n"
        "    ret\n"
        ".size \\name, .-\\name\n"
        ".endm\n"
        ".p2align 4\n"
        "safecopy_word safecopy_load, mov (%rdi), %eax\n"
        "safecopy_word safecopy_store8, mov %rsi, (%rdi)\n"
        ".p2align 4\n"
        ".globl safecopy_xchg\n"
        ".hidden safecopy_xchg\n"
        ".type safecopy_xchg, @function\n"
        "safecopy_xchg:\n"
        "    endbr64\n"
        "    mov %rdx, %r8\n"
        "    xor %edx, %edx\n"
        "    mov %esi, %eax\n"
        "safecopy_xchg_begin:\n"
        "    xchg %eax, (%rdi)\n"
        "safecopy_xchg_end:\n"
        "    mov %eax, (%r8)\n"
        "    mov %edx, %eax\n"
        "    ret\n"
        ".size safecopy_xchg, .-safecopy_xchg\n"
        ".p2align 4\n"
        ".globl safecopy_cmpxchg\n"
        ".hidden safecopy_cmpxchg\n"
        ".type safecopy_cmpxchg, @function\n"
        "safecopy_cmpxchg:\n" // (p rdi, value rsi, ret rdx, expected rcx)
        "    endbr64\n"
        "    mov %rdx, %r8\n"
        "    xor %edx, %edx\n"
        "    mov %ecx, %eax\n"
        "safecopy_cmpxchg_begin:\n"
        "    lock cmpxchg %esi, (%rdi)\n"
        "safecopy_cmpxchg_end:\n"
        "    mov %eax, (%r8)\n"
        "    mov %edx, %eax\n"
        "    ret\n"
        ".size safecopy_cmpxchg, .-safecopy_cmpxchg\n");

u64 safecopy_bytes(void *dst, const void *src, u64 size);
u64 safecopy_zeros(void *dst, u64 size);
int safecopy_load(const u32 *p, u64 unused, u32 *ret);
int safecopy_xchg(u32 *p, u64 value, u32 *ret);
int safecopy_store8(u64 *p, u64 value, u32 *ret);
int safecopy_cmpxchg(u32 *p, u64 value, u32 *ret, u64 expected);

#define SAFECOPY_LABEL(name) extern const char name[] __attribute__((visibility("hidden")))
SAFECOPY_LABEL(safecopy_short_begin);
SAFECOPY_LABEL(safecopy_short_end);
SAFECOPY_LABEL(safecopy_rep);
SAFECOPY_LABEL(safecopy_rep_begin);
SAFECOPY_LABEL(safecopy_rep_end);
SAFECOPY_LABEL(safecopy_zero_begin);
SAFECOPY_LABEL(safecopy_zero_end);
SAFECOPY_LABEL(safecopy_load_begin);
SAFECOPY_LABEL(safecopy_load_end);
SAFECOPY_LABEL(safecopy_xchg_begin);
SAFECOPY_LABEL(safecopy_xchg_end);
SAFECOPY_LABEL(safecopy_store8_begin);
SAFECOPY_LABEL(safecopy_store8_end);
SAFECOPY_LABEL(safecopy_cmpxchg_begin);
SAFECOPY_LABEL(safecopy_cmpxchg_end);

u64 safe_copy(void *dst, const void *src, u64 size)
{
    return safecopy_bytes(dst, src, size);
}

u64 safe_zero(void *dst, u64 size)
{
    return safecopy_zeros(dst, size);
}

int safe_load_u32(const u32 *p, u32 *ret)
{
    return safecopy_load(p, 0, ret) ? -EFAULT : 0;
}

int safe_xchg_u32(u32 *p, u32 value, u32 *ret)
{
    return safecopy_xchg(p, value, ret) ? -EFAULT : 0;
}

int safe_cmpxchg_u32(u32 *p, u32 expected, u32 value, u32 *ret)
{
    return safecopy_cmpxchg(p, value, ret, expected) ? -EFAULT : 0;
}

int safe_store_u64(u64 *p, u64 value)
{
    u32 unused;
    return safecopy_store8(p, value, &unused) ? -EFAULT : 0;
}

bool safecopy_handle_fault(void *ucontext)
{
    ucontext_t *uc = ucontext;
    greg_t *regs = uc->uc_mcontext.gregs;
    const char *rip = (const char *)regs[REG_RIP];
    if (rip >= safecopy_short_begin && rip < safecopy_short_end) {
        regs[REG_RIP] = (greg_t)safecopy_rep; // rdi, rsi and rdx are as they were
        return true;
    }
    static const struct {
        const char *begin, *end;
        bool word;
    } spans[] = {
        {safecopy_rep_begin, safecopy_rep_end, false},
        {safecopy_zero_begin, safecopy_zero_end, false},
        {safecopy_load_begin, safecopy_load_end, true},
        {safecopy_xchg_begin, safecopy_xchg_end, true},
        {safecopy_store8_begin, safecopy_store8_end, true},
        {safecopy_cmpxchg_begin, safecopy_cmpxchg_end, true},
    };
    for (u32 i = 0; i < array_size(spans); i++) {
        if (rip < spans[i].begin || rip >= spans[i].end)
            continue;
        if (spans[i].word)
            regs[REG_RDX] = 1;
        regs[REG_RIP] = (greg_t)spans[i].end;
        return true;
    }
    return false;
}

static struct sigaction previous[2]; // SIGSEGV, SIGBUS

static void fault_handler(int signo, siginfo_t *info, void *ucontext)
{
    if (safecopy_handle_fault(ucontext))
        return;
    struct sigaction *old = &previous[signo == SIGBUS];
    if (old->sa_flags & SA_SIGINFO && old->sa_sigaction) {
        old->sa_sigaction(signo, info, ucontext);
        return;
    }
    if (old->sa_handler != SIG_DFL && old->sa_handler != SIG_IGN) {
        old->sa_handler(signo);
        return;
    }
    struct sigaction dfl = {.sa_handler = SIG_DFL};
    sigaction(signo, &dfl, NULL); // the instruction faults again and ends the process
}

int safecopy_install(void)
{
    struct sigaction sa = {.sa_sigaction = fault_handler,
                           .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};
    sigemptyset(&sa.sa_mask);
    struct sigaction old;
    if (sigaction(SIGSEGV, NULL, &old) == 0 && old.sa_flags & SA_SIGINFO &&
        old.sa_sigaction == fault_handler)
        return 0;
    if (sigaction(SIGSEGV, &sa, &previous[0]) || sigaction(SIGBUS, &sa, &previous[1]))
        return -EINVAL;
    return 0;
}
