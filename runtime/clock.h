// SPDX-License-Identifier: Apache-2.0
// The clock that time limits go by.
#ifndef BAILEY_RUNTIME_CLOCK_H
#define BAILEY_RUNTIME_CLOCK_H

#include <time.h>

#include "base/types.h"

// CLOCK_MONOTONIC in milliseconds.
static inline s64 clock_msec(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (s64)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

#endif
