// SPDX-License-Identifier: Apache-2.0
#include "sentry/syscalls/sys_mm.h"

#include <linux/mempolicy.h>
#include <sys/mman.h>

#include "abi/errno.h"
#include "sentry/fs/tmpfs/tmpfs.h"
#include "sentry/kernel/task.h"
#include "sentry/mm/mm.h"
#include "sentry/mm/usercopy.h"
#include "sentry/vfs/fdtable.h"
#include "sentry/vfs/inode.h"
#include "sentry/vfs/mount.h"

#ifndef MLOCK_ONFAULT
#define MLOCK_ONFAULT 1
#endif
#define MEMFD_NAME_MAX 249
// process_vm_readv(2) goes through a buffer of this size.
#define VM_COPY_SIZE 8192
#define MPOL_MODES 7
#define MPOL_FLAGS 0xe000
#define NODES_MAX 1024
#define CAP_NICE 23

long sys_mmap(struct task *t, const u64 a[6])
{
    u32 prot = (u32)a[2], flags = (u32)a[3];
    if (a[5] & ~PAGE_MASK)
        return -EINVAL;
    if (flags & MAP_ANONYMOUS)
        return mm_mmap(t->mm, a[0], a[1], prot, flags, NULL, a[5]);
    struct fdref f = fd_get((int)a[4]);
    if (!f.file)
        return -EBADF;
    long r;
    const struct mount *mount = f.file->path.mount;
    if (prot & PROT_EXEC && mount && mount_flags(mount) & MOUNT_NOEXEC)
        r = -EPERM;
    else
        r = mm_mmap(t->mm, a[0], a[1], prot, flags, f.file, a[5]);
    if (r >= 0 && f.file->inode && S_ISREG(f.file->inode->mode))
        inode_touch_atime(f.file);
    fd_put(f);
    return r;
}

long sys_munmap(struct task *t, const u64 a[6])
{
    return mm_munmap(t->mm, a[0], a[1]);
}

long sys_mprotect(struct task *t, const u64 a[6])
{
    return mm_mprotect(t->mm, a[0], a[1], (u32)a[2]);
}

long sys_mremap(struct task *t, const u64 a[6])
{
    return mm_mremap(t->mm, a[0], a[1], a[2], (u32)a[3], a[4]);
}

long sys_madvise(struct task *t, const u64 a[6])
{
    return mm_madvise(t->mm, a[0], a[1], (int)a[2]);
}

long sys_brk(struct task *t, const u64 a[6])
{
    return (long)mm_brk(t->mm, a[0]);
}

long sys_msync(struct task *t, const u64 a[6])
{
    return mm_msync(t->mm, a[0], a[1], (u32)a[2]);
}

long sys_mincore(struct task *t, const u64 a[6])
{
    return mm_mincore(t->mm, a[0], a[1], uaddr(a[2]));
}

long sys_mlock(struct task *t, const u64 a[6])
{
    return mm_mlock(t->mm, a[0], a[1], true, false);
}

long sys_mlock2(struct task *t, const u64 a[6])
{
    if ((u32)a[2] & ~(u32)MLOCK_ONFAULT)
        return -EINVAL;
    return mm_mlock(t->mm, a[0], a[1], true, a[2] & MLOCK_ONFAULT);
}

long sys_munlock(struct task *t, const u64 a[6])
{
    return mm_mlock(t->mm, a[0], a[1], false, false);
}

long sys_mlockall(struct task *t, const u64 a[6])
{
    u32 flags = (u32)a[0];
    if (!flags || flags & ~(u32)(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) || flags == MCL_ONFAULT)
        return -EINVAL;
    return mm_mlockall(t->mm, flags);
}

long sys_munlockall(struct task *t, const u64 a[6])
{
    return mm_mlockall(t->mm, 0);
}

long sys_memfd_create(struct task *t, const u64 a[6])
{
    char name[MEMFD_NAME_MAX + 1];
    u32 flags = (u32)a[1];
    struct file *file;
    long n = copy_in_string(name, sizeof(name), uaddr(a[0]));
    if (n < 0)
        return n == -ENAMETOOLONG ? -EINVAL : n;
    int err = tmpfs_memfd_new(name, flags, &file);
    if (err)
        return err;
    return fd_install(file, flags & MFD_CLOEXEC ? O_CLOEXEC : 0);
}

// --- Other processes' memory -----------------------------------------------------------------------

// Moves bytes between the caller's buffers and one range of `mm`. The number moved, or -errno if none.
static long vm_copy(struct mm *mm, struct uio *local, u64 addr, u64 size, bool write)
{
    u8 buf[VM_COPY_SIZE];
    u64 done = 0;
    while (done < size && local->resid) {
        u64 n = min(size - done, sizeof(buf));
        n = min(n, local->resid);
        if (write) {
            long got = uio_get(local, buf, n);
            if (got <= 0)
                return done ? (long)done : got;
            u64 put = copy_out_mm(mm, uaddr(addr + done), buf, (u64)got, false);
            done += put;
            if (put < (u64)got)
                break;
        } else {
            u64 got = copy_in_mm(mm, buf, uaddr(addr + done), n, false);
            if (!got)
                break;
            long put = uio_put(local, buf, got);
            if (put <= 0)
                return done ? (long)done : put;
            done += (u64)put;
            if (got < n || (u64)put < got)
                break;
        }
    }
    return done || !size ? (long)done : -EFAULT;
}

