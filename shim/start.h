// SPDX-License-Identifier: Apache-2.0
// The commands of the shim's binary.
#ifndef BAILEY_SHIM_START_H
#define BAILEY_SHIM_START_H

#include "shim/bytes.h"

// Starts a server for the bundle in the working directory, or finds the one of its pod; prints the
// address. Returns an exit status.
int start_shim(void);

// Removes what a killed shim left: the container, its mounts; prints a DeleteResponse. `bundle` may
// be NULL.
int delete_container(const char *bundle);

// Prints what the runtime is and can (containerd's RuntimeInfo). Returns an exit status.
int print_runtime_info(void);

// Reads standard input to its end, if it is neither a terminal nor /dev/null; bounded.
void start_read_input(struct bytes *b);

void start_remove_socket(const char *address);

int shim_serve(int listener); // main.c

#endif
