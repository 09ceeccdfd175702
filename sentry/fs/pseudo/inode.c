// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "sentry/arena/arena.h"
#include "sentry/fs/pseudo/pseudo.h"

struct pseudo_ref *pseudo_ref_of(const struct inode *i)
{
    return i->priv;
}

static const struct pseudo_entry *entry_of(const struct pseudo_ref *ref)
{
    return &pseudo_tables[ref->table]->entries[ref->entry];
}

const struct pseudo_entry *pseudo_entry(const struct inode *i)
{
    return entry_of(pseudo_ref_of(i));
}

struct inode *pseudo_inode_new(struct super *sb, u16 kind, const struct pseudo_ref *ref)
{
    const struct pseudo_entry *e = entry_of(ref);
    struct inode *i = inode_new(sb, kind, super_next_ino(sb), e->mode, 0, 0);
    if (!i)
        return NULL;
    i->priv = arena_memdup(ref, sizeof(*ref));
    if (!i->priv) {
        inode_unref(i);
        return NULL;
    }
    if (S_ISDIR(e->mode))
        i->flags |= INODE_NO_CACHE;
    i->flags |= INODE_NO_ATIME;
    if (ref->tid) {
        struct task *t = pseudo_task_get(ref);
        if (t) {
            pseudo_task_owner(t, &i->uid, &i->gid);
            pseudo_task_put(t);
        }
    }
    return i;
}

int pseudo_ctx_init(struct pseudo_ctx *x, struct inode *i)
{
    *x = (struct pseudo_ctx){.inode = i, .ref = *pseudo_ref_of(i)};
    if (!x->ref.tid)
        return 0;
    x->task = pseudo_task_get(&x->ref);
    return x->task ? 0 : -ESRCH;
}

void pseudo_ctx_fini(struct pseudo_ctx *x)
{
    if (x->task)
        pseudo_task_put(x->task);
    x->task = NULL;
}

static bool name_is(const struct name *name, const char *s)
{
    return strlen(s) == name->size && !memcmp(s, name->s, name->size);
}

// An entry of the directory's table; what it is about is inherited from the directory.
static int find_static(const struct pseudo_ctx *dir, u16 table, const struct name *name,
                       struct pseudo_ref *ret)
{
    const struct pseudo_table *t = pseudo_tables[table];
    for (u32 i = 0; i < t->count; i++) {
        const struct pseudo_entry *e = &t->entries[i];
        if (!e->name || !name_is(name, e->name))
            continue;
        if (dir->ref.thread && (e->flags & PSEUDO_MISSING_IN_THREAD))
            return -ENOENT;
        *ret = dir->ref;
        ret->table = table;
        ret->entry = (u16)i;
        return 0;
    }
    return -ENOENT;
}

static int pseudo_lookup(struct inode *dir, const struct name *name, struct inode **ret)
{
    const struct pseudo_entry *e = pseudo_entry(dir);
    struct pseudo_ctx x;
    struct pseudo_ref ref;
    int r = pseudo_ctx_init(&x, dir);
    if (r)
        return -ENOENT;
    r = e->children ? find_static(&x, e->children, name, &ref) : -ENOENT;
    if (r && e->dynamic) {
        ref = x.ref;
        r = e->dynamic->lookup(&x, name, &ref);
    }
    pseudo_ctx_fini(&x);
    if (r)
        return r;
    *ret = pseudo_inode_new(dir->sb, dir->kind, &ref);
    return *ret ? 0 : -ENOMEM;
}

// Names of static entries stay right; those about a task only while it lives, and those that a dynamic
// directory made are looked up again.
static int pseudo_revalidate(struct inode *dir, const struct name *name, struct inode *inode)
{
    if (!inode)
        return 0;
    struct pseudo_ref *ref = pseudo_ref_of(inode);
    if (!ref->tid)
        return 1;
    struct task *t = pseudo_task_get(ref);
    if (!t)
        return 0;
    pseudo_task_put(t);
    const struct pseudo_entry *d = pseudo_entry(dir);
    if (!d->dynamic || ref->table == d->children)
        return 1;
    struct pseudo_ctx x;
    struct pseudo_ref again = *pseudo_ref_of(dir);
    if (pseudo_ctx_init(&x, dir))
        return 0;
    int r = d->dynamic->lookup(&x, name, &again);
    pseudo_ctx_fini(&x);
    return !r && !memcmp(&again, ref, sizeof(again));
}

static int pseudo_get_link(struct inode *i, struct link_target *ret)
{
    const struct pseudo_entry *e = pseudo_entry(i);
    struct pseudo_ctx x;
    *ret = (struct link_target){0};
    if (!e->link)
        return -EINVAL;
    int r = pseudo_ctx_init(&x, i);
    if (r)
        return r == -ESRCH ? -ENOENT : r;
    if (e->flags & PSEUDO_PRIVATE)
        r = pseudo_task_access(x.task);
    if (!r)
        r = e->link(&x, ret);
    pseudo_ctx_fini(&x);
    return r;
}

