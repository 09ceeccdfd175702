// SPDX-License-Identifier: Apache-2.0
#include "runtime/error.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *error_text(int errno_value)
{
    static char text[128];
    snprintf(text, sizeof(text), "%s", strerror(errno_value));
    // "No such file ..." -> "no such file ..."; abbreviations ("RPC ...") stay.
    if (isupper((unsigned char)text[0]) && islower((unsigned char)text[1]))
        text[0] = (char)tolower((unsigned char)text[0]);
    return text;
}

int error_set(struct error *e, int r, const char *fmt, ...)
{
    char text[ERROR_TEXT_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    memcpy(e->text, text, sizeof(text));
    return r;
}

int error_errno(struct error *e, int r, const char *fmt, ...)
{
    char text[ERROR_TEXT_MAX - 160];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    snprintf(e->text, sizeof(e->text), "%s: %s", text, error_text(-r));
    return r;
}

int error_wrap(struct error *e, int r, const char *fmt, ...)
{
    char context[ERROR_TEXT_MAX / 2], text[ERROR_TEXT_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(context, sizeof(context), fmt, ap);
    va_end(ap);
    memcpy(text, e->text, sizeof(text));
    snprintf(e->text, sizeof(e->text), "%s: %.*s", context,
             (int)(sizeof(e->text) - strlen(context) - 3), text);
    return r;
}
