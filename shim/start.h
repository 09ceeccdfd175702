// SPDX-License-Identifier: Apache-2.0
// The commands of the shim's binary.
#ifndef BAILEY_SHIM_START_H
#define BAILEY_SHIM_START_H

// Starts a server for the bundle in the working directory, or finds the one of its pod; prints the
// address. Returns an exit status.
int start_shim(void);

// Removes what a killed shim left: the container, its mounts; prints a DeleteResponse. `bundle` may
// be NULL.
int delete_container(const char *bundle);

void start_remove_socket(const char *address);

int shim_serve(int listener); // main.c

#endif
