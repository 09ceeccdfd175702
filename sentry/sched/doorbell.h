// SPDX-License-Identifier: Apache-2.0
// A doorbell: any thread rings it, one thread waits for it among other descriptors and then looks at
// everything that may have changed. Rings that come before it has been answered cost no host call.
//
// What was changed before a ring is seen by whoever looks after the doorbell_answer that follows it.
#ifndef BAILEY_SENTRY_SCHED_DOORBELL_H
#define BAILEY_SENTRY_SCHED_DOORBELL_H

#include "base/types.h"

struct doorbell {
    int fd;   // readable when it has been rung
    u32 rung; // atomic: it has been, and not been answered
};

// 0 or a negative errno. What has been opened is never closed: it lasts as long as the process.
int must_check doorbell_init(struct doorbell *b);

void doorbell_ring(struct doorbell *b);

// By the one thread that waits, when `fd` is readable and before it looks.
void doorbell_answer(struct doorbell *b);

#endif
