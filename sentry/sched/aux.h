// SPDX-License-Identifier: Apache-2.0
// Helper threads: host threads that run no task and yet touch the arena (timers, the poller of host descriptors, the
// console's writer). They do so between aux_enter and aux_exit only, so that whoever has stopped all tasks can
// stop them too and finds the arena at rest. Sleeping happens outside. The pairs do not nest.
#ifndef BAILEY_SENTRY_SCHED_AUX_H
#define BAILEY_SENTRY_SCHED_AUX_H

void aux_enter(void);
void aux_exit(void);

// Waits until no helper thread is inside and keeps them out until aux_resume. Call it with no lock held that
// they take, after kernel_stop_all.
void aux_stop(void);
void aux_resume(void);

#endif
