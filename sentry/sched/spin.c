// SPDX-License-Identifier: Apache-2.0
#include "sentry/sched/spin.h"

#include "host/host.h"
#include "host/process.h"

// In units of 16 us. A partner's work is over sooner than SLOW; a stranger that computes keeps the
// CPU for milliseconds.
#define SLOW 2
#define STRANGER 30
#define PAUSE_FIRST 3000 // 50 ms until yields are tried again, twice as long each time they fail
#define PAUSE_MAX 48000

static u64 unit;
static u32 nowhere;
static u32 *calm_flag = &nowhere;
static void (*on_change)(void);
static u64 probe_at, calm_since; // atomic
static u64 pause_units = PAUSE_FIRST;

void spin_init(u64 cycles, u32 *calm, void (*changed)(void))
{
    unit = cycles;
    on_change = changed;
    calm_flag = calm;
    __atomic_store_n(calm, 1, __ATOMIC_RELAXED);
}

bool spin_is_calm(void)
{
    return __atomic_load_n(calm_flag, __ATOMIC_RELAXED);
}

static void note_stranger(u64 now)
{
    if (!__atomic_exchange_n(calm_flag, 0, __ATOMIC_RELAXED))
        return;
    u64 units = __atomic_load_n(&pause_units, __ATOMIC_RELAXED);
    if (now - __atomic_load_n(&calm_since, __ATOMIC_RELAXED) > unit * PAUSE_MAX)
        units = PAUSE_FIRST;
    __atomic_store_n(&probe_at, now + units * unit, __ATOMIC_RELAXED);
    __atomic_store_n(&pause_units, min(units * 2, (u64)PAUSE_MAX), __ATOMIC_RELAXED);
    on_change();
}

bool spin_yield(void)
{
    u64 before = __builtin_ia32_rdtsc();
    host_sched_yield();
    u64 now = __builtin_ia32_rdtsc(), took = now - before;
    if (likely(took < SLOW * unit))
        return true;
    if (took > STRANGER * unit)
        note_stranger(now);
    return false;
}

void spin_probe(u64 now)
{
    if (likely(spin_is_calm()) || now < __atomic_load_n(&probe_at, __ATOMIC_RELAXED) || !unit)
        return;
    __atomic_store_n(&calm_since, now, __ATOMIC_RELAXED);
    if (!__atomic_exchange_n(calm_flag, 1, __ATOMIC_RELAXED))
        on_change();
}
