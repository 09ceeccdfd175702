// SPDX-License-Identifier: Apache-2.0
#include "sentry/loader/image.h"

#include <string.h>

#include "abi/errno.h"
#include "sentry/arena/arena.h"
#include "sentry/mm/mm.h"

static int check_header(const Elf64_Ehdr *h)
{
    if (memcmp(h->e_ident, ELFMAG, SELFMAG) != 0)
        return -ENOEXEC;
    if (h->e_ident[EI_CLASS] != ELFCLASS64 || h->e_ident[EI_DATA] != ELFDATA2LSB)
        return -ENOEXEC;
    if (h->e_type != ET_EXEC && h->e_type != ET_DYN)
        return -ENOEXEC;
    if (h->e_machine != EM_X86_64)
        return -ENOEXEC;
    if (h->e_phentsize != sizeof(Elf64_Phdr) || h->e_phnum == 0 || h->e_phnum > ELF_PHDRS_MAX)
        return -ENOEXEC;
    if (h->e_phoff > (1ull << 62))
        return -ENOEXEC;
    return 0;
}

static int check_load(const Elf64_Phdr *p)
{
    if (p->p_filesz > p->p_memsz || p->p_memsz > MM_TOP || p->p_vaddr > MM_TOP - p->p_memsz)
        return -EINVAL;
    if (p->p_offset > (1ull << 62) || p->p_filesz > (1ull << 62))
        return -EINVAL;
    if (p->p_filesz && (p->p_offset ^ p->p_vaddr) % PAGE_SIZE)
        return -EINVAL;
    return 0;
}

static int scan(struct elf_image *e)
{
    const Elf64_Ehdr *h = &e->header;
    bool any = false;
    e->interp = -1;
    e->align = PAGE_SIZE;
    for (u32 i = 0; i < h->e_phnum; i++) {
        const Elf64_Phdr *p = &e->phdrs[i];
        if (p->p_type == PT_GNU_STACK)
            e->executable_stack = p->p_flags & PF_X;
        if (p->p_type == PT_INTERP && e->interp < 0) {
            if (p->p_filesz < 2 || p->p_filesz > ELF_INTERP_MAX || p->p_offset > (1ull << 62))
                return -ENOEXEC;
            e->interp = (s32)i;
        }
        if (p->p_type != PT_LOAD)
            continue;
        int err = check_load(p);
        if (err)
            return err;
        u64 low = page_down(p->p_vaddr), high = page_up(p->p_vaddr + p->p_memsz);
        e->low = any ? min(e->low, low) : low;
        e->high = any ? max(e->high, high) : high;
        any = true;
        if (p->p_align > e->align && (p->p_align & (p->p_align - 1)) == 0 &&
            p->p_align <= (1ull << 30))
            e->align = p->p_align;
        if (!e->phdr_addr && h->e_phoff >= p->p_offset && h->e_phoff - p->p_offset < p->p_filesz)
            e->phdr_addr = h->e_phoff - p->p_offset + p->p_vaddr;
    }
    return any && e->high > e->low ? 0 : -EINVAL;
}

int elf_parse(long (*read)(void *arg, void *buf, u64 size, u64 off), void *arg,
              struct elf_image *ret)
{
    struct elf_image e = {0};
    long n = read(arg, &e.header, sizeof(e.header), 0);
    if (n < 0)
        return (int)n;
    if (n < (long)sizeof(e.header))
        return -ENOEXEC;
    int err = check_header(&e.header);
    if (err)
        return err;
    u64 size = e.header.e_phnum * sizeof(Elf64_Phdr);
    e.phdrs = arena_alloc(size);
    if (!e.phdrs)
        return -ENOMEM;
    n = read(arg, e.phdrs, size, e.header.e_phoff);
    if (n != (long)size)
        err = n < 0 ? (int)n : -ENOEXEC;
    if (!err)
        err = scan(&e);
    if (err) {
        arena_free(e.phdrs);
        return err;
    }
    *ret = e;
    return 0;
}

void elf_fini(struct elf_image *e)
{
    arena_free(e->phdrs);
    e->phdrs = NULL;
}
