// SPDX-License-Identifier: Apache-2.0
// How a container has ended, for who asks when its sandbox is gone: the beginning of the file `exit` in its state
// directory. bailey makes the file, of EXIT_RECORD_SIZE zero bytes. The sentry writes it for its first container,
// through a mapping and with no descriptor left by which it could do anything else to the file; bailey-proxy for each
// later one. Without a record the container was ended from outside.
#ifndef BAILEY_WIRE_EXIT_RECORD_H
#define BAILEY_WIRE_EXIT_RECORD_H

#include "base/types.h"

#define EXIT_RECORD_SIZE 4096
#define EXIT_RECORD_MAGIC 0x74697865u // "exit"

struct exit_record {
    u32 magic;  // written last
    u32 status; // as of wait(2), 16 bits
};

#endif
