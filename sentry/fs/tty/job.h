// SPDX-License-Identifier: Apache-2.0
// What terminals, pipes and sockets ask of processes: signals to process groups, sessions and the
// controlling terminal (credentials(7), setsid(2), tcsetpgrp(3)). Everything here is implemented by
// kernel/. Processes, sessions and groups are named by their number in the sandbox' root PID namespace; a number
// is checked against the session when it is used, so that a recycled one reaches nobody else.
//
// Lock order: all of these may take RANK_TASKS and above; call them with no lock of that rank held. Those that
// say so hand out references.
#ifndef BAILEY_SENTRY_FS_TTY_JOB_H
#define BAILEY_SENTRY_FS_TTY_JOB_H

#include "base/types.h"

struct tty;

// As the current process sees a process (or group: negative), 0: not at all; and the other way round, 0: none.
s32 job_pid_to_guest(s32 number);
s32 job_pid_from_guest(s32 nr);

// The current process may send credentials with numbers of others (unix(7), SCM_CREDENTIALS).
bool job_may_claim_pids(void);

// Of the current process.
s32 job_current_pid(void);        // thread group id
s32 job_current_pgrp(void);
s32 job_current_session(void);    // 0: none
bool job_current_is_leader(void); // session leader
bool job_current_orphaned(void);  // its process group is orphaned
bool job_current_ignores(int sig); // the current thread blocks the signal or ignores it

// True if a process group of that number exists in that session.
bool job_pgrp_in_session(s32 pgrp, s32 session);

// True if a process group of that number exists at all.
bool job_pgrp_exists(s32 pgrp);

// A signal of the kernel (SI_KERNEL) to each process of a group, if the group is in that session.
void job_signal_pgrp(s32 pgrp, s32 session, int sig);

// ... to the leader of a session; 0 session: nobody.
void job_signal_leader(s32 session, int sig);

// ... to the current thread (SIGPIPE). SIGPIPE never needs more than this.
void job_signal_current(int sig);

// SIGIO or the F_SETSIG signal of an O_ASYNC file to its owner (fcntl(2) F_SETOWN): pid, or -pgrp.
void job_signal_owner(s32 owner, int sig, int fd, u32 band);

// The controlling terminal of the current process' session, with a reference (tty_unref); NULL.
struct tty *job_current_tty(void);

// Gives the current process' session its terminal. The kernel keeps a reference of its own (tty_ref). -EPERM when the
// session has one already or the process is not a session leader.
int job_set_tty(struct tty *tty) must_check;

// Takes a session's terminal away (hangup, TIOCNOTTY by the leader); the kernel drops its reference.
void job_clear_tty(s32 session);

// Boot: the current process' session gets the terminal without a system call, as job_set_tty.
int job_take_terminal(struct tty *tty) must_check;

// The console of the current process' container, not referenced; NULL.
struct tty *job_container_console(void);

// A console's last output is with the host. Any thread, no locks.
void job_console_closed(void);

// ---- called by kernel/, implemented by fs/tty ----

struct tty *tty_ref(struct tty *tty);
void tty_unref(struct tty *tty);

// The leader of the session that this terminal controls exits: SIGHUP and SIGCONT to the foreground group, and
// the terminal is free again. The caller then drops its reference.
void tty_session_ended(struct tty *tty, s32 session);

// Number of the device (makedev(3) as in stat's tty_nr) for /proc/PID/stat, and the foreground group.
u32 tty_device(struct tty *tty);
s32 tty_foreground(struct tty *tty);

#endif
