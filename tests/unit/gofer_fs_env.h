// SPDX-License-Identifier: Apache-2.0
// What the tests of the gofer's filesystem share: a served directory as the root of a VFS, and what a task would do
// there.
#ifndef BAILEY_TESTS_UNIT_GOFER_FS_ENV_H
#define BAILEY_TESTS_UNIT_GOFER_FS_ENV_H

#include "sentry/fs/gofer/gofer.h"
#include "tests/unit/vfs_stubs.h"

// The ways to reach files: directfs, messages with donated descriptors, messages alone.
enum mode { DIRECT, DONATED, KEPT, MODES };
extern const char *const mode_names[MODES];

extern char dir[64];
extern int host; // the served directory

// A new directory and a VFS with it as its root; the end of both, and a check that no descriptor is left.
void begin(enum mode mode, bool exclusive, u32 flags);
void end(enum mode mode);

// As open(2), failing the test, or giving the error alone.
struct file *open_file(const char *path, u32 flags, u32 mode);
int try_open(const char *path, u32 flags);

// write(2) of a text; pread(2) of at most size - 1 bytes.
long put(struct file *f, const char *text);
long get_at(struct file *f, char *buf, u64 size, s64 pos);

// Writes a whole file.
void make(const char *path, const char *text);

struct kstat stat_of(const char *path);
int lookup_error(const char *path);
int change(const char *path, struct attr_change c);

// The guest's stat agrees with the host's.
void check_same(const char *path);

// The tests run_NAME of cmocka, each of which runs test_NAME once for each mode; their entries in a list.
#define EACH_MODE(t)                                                                               \
    static void run_##t(void **state)                                                              \
    {                                                                                              \
        for (int m = 0; m < MODES; m++) {                                                          \
            print_message("%s: %s\n", #t, mode_names[m]);                                          \
            test_##t((enum mode)m);                                                                \
        }                                                                                          \
    }
#define MODE_TEST(t) cmocka_unit_test(run_##t),

#endif
