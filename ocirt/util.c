// SPDX-License-Identifier: Apache-2.0
#include "ocirt/internal.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int strv_take(struct oi_strv *s, char *text)
{
    char **v = text ? realloc(s->v, (s->count + 2) * sizeof(*v)) : NULL;
    if (!v) {
        free(text);
        return -ENOMEM;
    }
    s->v = v;
    v[s->count++] = text;
    v[s->count] = NULL;
    return 0;
}

int oi_strv_add(struct oi_strv *s, const char *text)
{
    return strv_take(s, strdup(text));
}

int oi_strv_addf(struct oi_strv *s, const char *fmt, ...)
{
    char *text = NULL;
    va_list ap;

    va_start(ap, fmt);
    if (vasprintf(&text, fmt, ap) < 0)
        text = NULL;
    va_end(ap);
    return strv_take(s, text);
}

int oi_strv_add_all(struct oi_strv *s, const struct oi_strv *more)
{
    int r = 0;
    for (size_t i = 0; i < more->count && r == 0; i++)
        r = oi_strv_add(s, more->v[i]);
    return r;
}

void oi_strv_fini(struct oi_strv *s)
{
    for (size_t i = 0; i < s->count; i++)
        free(s->v[i]);
    free(s->v);
    *s = (struct oi_strv){0};
}

int oi_buf_add(struct oi_buf *b, const char *data, size_t size)
{
    if (b->size + size + 1 > b->capacity) {
        size_t capacity = (b->size + size + 1) * 2;
        char *grown = realloc(b->data, capacity);
        if (!grown)
            return -ENOMEM;
        b->data = grown;
        b->capacity = capacity;
    }
    memcpy(b->data + b->size, data, size);
    b->size += size;
    b->data[b->size] = 0;
    return 0;
}

int oi_buf_add_tail(struct oi_buf *b, const char *data, size_t size)
{
    int r = oi_buf_add(b, data, size);
    if (r == 0 && b->size > 2 * OI_TAIL)
        oi_buf_cut(b, b->size - OI_TAIL);
    return r;
}

void oi_buf_cut(struct oi_buf *b, size_t size)
{
    if (!size)
        return;
    memmove(b->data, b->data + size, b->size - size + 1);
    b->size -= size;
}

void oi_buf_fini(struct oi_buf *b)
{
    free(b->data);
    *b = (struct oi_buf){0};
}

int oi_text_set(char **slot, const char *text)
{
    char *copy = NULL;
    if (text && *text && !(copy = strdup(text)))
        return -ENOMEM;
    free(*slot);
    *slot = copy;
    return 0;
}

void oi_close(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static int64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

struct oi_deadline oi_deadline_of(const struct ocirt *rt, const struct ocirt_options *o)
{
    int timeout = o && o->has_timeout ? o->timeout : rt ? rt->timeout
                                                        : -1;
    return (struct oi_deadline){
        .end = timeout < 0 ? -1 : now_ns() + (int64_t)timeout * 1000000,
        .cancel_fd = o ? o->cancel_fd : -1,
    };
}

int oi_poll(struct pollfd *fds, size_t count, const struct oi_deadline *d)
{
    struct pollfd all[7];

    memcpy(all, fds, count * sizeof(*fds));
    all[count] = (struct pollfd){.fd = d->cancel_fd, .events = POLLIN};
    for (;;) {
        struct timespec left, *timeout = NULL;
        if (d->end >= 0) {
            int64_t ns = d->end - now_ns();
            if (ns < 0)
                ns = 0;
            left = (struct timespec){.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
            timeout = &left;
        }
        int n = ppoll(all, count + 1, timeout, NULL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (all[count].revents)
            return -ECANCELED;
        if (n == 0)
            return -ETIMEDOUT;
        memcpy(fds, all, count * sizeof(*fds));
        return n;
    }
}
