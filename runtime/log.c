// SPDX-License-Identifier: Apache-2.0
#include "runtime/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "runtime/text.h"

static const char *const level_names[] = {"error", "warning", "info", "debug"};

static int log_file = -1; // -1: standard error
static bool log_json;
static bool log_debug_on;

int rlog_open(const char *path, bool json, bool debug, struct error *e)
{
    log_json = json;
    log_debug_on = debug;
    if (!path)
        return 0;
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0644);
    if (fd < 0)
        return error_errno(e, -errno, "open log file %s", path);
    log_file = fd;
    return 0;
}

// Appends `text` as the inside of a JSON string. The result fits when `room` is at least
// 6 * strlen(text) + 1.
static size_t json_escape(char *out, size_t room, const char *text)
{
    size_t n = 0;
    for (const unsigned char *p = (const unsigned char *)text; *p && n + 7 < room; p++) {
        if (*p == '"' || *p == '\\')
            n += (size_t)sprintf(out + n, "\\%c", *p);
        else if (*p < 0x20 || *p == 0x7f)
            n += (size_t)sprintf(out + n, "\\u%04x", *p);
        else
            out[n++] = (char)*p;
    }
    out[n] = 0;
    return n;
}

static void write_line(enum rlog_level level, const char *text)
{
    static char line[ERROR_TEXT_MAX * 6 + 256];
    char stamp[64];
    struct tm tm;
    time_t now = time(NULL);
    size_t n;

    gmtime_r(&now, &tm);
    strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%SZ", &tm);
    if (log_json) {
        n = (size_t)sprintf(line, "{\"level\":\"%s\",\"msg\":\"", level_names[level]);
        n += json_escape(line + n, sizeof(line) - 128, text);
        n += (size_t)sprintf(line + n, "\",\"time\":\"%s\"}\n", stamp);
    } else {
        n = (size_t)snprintf(line, sizeof(line), "time=\"%s\" level=%s msg=\"%s\"\n", stamp,
                             level_names[level], text);
    }
    if (write(log_file >= 0 ? log_file : 2, line, n) < 0)
        return; // nowhere left to say it
}

void rlog(enum rlog_level level, const char *fmt, ...)
{
    char text[ERROR_TEXT_MAX];
    va_list ap;

    if (level == RLOG_DEBUG && !log_debug_on)
        return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (log_file < 0 && !log_json)
        dprintf(2, "bailey: %s: %s\n", level_names[level], text);
    else
        write_line(level, text);
}

void rlog_failure(const char *message)
{
    // Names out of a bundle may hold anything; a failure is one line.
    char text[ERROR_TEXT_MAX];
    snprintf(text, sizeof(text), "%s", message);
    text_make_harmless(text, "");
    if (log_file >= 0 || log_json)
        write_line(RLOG_ERROR, text);
    if (log_file >= 0 || !log_json)
        dprintf(2, "bailey: %s\n", text);
}
