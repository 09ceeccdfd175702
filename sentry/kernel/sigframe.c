// SPDX-License-Identifier: Apache-2.0
// The signal frame of x86-64 Linux: what a handler finds on its stack and rt_sigreturn(2) reads back. All that is
// read back is the guest's word: flags are masked, FP state goes through the platform's check.
//
// From the stack pointer up: return address, ucontext, siginfo; above them, aligned to 64, the FP state.
#include "sentry/kernel/sigframe.h"

#include <string.h>

#include "base/log.h"
#include "sentry/kernel/siginternal.h"
#include "sentry/mm/usercopy.h"
#include "sentry/platform/platform.h"

#define FP_MAGIC1 0x46505853u
#define FP_MAGIC2 0x46505845u
#define FP_LEGACY_SIZE 512
#define FP_SW_OFFSET 464
#define XSAVE_HEADER_SIZE 64
#define RED_ZONE 128
#define UC_FP_XSTATE 1
#define UC_SIGCONTEXT_SS 2
#define UC_STRICT_RESTORE_SS 4
#define SS_AUTODISARM_FLAG 0x80000000u

struct fp_software { // the last 48 bytes of the legacy area
    u32 magic1, extended_size;
    u64 features;
    u32 xstate_size, pad[7];
};

struct guest_sigcontext {
    u64 r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, eflags;
    u16 cs, gs, fs, ss;
    u64 err, trapno, oldmask, cr2, fpstate, reserved[8];
};
_Static_assert(sizeof(struct guest_sigcontext) == 256, "struct sigcontext");

struct guest_ucontext {
    u64 flags, link;
    struct guest_stack stack;
    struct guest_sigcontext mc;
    u64 mask;
};

struct frame {
    u64 return_address;
    struct guest_ucontext uc;
    struct guest_siginfo info;
};

bool sigaltstack_active(struct task *t, u64 sp)
{
    if (t->altstack.flags & SS_AUTODISARM_FLAG)
        return false;
    return sp > t->altstack.sp && sp - t->altstack.sp <= t->altstack.size;
}

void sigaltstack_get(struct task *t, u64 sp, struct guest_stack *ret)
{
    *ret = (struct guest_stack){.sp = t->altstack.sp, .size = t->altstack.size};
    u32 flags = t->altstack.flags & SS_AUTODISARM_FLAG;
    if (!t->altstack.size)
        flags |= SS_DISABLE;
    else if (sigaltstack_active(t, sp))
        flags |= SS_ONSTACK;
    ret->flags = (s32)flags;
}

int sigaltstack_set(struct task *t, u64 sp, const struct guest_stack *s)
{
    u32 flags = (u32)s->flags;
    u32 mode = flags & ~SS_AUTODISARM_FLAG;
    if (sigaltstack_active(t, sp))
        return -EPERM;
    if (mode != 0 && mode != SS_DISABLE && mode != SS_ONSTACK)
        return -EINVAL;
    if (mode == SS_DISABLE) {
        t->altstack = (struct sigaltstack_state){.flags = flags};
        return 0;
    }
    if (s->size < 2048) // MINSIGSTKSZ
        return -ENOMEM;
    t->altstack = (struct sigaltstack_state){.sp = s->sp, .size = s->size, .flags = flags};
    return 0;
}

// ---- making a frame ------------------------------------------------------------------------------

static void regs_to_guest(const struct user_regs *r, struct guest_sigcontext *mc)
{
    *mc = (struct guest_sigcontext){
        .r8 = r->r8, .r9 = r->r9, .r10 = r->r10, .r11 = r->r11, .r12 = r->r12, .r13 = r->r13,
        .r14 = r->r14, .r15 = r->r15, .rdi = r->rdi, .rsi = r->rsi, .rbp = r->rbp, .rbx = r->rbx,
        .rdx = r->rdx, .rax = r->rax, .rcx = r->rcx, .rsp = r->rsp, .rip = r->rip,
        .eflags = r->eflags, .cs = USER_CS, .ss = USER_SS,
    };
}

// Writes the FP state below `top`: its address, or 0.
static u64 put_fp(struct task *t, u64 top)
{
    u8 fp[PLATFORM_FP_MAX + 4] __attribute__((aligned(64)));
    u32 size = platform_fp_size();
    u64 at = (top - size - 4) & ~63ull;

    if (platform_fp_get(t->thread, fp))
        return 0;
    struct fp_software sw = {
        .magic1 = FP_MAGIC1,
        .extended_size = size + 4,
        .features = platform_fp_features(),
        .xstate_size = size,
    };
    memcpy(fp + FP_SW_OFFSET, &sw, sizeof(sw));
    u32 magic2 = FP_MAGIC2;
    memcpy(fp + size, &magic2, 4);
    return copy_out(uaddr(at), fp, size + 4) ? 0 : at;
}

static u64 frame_stack(struct task *t, const struct guest_sigaction *a)
{
    u64 sp = t->regs.rsp;
    if ((a->flags & SA_ONSTACK) && t->altstack.size && !sigaltstack_active(t, sp))
        return t->altstack.sp + t->altstack.size;
    return sp - RED_ZONE;
}

