// SPDX-License-Identifier: Apache-2.0
// The shim's one event loop (epoll(7)), and its threads.
//
// Everything of the shim's state belongs to the main thread, so there are no locks over it: the
// loop runs callbacks of descriptors and timers there. What takes long (commands of the runtime,
// mounts) is a job: its `run` is called in a worker thread, which may touch nothing but the job,
// and then its `done` in the main thread.
#ifndef BAILEY_SHIM_LOOP_H
#define BAILEY_SHIM_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#define WORKERS_MAX 16
#define JOBS_MAX 4096 // waiting ones; more are refused

// A descriptor that is watched. Embedded in its owner, which keeps it until watch_stop.
struct watch {
    int fd;
    uint32_t events; // EPOLLIN, EPOLLOUT; 0: only errors and hang-ups
    bool active;
    void (*ready)(struct watch *w, uint32_t events);
};

int loop_init(void);
void loop_run(void); // until loop_stop
void loop_stop(void);

// fd, events and ready are set. Returns 0 or a negative errno (-EPERM: a file, which cannot be
// watched).
int watch_start(struct watch *w);
int watch_change(struct watch *w, uint32_t events);
void watch_stop(struct watch *w);

// A moment at which something is done once; embedded in its owner.
struct timer {
    struct timer *next;
    int64_t when;
    bool active;
    void (*fire)(struct timer *t);
};
void timer_set(struct timer *t, int milliseconds);
void timer_stop(struct timer *t);
int64_t loop_now(void); // CLOCK_MONOTONIC, ms

struct job {
    struct job *next;
    void (*run)(struct job *j);  // in a worker
    void (*done)(struct job *j); // in the main thread; frees the job
};
// Returns 0, or -EAGAIN when too many wait.
int job_submit(struct job *j);
unsigned job_count(void); // submitted and not done

#endif
