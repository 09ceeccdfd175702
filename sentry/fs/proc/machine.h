// SPDX-License-Identifier: Apache-2.0
// The machine as guests see it: memory within the container's limit, CPUs with the host's features.
#ifndef BAILEY_SENTRY_FS_PROC_MACHINE_H
#define BAILEY_SENTRY_FS_PROC_MACHINE_H

#include "sentry/fs/pseudo/text.h"

struct load_memory {
    u64 total, free, available, cached; // bytes
};

// Of the current task's container. Total is its limit, or the host's memory without one.
void load_get_memory(struct load_memory *ret);

// The paragraph of /proc/cpuinfo about one CPU.
void load_show_cpu(u32 cpu, u32 count, struct text *out);

#endif
