// SPDX-License-Identifier: Apache-2.0
#include <elf.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "abi/errno.h"
#include "base/log.h"
#include "host/fs.h"
#include "host/host.h"
#include "sentry/arena/arena.h"
#include "sentry/fs/tmpfs/tmpfs.h"
#include "sentry/kernel/kernel.h"
#include "sentry/mm/memfile.h"
#include "sentry/platform/platform.h"
#include "sentry/sched/aux.h"
#include "sentry/snapshot/format.h"
#include "sentry/snapshot/snapshot.h"

extern const char __ehdr_start[], _end[];

int snapshot_build_id(u8 ret[SNAPSHOT_BUILD_ID_MAX])
{
    const Elf64_Phdr *ph = (const void *)getauxval(AT_PHDR);
    u64 count = getauxval(AT_PHNUM);
    memset(ret, 0, SNAPSHOT_BUILD_ID_MAX);
    for (u64 i = 0; ph && i < count; i++) {
        const char *p = __ehdr_start + ph[i].p_vaddr, *end = p + ph[i].p_memsz;
        while (ph[i].p_type == PT_NOTE && p + sizeof(Elf64_Nhdr) <= end) {
            const Elf64_Nhdr *n = (const void *)p;
            const char *desc = p + sizeof(*n) + align_up(n->n_namesz, 4);
            if (n->n_type == NT_GNU_BUILD_ID && n->n_namesz == 4) {
                memcpy(ret, desc, min(n->n_descsz, (Elf64_Word)SNAPSHOT_BUILD_ID_MAX));
                return 0;
            }
            p = desc + align_up(n->n_descsz, 4);
        }
    }
    return -ENOENT;
}

// ---- writing ---------------------------------------------------------------------------------------

struct writer {
    int fd;
    u64 pos;
};

static int put(struct writer *w, const void *data, u64 size)
{
    while (size) {
        long n = host_pwrite(w->fd, data, size, (s64)w->pos);
        if (n <= 0)
            return n < 0 ? (int)n : -EIO;
        data = (const u8 *)data + n;
        w->pos += (u64)n;
        size -= (u64)n;
    }
    return 0;
}

static int put_header(struct writer *w, const struct arena_stats *st)
{
    u8 page[PAGE_SIZE] = {0};
    struct snapshot_header h = {.magic = SNAPSHOT_MAGIC,
                                .base = st->base,
                                .committed = st->committed,
                                .limit = st->limit,
                                .fp_size = platform_fp_size()};
    int r = snapshot_build_id(h.build_id);
    if (r)
        return r;
    memcpy(page, &h, sizeof(h));
    return put(w, page, sizeof(page));
}

static int put_record(struct writer *w, u64 kind, const void *object, u64 off, u64 size)
{
    u8 page[PAGE_SIZE] = {0};
    struct snapshot_record rec = {kind, (u64)object, off, size};
    memcpy(page, &rec, sizeof(rec));
    return put(w, page, sizeof(page));
}

// The bytes [off, off + size) of a file, in whole pages (the last one filled with zeros).
static int put_pages(struct writer *w, int fd, u64 off, u64 size)
{
    static u8 buf[64 * PAGE_SIZE]; // one snapshot at a time, on a thread with a small stack
    for (u64 done = 0; done < size;) {
        u64 want = min(size - done, (u64)sizeof(buf));
        memset(buf, 0, want);
        long n = host_pread(fd, buf, want, (s64)(off + done));
        if (n < 0)
            return (int)n;
        int r = put(w, buf, want);
        if (r)
            return r;
        done += want;
    }
    return 0;
}

// Every run of a file that has data, each as a record.
static int put_file(struct writer *w, u64 kind, const void *object, int fd)
{
    s64 off = 0;
    for (;;) {
        s64 data = host_lseek(fd, off, SEEK_DATA);
        if (data == -ENXIO)
            return 0;
        s64 hole = data < 0 ? data : host_lseek(fd, data, SEEK_HOLE);
        if (hole < 0)
            return (int)hole;
        u64 start = page_down((u64)data), end = page_up((u64)hole);
        int r = put_record(w, kind, object, start, end - start);
        if (!r)
            r = put_pages(w, fd, start, end - start);
        if (r)
            return r;
        off = hole;
    }
}

static int put_memfile(void *arg, struct memfile *mf)
{
    int fd = memfile_fd(mf);
    return fd < 0 ? fd : put_file(arg, SNAPSHOT_MEMFILE, mf, fd);
}

static int put_tmpfs(void *arg, struct inode *i, int fd)
{
    int r = put_record(arg, SNAPSHOT_TMPFS, i, 0, 0);
    return r ? r : put_file(arg, SNAPSHOT_TMPFS, i, fd);
}

static int write_all(int fd)
{
    struct writer w = {.fd = fd};
    struct arena_stats st;
    arena_get_stats(&st);
    int r = put_header(&w, &st);
    if (!r)
        r = put(&w, (const void *)st.base, st.meta_used);
    w.pos = PAGE_SIZE + st.meta_size; // descriptors of pages never used: a hole
    if (!r)
        r = put(&w, (const void *)(st.base + st.meta_size), st.committed - st.meta_size);
    if (!r)
        r = memfile_each(put_memfile, &w);
    if (!r)
        r = tmpfs_host_files_each(put_tmpfs, &w);
    if (!r)
        r = put_record(&w, SNAPSHOT_END, NULL, 0, 0);
    return r;
}

int snapshot_save(int fd)
{
    s64 begin = sched_now();
    kernel_stop_all();
    aux_stop();
    s64 stopped = sched_now();
    u64 outside = log_level >= LOG_LEVEL_DEBUG ? snapshot_check() : 0;
    int r = outside ? -EFAULT : write_all(fd);
    aux_resume();
    kernel_resume_all();
    log_debug("snapshot: stopped in %lld us, written in %lld us: %d",
              (long long)(stopped - begin) / 1000, (long long)(sched_now() - stopped) / 1000, r);
    return r;
}

// ---- checking --------------------------------------------------------------------------------------

static void report(const void *object, u64 offset, u64 value)
{
    log_error("snapshot: the arena object at %p holds an outside pointer at +%llu: %#llx", object,
              (unsigned long long)offset, (unsigned long long)value);
}

u64 snapshot_check(void)
{
    u64 heap_end = (u64)host_sys(SYS_brk, 0);
    u64 count = arena_scan_words((u64)__ehdr_start, (u64)_end, report);
    // The heap begins somewhere behind the image.
    if (heap_end > (u64)_end && heap_end - (u64)_end < 64ull << 30)
        count += arena_scan_words((u64)_end, heap_end, report);
    return count;
}
