// SPDX-License-Identifier: Apache-2.0
// FP state. The guest's FP registers stay live in its stub thread while the sentry works, so they are
// fetched only when someone asks, by an order; what is set is loaded at the next order.
#include <cpuid.h>

#include "host/host.h"
#include "sentry/platform/internal.h"

#define XSAVE_HEADER 512
#define XSAVE_HEADER_SIZE 64
#define XSAVE_BASE (XSAVE_HEADER + XSAVE_HEADER_SIZE)
#define FEATURE_FP_SSE 3ull
#define FEATURES_AMX (3ull << 17) // needs a permission that guests are not given
#define MXCSR_OFFSET 24
#define MXCSR_MASK_OFFSET 28
#define MXCSR_INIT 0x1f80u
#define FCW_INIT 0x37fu

static u64 xcr0(void)
{
    u32 lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (u64)hi << 32 | lo;
}

void pt_fp_init(void)
{
    u8 area[512] __attribute__((aligned(64))) = {0};
    u64 wanted = xcr0() & ~FEATURES_AMX;
    u32 a, b, c, d;

    pt.fp_features = FEATURE_FP_SSE;
    pt.fp_size = XSAVE_BASE;
    for (u32 i = 2; i < 63; i++) {
        if (!(wanted & 1ull << i))
            continue;
        __cpuid_count(0xd, i, a, b, c, d);
        if (!a || b + a > CTX_FP_SIZE || c & 1)
            continue;
        pt.fp_features |= 1ull << i;
        pt.fp_size = max(pt.fp_size, b + a);
    }
    __asm__ volatile("fxsave64 (%0)" : : "r"(area) : "memory");
    __builtin_memcpy(&pt.mxcsr_mask, area + MXCSR_MASK_OFFSET, 4);
    if (!pt.mxcsr_mask)
        pt.mxcsr_mask = 0xffbf;
}

u32 platform_fp_size(void)
{
    return pt.fp_size;
}

u64 platform_fp_features(void)
{
    return pt.fp_features;
}

// The header of an image, with nothing in it that XRSTOR would refuse.
static void header_clean(u8 *image)
{
    u64 components;
    __builtin_memcpy(&components, image + XSAVE_HEADER, 8);
    components &= pt.fp_features;
    __builtin_memset(image + XSAVE_HEADER, 0, XSAVE_HEADER_SIZE);
    __builtin_memcpy(image + XSAVE_HEADER, &components, 8);
}

int platform_fp_get(u32 thread, void *xsave)
{
    struct pt_thread *t = pt_thread_get(thread);
    if (!t)
        return -ESRCH;
    // The stub saves them unasked where a signal is likely; what was set and not yet loaded is there too.
    if (!__atomic_load_n(&t->ctx->fp_saved, __ATOMIC_RELAXED) && !t->fp_load) {
        int r = pt_order_simple(t, ORDER_FP_SAVE, NULL);
        if (r < 0)
            return r;
    }
    __builtin_memcpy(xsave, (u8 *)t->ctx + CTX_FP, pt.fp_size);
    header_clean(xsave);
    return 0;
}

int platform_fp_set(u32 thread, const void *xsave)
{
    struct pt_thread *t = pt_thread_get(thread);
    u8 image[PLATFORM_FP_MAX];
    u32 mxcsr;

    if (!t)
        return -ESRCH;
    __builtin_memcpy(image, xsave, pt.fp_size);
    header_clean(image);
    __builtin_memcpy(&mxcsr, image + MXCSR_OFFSET, 4);
    if (mxcsr & ~pt.mxcsr_mask)
        return -EINVAL;
    __builtin_memcpy((u8 *)t->ctx + CTX_FP, image, pt.fp_size);
    t->fp_load = true;
    return 0;
}

void pt_fp_reset(struct pt_thread *t)
{
    u8 *image = (u8 *)t->ctx + CTX_FP;
    u16 fcw = FCW_INIT;
    u32 mxcsr = MXCSR_INIT;

    __builtin_memset(image, 0, pt.fp_size);
    __builtin_memcpy(image, &fcw, 2);
    __builtin_memcpy(image + MXCSR_OFFSET, &mxcsr, 4);
    t->fp_load = true;
}

void platform_fp_reset(u32 thread)
{
    struct pt_thread *t = pt_thread_get(thread);
    if (t)
        pt_fp_reset(t);
}
