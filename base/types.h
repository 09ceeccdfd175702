// SPDX-License-Identifier: Apache-2.0
// Scalars, the guest pointer type and the small macros that every module uses.
#ifndef BAILEY_BASE_TYPES_H
#define BAILEY_BASE_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int8_t s8;
typedef int16_t s16;
typedef int32_t s32;
typedef int64_t s64;

// A pointer of the guest. It does not compile as a dereference: go through mm/usercopy.h.
struct uaddr {
    u64 v;
};

static inline struct uaddr uaddr(u64 v)
{
    return (struct uaddr){v};
}

static inline struct uaddr uaddr_add(struct uaddr a, u64 n)
{
    return (struct uaddr){a.v + n};
}

static inline bool uaddr_is_null(struct uaddr a)
{
    return a.v == 0;
}

#define PAGE_SHIFT 12
#define PAGE_SIZE 4096ul
#define PAGE_MASK (~(PAGE_SIZE - 1))

#define must_check __attribute__((warn_unused_result))
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define array_size(a) (sizeof(a) / sizeof((a)[0]))
#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

#define min(a, b)                                                                                  \
    ({                                                                                             \
        __auto_type min_a_ = (a);                                                                  \
        __auto_type min_b_ = (b);                                                                  \
        min_a_ < min_b_ ? min_a_ : min_b_;                                                         \
    })
#define max(a, b)                                                                                  \
    ({                                                                                             \
        __auto_type max_a_ = (a);                                                                  \
        __auto_type max_b_ = (b);                                                                  \
        max_a_ > max_b_ ? max_a_ : max_b_;                                                         \
    })

static inline u64 align_up(u64 v, u64 a)
{
    return (v + a - 1) & ~(a - 1);
}

static inline u64 align_down(u64 v, u64 a)
{
    return v & ~(a - 1);
}

static inline u64 page_up(u64 v)
{
    return align_up(v, PAGE_SIZE);
}

static inline u64 page_down(u64 v)
{
    return v & PAGE_MASK;
}

// Time in the sentry is nanoseconds in a signed 64-bit integer; TIME_NEVER is no deadline.
#define NSEC_PER_SEC 1000000000ll
#define TIME_NEVER INT64_MAX

#endif
