// SPDX-License-Identifier: Apache-2.0
#include "sentry/fs/proc/machine.h"

#include <cpuid.h>
#include <linux/sysinfo.h>
#include <string.h>

#include "host/syscall.h"
#include "sentry/kernel/container.h"

void load_get_memory(struct load_memory *ret)
{
    struct sysinfo info = {0};
    struct container *c = container_current();
    u64 limit = container_memory_limit(c), used = container_memory_used(c);
    long r = host_sys(SYS_sysinfo, &info);
    u64 unit = info.mem_unit ? info.mem_unit : 1;
    u64 host_total = r ? 0 : info.totalram * unit, host_free = r ? 0 : info.freeram * unit;
    ret->total = limit && (!host_total || limit < host_total) ? limit : host_total;
    ret->free = ret->total > used ? ret->total - used : 0;
    if (host_total && ret->free > host_free)
        ret->free = host_free;
    ret->available = ret->free;
    ret->cached = 0;
}

struct cpu_flag {
    u32 leaf, sub;
    u8 reg; // 0 eax, 1 ebx, 2 ecx, 3 edx
    u8 bit;
    const char *name;
};

// In the order that Linux prints them: word by word.
static const struct cpu_flag cpu_flags[] = {
    {1, 0, 3, 0, "fpu"}, {1, 0, 3, 4, "tsc"}, {1, 0, 3, 8, "cx8"}, {1, 0, 3, 11, "sep"},
    {1, 0, 3, 13, "pge"}, {1, 0, 3, 15, "cmov"}, {1, 0, 3, 16, "pat"}, {1, 0, 3, 17, "pse36"},
    {1, 0, 3, 19, "clflush"}, {1, 0, 3, 23, "mmx"}, {1, 0, 3, 24, "fxsr"}, {1, 0, 3, 25, "sse"},
    {1, 0, 3, 26, "sse2"}, {1, 0, 3, 28, "ht"},
    {0x80000001, 0, 3, 11, "syscall"}, {0x80000001, 0, 3, 20, "nx"},
    {0x80000001, 0, 3, 26, "pdpe1gb"}, {0x80000001, 0, 3, 27, "rdtscp"},
    {0x80000001, 0, 3, 29, "lm"},
    {1, 0, 2, 0, "pni"}, {1, 0, 2, 1, "pclmulqdq"}, {1, 0, 2, 9, "ssse3"}, {1, 0, 2, 12, "fma"},
    {1, 0, 2, 13, "cx16"}, {1, 0, 2, 17, "pcid"}, {1, 0, 2, 19, "sse4_1"}, {1, 0, 2, 20, "sse4_2"},
    {1, 0, 2, 22, "movbe"}, {1, 0, 2, 23, "popcnt"}, {1, 0, 2, 25, "aes"}, {1, 0, 2, 26, "xsave"},
    {1, 0, 2, 28, "avx"}, {1, 0, 2, 29, "f16c"}, {1, 0, 2, 30, "rdrand"},
    {1, 0, 2, 31, "hypervisor"},
    {0x80000001, 0, 2, 0, "lahf_lm"}, {0x80000001, 0, 2, 5, "abm"}, {0x80000001, 0, 2, 6, "sse4a"},
    {0x80000001, 0, 2, 7, "misalignsse"}, {0x80000001, 0, 2, 8, "3dnowprefetch"},
    {7, 0, 1, 0, "fsgsbase"}, {7, 0, 1, 3, "bmi1"}, {7, 0, 1, 5, "avx2"}, {7, 0, 1, 8, "bmi2"},
    {7, 0, 1, 9, "erms"}, {7, 0, 1, 16, "avx512f"}, {7, 0, 1, 17, "avx512dq"},
    {7, 0, 1, 18, "rdseed"}, {7, 0, 1, 19, "adx"}, {7, 0, 1, 21, "avx512ifma"},
    {7, 0, 1, 23, "clflushopt"}, {7, 0, 1, 24, "clwb"}, {7, 0, 1, 28, "avx512cd"},
    {7, 0, 1, 29, "sha_ni"}, {7, 0, 1, 30, "avx512bw"}, {7, 0, 1, 31, "avx512vl"},
    {0xd, 1, 0, 0, "xsaveopt"}, {0xd, 1, 0, 1, "xsavec"}, {0xd, 1, 0, 2, "xgetbv1"},
    {7, 1, 0, 4, "avx_vnni"}, {7, 1, 0, 5, "avx512_bf16"},
    {7, 0, 2, 1, "avx512vbmi"}, {7, 0, 2, 6, "avx512_vbmi2"}, {7, 0, 2, 8, "gfni"},
    {7, 0, 2, 9, "vaes"}, {7, 0, 2, 10, "vpclmulqdq"}, {7, 0, 2, 11, "avx512_vnni"},
    {7, 0, 2, 12, "avx512_bitalg"}, {7, 0, 2, 14, "avx512_vpopcntdq"}, {7, 0, 2, 22, "rdpid"},
    {7, 0, 3, 4, "fsrm"},
};

