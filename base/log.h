// SPDX-License-Identifier: Apache-2.0
// The log of the sentry and the gofer: one line a message to one file descriptor, each line written by one
// write(2), truncated at 1 KiB. Messages below the level cost one comparison. Thread-safe. Not
// for libraries, which report through their results.
#ifndef BAILEY_BASE_LOG_H
#define BAILEY_BASE_LOG_H

#include "base/types.h"

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

extern int log_level;

// Where lines go (-1: nowhere) and the lowest urgency that is written. `who` begins each line and
// must outlive the program.
void log_init(int fd, enum log_level level, const char *who);

void log_write(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_at(level, ...)                                                                         \
    do {                                                                                           \
        if (unlikely((int)(level) <= log_level))                                                   \
            log_write(level, __VA_ARGS__);                                                         \
    } while (0)

#define log_error(...) log_at(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...) log_at(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...) log_at(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_at(LOG_LEVEL_DEBUG, __VA_ARGS__)

// The message the first time this place is reached, then silence.
#define log_once(level, ...)                                                                       \
    do {                                                                                           \
        static u32 log_done_;                                                                      \
        if (!__atomic_exchange_n(&log_done_, 1, __ATOMIC_RELAXED))                                 \
            log_at(level, __VA_ARGS__);                                                            \
    } while (0)

#endif
