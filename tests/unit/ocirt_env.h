// SPDX-License-Identifier: Apache-2.0
// What the tests of libocirt share: a client of a fake runtime (ocirt_fake.sh), made anew for each test. Each ends with
// the descriptors that it began with and without a child.
#ifndef BAILEY_TESTS_UNIT_OCIRT_ENV_H
#define BAILEY_TESTS_UNIT_OCIRT_ENV_H

#include "ocirt/ocirt.h"

extern struct ocirt *rt;
extern struct ocirt_options *o;
extern struct ocirt_error *e;
extern char dir[64]; // where the fake runtime leaves what it was told

// For cmocka: before and after each test.
int set_up(void **state);
int tear_down(void **state);

// The text of a file that the fake runtime wrote; valid until the next call.
const char *slurp(const char *name);

// The command line that it was called with.
const char *sent(void);

// What it does from now on (a word of ocirt_fake.sh), with one more variable of its environment or NULL.
void fake(const char *mode, const char *name_value);

// It answers with FAKE_OUT, FAKE_ERR, FAKE_STATUS as given.
void says(const char *name_value);

// Kills the process whose pid is in the file.
void ended(const char *file);

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
