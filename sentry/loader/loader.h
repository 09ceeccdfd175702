// SPDX-License-Identifier: Apache-2.0
// Program images: ELF64 (static, static-PIE, PIE with interpreter) and `#!` scripts. loader_exec builds a
// whole new address space aside and leaves the caller's alone: exec(2) has no half-done state. The kernel swaps it
// in afterwards (the point of no return is its own).
//
// Input is hostile: every header is bounded and checked before use.
#ifndef BAILEY_SENTRY_LOADER_LOADER_H
#define BAILEY_SENTRY_LOADER_LOADER_H

#include "abi/regs.h"
#include "base/types.h"

struct file;
struct mm;
struct cred;

#define LOADER_ARG_MAX 131072u // MAX_ARG_STRLEN: one string with its NUL
#define LOADER_SCRIPT_DEPTH 5  // interpreters of interpreters, then -ELOOP

// Strings packed one after the other, each with its NUL: argv's or envp's.
struct loader_strings {
    char *data; // in the arena or anywhere else of the caller's; owned by the caller
    u64 size;   // bytes in use
    u32 count;
};

// Copies a NULL-terminated array of guest strings from current_mm into `ret` (data: arena_alloc, freed with
// loader_strings_free). A NULL array counts as empty. `used` is what other lists took of the bound
// (a quarter of RLIMIT_STACK, at least 128 KiB, at most 6 MiB; pointers counted). -E2BIG, -EFAULT,
// -ENOMEM.
int loader_strings_in(struct loader_strings *ret, struct uaddr array, u64 used) must_check;
// The same from the sentry's own strings (boot). `list` ends at count.
int loader_strings_from(struct loader_strings *ret, const char *const *list, u32 count) must_check;
void loader_strings_free(struct loader_strings *s);

struct loader_request {
    struct file *file;    // opened for execution (permission checked by the caller); borrowed
    const char *filename; // as given to execve(2), or "/dev/fd/N[/path]": AT_EXECFN, script argument
    bool close_on_exec_fd; // execveat by a close-on-exec descriptor: scripts fail with -ENOENT
    struct loader_strings argv, envp; // borrowed; an empty argv becomes one empty string, as Linux does
    // Opens an interpreter named by a script or PT_INTERP: resolved from the task's root and cwd, checked for
    // execute permission, regular file. Implemented by the caller; a new reference in *ret. 0 or -errno.
    int (*open)(void *arg, const char *path, struct file **ret);
    // Computes what the final image makes of the credentials (set-user-ID); called once, with the file that
    // is not a script. May be NULL. `ret_secure`: AT_SECURE.
    int (*credentials)(void *arg, struct file *image, u32 *ret_uid, u32 *ret_euid, u32 *ret_gid,
                       u32 *ret_egid, bool *ret_secure);
    void *arg;
    bool no_randomize;  // personality ADDR_NO_RANDOMIZE
    u64 stack_limit;    // RLIMIT_STACK of the task, soft
};

struct loader_image {
    struct mm *mm;       // one reference
    u32 thread;          // its platform thread
    struct user_regs regs; // for platform_switch with PLATFORM_REGS_ALL
    struct file *image;  // the ELF file run (a new reference): for comm see below, cred, exe
    char comm[16];       // task name: last component of `filename`
};

// 0 and *ret; or ENOEXEC (unknown format, foreign architecture), E2BIG, ENOMEM, EINVAL, ELIBBAD, EACCES, EIO,
// ELOOP, EFAULT ..., negative, with nothing changed.
int loader_exec(const struct loader_request *req, struct loader_image *ret) must_check;

#endif