static int pseudo_getattr(struct inode *i)
{
    struct pseudo_ctx x;
    if (!pseudo_ref_of(i)->tid)
        return 0;
    if (pseudo_ctx_init(&x, i))
        return -ENOENT;
    u32 uid, gid;
    pseudo_task_owner(x.task, &uid, &gid);
    i->uid = uid;
    i->gid = gid;
    const struct pseudo_dynamic *d = pseudo_entry(i)->dynamic;
    if (d && d->directories)
        i->nlink = 2 + d->directories(&x);
    pseudo_ctx_fini(&x);
    return 0;
}

static int pseudo_setattr(struct inode *i, const struct attr_change *c)
{
    // Opening with O_TRUNC is how shells write here; it changes nothing.
    if (c->mask & (ATTR_MODE | ATTR_UID | ATTR_GID))
        return -EPERM;
    return 0;
}

static int pseudo_open(struct inode *i, struct file *f)
{
    const struct pseudo_entry *e = pseudo_entry(i);
    if (S_ISDIR(i->mode))
        return 0;
    struct pseudo_ctx x;
    int r = pseudo_ctx_init(&x, i);
    if (!r && (e->flags & PSEUDO_PRIVATE) && x.task)
        r = pseudo_task_access(x.task);
    pseudo_ctx_fini(&x);
    if (r)
        return r;
    if (f->may_write && !e->store && !e->write)
        return -EACCES;
    f->kind = FILE_PROC;
    return 0;
}

// Positions: 2 + index of a static entry; beyond them, the dynamic cursor shifted by this.
#define DYNAMIC_BASE (1ll << 20)

static int list_static(struct file *f, struct dir_emit *e, u16 table, bool thread)
{
    const struct pseudo_table *t = pseudo_tables[table];
    while (f->pos - 2 < (s64)t->count) {
        u32 i = (u32)(f->pos - 2);
        const struct pseudo_entry *c = &t->entries[i];
        if (!c->name || (c->flags & PSEUDO_ROOT) ||
            (thread && (c->flags & PSEUDO_MISSING_IN_THREAD))) {
            f->pos++;
            continue;
        }
        if (!dir_emit_next(f, e, c->name, (u32)strlen(c->name), ((u64)table << 32) + i + 100,
                           mode_to_dtype(c->mode), f->pos + 1))
            return 1;
    }
    return 0;
}

static int pseudo_readdir(struct file *f, struct dir_emit *e)
{
    const struct pseudo_entry *d = pseudo_entry(f->inode);
    struct pseudo_ctx x;
    char name[NAME_SIZE_MAX + 1];
    u8 type;
    int r = pseudo_ctx_init(&x, f->inode);
    if (r)
        return -ENOENT;
    if (f->pos < DYNAMIC_BASE && d->children && list_static(f, e, d->children, x.ref.thread))
        goto out;
    if (!d->dynamic)
        goto out;
    u64 cursor = f->pos < DYNAMIC_BASE ? 0 : (u64)(f->pos - DYNAMIC_BASE);
    for (;;) {
        int size = d->dynamic->next(&x, &cursor, name, sizeof(name), &type);
        if (size <= 0) {
            r = size;
            break;
        }
        u64 ino = ((u64)x.ref.tid << 32) + cursor + 0x10000;
        if (!dir_emit_next(f, e, name, (u32)size, ino, type, DYNAMIC_BASE + (s64)cursor))
            break;
    }
out:
    pseudo_ctx_fini(&x);
    return r;
}

static void pseudo_evict(struct inode *i)
{
    arena_free(i->priv);
    i->priv = NULL;
}

// Nothing can be made in proc, as if each name were missing; sysfs refuses by -EPERM (no operation).
static int proc_create(struct inode *dir, const struct name *name, const struct new_node *n,
                       struct inode **ret)
{
    return -ENOENT;
}

#define PSEUDO_INODE_OPS                                                                           \
    .lookup = pseudo_lookup, .revalidate = pseudo_revalidate, .get_link = pseudo_get_link,         \
    .getattr = pseudo_getattr, .setattr = pseudo_setattr, .open = pseudo_open,                     \
    .readdir = pseudo_readdir, .evict = pseudo_evict

static int proc_permission(struct inode *i, u32 mask, const struct cred *c)
{
    u32 flags = pseudo_entry(i)->flags;
    if ((flags & PSEUDO_NET_ADMIN) && !(mask & 7 & ~(i->mode >> 6)) && pseudo_may_configure(c))
        return 0;
    return inode_permission_generic(i, mask, c);
}

const struct inode_ops proc_inode_ops = {
    .name = "proc", .create = proc_create, .permission = proc_permission, PSEUDO_INODE_OPS};
const struct inode_ops sys_inode_ops = {.name = "sysfs", PSEUDO_INODE_OPS};
