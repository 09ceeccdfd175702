// SPDX-License-Identifier: Apache-2.0
#include "sentry/sched/aux.h"

#include "base/lock.h"

static struct rwlock gate; // of this process

void aux_enter(void)
{
    rwlock_read_lock(&gate, RANK_NONE);
}

void aux_exit(void)
{
    rwlock_read_unlock(&gate);
}

void aux_stop(void)
{
    rwlock_write_lock(&gate, RANK_NONE);
}

void aux_resume(void)
{
    rwlock_write_unlock(&gate);
}
