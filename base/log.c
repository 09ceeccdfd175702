// SPDX-License-Identifier: Apache-2.0
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/bug.h"

#define LOG_LINE_MAX 1024

int log_level = LOG_LEVEL_WARN;
static int log_fd = 2;
static const char *log_who = "bailey";

void log_init(int fd, enum log_level level, const char *who)
{
    log_fd = fd;
    log_level = fd < 0 ? -1 : (int)level;
    log_who = who;
}

static size_t clamp_printed(int n, size_t room)
{
    if (n < 0)
        return 0;
    return (size_t)n < room ? (size_t)n : room - 1;
}

void log_write(enum log_level level, const char *fmt, ...)
{
    static const char letters[] = "EWID";
    char line[LOG_LINE_MAX];
    struct timespec ts;
    va_list ap;

    clock_gettime(CLOCK_REALTIME, &ts);
    size_t len = clamp_printed(snprintf(line, sizeof(line) - 1, "%c %lld.%06ld %s: ", letters[level],
                                        (long long)ts.tv_sec, ts.tv_nsec / 1000, log_who),
                               sizeof(line) - 1);
    va_start(ap, fmt);
    len += clamp_printed(vsnprintf(line + len, sizeof(line) - 1 - len, fmt, ap),
                         sizeof(line) - 1 - len);
    va_end(ap);
    line[len++] = '\n';
    if (write(log_fd, line, len) < 0)
        return;
}

_Noreturn void bug_report(const char *file, int line, const char *expr)
{
    char text[256];
    size_t len = clamp_printed(
        snprintf(text, sizeof(text), "%s: bug at %s:%d: %s\n", log_who, file, line, expr),
        sizeof(text));
    if (write(log_fd >= 0 ? log_fd : 2, text, len) < 0 || write(2, text, len) < 0)
        abort();
    abort();
}
