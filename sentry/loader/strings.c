// SPDX-License-Identifier: Apache-2.0
// Argument and environment lists.
#include <string.h>

#include "abi/errno.h"
#include "sentry/arena/arena.h"
#include "sentry/loader/loader.h"
#include "sentry/mm/mm.h"
#include "sentry/mm/usercopy.h"

#define ARGS_LEAST (32ull * PAGE_SIZE)
#define ARGS_MOST (6ull << 20)

static u64 args_limit(void)
{
    u64 quarter = mm_rlimit(3 /* RLIMIT_STACK */) / 4;
    return max(ARGS_LEAST, min(quarter, ARGS_MOST));
}

static int grow(struct loader_strings *s, u64 *room, u64 need)
{
    if (need <= *room)
        return 0;
    u64 size = max(need, *room ? *room * 2 : PAGE_SIZE);
    char *data = arena_alloc(size);
    if (!data)
        return -ENOMEM;
    if (s->size)
        memcpy(data, s->data, s->size);
    arena_free(s->data);
    s->data = data;
    *room = size;
    return 0;
}

// Appends one string of the guest.
static int append(struct loader_strings *s, u64 *room, struct uaddr a, u64 limit)
{
    u64 want = 128;
    for (;;) {
        want = min(want, (u64)LOADER_ARG_MAX);
        int err = grow(s, room, s->size + want);
        if (err)
            return err;
        long n = copy_in_string(s->data + s->size, want, a);
        if (n >= 0) {
            s->size += (u64)n + 1;
            s->count++;
            return s->size + s->count * 8ull > limit ? -E2BIG : 0;
        }
        if (n != -ENAMETOOLONG)
            return (int)n;
        if (want == LOADER_ARG_MAX || s->size + want > limit)
            return -E2BIG;
        want *= 8;
    }
}

int loader_strings_in(struct loader_strings *ret, struct uaddr array, u64 used)
{
    *ret = (struct loader_strings){0};
    if (uaddr_is_null(array))
        return 0;
    u64 limit = args_limit(), room = 0;
    if (used >= limit)
        return -E2BIG;
    limit -= used;
    int err = 0;
    for (u64 i = 0; !err; i++) {
        u64 p;
        err = get_u64(&p, uaddr_add(array, i * 8));
        if (err || !p)
            break;
        err = append(ret, &room, uaddr(p), limit);
    }
    if (err)
        loader_strings_free(ret);
    return err;
}

int loader_strings_from(struct loader_strings *ret, const char *const *list, u32 count)
{
    u64 size = 0;
    for (u32 i = 0; i < count; i++)
        size += strlen(list[i]) + 1;
    *ret = (struct loader_strings){.size = size, .count = count};
    if (!size)
        return 0;
    ret->data = arena_alloc(size);
    if (!ret->data)
        return -ENOMEM;
    char *p = ret->data;
    for (u32 i = 0; i < count; i++) {
        u64 n = strlen(list[i]) + 1;
        memcpy(p, list[i], n);
        p += n;
    }
    return 0;
}

void loader_strings_free(struct loader_strings *s)
{
    arena_free(s->data);
    *s = (struct loader_strings){0};
}
