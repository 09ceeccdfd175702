// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <string.h>

#include "abi/errno.h"
#include "base/log.h"
#include "host/host.h"
#include "sentry/arena/arena.h"
#include "sentry/fs/anon/hostfd.h"
#include "sentry/fs/anon/timerfd.h"
#include "sentry/fs/gofer/gofer.h"
#include "sentry/fs/tmpfs/tmpfs.h"
#include "sentry/fs/tty/tty.h"
#include "sentry/kernel/clock.h"
#include "sentry/kernel/posix_timer.h"
#include "sentry/kernel/container.h"
#include "sentry/kernel/oom.h"
#include "sentry/mm/memfile.h"
#include "sentry/mm/mm.h"
#include "sentry/platform/platform.h"
#include "sentry/sched/timer.h"
#include "sentry/snapshot/format.h"
#include "sentry/snapshot/snapshot.h"
#include "sentry/socket/hostsock.h"
#include "sentry/vfs/mount.h"

static int get(int fd, void *data, u64 size, u64 off)
{
    while (size) {
        long n = host_pread(fd, data, size, (s64)off);
        if (n < 0)
            return (int)n;
        if (n == 0)
            return -EINVAL; // cut short
        data = (u8 *)data + n;
        off += (u64)n;
        size -= (u64)n;
    }
    return 0;
}

static int check_header(int fd, struct snapshot_header *h)
{
    u8 id[SNAPSHOT_BUILD_ID_MAX];
    int r = get(fd, h, sizeof(*h), 0);
    if (r)
        return r;
    if (h->magic != SNAPSHOT_MAGIC)
        return -EINVAL;
    r = snapshot_build_id(id);
    if (r)
        return r;
    if (memcmp(id, h->build_id, sizeof(id)))
        return -ENOEXEC;
    return h->fp_size == platform_fp_size() ? 0 : -EINVAL;
}

// ---- contents of files -------------------------------------------------------------------------------

static int copy_pages(int to, u64 to_off, int from, u64 from_off, u64 size)
{
    u8 buf[16 * PAGE_SIZE];
    while (size) {
        u64 n = min(size, (u64)sizeof(buf));
        int r = get(from, buf, n, from_off);
        for (u64 done = 0; !r && done < n;) {
            long w = host_pwrite(to, buf + done, n - done, (s64)(to_off + done));
            if (w <= 0)
                r = w < 0 ? (int)w : -EIO;
            else
                done += (u64)w;
        }
        if (r)
            return r;
        from_off += n;
        to_off += n;
        size -= n;
    }
    return 0;
}

static int revive_memfile(void *arg, struct memfile *mf)
{
    return memfile_revive(mf);
}

static int load_record(int fd, const struct snapshot_record *rec, u64 pos, int *tmpfs_fd)
{
    int to;
    if (!arena_contains((void *)rec->object, sizeof(u64)))
        return -EINVAL;
    if (rec->kind == SNAPSHOT_TMPFS) {
        struct inode *i = (struct inode *)rec->object;
        if (rec->size == 0) {
            *tmpfs_fd = tmpfs_host_file_revive(i);
            return *tmpfs_fd < 0 ? *tmpfs_fd : 0;
        }
        // The last page of a file ends where the file does.
        u64 size = rec->off >= i->size ? 0 : min(rec->size, i->size - rec->off);
        return copy_pages(*tmpfs_fd, rec->off, fd, pos, size);
    }
    if (rec->kind != SNAPSHOT_MEMFILE)
        return -EINVAL;
    to = memfile_fd((struct memfile *)rec->object);
    return to < 0 ? to : copy_pages(to, rec->off, fd, pos, rec->size);
}

static int load_files(int fd, u64 pos)
{
    struct snapshot_record rec;
    int tmpfs_fd = -1;
    int r = memfile_each(revive_memfile, NULL);
    while (!r) {
        r = get(fd, &rec, sizeof(rec), pos);
        if (r || rec.kind == SNAPSHOT_END)
            break;
        pos += PAGE_SIZE;
        r = load_record(fd, &rec, pos, &tmpfs_fd);
        pos += page_up(rec.size);
    }
    return r;
}

// ---- what the message brings ---------------------------------------------------------------------------

static int reattach_mounts(const struct boot_message *m)
{
    u32 number = 0;
    for (u32 i = 0; i < m->mount_count; i++) {
        const struct boot_mount *b = &m->mounts[i];
        if (b->kind != BOOT_MOUNT_HOST)
            continue;
        struct super *sb = gofer_super_by_number(number++);
        const struct gofer_source source = {.root_fd = b->root_fd,
                                            .write_fd = b->write_fd,
                                            .gofer_fd = b->gofer_fd,
                                            .exclusive = b->traits & BOOT_TRAIT_EXCLUSIVE,
                                            .is_file = b->traits & BOOT_TRAIT_FILE,
                                            .follows = b->traits & BOOT_TRAIT_FOLLOWS};
        int r = sb ? gofer_reattach(sb, &source) : 0;
        if (r)
            return r;
    }
    return 0;
}

static int reattach_stdio(const struct boot_message *m)
{
    struct container *c = container_find("");
    struct tty *console = c ? c->console : NULL;
    container_unref(c); // the list holds it
    if (console)
        return tty_console_attach(console, m->stdio[0], m->stdio[1]);
    for (u32 i = 0; i < 3; i++) {
        int r = m->stdio[i] < 0 ? 0 : hostfd_reattach(i, m->stdio[i]);
        if (r)
            return r;
    }
    return 0;
}

int snapshot_restore(int fd, const struct boot_message *m)
{
    struct snapshot_header h;
    int r = check_header(fd, &h);
    if (!r)
        r = arena_restore(fd, PAGE_SIZE, h.base, h.committed, h.limit);
    if (r)
        return r;
    kernel_attach();
    clock_init();
    kernel_timers_init();
    oom_init();
    timerfd_attach();
    file_async_attach();
    vfs_attach(the_kernel->vfs);
    r = mm_init(m->memdir_fd, m->memory_limit);
    if (r)
        return r;
    memfile_own_directory();
    tmpfs_init(m->memdir_fd, the_kernel->memory_limit);
    r = load_files(fd, PAGE_SIZE + h.committed);
    if (!r)
        r = reattach_mounts(m);
    if (!r)
        r = reattach_stdio(m);
    hostsock_restore();
    if (!r)
        r = kernel_revive();
    if (!r)
        r = timer_restart();
    log_debug("restored %u tasks: %d", the_kernel->task_count, r);
    return r;
}
