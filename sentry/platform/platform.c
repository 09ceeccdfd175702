// SPDX-License-Identifier: Apache-2.0
#include "sentry/platform/platform.h"

#include "base/log.h"
#include "host/host.h"
#include "host/process.h"
#include "sentry/platform/internal.h"
#include "sentry/sched/spin.h"

#define SPIN_NSEC 40000 // longest spin: a few times what a sleep and a wake-up cost
#define CALIBRATE_ROUNDS 2000

struct pt_global pt;

static u32 count_cpus(void)
{
    u64 mask[128] = {0};
    u32 n = 0;
    int r = host_getaffinity(mask, sizeof(mask));
    for (int i = 0; i < r / 8; i++)
        n += (u32)__builtin_popcountll(mask[i]);
    return n ? n : 1;
}

// How many cycles, and rounds of a spinning loop, SPIN_NSEC is.
static void calibrate(void)
{
    volatile u32 word = 0;
    s64 start = host_clock(CLOCK_MONOTONIC);
    u64 cycles = __builtin_ia32_rdtsc();
    for (int i = 0; i < CALIBRATE_ROUNDS; i++) {
        (void)word;
        __builtin_ia32_pause();
    }
    cycles = __builtin_ia32_rdtsc() - cycles;
    s64 nsec = max(host_clock(CLOCK_MONOTONIC) - start, (s64)1000);
    pt.spin_cycles = cycles * SPIN_NSEC / (u64)nsec;
}

int platform_init(const struct platform_config *config)
{
    pt.config = *config;
    pt.cpu_count = config->cpu_count ? config->cpu_count : count_cpus();
    calibrate();
    pt_fp_init();
    int r = pt_zygote_make();
    if (r < 0)
        return r;
    if (!pt.page->has_fsgsbase)
        pt.config.use_rewriting = false;
    spin_init(pt.spin_cycles * 16000 / SPIN_NSEC, &pt.page->calm, pt_spin_changed);
    pt_notify_init();
    r = pt_reap_start();
    if (r < 0)
        return r;
    pt_fp_reset(pt.zygote);
    log_debug("platform: %u CPUs, FP state of %u bytes, spins of %llu cycles", pt.cpu_count,
              pt.fp_size, (unsigned long long)pt.spin_cycles);
    return pt_order_simple(pt.zygote, ORDER_COMMIT, NULL);
}
