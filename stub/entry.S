// SPDX-License-Identifier: Apache-2.0
// The stub's entrances and exits. The guest can jump to any instruction here with any registers: see
// stub/filter/stub.allow for what the system calls below may do.
#include "stub/layout.h"

    .section .header, "a"
    .quad STUB_MAGIC
    .quad stub_fast_entry
    .quad stub_zygote_start
    .quad stub_signal_entry
    .quad stub_restorer
    .quad stub_text_end
    .quad stub_fork_stop
    .quad stub_thread_stop

    .text

// A rewritten system-call site: r11 is where to return, rcx is free, all else is the guest's. GS
// points at the context unless the guest has set it: then the real instruction, which stands
// before the return address, is made to trap. Nothing before the pushes may change the flags.
    .globl stub_fast_entry
stub_fast_entry:
    rdgsbase %rcx
    rorx $28, %rcx, %rcx
    mov %ecx, %ecx
    lea -STUB_CTX_TAG(%rcx), %rcx
    jrcxz 1f
    lea -2(%r11), %rcx
    jmp *%rcx
1:  mov %rsp, %gs:CTX_REG_RSP
    mov %gs:CTX_SELF, %rsp
    lea (CTX_REGS + 19 * 8)(%rsp), %rsp // below is eflags
    pushfq
    push $0x33
    push %r11
    push %rax       // orig_rax
    push %rdi
    push %rsi
    push %rdx
    push %r11       // rcx
    push %rax
    push %r8
    push %r9
    push %r10
    push 11 * 8(%rsp) // r11: what a system call leaves there, the flags
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    cld
    lea -CTX_REGS(%rsp), %rdi
    lea CTX_STACK_TOP(%rdi), %rsp
    xor %ebp, %ebp
    call stub_fast
    ud2

// Signals: the kernel has switched to the context's signal stack. (sig, info, ucontext)
    .globl stub_signal_entry
stub_signal_entry:
    xor %ebp, %ebp
    call stub_signal
    ud2

    .globl stub_restorer
stub_restorer:
    ud2

// void stub_run_on(ctx, function): drops the current stack for the context's own.
    .globl stub_run_on
stub_run_on:
    lea CTX_STACK_TOP(%rdi), %rsp
    xor %ebp, %ebp
    call *%rsi
    ud2

// void stub_return_to(gregs, fp, features): goes on where a signal interrupted the stub, with all
// registers from the frame: gregs are r8..r15 rdi rsi rbp rbx rdx rax rcx rsp rip eflags.
    .globl stub_return_to
stub_return_to:
    mov %rdi, %rcx
    mov %edx, %eax
    shr $32, %rdx
    xrstor64 (%rsi)
    pushq $0x2b
    pushq 15 * 8(%rcx)
    pushq 17 * 8(%rcx)
    pushq $0x33
    pushq 16 * 8(%rcx)
    mov 0 * 8(%rcx), %r8
    mov 1 * 8(%rcx), %r9
    mov 2 * 8(%rcx), %r10
    mov 3 * 8(%rcx), %r11
    mov 4 * 8(%rcx), %r12
    mov 5 * 8(%rcx), %r13
    mov 6 * 8(%rcx), %r14
    mov 7 * 8(%rcx), %r15
    mov 8 * 8(%rcx), %rdi
    mov 9 * 8(%rcx), %rsi
    mov 10 * 8(%rcx), %rbp
    mov 11 * 8(%rcx), %rbx
    mov 12 * 8(%rcx), %rdx
    mov 13 * 8(%rcx), %rax
    mov 14 * 8(%rcx), %rcx
    iretq

// void stub_resume(ctx, fast): into the guest. Between the two labels the guest's state is whole in
// ctx->regs: an interrupt here is posted as one, with that state.
    .globl stub_resume, stub_resume_begin, stub_resume_end
