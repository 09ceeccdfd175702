// SPDX-License-Identifier: Apache-2.0
#include "ocirt/internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct ocirt_error *ocirt_error_new(void)
{
    struct ocirt_error *e = calloc(1, sizeof(*e));
    if (e)
        e->exit_status = -1;
    return e;
}

void ocirt_error_free(struct ocirt_error *e)
{
    oi_error_clear(e);
    free(e);
}

void oi_error_clear(struct ocirt_error *e)
{
    if (!e)
        return;
    free(e->message);
    free(e->output);
    free(e->log);
    *e = (struct ocirt_error){.exit_status = -1};
}

int oi_error_set(struct ocirt_error *e, int code, const char *fmt, ...)
{
    char *text = NULL;
    va_list ap;

    if (!e)
        return code;
    va_start(ap, fmt);
    if (vasprintf(&text, fmt, ap) < 0)
        text = NULL;
    va_end(ap);
    free(e->message);
    e->message = text;
    e->code = code;
    // One line, whatever the runtime said.
    for (char *p = text; p && *p; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            *p = ' ';
    return code;
}

void oi_error_take(struct ocirt_error *e, int exit_status, struct oi_buf *output, char *log)
{
    if (!e) {
        free(log);
        return;
    }
    e->exit_status = exit_status;
    free(e->output);
    free(e->log);
    e->log = log;
    e->output = output->data;
    *output = (struct oi_buf){0};
}

int ocirt_error_code(const struct ocirt_error *e)
{
    return e->code;
}

const char *ocirt_error_message(const struct ocirt_error *e)
{
    return e->message ? e->message : e->code ? strerrordesc_np(-e->code)
                                             : "";
}

int ocirt_error_exit_status(const struct ocirt_error *e)
{
    return e->exit_status;
}

const char *ocirt_error_output(const struct ocirt_error *e)
{
    return e->output ? e->output : "";
}

const char *ocirt_error_log(const struct ocirt_error *e)
{
    return e->log ? e->log : "";
}
