// SPDX-License-Identifier: Apache-2.0
#include "runtime/signals.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define SIGNAL_LAST 64
#define SIGNAL_RTMIN 34 // as programs name it: the C library keeps the two before

// signal(7), in the order of their numbers.
static const char *const names[] = {
    "",     "HUP",  "INT",    "QUIT", "ILL",  "TRAP", "ABRT",   "BUS",  "FPE",    "KILL", "USR1",
    "SEGV", "USR2", "PIPE",   "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP",   "TSTP", "TTIN",
    "TTOU", "URG",  "XCPU",   "XFSZ", "VTALRM", "PROF", "WINCH", "IO",  "PWR",    "SYS",
};

struct alias {
    const char *name;
    int number;
};

static const struct alias aliases[] = {{"IOT", 6}, {"CLD", 17}, {"POLL", 29}, {"UNUSED", 31}};

// "RTMIN", "RTMIN+3", "RTMAX-2"
static int parse_realtime(const char *text)
{
    bool up = !strncasecmp(text, "RTMIN", 5);
    if (!up && strncasecmp(text, "RTMAX", 5))
        return -1;
    int base = up ? SIGNAL_RTMIN : SIGNAL_LAST;
    text += 5;
    if (!*text)
        return base;
    char *end;
    if (*text != (up ? '+' : '-') || !isdigit((unsigned char)text[1]))
        return -1;
    long n = strtol(text + 1, &end, 10);
    if (*end || n > SIGNAL_LAST - SIGNAL_RTMIN)
        return -1;
    return up ? base + (int)n : base - (int)n;
}

int signals_parse(const char *text)
{
    char *end;
    if (isdigit((unsigned char)text[0])) {
        long n = strtol(text, &end, 10);
        return *end || n > SIGNAL_LAST ? -1 : (int)n;
    }
    if (!strncasecmp(text, "SIG", 3))
        text += 3;
    for (int i = 1; i < (int)(sizeof(names) / sizeof(names[0])); i++)
        if (!strcasecmp(names[i], text))
            return i;
    for (int i = 0; i < (int)(sizeof(aliases) / sizeof(aliases[0])); i++)
        if (!strcasecmp(aliases[i].name, text))
            return aliases[i].number;
    return parse_realtime(text);
}
