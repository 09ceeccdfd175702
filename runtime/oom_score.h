// SPDX-License-Identifier: Apache-2.0
// Whom the host ends first when a container's memory runs out (oom_score_adj of proc_pid_oom_score_adj(5)): a
// process that runs guest code, so that one process of the guest dies, and not the kernel of all of them.
#ifndef BAILEY_RUNTIME_OOM_SCORE_H
#define BAILEY_RUNTIME_OOM_SCORE_H

#include <stdbool.h>
#include <sys/types.h>

struct oom_score {
    int own;   // bailey's, to go back to
    int final; // the sentry's in the end
    bool changed;
};

// Before the child executes its program. All that it forks gets `wanted` (process.oomScoreAdj; NULL: bailey's own
// score), or, when memory is `limited`, becomes the host's first choice. While the child shares bailey's memory,
// bailey has the same score. A host that refuses is left alone: less than bailey has takes privilege.
void oom_score_begin(struct oom_score *o, pid_t child, const int *wanted, bool limited);

// Once the child has forked what runs guest code: gives it `wanted` in any case, and bailey its own score back.
void oom_score_settle(struct oom_score *o, pid_t child);

// Gives the processes that are in a group by now `wanted` (NULL: bailey's own score). What the host refuses is left.
struct cgroup;
void oom_score_set_group(const struct cgroup *c, const int *wanted);

#endif
