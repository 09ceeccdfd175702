// SPDX-License-Identifier: Apache-2.0
// Settings of the kernel that are files: those of /proc/PID and /proc/sys.
#ifndef BAILEY_RUNTIME_SETTING_H
#define BAILEY_RUNTIME_SETTING_H

#include <stddef.h>

// Gives the setting at `path`, which is no symbolic link, the value `text`, in one write: the kernel takes it as a
// whole or not at all. 0 or a negative errno; nothing is logged.
int setting_write(const char *path, const char *text, size_t size);

// The beginning of a setting, or of another small file, as a string of less than `size` bytes; `path` is looked up from
// `dir` (AT_FDCWD). Its length; 0 where it cannot be read or is empty, with an empty string.
size_t setting_read(int dir, const char *path, char *text, size_t size);

#endif
