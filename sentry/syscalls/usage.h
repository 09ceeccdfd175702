// SPDX-License-Identifier: Apache-2.0
// struct rusage and the small conversions of time that system calls share.
#ifndef BAILEY_SENTRY_SYSCALLS_USAGE_H
#define BAILEY_SENTRY_SYSCALLS_USAGE_H

#include "sentry/kernel/task.h"

struct guest_rusage {
    s64 utime[2], stime[2]; // timeval
    s64 maxrss, ixrss, idrss, isrss, minflt, majflt, nswap, inblock, oublock, msgsnd, msgrcv,
        nsignals, nvcsw, nivcsw;
};

static inline void rusage_fill(struct guest_rusage *r, const struct cpu_usage *u, u64 max_rss)
{
    *r = (struct guest_rusage){
        .utime = {(s64)(u->user / 1000000000), (s64)(u->user % 1000000000 / 1000)},
        .stime = {(s64)(u->system / 1000000000), (s64)(u->system % 1000000000 / 1000)},
        .maxrss = (s64)max_rss,
        .minflt = (s64)u->minor_faults,
        .majflt = (s64)u->major_faults,
        .nvcsw = (s64)u->voluntary,
        .nivcsw = (s64)u->involuntary,
    };
}

#endif
