// SPDX-License-Identifier: Apache-2.0
// The codec under bailey's small binary messages. A message is described once, by a function that
// visits its fields in order; the same visit encodes, decodes or frees it, so that the two
// directions cannot drift apart:
//
//     static void visit(struct codec *c, struct thing *t) { codec_u32(c, &t->id); ... }
//
// Numbers are little-endian and unaligned; a string is a u32 length, its bytes and a NUL; a list is a
// u32 count and its elements. Decoding trusts nothing: the first violation makes the codec fail
// (`error` is set), and from then on every call is a no-op that yields zeroes. Decoded strings
// point into the input buffer, which must outlive them; lists are allocated and are released by a
// visit in CODEC_FREE mode (also after a failed decode).
#ifndef BAILEY_WIRE_CODEC_H
#define BAILEY_WIRE_CODEC_H

#include "base/types.h"

enum codec_mode { CODEC_ENCODE, CODEC_DECODE, CODEC_FREE };

struct codec {
    enum codec_mode mode;
    int error;    // 0 or the first error: -EBADMSG (decode), -EMSGSIZE, -ENOMEM
    u8 *buf;      // ENCODE: grown by realloc up to `limit`, owned by the caller; DECODE: the input
    size_t size;  // bytes written, or bytes of input
    size_t cap;   // ENCODE: bytes allocated
    size_t pos;   // DECODE: next byte to read
    size_t limit; // ENCODE: most bytes that the message may have
    bool fixed;   // ENCODE: `buf` is the caller's, of `limit` bytes
};

// Ready to encode a message of at most `limit` bytes. The caller frees c->buf.
void codec_init_encode(struct codec *c, size_t limit);

// Ready to encode into the caller's buffer: nothing is allocated.
void codec_init_encode_fixed(struct codec *c, void *buf, size_t size);

// Ready to decode `size` bytes. Nothing is written to `buf`.
void codec_init_decode(struct codec *c, const void *buf, size_t size);

// Ready to free what a decode allocated.
void codec_init_free(struct codec *c);

// Records `error` (negative) unless one is recorded already.
void codec_fail(struct codec *c, int error);

void codec_u8(struct codec *c, u8 *v);
void codec_u16(struct codec *c, u16 *v);
void codec_u32(struct codec *c, u32 *v);
void codec_s32(struct codec *c, s32 *v);
void codec_u64(struct codec *c, u64 *v);

// As codec_u32; a decoded value above `most` is an error.
void codec_u32_max(struct codec *c, u32 *v, u32 most);

// A boolean in one byte that is 0 or 1.
void codec_bool(struct codec *c, bool *v);

// A file descriptor number: -1 (none) up to 65535.
void codec_fd(struct codec *c, s32 *v);

// A string without NUL bytes of at most `most` bytes. NULL encodes as the empty string; decoding
// never yields NULL unless it fails.
void codec_str(struct codec *c, const char **s, u32 most);

// `size` bytes of any value, in place.
void codec_bytes(struct codec *c, void *p, size_t size);

typedef void codec_visit(struct codec *c, void *element);

// A list of `*count` elements of `size` bytes at `*items`, at most `most` of them.
void codec_list(struct codec *c, void **items, u32 *count, size_t size, u32 most,
                codec_visit *visit);

// A list of strings, each at most `most_bytes` long.
void codec_str_list(struct codec *c, const char ***items, u32 *count, u32 most, u32 most_bytes);

// True when decoding has read all input without error.
bool codec_finished(const struct codec *c);

#endif