int sigframe_setup(struct task *t, int sig, const struct guest_sigaction *a,
                   const struct guest_siginfo *info, u64 saved_mask)
{
    struct frame f;
    u64 old_sp = t->regs.rsp;

    if (!(a->flags & 0x04000000)) // SA_RESTORER
        return -EFAULT;
    bool was_on_alt = sigaltstack_active(t, old_sp);
    u64 top = frame_stack(t, a);
    u64 fp = put_fp(t, top);
    if (!fp)
        return -EFAULT;
    u64 sp = ((fp - sizeof(f)) & ~15ull) - 8;
    // A frame that would run over the end of the alternate stack is refused.
    if (was_on_alt && !(t->altstack.flags & SS_AUTODISARM_FLAG) && !sigaltstack_active(t, sp))
        return -EFAULT;

    memset(&f, 0, sizeof(f));
    f.return_address = a->restorer;
    f.uc.flags = UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS;
    sigaltstack_get(t, old_sp, &f.uc.stack);
    regs_to_guest(&t->regs, &f.uc.mc);
    f.uc.mc.fpstate = fp;
    f.uc.mc.err = t->fault_error;
    f.uc.mc.trapno = t->fault_trapno;
    f.uc.mc.cr2 = t->fault_addr;
    f.uc.mc.oldmask = saved_mask;
    f.uc.mask = saved_mask;
    f.info = *info;
    if (copy_out(uaddr(sp), &f, sizeof(f)))
        return -EFAULT;

    if (t->altstack.flags & SS_AUTODISARM_FLAG)
        t->altstack = (struct sigaltstack_state){.flags = SS_DISABLE};
    struct user_regs *r = &t->regs;
    r->rdi = (u64)sig;
    r->rsi = sp + offsetof(struct frame, info);
    r->rdx = sp + offsetof(struct frame, uc);
    r->rax = 0;
    r->rsp = sp;
    r->rip = a->handler;
    r->eflags &= ~0x10500ull; // DF, RF, TF
    r->orig_rax = ~0ull;
    t->regs_dirty = 1;
    platform_fp_reset(t->thread);
    return 0;
}

// ---- reading it back -------------------------------------------------------------------------------

static int get_fp(struct task *t, u64 at)
{
    u8 fp[PLATFORM_FP_MAX] __attribute__((aligned(64)));
    u32 size = platform_fp_size(), magic2 = 0;
    struct fp_software sw;

    if (!at) {
        platform_fp_reset(t->thread);
        return 0;
    }
    if (at & 63)
        return -EFAULT;
    memset(fp, 0, size);
    if (copy_in(fp, uaddr(at), FP_LEGACY_SIZE))
        return -EFAULT;
    memcpy(&sw, fp + FP_SW_OFFSET, sizeof(sw));
    bool extended = sw.magic1 == FP_MAGIC1 && sw.xstate_size >= FP_LEGACY_SIZE + XSAVE_HEADER_SIZE &&
                    sw.xstate_size <= size && sw.xstate_size <= sw.extended_size;
    if (extended && get_u32(&magic2, uaddr(at + sw.xstate_size)))
        return -EFAULT;
    u64 features = 3; // x87 and SSE
    if (extended && magic2 == FP_MAGIC2) {
        if (copy_in(fp + FP_LEGACY_SIZE, uaddr(at + FP_LEGACY_SIZE),
                    sw.xstate_size - FP_LEGACY_SIZE))
            return -EFAULT;
        u64 present;
        memcpy(&present, fp + FP_LEGACY_SIZE, 8);
        features = present & sw.features & platform_fp_features();
    }
    memset(fp + FP_LEGACY_SIZE + 8, 0, XSAVE_HEADER_SIZE - 8);
    memcpy(fp + FP_LEGACY_SIZE, &features, 8);
    memset(fp + FP_SW_OFFSET, 0, sizeof(sw));
    return platform_fp_set(t->thread, fp);
}

static void regs_from_guest(struct user_regs *r, const struct guest_sigcontext *mc)
{
    r->r8 = mc->r8;
    r->r9 = mc->r9;
    r->r10 = mc->r10;
    r->r11 = mc->r11;
    r->r12 = mc->r12;
    r->r13 = mc->r13;
    r->r14 = mc->r14;
    r->r15 = mc->r15;
    r->rdi = mc->rdi;
    r->rsi = mc->rsi;
    r->rbp = mc->rbp;
    r->rbx = mc->rbx;
    r->rdx = mc->rdx;
    r->rax = mc->rax;
    r->rcx = mc->rcx;
    r->rsp = mc->rsp;
    r->rip = mc->rip;
    r->eflags = (r->eflags & ~USER_EFLAGS_MASK) | (mc->eflags & USER_EFLAGS_MASK);
    r->cs = USER_CS;
    r->ss = USER_SS;
    r->orig_rax = ~0ull;
}

int sigframe_return(struct task *t)
{
    struct guest_ucontext uc;
    u64 at = t->regs.rsp - 8;

    if (copy_in(&uc, uaddr(at + offsetof(struct frame, uc)), sizeof(uc)))
        return -EFAULT;
    if (get_fp(t, uc.mc.fpstate))
        return -EFAULT;
    regs_from_guest(&t->regs, &uc.mc);
    t->regs_dirty = 1;
    signal_set_mask(t, uc.mask);
    // An error here is not one of sigreturn's, as on Linux.
    int r = sigaltstack_set(t, t->regs.rsp, &uc.stack);
    (void)r;
    return 0;
}
