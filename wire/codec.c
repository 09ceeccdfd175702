// SPDX-License-Identifier: Apache-2.0
#include "wire/codec.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void codec_init_encode(struct codec *c, size_t limit)
{
    *c = (struct codec){.mode = CODEC_ENCODE, .limit = limit};
}

void codec_init_encode_fixed(struct codec *c, void *buf, size_t size)
{
    *c = (struct codec){
        .mode = CODEC_ENCODE, .buf = buf, .cap = size, .limit = size, .fixed = true};
}

void codec_init_decode(struct codec *c, const void *buf, size_t size)
{
    *c = (struct codec){.mode = CODEC_DECODE, .buf = (u8 *)(uintptr_t)buf, .size = size};
}

void codec_init_free(struct codec *c)
{
    *c = (struct codec){.mode = CODEC_FREE};
}

void codec_fail(struct codec *c, int error)
{
    if (!c->error)
        c->error = error;
}

// Room for `n` more bytes of output, or NULL.
static u8 *codec_grow(struct codec *c, size_t n)
{
    if (c->error)
        return NULL;
    if (n > c->limit || c->size > c->limit - n) {
        codec_fail(c, -EMSGSIZE);
        return NULL;
    }
    if (!c->fixed && c->size + n > c->cap) {
        size_t cap = max(c->cap * 2, (size_t)4096);
        while (cap < c->size + n)
            cap *= 2;
        u8 *buf = realloc(c->buf, cap);
        if (!buf) {
            codec_fail(c, -ENOMEM);
            return NULL;
        }
        c->buf = buf;
        c->cap = cap;
    }
    c->size += n;
    return c->buf + c->size - n;
}

// The next `n` bytes of input, or NULL.
static const u8 *codec_take(struct codec *c, size_t n)
{
    if (c->error)
        return NULL;
    if (n > c->size - c->pos) {
        codec_fail(c, -EBADMSG);
        return NULL;
    }
    c->pos += n;
    return c->buf + c->pos - n;
}

void codec_bytes(struct codec *c, void *p, size_t size)
{
    if (c->mode == CODEC_ENCODE) {
        u8 *out = codec_grow(c, size);
        if (out && size)
            memcpy(out, p, size);
    } else if (c->mode == CODEC_DECODE) {
        const u8 *in = codec_take(c, size);
        if (!size)
            return;
        if (in)
            memcpy(p, in, size);
        else
            memset(p, 0, size);
    }
}

// The host is little-endian (x86-64, aarch64), so scalars travel as they lie in memory.
void codec_u8(struct codec *c, u8 *v)
{
    codec_bytes(c, v, sizeof(*v));
}

void codec_u16(struct codec *c, u16 *v)
{
    codec_bytes(c, v, sizeof(*v));
}

void codec_u32(struct codec *c, u32 *v)
{
    codec_bytes(c, v, sizeof(*v));
}

void codec_s32(struct codec *c, s32 *v)
{
    codec_bytes(c, v, sizeof(*v));
}

void codec_u64(struct codec *c, u64 *v)
{
    codec_bytes(c, v, sizeof(*v));
}

void codec_u32_max(struct codec *c, u32 *v, u32 most)
{
    codec_u32(c, v);
    if (c->mode == CODEC_DECODE && *v > most) {
        codec_fail(c, -EBADMSG);
        *v = 0;
    }
}

void codec_bool(struct codec *c, bool *v)
{
    u8 byte = c->mode == CODEC_ENCODE && *v;
    codec_u8(c, &byte);
    if (c->mode != CODEC_DECODE)
        return;
    if (byte > 1)
        codec_fail(c, -EBADMSG);
    *v = byte == 1;
}

void codec_fd(struct codec *c, s32 *v)
{
    codec_s32(c, v);
    if (c->mode == CODEC_DECODE && (*v < -1 || *v > 65535 || c->error)) {
        codec_fail(c, -EBADMSG);
        *v = -1;
    }
}

void codec_str(struct codec *c, const char **s, u32 most)
{
    if (c->mode == CODEC_ENCODE) {
        size_t len = *s ? strlen(*s) : 0;
        if (len > most) {
            codec_fail(c, -EMSGSIZE);
            return;
        }
        u32 len32 = (u32)len;
        codec_u32(c, &len32);
        codec_bytes(c, (void *)(uintptr_t)(*s ? *s : ""), len + 1);
    } else if (c->mode == CODEC_DECODE) {
        u32 len;
        *s = NULL;
        codec_u32_max(c, &len, most);
        const u8 *p = codec_take(c, (size_t)len + 1);
        if (!p)
            return;
        if (memchr(p, 0, (size_t)len + 1) != p + len)
            codec_fail(c, -EBADMSG);
        else
            *s = (const char *)p;
    }
}

void codec_list(struct codec *c, void **items, u32 *count, size_t size, u32 most,
                codec_visit *visit)
{
    if (c->mode == CODEC_ENCODE && *count > most)
        codec_fail(c, -EMSGSIZE);
    if (c->mode == CODEC_DECODE)
        *items = NULL, *count = 0;

    u32 n = *count;
    codec_u32_max(c, &n, most);
    if (c->mode == CODEC_DECODE) {
        // Every element has at least one byte, so a count beyond the input is a forged one.
        if (n > c->size - c->pos)
            codec_fail(c, -EBADMSG);
        if (c->error || !n)
            return;
        *items = calloc(n, size);
        if (!*items) {
            codec_fail(c, -ENOMEM);
            return;
        }
        *count = n;
    }
    for (u32 i = 0; i < n && !c->error; i++)
        visit(c, (char *)*items + i * size);
    if (c->mode == CODEC_FREE) {
        free(*items);
        *items = NULL, *count = 0;
    }
}

void codec_str_list(struct codec *c, const char ***items, u32 *count, u32 most, u32 most_bytes)
{
    if (c->mode == CODEC_ENCODE && *count > most)
        codec_fail(c, -EMSGSIZE);
    if (c->mode == CODEC_DECODE)
        *items = NULL, *count = 0;
    u32 n = *count;
    codec_u32_max(c, &n, most);
    if (c->mode == CODEC_DECODE) {
        if (n > (c->size - c->pos) / 5)
            codec_fail(c, -EBADMSG);
        if (c->error)
            return;
        // One more, so that the list also ends by NULL as argv does.
        *items = calloc((size_t)n + 1, sizeof(**items));
        if (!*items) {
            codec_fail(c, -ENOMEM);
            return;
        }
        *count = n;
    }
    for (u32 i = 0; i < n && !c->error; i++)
        codec_str(c, &(*items)[i], most_bytes);
    if (c->mode == CODEC_FREE) {
        free(*items);
        *items = NULL, *count = 0;
    }
}

bool codec_finished(const struct codec *c)
{
    return !c->error && c->pos == c->size;
}
