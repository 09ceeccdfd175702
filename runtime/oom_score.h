// SPDX-License-Identifier: Apache-2.0
// Whom the host ends first when a container's memory runs out (oom_score_adj of proc_pid_oom_score_adj(5)): a
// process that runs guest code, so that one process of the guest dies, and not the kernel of all of them.
#ifndef BAILEY_RUNTIME_OOM_SCORE_H
#define BAILEY_RUNTIME_OOM_SCORE_H

#include <stdbool.h>
#include <sys/types.h>

struct oom_score {
    int own; // bailey's, to go back to
    bool raised;
};

// Makes `child` the host's first choice, and so what it will fork. Call it before the child executes its program: while it
// shares bailey's memory, bailey has the score, too. A host that refuses is left alone.
void oom_score_raise(struct oom_score *o, pid_t child);

// Once the child has forked what runs guest code: gives it (and bailey) back what they had, or `wanted` if
// that is not 0 (process.oomScoreAdj). Warns when the host refuses `wanted`.
void oom_score_settle(struct oom_score *o, pid_t child, int wanted);

#endif
