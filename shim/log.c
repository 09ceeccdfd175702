// SPDX-License-Identifier: Apache-2.0
#include "shim/log.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_SIZE 2048

static int log_fd = -1;
static bool debug_on;

void log_open(const char *path, bool debug)
{
    struct stat st;
    bool fifo = stat(path, &st) == 0 && S_ISFIFO(st.st_mode);
    // A FIFO is opened for both sides: there is no moment without a reader, and writing never
    // waits.
    int flags = fifo ? O_RDWR | O_NONBLOCK : O_WRONLY | O_APPEND | O_CREAT | O_NOCTTY;
    int fd = open(path, flags | O_CLOEXEC, 0600);
    debug_on = debug;
    if (fd < 0)
        return;
    if (log_fd >= 0)
        close(log_fd);
    log_fd = fd;
}

static void write_line(const char *level, const char *fmt, va_list ap)
{
    char line[LINE_MAX_SIZE], stamp[32], text[LINE_MAX_SIZE - 128];
    struct timespec now;
    struct tm tm;

    if (log_fd < 0)
        return;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S", &tm);
    vsnprintf(text, sizeof(text), fmt, ap);
    for (char *p = text; *p; p++)
        if ((unsigned char)*p < ' ' || *p == '"')
            *p = '\'';
    int n = snprintf(line, sizeof(line), "time=\"%s.%09ldZ\" level=%s msg=\"%s\" shim=%d\n", stamp,
                     now.tv_nsec, level, text, (int)getpid());
    if (n > 0 && write(log_fd, line, (size_t)n) < 0)
        return; // nowhere left to say it
}

#define LOG_FUNCTION(name, level, condition) \
    void name(const char *fmt, ...)          \
    {                                        \
        va_list ap;                          \
        va_start(ap, fmt);                   \
        if (condition)                       \
            write_line(level, fmt, ap);      \
        va_end(ap);                          \
    }

LOG_FUNCTION(log_debug, "debug", debug_on)
LOG_FUNCTION(log_info, "info", true)
LOG_FUNCTION(log_error, "error", true)
