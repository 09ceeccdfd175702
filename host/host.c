// SPDX-License-Identifier: Apache-2.0
#include "host/host.h"

#include "base/bug.h"

s64 host_clock(int clock_id)
{
    struct timespec ts;
    bug_on(clock_gettime(clock_id, &ts) != 0);
    return ts.tv_sec * NSEC_PER_SEC + ts.tv_nsec;
}

int host_random(void *buf, u64 size)
{
    u8 *p = buf;
    while (size) {
        long n = host_sys(SYS_getrandom, p, size, 0);
        if (n < 0 && n != -4)
            return (int)n;
        if (n > 0) {
            p += n;
            size -= (u64)n;
        }
    }
    return 0;
}
