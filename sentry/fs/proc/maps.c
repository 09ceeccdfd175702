// SPDX-License-Identifier: Apache-2.0
// /proc/PID/maps, smaps, mem.
#include <string.h>
#include <sys/mman.h>

#include "sentry/arena/arena.h"
#include "sentry/fs/proc/proc.h"
#include "sentry/mm/usercopy.h"
#include "sentry/vfs/path.h"

#define MAPS_NAME_COLUMN 73
#define CHUNK 16384

static void show_name(const struct mm_vma_info *v, struct text *out, u32 line_start)
{
    char *path = NULL;
    const char *name = v->name;
    if (!name[0] && v->file) {
        path = arena_alloc(PATH_SIZE_MAX);
        if (path && file_to_string(v->file, path, PATH_SIZE_MAX) >= 0)
            name = path;
    }
    if (name[0]) {
        while (out->size - line_start < MAPS_NAME_COLUMN && !out->error)
            text_char(out, ' ');
        text_escaped(out, name, "\n");
    }
    text_char(out, '\n');
    arena_free(path);
}

static void show_vma(const struct mm_vma_info *v, struct text *out)
{
    struct kstat st = {0};
    u32 start = out->size;
    if (v->file && vfs_fgetattr(v->file, &st))
        st = (struct kstat){0};
    text_printf(out, "%08llx-%08llx %c%c%c%c %08llx %02x:%02x %llu ", (unsigned long long)v->start,
                (unsigned long long)v->end, v->prot & PROT_READ ? 'r' : '-',
                v->prot & PROT_WRITE ? 'w' : '-', v->prot & PROT_EXEC ? 'x' : '-',
                v->flags & MM_VMA_SHARED ? 's' : 'p', v->file ? (unsigned long long)v->off : 0ull,
                DEV_MAJOR(st.dev), DEV_MINOR(st.dev), (unsigned long long)st.ino);
    show_name(v, out, start);
}

static int for_each_vma(struct pseudo_ctx *x, struct text *out,
                        void (*show)(struct mm *mm, const struct mm_vma_info *v, struct text *out))
{
    struct mm_vma_info v;
    struct mm *mm = proc_mm(x);
    if (!mm)
        return 0;
    for (u64 addr = 0; !out->error && mm_next_vma(mm, addr, &v); addr = v.end) {
        show(mm, &v, out);
        if (v.file)
            file_unref(v.file);
    }
    mm_unref(mm);
    return 0;
}

static void show_map(struct mm *mm, const struct mm_vma_info *v, struct text *out)
{
    show_vma(v, out);
}

int proc_show_maps(struct pseudo_ctx *x, struct text *out)
{
    return for_each_vma(x, out, show_map);
}

static void smaps_line(struct text *out, const char *name, u64 bytes)
{
    text_printf(out, "%-16s%8llu kB\n", name, (unsigned long long)bytes / 1024);
}

// The lines that smaps and smaps_rollup share. Pages of files are taken for clean, and none for another's.
static void show_residence(struct text *out, const struct mm_residence *r, bool shared, u64 locked)
{
    u64 files = r->rss - r->anon;
    const struct {
        const char *name;
        u64 bytes;
    } lines[] = {
        {"Rss:", r->rss}, {"Pss:", r->rss}, {"Shared_Clean:", shared ? 0 : files},
        {"Shared_Dirty:", shared ? files : 0}, {"Private_Clean:", 0}, {"Private_Dirty:", r->anon},
        {"Referenced:", r->rss}, {"Anonymous:", r->anon}, {"LazyFree:", 0}, {"AnonHugePages:", 0},
        {"Swap:", 0}, {"SwapPss:", 0}, {"Locked:", locked},
    };
    for (u32 i = 0; i < array_size(lines); i++)
        smaps_line(out, lines[i].name, lines[i].bytes);
}

static void show_smap(struct mm *mm, const struct mm_vma_info *v, struct text *out)
{
    struct mm_residence r;
    u64 size = v->end - v->start;
    mm_get_residence(mm, v->start, v->end, &r);
    show_vma(v, out);
    smaps_line(out, "Size:", size);
    smaps_line(out, "KernelPageSize:", PAGE_SIZE);
    smaps_line(out, "MMUPageSize:", PAGE_SIZE);
    show_residence(out, &r, v->flags & MM_VMA_SHARED, v->flags & MM_VMA_LOCKED ? size : 0);
    text_str(out, "VmFlags:");
    static const struct {
        u32 prot;
        const char *name;
    } flags[] = {{PROT_READ, " rd"}, {PROT_WRITE, " wr"}, {PROT_EXEC, " ex"}};
    for (u32 i = 0; i < array_size(flags); i++)
        if (v->prot & flags[i].prot)
            text_str(out, flags[i].name);
    if (v->flags & MM_VMA_SHARED)
        text_str(out, " sh");
    text_str(out, v->flags & MM_VMA_GROWSDOWN ? " mr mw me gd\n" : " mr mw me\n");
}

int proc_show_smaps(struct pseudo_ctx *x, struct text *out)
{
    return for_each_vma(x, out, show_smap);
}

int proc_show_smaps_rollup(struct pseudo_ctx *x, struct text *out)
{
    struct mm_residence sum = {0}, r;
    struct mm_vma_info v;
    u64 locked = 0;
    struct mm *mm = proc_mm(x);
    if (!mm)
        return 0;
    for (u64 addr = 0; mm_next_vma(mm, addr, &v); addr = v.end) {
        mm_get_residence(mm, v.start, v.end, &r);
        sum.rss += r.rss;
        sum.anon += r.anon;
        locked += v.flags & MM_VMA_LOCKED ? v.end - v.start : 0;
        if (v.file)
            file_unref(v.file);
    }
    mm_unref(mm);
    text_printf(out, "%08llx-%08llx ---p 00000000 00:00 0                          [rollup]\n",
                MM_MIN_ADDR, MM_TOP);
    show_residence(out, &sum, false, locked);
    return 0;
}

static long transfer_mem(struct pseudo_ctx *x, struct uio *u, s64 pos, bool writing)
{
    long done = 0;
    struct mm *mm = proc_mm(x);
    char *buf = arena_alloc(CHUNK);
    if (!mm || !buf) {
        done = mm ? -ENOMEM : 0;
        goto out;
    }
    while (u->resid) {
        u64 n = min(u->resid, (u64)CHUNK);
        struct uaddr at = uaddr((u64)pos + (u64)done);
        long moved;
        if (writing) {
            moved = uio_get(u, buf, n);
            if (moved > 0)
                moved = (long)copy_out_mm(mm, at, buf, (u64)moved, true);
        } else {
            n = copy_in_mm(mm, buf, at, n, true);
            moved = n ? uio_put(u, buf, n) : 0;
        }
        if (moved <= 0) {
            if (!done)
                done = moved ? moved : -EIO;
            break;
        }
        done += moved;
    }
out:
    arena_free(buf);
    mm_unref(mm);
    return done;
}

long proc_read_mem(struct pseudo_ctx *x, struct uio *u, s64 pos)
{
    return transfer_mem(x, u, pos, false);
}

long proc_write_mem(struct pseudo_ctx *x, struct uio *u, s64 pos)
{
    return transfer_mem(x, u, pos, true);
}