stub_resume:
stub_resume_begin:
    cmpl $0, CTX_INTERRUPTED(%rdi)
    jne stub_resume_end
    lea CTX_REGS(%rdi), %rsp
    test %esi, %esi
    jz 1f
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    pop %r11
    pop %r10
    pop %r9
    pop %r8
    pop %rax
    pop %rcx
    pop %rdx
    pop %rsi
    pop %rdi
    add $8, %rsp
    pushq 16(%rsp)
    popfq
    mov 24(%rsp), %rsp
    jmp *%gs:CTX_FAST_RIP
1:  pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    pop %r11
    pop %r10
    pop %r9
    pop %r8
    pop %rax
    pop %rcx
    pop %rdx
    pop %rsi
    pop %rdi
    lea 8(%rsp), %rsp
    iretq
stub_resume_end:
    lea CTX_STACK_TOP(%rdi), %rsp
    call stub_interrupted
    ud2

// long stub_fork(cookie), long stub_thread(cookie, turn): the clones; 0 or -EAGAIN. The instruction after
// each clone is a call itself, whose number is what clone left in rax: 0 in the new task, which the
// filter stops there to ask the sentry. So a new task runs not one instruction before it is let in,
// even if the guest has forged the clone or single-steps itself (a trap would take it elsewhere).
// In the maker the filter answers PARENT_GOOD, or -EAGAIN if clone failed. Two numbers that a pid can be
// pass every filter since Linux 6.11: uretprobe (335), which ends in SIGILL (see stub_signal), and uprobe
// (336), which fails with ENXIO.
    .globl stub_fork, stub_fork_clone, stub_fork_stop
stub_fork:
    mov %rdi, %rdx
    mov $STUB_FORK_FLAGS, %edi
    xor %esi, %esi
    movabs $STUB_CTX + CTX_TURN, %r10
    xor %r8d, %r8d
    mov $56, %eax
    syscall
stub_fork_clone:
    syscall
stub_fork_stop:
    test %rax, %rax
    jns 1f
    cmp $PARENT_GOOD, %rax
    je 2f
    cmp $-6, %rax  // ENXIO: uprobe(2)
    je 2f
    cmp $-11, %rax // EAGAIN
    jne stub_die
    ret
2:  xor %eax, %eax
    ret
1:  mov $STUB_SOCKET_FD, %edi
    mov $3, %eax
    syscall
    movabs $STUB_CTX, %rdi
    mov $STUB_CTX_REGION, %esi
    mov $3, %edx
    mov $0x11, %r10d
    mov $STUB_CTX_FD, %r8d
    xor %r9d, %r9d
    mov $9, %eax
    syscall
    test %rax, %rax
    js stub_die
    mov %rax, %rdi
    lea stub_process_start(%rip), %rsi
    jmp stub_run_on

    .globl stub_thread, stub_thread_clone, stub_thread_stop
stub_thread:
    mov %rdi, %rdx
    mov %rsi, %r10
    mov $STUB_THREAD_FLAGS, %edi
    xor %esi, %esi
    xor %r8d, %r8d
    mov $56, %eax
    syscall
stub_thread_clone:
    syscall
stub_thread_stop:
    test %rax, %rax
    jns 1f
    cmp $PARENT_GOOD, %rax
    je 2f
    cmp $-6, %rax  // ENXIO: uprobe(2)
    je 2f
    cmp $-11, %rax // EAGAIN
    jne stub_die
    ret
2:  xor %eax, %eax
    ret
1:  cmp $STUB_CTX_COUNT, %rax
    jae stub_die
    mov %rax, %rdi
    shl $STUB_CTX_SHIFT, %rdi
    movabs $STUB_CTX, %rax
    add %rax, %rdi
    lea stub_thread_start(%rip), %rsi
    jmp stub_run_on

stub_die:
    mov $60, %eax
    mov $1, %edi
    syscall
    ud2

// The zygote comes here from the sentry's text, in a process of its own: rdi is the context. Unmaps all
// that is below the stub, closes all descriptors, installs the filter (struct sock_fprog at rsi).
    .globl stub_zygote_start
stub_zygote_start:
    lea CTX_STACK_TOP(%rdi), %rsp
    xor %ebp, %ebp
    call stub_zygote
    ud2
