// SPDX-License-Identifier: Apache-2.0
// System calls of memory: each as its man page, by the convention of table.h.
#ifndef BAILEY_SENTRY_SYSCALLS_SYS_MM_H
#define BAILEY_SENTRY_SYSCALLS_SYS_MM_H

#include "base/types.h"

struct task;

long sys_mmap(struct task *t, const u64 a[6]);
long sys_munmap(struct task *t, const u64 a[6]);
long sys_mprotect(struct task *t, const u64 a[6]);
long sys_mremap(struct task *t, const u64 a[6]);
long sys_madvise(struct task *t, const u64 a[6]);
long sys_brk(struct task *t, const u64 a[6]);
long sys_msync(struct task *t, const u64 a[6]);
long sys_mincore(struct task *t, const u64 a[6]);
long sys_mlock(struct task *t, const u64 a[6]);
long sys_mlock2(struct task *t, const u64 a[6]);
long sys_munlock(struct task *t, const u64 a[6]);
long sys_mlockall(struct task *t, const u64 a[6]);
long sys_munlockall(struct task *t, const u64 a[6]);
long sys_memfd_create(struct task *t, const u64 a[6]);
long sys_process_vm_readv(struct task *t, const u64 a[6]);
long sys_process_vm_writev(struct task *t, const u64 a[6]);

// As a kernel without protection keys, and with one memory node.
long sys_pkey_alloc(struct task *t, const u64 a[6]);
long sys_pkey_free(struct task *t, const u64 a[6]);
long sys_pkey_mprotect(struct task *t, const u64 a[6]);
long sys_set_mempolicy(struct task *t, const u64 a[6]);
long sys_get_mempolicy(struct task *t, const u64 a[6]);
long sys_mbind(struct task *t, const u64 a[6]);

#endif
