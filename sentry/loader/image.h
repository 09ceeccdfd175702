// SPDX-License-Identifier: Apache-2.0
// ELF64 headers, validated. Everything comes from the guest: sizes, offsets and counts are checked before they
// are used, sums cannot wrap.
#ifndef BAILEY_SENTRY_LOADER_IMAGE_H
#define BAILEY_SENTRY_LOADER_IMAGE_H

#include <elf.h>

#include "base/types.h"

#define ELF_PHDRS_MAX 1024
#define ELF_INTERP_MAX 4096

struct elf_image {
    Elf64_Ehdr header;
    Elf64_Phdr *phdrs; // in the arena; e_phnum of them
    u64 low, high;     // page-aligned bounds of all PT_LOAD, before relocation
    u64 align;         // of the load address
    u64 phdr_addr;     // address of the program headers in the image, or 0
    bool executable_stack;
    s32 interp; // index of PT_INTERP, or -1
};

// Reads and checks the headers by `read`, which returns bytes read at an offset, short at the end of the file, or
// -errno. 0; -ENOEXEC, -EINVAL (segments), -EIO, -ENOMEM. elf_fini afterwards only on success.
int elf_parse(long (*read)(void *arg, void *buf, u64 size, u64 off), void *arg,
              struct elf_image *ret) must_check;
void elf_fini(struct elf_image *e);

#endif
