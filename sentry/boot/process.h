// SPDX-License-Identifier: Apache-2.0
// What a process from outside is given before its program runs: by the boot message, to the current task, whose process
// container_add_process has made. The same for a container's init and for processes of exec.
#ifndef BAILEY_SENTRY_BOOT_PROCESS_H
#define BAILEY_SENTRY_BOOT_PROCESS_H

#include "wire/boot.h"

// Makes a process of the current task's container for `m`: limits, file table, all capabilities until
// boot_process_load. As container_add_process.
struct container;
struct task;
int boot_process_new(struct container *c, bool init, const struct boot_process *b,
                     struct task **ret) __attribute__((warn_unused_result));

// The terminal of a process that has one (else *ret is NULL), made from the message's descriptors, which it takes
// over. One reference. -EBADF, -ENOMEM, -EAGAIN.
struct tty;
int boot_process_console(struct boot_message *m, struct tty **ret)
    __attribute__((warn_unused_result));

// Umask, working directory (`make_cwd`: made if missing), terminal or stdio, credentials, and the program,
// ready to run. The descriptors in `m` are taken over and set to -1. Failures are explained by boot_explain,
// in the words that clients of OCI runtimes look for.
int boot_process_load(struct boot_message *m, struct tty *terminal, bool make_cwd)
    __attribute__((warn_unused_result));

#endif
