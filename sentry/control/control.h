// SPDX-License-Identifier: Apache-2.0
// The sentry's end of the control protocol (wire/control.h): one host thread that serves the start
// connection and the listening socket, and that never runs guest work itself. Requests are hostile only
// in so far as any user who may write to the state directory is; they are bounded all the same.
//
// Lock order: the thread holds no lock when it calls up.
#ifndef BAILEY_SENTRY_CONTROL_CONTROL_H
#define BAILEY_SENTRY_CONTROL_CONTROL_H

#include "base/types.h"
#include "wire/boot.h"

// Starts the control thread. `autostart`: control_wait_start returns at once. 0 or a negative errno.
int must_check control_start(const struct boot_message *m);

// Tells the bailey at the other end of the start connection. No-ops when it has gone. A failure may be told
// before control_start.
void control_tell_ready(void);
void control_tell_failed(int control_fd, int error, const char *text);
void control_tell_exit(int wait_status);

// Waits for CONTROL_START (returns at once with BOOT_AUTOSTART). False when the sandbox is to end
// without having started.
bool control_wait_start(void);

// --- Implemented by kernel/, called by the control thread. ---

// Signal `sig` to process `pid` of the container (0: init). `foreground`: to the foreground process
// group of the container's terminal if it has one, else as without. 0, -ESRCH, -EINVAL.
int kernel_control_signal(u32 pid, int sig, bool foreground);

// Sets the size of the container's terminal (SIGWINCH to its foreground group). -ENOTTY without one.
int kernel_control_snapshot(int fd); // writes a snapshot of the sandbox to a file; 0 or -errno
int kernel_control_winsize(u16 rows, u16 columns);

// Writes a description of what each task is doing (name, pid, state, system call, wait) as text to
// `buf`, truncated at `size`; the bytes written, without a NUL.
size_t kernel_control_stacks(char *buf, size_t size);

#endif
