// SPDX-License-Identifier: Apache-2.0
// A whole sandbox in a file, and back: the arena as it is, the pages of memory files and of tmpfs files that live on
// the host. No code for any object: what belongs to the process is rebuilt by its owner (revive, reattach).
//
// File: a header page; the arena; then records, each with the pages that follow it. A snapshot is
// read by the same build of the sentry only (build id). Its contents are trusted as the sentry's own memory
// was: whoever may write the file owns the sandbox, and the restored sentry is jailed as any.
//
// Files of further containers than the first are given back by further host mounts in the message, after the
// first container's, in the order in which the containers were made.
//
// Not there yet: base images shared by several sandboxes (contents are copied in), clocks that go on after
// a restart of the host, sandboxes with inet sockets.
#ifndef BAILEY_SENTRY_SNAPSHOT_SNAPSHOT_H
#define BAILEY_SENTRY_SNAPSHOT_SNAPSHOT_H

#include "base/types.h"
#include "wire/boot.h"

// Stops everything, writes it to `fd` (a regular file, from offset 0) and lets it go on. Called from a thread
// that runs no task. 0 or -errno of the host's write.
int snapshot_save(int fd) must_check;

// Instead of kernel_boot: everything as it was, with the descriptors that the message brings. Nothing runs yet.
// -EINVAL: not a snapshot; -ENOEXEC: of another build; or -errno, explained by boot_explain's caller.
int snapshot_restore(int fd, const struct boot_message *m) must_check;

// With everything stopped: how many words of live arena objects point into the sentry's image or its heap, which a
// snapshot must not hold. Each is logged.
u64 snapshot_check(void);

#endif
