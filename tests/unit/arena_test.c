// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <pthread.h>

#include "host/host.h"
#include "sentry/arena/arena.h"

#define LIMIT (64ull << 20)

static int setup(void **state)
{
    return arena_init(LIMIT);
}

static void test_zeroed_and_aligned(void **state)
{
    for (u64 size = 1; size < 20000; size = size * 3 / 2 + 1) {
        u8 *p = arena_alloc(size);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % (size >= 4096 ? 4096 : 16), 0);
        for (u64 i = 0; i < size; i++)
            assert_int_equal(p[i], 0);
        memset(p, 0xff, size);
        arena_free(p);
    }
}

// Random allocations each hold a pattern of their own; none may touch another's.
static void random_load(u32 seed, u32 steps)
{
    struct {
        u8 *p;
        u64 size;
        u8 fill;
    } slots[200] = {0};
    for (u32 step = 0; step < steps; step++) {
        seed = seed * 1664525 + 1013904223;
        u32 i = (seed >> 8) % array_size(slots);
        if (slots[i].p) {
            for (u64 k = 0; k < slots[i].size; k++)
                if (slots[i].p[k] != slots[i].fill)
                    abort();
            arena_free(slots[i].p);
            slots[i].p = NULL;
            continue;
        }
        slots[i].size = seed % 16 ? 1 + (seed >> 16) % 3000 : 4000 + (seed >> 12) % 60000;
        slots[i].fill = (u8)seed;
        slots[i].p = arena_alloc(slots[i].size);
        if (slots[i].p)
            memset(slots[i].p, slots[i].fill, slots[i].size);
    }
    for (u32 i = 0; i < array_size(slots); i++)
        arena_free(slots[i].p);
}

static void test_random(void **state)
{
    struct arena_stats before, after;
    arena_get_stats(&before);
    random_load(1, 50000);
    arena_get_stats(&after);
    assert_int_equal(before.allocated, after.allocated);
}

static void *thread_main(void *arg)
{
    random_load((u32)(uintptr_t)arg, 30000);
    return NULL;
}

static void test_threads(void **state)
{
    struct arena_stats before, after;
    pthread_t t[4];
    arena_get_stats(&before);
    for (uintptr_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&t[i], NULL, thread_main, (void *)(i + 10)), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    arena_get_stats(&after);
    assert_int_equal(before.allocated, after.allocated);
}

static void test_exhaustion(void **state)
{
    static void *all[40000];
    u32 count = 0;
    while (count < array_size(all) && (all[count] = arena_alloc(4096)))
        count++;
    assert_true(count < array_size(all));
    assert_null(arena_alloc(LIMIT * 2));
    while (count)
        arena_free(all[--count]);
    void *p = arena_alloc(32 << 20);
    assert_non_null(p);
    arena_free(p);
}

static void test_scan(void **state)
{
    u64 *p = arena_alloc(64);
    int local;
    p[3] = (u64)&local;
    u64 lo = (u64)&local & ~0xffffull;
    assert_int_equal(arena_scan_words(lo, lo + 0x10000, NULL), 1);
    p[3] = 0;
    assert_int_equal(arena_scan_words(lo, lo + 0x10000, NULL), 0);
    arena_free(p);
}

// A snapshot is the bytes of the arena; a new process maps them and finds its objects.
static void test_restore(void **state)
{
    struct arena_stats st;
    char **root = arena_alloc(sizeof(char *));
    *root = arena_strdup("what was there before");
    arena_set_root(root);
    arena_get_stats(&st);
    int fd = host_memfd_create("snapshot", 0);
    assert_true(fd >= 0);
    for (u64 off = 0; off < st.committed;) {
        long n = host_pwrite(fd, (char *)st.base + off, st.committed - off, (s64)off);
        assert_true(n > 0);
        off += (u64)n;
    }
    assert_int_equal(host_munmap((void *)st.base, st.limit), 0);
    assert_true(arena_restore(fd, 0, st.base + PAGE_SIZE, st.committed, st.limit) < 0);
    assert_int_equal(arena_restore(fd, 0, st.base, st.committed, st.limit), 0);
    assert_string_equal(*(char **)arena_root(), "what was there before");
    arena_free(*(char **)arena_root());
    random_load(3, 2000);
    host_close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_zeroed_and_aligned), cmocka_unit_test(test_random),
        cmocka_unit_test(test_threads),            cmocka_unit_test(test_exhaustion),
        cmocka_unit_test(test_scan),               cmocka_unit_test(test_restore),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
