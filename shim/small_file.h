// SPDX-License-Identifier: Apache-2.0
// Small files of the kernel: those of /proc/PID and of control groups.
#ifndef BAILEY_SHIM_SMALL_FILE_H
#define BAILEY_SHIM_SMALL_FILE_H

#include <stddef.h>

// The beginning of the file at `path`, as a string of less than `size` bytes. Its length; 0 where it cannot be read or is
// empty, with an empty string.
size_t small_file_read(const char *path, char *text, size_t size);

#endif
