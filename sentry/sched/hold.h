// SPDX-License-Identifier: Apache-2.0
// Host wake-ups that are put off: one that is woken may take this CPU at once, from a thread that holds what it needs
// next, or that is about to hand over to its stub.
//
// Between _hold and _release a few wake-ups by the calling thread wait (more than a few go at once). The task loop
// holds them during a system call; platform_switch releases them once the stub has its order, and each sleep does
// before it begins. Nobody else who holds them may wait for anything until the release.
#ifndef BAILEY_SENTRY_SCHED_HOLD_H
#define BAILEY_SENTRY_SCHED_HOLD_H

#include "base/types.h"

// True if they were not held before: then the caller is to release them.
bool sched_hold_wakes(void);

// Harmless when none are held.
void sched_release_wakes(void);

// Wakes one thread of ours that sleeps on the word, now or later. By then something else may be there: whoever sleeps
// on that finds that nothing has happened.
void sched_wake_word(u32 *word);

#endif
