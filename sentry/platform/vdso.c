// SPDX-License-Identifier: Apache-2.0
// The host's vDSO, which stubs keep mapped, and the guest's own, which calls it.
#include <elf.h>
#include <string.h>
#include <sys/auxv.h>

#include "host/host.h"
#include "sentry/platform/internal.h"
#include "stub/image.h"

#define VVAR_PAGES_MAX 32

static u64 image_size(const Elf64_Ehdr *elf)
{
    const Elf64_Phdr *ph = (const void *)((const u8 *)elf + elf->e_phoff);
    u64 end = 0;
    for (int i = 0; i < elf->e_phnum; i++)
        if (ph[i].p_type == PT_LOAD)
            end = max(end, ph[i].p_vaddr + ph[i].p_memsz);
    return page_up(end);
}

struct dynamic {
    const Elf64_Sym *symbols;
    const char *strings;
    const u32 *hash;
};

static bool dynamic_find(const Elf64_Ehdr *elf, struct dynamic *ret)
{
    const u8 *base = (const u8 *)elf;
    const Elf64_Phdr *ph = (const void *)(base + elf->e_phoff);
    const Elf64_Dyn *dyn = NULL;

    for (int i = 0; i < elf->e_phnum; i++)
        if (ph[i].p_type == PT_DYNAMIC)
            dyn = (const void *)(base + ph[i].p_offset);
    *ret = (struct dynamic){.symbols = NULL};
    for (; dyn && dyn->d_tag != DT_NULL; dyn++) {
        if (dyn->d_tag == DT_SYMTAB)
            ret->symbols = (const void *)(base + dyn->d_un.d_ptr);
        else if (dyn->d_tag == DT_STRTAB)
            ret->strings = (const void *)(base + dyn->d_un.d_ptr);
        else if (dyn->d_tag == DT_HASH)
            ret->hash = (const void *)(base + dyn->d_un.d_ptr);
    }
    return ret->symbols && ret->strings;
}

// The symbol's offset in the image, or 0. The host's image has its string table right after the
// symbols, which bounds them where there is no DT_HASH.
static u64 symbol_find(const struct dynamic *d, const char *name)
{
    u64 count = d->hash ? d->hash[1]
                        : (u64)((const u8 *)d->strings - (const u8 *)d->symbols) / sizeof(Elf64_Sym);
    for (u64 i = 0; i < count; i++)
        if (!strcmp(d->strings + d->symbols[i].st_name, name))
            return d->symbols[i].st_value;
    return 0;
}

// The data pages that the kernel maps right before its vDSO. /proc may be out of reach here; they are
// known by a request that the kernel refuses on its special mappings alone.
static u64 data_start(u64 image)
{
    u64 start = image;
    for (int i = 0; i < VVAR_PAGES_MAX; i++) {
        if (host_madvise((void *)(start - PAGE_SIZE), PAGE_SIZE, MADV_DOFORK) != -EINVAL)
            break;
        start -= PAGE_SIZE;
    }
    return start;
}

void pt_vdso_init(void)
{
    const Elf64_Ehdr *elf = (const void *)getauxval(AT_SYSINFO_EHDR);
    struct dynamic d;
    if (!elf || !dynamic_find(elf, &d))
        return;
    u64 image = (u64)elf, start = data_start(image), size = image + image_size(elf) - start;
    if (size > STUB_VDSO_MAX)
        return;
    pt.vdso_start = start;
    pt.vdso_size = size;
    u64 moved = STUB_VDSO + (image - start);
    u64 gettime = symbol_find(&d, "__vdso_clock_gettime");
    u64 timeofday = symbol_find(&d, "__vdso_gettimeofday");
    pt.page->clock_gettime = gettime ? moved + gettime : 0;
    pt.page->gettimeofday = timeofday ? moved + timeofday : 0;
}

const void *platform_vdso(u64 *ret_size)
{
    *ret_size = (u64)(vdso_image_end - vdso_image);
    return vdso_image;
}

void platform_vdso_set_offsets(s64 monotonic, s64 boottime)
{
    pt.page->offset_monotonic = monotonic;
    pt.page->offset_boottime = boottime;
}