struct leaf {
    u32 r[4];
};

static bool read_leaf(u32 leaf, u32 sub, struct leaf *ret)
{
    return __get_cpuid_count(leaf, sub, &ret->r[0], &ret->r[1], &ret->r[2], &ret->r[3]);
}

static void show_flags(struct text *out)
{
    struct leaf l = {0};
    u32 have_leaf = 0, have_sub = 0;
    bool ok = false;
    text_str(out, "flags\t\t:");
    for (u32 i = 0; i < array_size(cpu_flags); i++) {
        const struct cpu_flag *f = &cpu_flags[i];
        if (f->leaf != have_leaf || f->sub != have_sub) {
            ok = read_leaf(f->leaf, f->sub, &l);
            have_leaf = f->leaf;
            have_sub = f->sub;
        }
        if (ok && l.r[f->reg] >> f->bit & 1)
            text_printf(out, " %s", f->name);
    }
    text_char(out, '\n');
}

void load_show_cpu(u32 cpu, u32 count, struct text *out)
{
    struct leaf l;
    char vendor[13] = "", model[49] = "";
    u32 family = 0, model_nr = 0, stepping = 0, clflush = 64, address = 0x3030;
    if (read_leaf(0, 0, &l)) {
        memcpy(vendor, &l.r[1], 4);
        memcpy(vendor + 4, &l.r[3], 4);
        memcpy(vendor + 8, &l.r[2], 4);
    }
    if (read_leaf(1, 0, &l)) {
        stepping = l.r[0] & 15;
        model_nr = (l.r[0] >> 4 & 15) | (l.r[0] >> 12 & 0xf0);
        family = l.r[0] >> 8 & 15;
        if (family == 15)
            family += l.r[0] >> 20 & 255;
        clflush = (l.r[1] >> 8 & 255) * 8;
    }
    for (u32 i = 0; i < 3; i++)
        if (read_leaf(0x80000002 + i, 0, &l))
            memcpy(model + i * 16, l.r, 16);
    if (read_leaf(0x80000008, 0, &l))
        address = l.r[0];
    const char *m = model;
    while (*m == ' ')
        m++;
    text_printf(out, "processor\t: %u\nvendor_id\t: %s\ncpu family\t: %u\nmodel\t\t: %u\n", cpu,
                vendor, family, model_nr);
    text_printf(out, "model name\t: %s\nstepping\t: %u\n", *m ? m : "unknown", stepping);
    text_printf(out, "physical id\t: 0\nsiblings\t: %u\ncore id\t\t: %u\ncpu cores\t: %u\n", count, cpu,
                count);
    text_printf(out, "apicid\t\t: %u\ninitial apicid\t: %u\nfpu\t\t: yes\nfpu_exception\t: yes\n", cpu,
                cpu);
    text_str(out, "cpuid level\t: 13\nwp\t\t: yes\n");
    show_flags(out);
    text_printf(out,
                "bugs\t\t:\nclflush size\t: %u\ncache_alignment\t: 64\n"
                "address sizes\t: %u bits physical, %u bits virtual\npower management:\n\n",
                clflush, address & 255, address >> 8 & 255);
}
