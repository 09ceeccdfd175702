// SPDX-License-Identifier: Apache-2.0
// Shared memory (shmget(2), shmop(2)). A segment is a file of tmpfs, mapped shared. Two open files
// stand for it, one of them read-only; each mapping holds a reference to one, so the number of
// attachments is what their counts say. The table holds a reference too, until the segment is
// removed: the last detach then releases it.
#include <linux/shm.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "sentry/arena/arena.h"
#include "sentry/fs/tmpfs/tmpfs.h"
#include "sentry/ipc/ipc.h"
#include "sentry/mm/mm.h"

#define SIZE_LIMIT (1ull << 46)
#define CAP_IPC_LOCK_ 14

struct shm_segment {
    struct ipc_object object;
    struct ipc_ns *ns;     // held
    struct file *files[2]; // for reading; for reading and writing. Guarded by the table's lock,
                           // NULL when released
    u64 size;
    s64 atime, dtime, ctime;
    s32 cpid, lpid;
};

static struct shm_segment *segment(struct ipc_object *o)
{
    return container_of(o, struct shm_segment, object);
}

static u64 pages_of(const struct shm_segment *s)
{
    return page_up(s->size) >> PAGE_SHIFT;
}

// ---- the file -----------------------------------------------------------------------------------

static int shm_map_fd(struct file *f, bool writable)
{
    return file_ops_table[FILE_TMPFS]->map_fd(f, writable);
}

// The last mapping of a removed segment is gone, or it never came to be.
static void shm_release(struct file *f)
{
    struct shm_segment *s = f->priv;
    struct ipc_ns *ns = s->ns;
    mutex_lock(&ns->shm.lock, RANK_FILE);
    s->files[f->may_write] = NULL;
    bool last = !s->files[0] && !s->files[1];
    if (last && s->object.id >= 0) {
        ipc_remove_locked(&ns->shm, &s->object);
        ns->shm_pages -= pages_of(s);
    }
    mutex_unlock(&ns->shm.lock);
    if (!last)
        return;
    arena_free(s);
    ipc_ns_let_go(ns);
}

extern const struct file_ops shm_file_ops;
const struct file_ops shm_file_ops = {
    .name = "shm",
    .release = shm_release,
    .map_fd = shm_map_fd,
};

// The file of a memfd becomes that of the segment; another one for reading goes beside it.
static int open_files(struct shm_segment *s)
{
    char name[16];
    struct file *f, *reader;
    snprintf(name, sizeof(name), "SYSV%08x", (u32)s->object.key);
    int r = tmpfs_memfd_new(name, 0, &f);
    if (r)
        return r;
    rwlock_write_lock(&f->inode->io, RANK_STREAM_2);
    r = tmpfs_resize(f->inode, s->size);
    rwlock_write_unlock(&f->inode->io);
    if (!r)
        r = inode_open(f->inode, O_RDONLY, &reader);
    if (r) {
        file_unref(f);
        return r == -EINVAL || r == -EFBIG ? -ENOMEM : r;
    }
    s->files[1] = f;
    s->files[0] = reader;
    for (int i = 0; i < 2; i++) {
        s->files[i]->kind = FILE_SHM;
        s->files[i]->priv = s;
    }
    return 0;
}

// ---- making -------------------------------------------------------------------------------------

static int shm_make(struct ipc_ns *ns, s32 key, u64 size, u32 flags, struct ipc_object **ret)
{
    if (!size || size > __atomic_load_n(&ns->shm_max, __ATOMIC_RELAXED))
        return -EINVAL;
    if (size > SIZE_LIMIT || flags & SHM_HUGETLB) // there are no huge pages in the pool
        return -ENOMEM;
    struct shm_segment *s = arena_alloc(sizeof(*s));
    if (!s)
        return -ENOMEM;
    s->object.key = key;
    s->object.id = -1;
    s->size = size;
    s->ctime = ipc_time();
    s->cpid = kernel_current_tgid();
    int r = open_files(s);
    if (r) {
        arena_free(s);
        return r;
    }
    s->ns = ipc_ns_hold(ns);
    *ret = &s->object;
    return 0;
}

