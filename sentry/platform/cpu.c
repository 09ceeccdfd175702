// SPDX-License-Identifier: Apache-2.0
// Which CPU a sentry thread and its stub run on. Two that hand over by sleeping do it in a third of the time on one
// CPU, since no idle CPU has to be woken; two that spin must be on two.
#include <cpuid.h>

#include "host/host.h"
#include "host/process.h"
#include "sentry/platform/internal.h"

#define CPUS_MAX 4096

static u64 own_mask[CPUS_MAX / 64]; // where this process may run
static bool have_rdpid;

bool pt_cpu_init(void)
{
    u32 a, b, c, d;
    host_getaffinity(own_mask, sizeof(own_mask));
    have_rdpid = __get_cpuid_count(7, 0, &a, &b, &c, &d) && c >> 22 & 1;
    return have_rdpid;
}

u32 pt_cpu_current(void)
{
    u64 v;
    if (!have_rdpid)
        return CPU_UNKNOWN;
    __asm__ volatile("rdpid %0" : "=r"(v));
    return (u32)v & 0xfff;
}

// The CPU this thread is bound to, plus 1. A new thread may have inherited its maker's binding.
#define INHERITED UINT32_MAX
static __thread u32 followed = INHERITED;

void pt_cpu_follow(u32 cpu)
{
    u64 mask[CPUS_MAX / 64] = {0};
    if (followed == cpu + 1 || cpu >= CPUS_MAX || !(own_mask[cpu / 64] >> cpu % 64 & 1))
        return;
    mask[cpu / 64] = 1ull << cpu % 64;
    if (host_setaffinity(0, mask, sizeof(mask)) >= 0)
        followed = cpu + 1;
}

void pt_cpu_free(void)
{
    if (!followed)
        return;
    followed = 0;
    host_setaffinity(0, own_mask, sizeof(own_mask));
}

void pt_cpu_flee(u32 cpu)
{
    u64 mask[CPUS_MAX / 64], any = 0;
    __builtin_memcpy(mask, own_mask, sizeof(mask));
    if (cpu < CPUS_MAX)
        mask[cpu / 64] &= ~(1ull << cpu % 64);
    for (u32 i = 0; i < CPUS_MAX / 64; i++)
        any |= mask[i];
    if (any)
        host_setaffinity(0, mask, sizeof(mask));
    host_setaffinity(0, own_mask, sizeof(own_mask));
    followed = 0;
}

bool pt_cpu_bind(int tid, u32 cpu)
{
    u64 mask[CPUS_MAX / 64] = {0};
    if (cpu >= CPUS_MAX || !(own_mask[cpu / 64] >> cpu % 64 & 1))
        return false;
    mask[cpu / 64] = 1ull << cpu % 64;
    return host_setaffinity(tid, mask, sizeof(mask)) >= 0;
}

void pt_cpu_unbind(int tid)
{
    host_setaffinity(tid, own_mask, sizeof(own_mask));
}
