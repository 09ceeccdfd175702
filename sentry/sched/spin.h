// SPDX-License-Identifier: Apache-2.0
// Waiting by looking, when what is waited for takes microseconds and a sleep and its wake-up take
// tens. One that looks gives the CPU to whoever else wants it in between: to the thread that it
// waits for, if that is on the same CPU. While the machine has other work such a yield costs
// milliseconds, so it is left off then, and tried again after a while.
#ifndef BAILEY_SENTRY_SCHED_SPIN_H
#define BAILEY_SENTRY_SCHED_SPIN_H

#include "base/types.h"

// Looks between two yields.
#define SPIN_LOOKS 24

// `cycles`: time stamps in 16 microseconds. `calm`: kept at 1 while yields are all right, else 0;
// `changed` is called when it changes, on any thread. Before it is called nobody yields.
void spin_init(u64 cycles, u32 *calm, void (*changed)(void));

// Whether CPUs are free enough to yield.
bool spin_is_calm(void);

// Yields. False if others had work to do: then the wait is better slept.
bool spin_yield(void);

// Now and then, with the time stamp of now: finds out whether yields may be tried again.
void spin_probe(u64 now);

#endif
