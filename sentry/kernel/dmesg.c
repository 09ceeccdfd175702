// SPDX-License-Identifier: Apache-2.0
#include "sentry/kernel/dmesg.h"

#include <stdio.h>

#include "sentry/arena/arena.h"
#include "sentry/kernel/kernel.h"

static const char *const lines[] = {
    "Linux version " KERNEL_RELEASE " (bailey " BAILEY_VERSION ") " KERNEL_VERSION,
    "Raising the drawbridge",
    "Manning the walls: system calls end here",
    "Sweeping the courtyard",
};

long dmesg_text(char **ret)
{
    char *text = arena_alloc(DMESG_MAX);
    u32 size = 0;
    if (!text)
        return -ENOMEM;
    for (u32 i = 0; i < array_size(lines); i++)
        size += (u32)snprintf(text + size, DMESG_MAX - size, "<6>[    0.%06u] %s\n", i * 1200,
                              lines[i]);
    size += (u32)snprintf(text + size, DMESG_MAX - size,
                          "<6>[    0.%06u] %u CPU(s), %llu MiB of memory\n", 5000u,
                          the_kernel->cpu.count,
                          (unsigned long long)(the_kernel->memory_limit >> 20));
    *ret = text;
    return size;
}
