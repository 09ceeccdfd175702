// SPDX-License-Identifier: Apache-2.0
// Limits of memory, the sandbox's and each container's, which guests reach without a system call by touching pages: use
// is looked at from time to time, the sooner the nearer a limit, and shortly before it one process of those whom
// the limit is about is killed, as Linux chooses it (oom_score_adj of proc(5)), so that the host need not end
// something itself.
#ifndef BAILEY_SENTRY_KERNEL_OOM_H
#define BAILEY_SENTRY_KERNEL_OOM_H

// At boot and after a restore, before oom_watch.
void oom_init(void);

// A limit has been set, changed or taken away, or tasks begin to run.
void oom_watch(void);

// A task of a process that was killed for want of memory ends; it has its address space still. Where the host has
// the same limit, the first of them is led into it: the host ends the stub, counts that, and tells those who watch
// over the limit. Where it does not, the sandbox tells of the kill.
struct task;
void oom_task_exits(struct task *t);

// A descriptor, owned from now on (-1: none), that gets a byte for each process of the container which is killed
// and which the host does not count. It is of this process: a restored container has none.
struct container;
void oom_set_pipe(struct container *c, int fd);
void oom_close_pipe(struct container *c); // before the container goes

#endif