static void let_go(struct file *files[2])
{
    file_unref(files[0]);
    file_unref(files[1]);
}

static void shm_discard(struct ipc_object *o)
{
    struct file *files[2];
    o->id = -1; // in no table
    memcpy(files, segment(o)->files, sizeof(files));
    let_go(files);
}

static int shm_admit(struct ipc_ns *ns, struct ipc_object *o)
{
    u64 pages = pages_of(segment(o));
    u64 limit = __atomic_load_n(&ns->shm_all, __ATOMIC_RELAXED);
    if (pages > limit || ns->shm_pages > limit - pages)
        return -ENOSPC;
    ns->shm_pages += pages;
    return 0;
}

static bool shm_fits(const struct ipc_object *o, u64 size)
{
    return size <= container_of(o, const struct shm_segment, object)->size;
}

static const struct ipc_kind shm_kind = {shm_make, shm_discard, shm_admit, shm_fits};

long shm_get(struct ipc_ns *ns, s32 key, u64 size, u32 flags)
{
    return ipc_get(ns, &ns->shm, &shm_kind, key, size, flags);
}

// ---- attaching ----------------------------------------------------------------------------------

static int find_file(struct ipc_ns *ns, s32 id, bool write, struct file **ret)
{
    struct ipc_object *o;
    mutex_lock(&ns->shm.lock, RANK_FILE);
    int r = ipc_find_locked(&ns->shm, id, &o);
    if (!r)
        r = ipc_permitted(ns, o, write ? IPC_READ | IPC_WRITE : IPC_READ);
    struct file *f = r ? NULL : segment(o)->files[write];
    if (!r && (!f || !file_ref_unless_zero(f)))
        r = -EIDRM;
    mutex_unlock(&ns->shm.lock);
    *ret = f;
    return r;
}

static void note_attach(struct ipc_ns *ns, struct shm_segment *s)
{
    mutex_lock(&ns->shm.lock, RANK_FILE);
    s->atime = ipc_time();
    s->lpid = kernel_current_tgid();
    mutex_unlock(&ns->shm.lock);
}

long shm_attach(struct ipc_ns *ns, s32 id, u64 addr, u32 flags)
{
    bool write = !(flags & SHM_RDONLY);
    u32 map = MAP_SHARED, prot = PROT_READ | (write ? PROT_WRITE : 0);
    struct file *f;
    if (addr & ~PAGE_MASK) {
        if (!(flags & SHM_RND))
            return -EINVAL;
        addr &= PAGE_MASK;
        if (!addr && flags & SHM_REMAP)
            return -EINVAL;
    } else if (!addr && flags & SHM_REMAP) {
        return -EINVAL;
    }
    if (addr)
        map |= flags & SHM_REMAP ? MAP_FIXED : MAP_FIXED_NOREPLACE;
    if (flags & SHM_EXEC)
        prot |= PROT_EXEC;
    int r = find_file(ns, id, write, &f);
    if (r)
        return r;
    struct shm_segment *s = f->priv;
    long at = mm_mmap(current_mm, addr, s->size, prot, map, f, 0);
    if (at >= 0)
        note_attach(ns, s);
    file_unref(f);
    return at == -EEXIST ? -EINVAL : at;
}

// Unmaps what is left of the attachment that began at `addr`.
long shm_detach(u64 addr)
{
    struct mm_vma_info v;
    struct file *found = NULL;
    u64 end = MM_TOP;
    if (addr & ~PAGE_MASK)
        return -EINVAL;
    int r = -EINVAL;
    for (u64 at = addr; at < end && mm_next_vma(current_mm, at, &v) && v.start < end; at = v.end) {
        bool ours = v.file && v.file->kind == FILE_SHM && v.start - v.off == addr &&
                    (!found || v.file == found);
        if (ours && !found) {
            found = file_ref(v.file);
            end = addr + page_up(((struct shm_segment *)found->priv)->size);
        }
        if (ours)
            r = mm_munmap(current_mm, v.start, v.end - v.start);
        if (v.file)
            file_unref(v.file);
        if (ours && r)
            break;
    }
    if (!found)
        return -EINVAL;
    struct shm_segment *s = found->priv;
    mutex_lock(&s->ns->shm.lock, RANK_FILE);
    s->dtime = ipc_time();
    s->lpid = kernel_current_tgid();
    mutex_unlock(&s->ns->shm.lock);
    file_unref(found);
    return r;
}

