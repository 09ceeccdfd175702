// SPDX-License-Identifier: Apache-2.0
#include "sentry/sched/doorbell.h"

#include "host/host.h"
#include "host/poll.h"

int doorbell_init(struct doorbell *b)
{
    int fd = host_eventfd();
    if (fd < 0)
        return fd;
    *b = (struct doorbell){.fd = fd};
    return 0;
}

void doorbell_ring(struct doorbell *b)
{
    const u64 one = 1;
    if (!__atomic_exchange_n(&b->rung, 1, __ATOMIC_SEQ_CST))
        host_write(b->fd, &one, sizeof(one));
}

void doorbell_answer(struct doorbell *b)
{
    u64 count;
    // In this order: a ring between the two finds `rung` still set, and what it is for is looked at now. The other
    // way round its write would be taken away here and `rung` stay set, so that no later ring would be heard.
    host_read(b->fd, &count, sizeof(count));
    __atomic_exchange_n(&b->rung, 0, __ATOMIC_SEQ_CST);
}
