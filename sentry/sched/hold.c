// SPDX-License-Identifier: Apache-2.0
#include "sentry/sched/hold.h"

#include "host/host.h"

#define HELD_MAX 8

static __thread struct {
    bool holding;
    u32 count;
    u32 *words[HELD_MAX];
} held;

bool sched_hold_wakes(void)
{
    bool was = held.holding;
    held.holding = true;
    return !was;
}

void sched_release_wakes(void)
{
    held.holding = false;
    while (held.count)
        host_futex_wake(held.words[--held.count], 1, false);
}

void sched_wake_word(u32 *word)
{
    if (held.holding && held.count < HELD_MAX)
        held.words[held.count++] = word;
    else
        host_futex_wake(word, 1, false);
}
