// SPDX-License-Identifier: Apache-2.0
// The ELF parser with forged and cut-short headers: it refuses or what it accepts is bounded.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "abi/errno.h"
#include "sentry/arena/arena.h"
#include "sentry/loader/image.h"
#include "sentry/mm/mm.h"

struct bytes {
    u8 data[8192];
    u64 size;
};

static long read_bytes(void *arg, void *buf, u64 size, u64 off)
{
    const struct bytes *b = arg;
    if (off >= b->size)
        return 0;
    u64 n = min(size, b->size - off);
    memcpy(buf, b->data + off, n);
    return (long)n;
}

// A plain PIE with an interpreter and two segments.
static void make_good(struct bytes *b)
{
    memset(b, 0, sizeof(*b));
    b->size = sizeof(b->data);
    Elf64_Ehdr h = {.e_type = ET_DYN, .e_machine = EM_X86_64, .e_version = 1, .e_phoff = 64,
                    .e_phentsize = sizeof(Elf64_Phdr), .e_phnum = 4, .e_entry = 0x100};
    memcpy(h.e_ident, ELFMAG, SELFMAG);
    h.e_ident[EI_CLASS] = ELFCLASS64;
    h.e_ident[EI_DATA] = ELFDATA2LSB;
    Elf64_Phdr p[4] = {
        {.p_type = PT_INTERP, .p_offset = 0x400, .p_filesz = 10},
        {.p_type = PT_LOAD, .p_flags = PF_R | PF_X, .p_filesz = 0x1000, .p_memsz = 0x1000,
         .p_align = 0x1000},
        {.p_type = PT_LOAD, .p_flags = PF_R | PF_W, .p_offset = 0x1010, .p_vaddr = 0x2010,
         .p_filesz = 0x800, .p_memsz = 0x5000, .p_align = 0x1000},
        {.p_type = PT_GNU_STACK, .p_flags = PF_R | PF_W},
    };
    memcpy(b->data, &h, sizeof(h));
    memcpy(b->data + 64, p, sizeof(p));
}

static int parse(struct bytes *b, struct elf_image *e)
{
    memset(e, 0, sizeof(*e));
    return elf_parse(read_bytes, b, e);
}

static void test_good(void **state)
{
    static struct bytes b;
    struct elf_image e;
    make_good(&b);
    assert_int_equal(parse(&b, &e), 0);
    assert_int_equal(e.low, 0);
    assert_int_equal(e.high, 0x8000);
    assert_int_equal(e.interp, 0);
    assert_int_equal(e.phdr_addr, 64);
    assert_false(e.executable_stack);
    elf_fini(&e);
}

static int parse_with(u64 off, u64 value, u32 size)
{
    static struct bytes b;
    struct elf_image e;
    make_good(&b);
    memcpy(b.data + off, &value, size);
    int err = parse(&b, &e);
    if (!err)
        elf_fini(&e);
    return err;
}

#define WITH_EHDR(field, value) parse_with(offsetof(Elf64_Ehdr, field), value, sizeof(((Elf64_Ehdr *)0)->field))
#define WITH_PHDR(i, field, value)                                                                 \
    parse_with(64 + (i) * sizeof(Elf64_Phdr) + offsetof(Elf64_Phdr, field), value,                 \
               sizeof(((Elf64_Phdr *)0)->field))

static void test_refused(void **state)
{
    assert_int_equal(WITH_EHDR(e_machine, EM_AARCH64), -ENOEXEC);
    assert_int_equal(WITH_EHDR(e_machine, EM_386), -ENOEXEC);
    assert_int_equal(WITH_EHDR(e_type, ET_REL), -ENOEXEC);
    assert_int_equal(WITH_EHDR(e_phnum, 0), -ENOEXEC);
    assert_int_equal(WITH_EHDR(e_phnum, 0xffff), -ENOEXEC);
    assert_int_equal(WITH_EHDR(e_phentsize, 32), -ENOEXEC);
    assert_int_equal(WITH_EHDR(e_phoff, 0x1fff), -ENOEXEC);
    assert_int_equal(WITH_EHDR(e_phoff, ~0ull), -ENOEXEC);
    assert_int_equal(parse_with(EI_CLASS, ELFCLASS32, 1), -ENOEXEC);
    assert_int_equal(parse_with(0, 0, 1), -ENOEXEC);
    assert_int_equal(WITH_PHDR(0, p_filesz, 1), -ENOEXEC);
    assert_int_equal(WITH_PHDR(0, p_filesz, 5000), -ENOEXEC);
    assert_int_equal(WITH_PHDR(1, p_filesz, 0x2000), -EINVAL); // more than in memory
    assert_int_equal(WITH_PHDR(2, p_memsz, 1ull << 63), -EINVAL);
    assert_int_equal(WITH_PHDR(2, p_vaddr, ~0ull), -EINVAL);
    assert_int_equal(WITH_PHDR(2, p_vaddr, 0x2000), -EINVAL); // not congruent
    assert_int_equal(WITH_PHDR(2, p_offset, ~0ull & ~0xfefull), -EINVAL);
}

static void test_cut_short(void **state)
{
    static struct bytes b;
    struct elf_image e;
    make_good(&b);
    for (b.size = 0; b.size < 64 + 4 * sizeof(Elf64_Phdr); b.size++)
        assert_int_equal(parse(&b, &e), -ENOEXEC);
}

// Random damage: whatever is accepted lies within bounds.
static void test_random(void **state)
{
    static struct bytes b;
    u64 seed = 1;
    u32 accepted = 0;
    for (u32 round = 0; round < 100000; round++) {
        make_good(&b);
        for (u32 i = 0; i < 1 + round % 4; i++) {
            seed = seed * 6364136223846793005ull + 1442695040888963407ull;
            b.data[(seed >> 33) % (64 + 4 * sizeof(Elf64_Phdr))] = (u8)(seed >> 56);
        }
        struct elf_image e;
        if (parse(&b, &e))
            continue;
        accepted++;
        assert_true(e.low < e.high && e.high <= MM_TOP + PAGE_SIZE);
        assert_true(e.align >= PAGE_SIZE && e.align <= 1ull << 30);
        for (u32 i = 0; i < e.header.e_phnum; i++) {
            const Elf64_Phdr *p = &e.phdrs[i];
            if (p->p_type == PT_LOAD)
                assert_true(p->p_vaddr >= e.low && p->p_vaddr + p->p_memsz <= e.high &&
                            p->p_filesz <= p->p_memsz);
        }
        elf_fini(&e);
    }
    assert_true(accepted > 1000);
}

static int setup(void **state)
{
    return arena_init(64 << 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_cut_short),
        cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
