// SPDX-License-Identifier: Apache-2.0
// The VFS against the host: a long random run of calls in a host directory and in ours has to give the same results.
#ifndef BAILEY_TESTS_UNIT_VFS_MODEL_H
#define BAILEY_TESTS_UNIT_VFS_MODEL_H

#include <fcntl.h>

#include "base/types.h"
#include "sentry/syscalls/sys_vfs.h"

// A system call, without a task.
#define CALL(name, ...) sys_##name(NULL, (u64[6]){__VA_ARGS__})
#define P(x) ((u64)(uintptr_t)(x))
#define CWD ((u64)(s64)AT_FDCWD)

// Compares the results of `steps` random calls; with `overlay`, after as many whose outcome became the lower layer.
void vfs_model_run(u32 steps, bool overlay);

// How many of them: `steps`, or what VFS_MODEL_STEPS says. VFS_MODEL_SEED is looked at as well.
u32 vfs_model_steps(u32 steps);

#endif