// ---- control ------------------------------------------------------------------------------------

static u64 attached(const struct shm_segment *s)
{
    u64 n = 0, own = s->object.mode & SHM_DEST ? 0 : 1; // the table's reference to each
    for (int i = 0; i < 2; i++)
        if (s->files[i])
            n += __atomic_load_n(&s->files[i]->ref.count, __ATOMIC_RELAXED) - own;
    return n;
}

long shm_get_stat(struct ipc_ns *ns, s32 id, bool by_index, bool any, struct shm_stat *ret)
{
    struct ipc_object *o;
    mutex_lock(&ns->shm.lock, RANK_FILE);
    int r = by_index ? ipc_find_index_locked(&ns->shm, id % IPC_INDEX_MAX, &o) : ipc_find_locked(&ns->shm, id, &o);
    if (!r && !any)
        r = ipc_permitted(ns, o, IPC_READ);
    if (!r) {
        struct shm_segment *s = segment(o);
        *ret = (struct shm_stat){*o,       s->size,  attached(s), s->atime,
                                 s->dtime, s->ctime, s->cpid,     s->lpid};
    }
    mutex_unlock(&ns->shm.lock);
    return r ? r : by_index ? ret->object.id : 0;
}

long shm_set(struct ipc_ns *ns, s32 id, const struct ipc_settings *settings)
{
    struct ipc_object *o;
    mutex_lock(&ns->shm.lock, RANK_FILE);
    int r = ipc_find_locked(&ns->shm, id, &o);
    if (!r)
        r = ipc_owned(ns, o);
    if (!r)
        r = ipc_apply_settings(o, settings);
    if (!r) {
        segment(o)->ctime = ipc_time();
    }
    mutex_unlock(&ns->shm.lock);
    return r;
}

// The key is free at once; the id and the memory go with the last attachment.
static void doom_locked(struct shm_segment *s, struct file *files[2])
{
    s->object.key = IPC_PRIVATE;
    s->object.mode |= SHM_DEST;
    files[0] = s->files[0];
    files[1] = s->files[1];
}

long shm_remove(struct ipc_ns *ns, s32 id)
{
    struct ipc_object *o;
    struct file *files[2] = {0};
    mutex_lock(&ns->shm.lock, RANK_FILE);
    int r = ipc_find_locked(&ns->shm, id, &o);
    if (!r)
        r = ipc_owned(ns, o);
    if (!r && !(o->mode & SHM_DEST))
        doom_locked(segment(o), files);
    mutex_unlock(&ns->shm.lock);
    if (files[0])
        let_go(files);
    return r;
}

long shm_set_locked(struct ipc_ns *ns, s32 id, bool lock)
{
    struct ipc_object *o;
    mutex_lock(&ns->shm.lock, RANK_FILE);
    int r = ipc_find_locked(&ns->shm, id, &o);
    if (!r && !cred_capable_in(cred_current(), ns->head.owner, CAP_IPC_LOCK_))
        r = cred_current()->euid == o->uid || cred_current()->euid == o->cuid ? 0 : -EPERM;
    if (!r)
        o->mode = lock ? o->mode | SHM_LOCKED : o->mode & ~SHM_LOCKED;
    mutex_unlock(&ns->shm.lock);
    return r;
}

void shm_clear(struct ipc_ns *ns)
{
    for (;;) {
        struct file *files[2] = {0};
        mutex_lock(&ns->shm.lock, RANK_FILE);
        for (u32 i = 0; i < ns->shm.end && !files[0]; i++)
            if (ns->shm.objects[i] && !(ns->shm.objects[i]->mode & SHM_DEST))
                doom_locked(segment(ns->shm.objects[i]), files);
        mutex_unlock(&ns->shm.lock);
        if (!files[0])
            return;
        let_go(files);
    }
}