static long vm_copy_all(struct mm *mm, struct uio *local, const struct uio *remote, bool write)
{
    long total = 0;
    for (u32 i = 0; i < remote->count && local->resid; i++) {
        const struct uio_seg *s = &remote->segs[i];
        u64 want = min(s->size, local->resid);
        long n = vm_copy(mm, local, s->base, want, write);
        if (n < 0)
            return total ? total : n;
        total += n;
        if ((u64)n < want)
            break;
    }
    return total;
}

static long process_vm(struct task *t, const u64 a[6], bool write)
{
    struct uio local, remote;
    if (a[5])
        return -EINVAL;
    long r = uio_init_iovec(&local, uaddr(a[1]), a[2]);
    if (r)
        return r;
    r = uio_init_iovec(&remote, uaddr(a[3]), a[4]);
    if (r)
        goto out_local;
    struct task *other = task_find((s32)a[0]);
    r = -ESRCH;
    if (!other)
        goto out_remote;
    struct mm *mm = task_get_mm(other);
    if (mm && !task_may_inspect(other))
        r = -EPERM;
    else if (mm)
        r = vm_copy_all(mm, &local, &remote, write);
    mm_unref(mm);
    task_unref(other);
out_remote:
    uio_fini(&remote);
out_local:
    uio_fini(&local);
    return r;
}

long sys_process_vm_readv(struct task *t, const u64 a[6])
{
    return process_vm(t, a, false);
}

long sys_process_vm_writev(struct task *t, const u64 a[6])
{
    return process_vm(t, a, true);
}

// --- What this kernel is without -------------------------------------------------------------------

long sys_pkey_alloc(struct task *t, const u64 a[6])
{
    return a[0] || a[1] & ~3ull ? -EINVAL : -ENOSPC;
}

long sys_pkey_free(struct task *t, const u64 a[6])
{
    return -EINVAL;
}

long sys_pkey_mprotect(struct task *t, const u64 a[6])
{
    return (int)a[3] == -1 ? mm_mprotect(t->mm, a[0], a[1], (u32)a[2]) : -EINVAL;
}

// There is one node, 0. A policy (set_mempolicy(2)) and its nodes: -EINVAL, -EFAULT.
static int get_policy(u32 mode, u64 mask, u64 bits, u64 *ret_nodes)
{
    u32 kind = mode & ~MPOL_FLAGS;
    u64 word, nodes = 0, any = 0;
    bits = bits ? bits - 1 : 0;
    if (kind >= MPOL_MODES || (mode & MPOL_F_STATIC_NODES && mode & MPOL_F_RELATIVE_NODES) ||
        bits > PAGE_SIZE * 8)
        return -EINVAL;
    for (u64 i = 0; mask && i * 64 < bits; i++) {
        if (copy_in(&word, uaddr(mask + i * 8), sizeof(word)))
            return -EFAULT;
        if (bits - i * 64 < 64)
            word &= (1ull << (bits - i * 64)) - 1;
        if (word && i >= NODES_MAX / 64)
            return -EINVAL;
        any |= word;
        nodes |= i ? 0 : word & 1;
    }
    bool none = kind == MPOL_DEFAULT || kind == MPOL_LOCAL;
    if (none ? any || mode & MPOL_FLAGS : !nodes && (any || kind != MPOL_PREFERRED))
        return -EINVAL;
    *ret_nodes = nodes;
    return 0;
}

long sys_set_mempolicy(struct task *t, const u64 a[6])
{
    u64 nodes;
    int r = get_policy((u32)a[0], a[1], a[2], &nodes);
    if (r)
        return r;
    t->mem_policy = (u32)a[0];
    t->mem_nodes = nodes;
    return 0;
}

long sys_mbind(struct task *t, const u64 a[6])
{
    u64 nodes;
    if (a[0] & ~PAGE_MASK || a[5] & ~(u64)(MPOL_MF_STRICT | MPOL_MF_MOVE | MPOL_MF_MOVE_ALL))
        return -EINVAL;
    if (a[5] & MPOL_MF_MOVE_ALL && !task_capable(t, CAP_NICE))
        return -EPERM;
    int r = get_policy((u32)a[2], a[3], a[4], &nodes);
    if (r || !page_up(a[1]))
        return r;
    struct mm_vma_info v;
    if (!mm_next_vma(t->mm, a[0], &v))
        return -EFAULT;
    if (v.file)
        file_unref(v.file);
    return v.start <= a[0] ? 0 : -EFAULT;
}

long sys_get_mempolicy(struct task *t, const u64 a[6])
{
    u64 bits = a[2];
    if (a[4] & ~7ull)
        return -EINVAL;
    bool of_task = !(a[4] & (MPOL_F_MEMS_ALLOWED | MPOL_F_ADDR));
    if (a[4] & MPOL_F_MEMS_ALLOWED && a[4] & (MPOL_F_NODE | MPOL_F_ADDR))
        return -EINVAL;
    if (a[4] & MPOL_F_ADDR) {
        u8 byte;
        if (copy_in(&byte, uaddr(a[3]), 1))
            return -EFAULT;
    } else if (a[3]) {
        return -EINVAL;
    }
    u32 mode = of_task && !(a[4] & MPOL_F_NODE) ? t->mem_policy : 0;
    if (a[0] && put_u32(uaddr(a[0]), mode))
        return -EFAULT;
    if (!a[1])
        return 0;
    if (bits < 1)
        return -EINVAL;
    u64 words = (bits + 63) / 64;
    if (zero_out(uaddr(a[1]), words * 8))
        return -EFAULT;
    u64 nodes = a[4] & MPOL_F_MEMS_ALLOWED ? 1 : of_task ? t->mem_nodes : 0;
    return put_u64(uaddr(a[1]), nodes);
}
