// SPDX-License-Identifier: Apache-2.0
// Listing directories: what the upper and the lower one have, each name once. A list is made when a directory
// is first read, or read again from its start, and kept with the open file, so that positions stay right.
#include <string.h>

#include "sentry/arena/arena.h"
#include "sentry/fs/overlay/overlay.h"
#include "sentry/vfs/dentry.h"

#define LIST_MAX (1u << 20) // entries

struct entry {
    u64 ino;
    u32 name; // offset in names
    u8 size, type;
};

struct overlay_list {
    u32 count, capacity;
    u32 names_size, names_capacity;
    struct entry *entries;
    char *names;
};

void overlay_list_free(struct overlay_list *l)
{
    if (!l)
        return;
    arena_free(l->entries);
    arena_free(l->names);
    arena_free(l);
}

u32 overlay_list_count(const struct overlay_list *l)
{
    return l->count;
}

// Doubles a growing array; false when out of memory.
static bool grow(void *array, u32 used, u32 *capacity, u32 need, u64 unit, u32 first)
{
    if (used + need <= *capacity)
        return true;
    u32 want = max(first, used + need), more = max(*capacity * 2, want);
    void **p = array, *new = arena_alloc(more * unit);
    if (!new)
        return false;
    if (used)
        memcpy(new, *p, used * unit);
    arena_free(*p);
    *p = new;
    *capacity = more;
    return true;
}

static int add(struct overlay_list *l, const char *name, u32 size, u64 ino, u8 type)
{
    if (l->count >= LIST_MAX ||
        !grow(&l->entries, l->count, &l->capacity, 1, sizeof(*l->entries), 16) ||
        !grow(&l->names, l->names_size, &l->names_capacity, size, 1, 256))
        return -ENOMEM;
    memcpy(l->names + l->names_size, name, size);
    l->entries[l->count++] = (struct entry){ino, l->names_size, (u8)size, type};
    l->names_size += size;
    return 0;
}

struct collector {
    struct dir_emit emit;
    struct overlay_list *list;
    struct inode *upper; // of the merged directory; NULL: take all
    bool is_upper;
    int err;
};

static bool collect(struct dir_emit *e, const char *name, u32 size, u64 ino, u8 type, s64 next)
{
    struct collector *c = container_of(e, struct collector, emit);
    if (size > NAME_SIZE_MAX)
        return true;
    c->err = add(c->list, name, size, ino, type);
    return !c->err;
}

// All entries of one layer's directory.
static int read_layer(struct inode *dir, struct overlay_list *l)
{
    struct collector c = {.emit.emit = collect, .list = l};
    struct file *f;
    int r = inode_open(dir, O_RDONLY | O_DIRECTORY, &f);
    if (r)
        return r;
    f->pos = 2;
    for (s64 before = -1; !r && !c.err && f->pos != before;) {
        before = f->pos;
        r = inode_ops(dir)->readdir ? inode_ops(dir)->readdir(f, &c.emit) : 0;
    }
    file_unref(f);
    return r ? r : c.err;
}

// Leaves out whiteouts, and gives each entry the number that the overlay shows.
static void clean_upper(struct inode *upper, struct overlay_list *l)
{
    u32 kept = 0;
    for (u32 k = 0; k < l->count; k++) {
        struct entry e = l->entries[k];
        struct name name = name_make(l->names + e.name, e.size);
        struct inode *i = NULL;
        mutex_lock_nested(&upper->lock, RANK_INODE);
        int r = inode_ops(upper)->lookup(upper, &name, &i);
        mutex_unlock(&upper->lock);
        if (!r && !(i->flags & INODE_WHITEOUT)) {
            e.ino = i->priv_word ? i->priv_word : i->ino + OVERLAY_UPPER_INO;
            l->entries[kept++] = e;
        }
        inode_unref(i);
    }
    l->count = kept;
}

// Leaves out, from entry `from` on, what the upper directory has or hides.
static void hide_lower(struct inode *upper, struct overlay_list *l, u32 from)
{
    u32 kept = from;
    for (u32 k = from; k < l->count; k++) {
        struct entry e = l->entries[k];
        struct name name = name_make(l->names + e.name, e.size);
        struct inode *i = NULL;
        mutex_lock_nested(&upper->lock, RANK_INODE);
        int r = inode_ops(upper)->lookup(upper, &name, &i);
        mutex_unlock(&upper->lock);
        inode_unref(i);
        if (r)
            l->entries[kept++] = e;
    }
    l->count = kept;
}

int overlay_list_make(struct inode *dir, struct overlay_list **ret)
{
    struct inode *upper = overlay_upper(dir), *lower = overlay_lower_dir(dir);
    struct overlay_list *l = arena_alloc(sizeof(*l));
    int r = l ? 0 : -ENOMEM;
    if (!r && upper) {
        r = read_layer(upper, l);
        if (!r)
            clean_upper(upper, l);
    }
    if (!r && lower) {
        u32 from = l->count;
        r = read_layer(lower, l);
        if (!r && upper)
            hide_lower(upper, l, from);
    }
    if (r) {
        overlay_list_free(l);
        return r;
    }
    *ret = l;
    return 0;
}

// The entries have positions 2 and up. f->pos_lock held.
int overlay_readdir(struct file *f, struct dir_emit *e)
{
    struct overlay_list *l = f->priv;
    if (!l || f->pos <= 2) {
        int r = overlay_list_make(f->inode, &l);
        if (r)
            return r;
        overlay_list_free(f->priv);
        f->priv = l;
    }
    while (f->pos - 2 < l->count) {
        const struct entry *x = &l->entries[f->pos - 2];
        if (!dir_emit_next(f, e, l->names + x->name, x->size, x->ino, x->type, f->pos + 1))
            break;
    }
    return 0;
}

void overlay_release_dir(struct inode *i, struct file *f)
{
    overlay_list_free(f->priv);
    f->priv = NULL;
}

int overlay_clear(struct inode *dir)
{
    struct inode *upper = overlay_upper(dir);
    struct overlay_list *l = NULL;
    int r = overlay_list_make(dir, &l);
    if (!r && l->count)
        r = -ENOTEMPTY;
    overlay_list_free(l);
    if (r || !upper)
        return r;
    l = arena_alloc(sizeof(*l));
    r = l ? read_layer(upper, l) : -ENOMEM;
    for (u32 k = 0; !r && k < l->count; k++) {
        struct name name = name_make(l->names + l->entries[k].name, l->entries[k].size);
        struct inode *i = NULL;
        mutex_lock_nested(&upper->lock, RANK_INODE);
        r = inode_ops(upper)->lookup(upper, &name, &i);
        if (!r)
            r = inode_ops(upper)->unlink(upper, &name, i);
        mutex_unlock(&upper->lock);
        inode_unref(i);
    }
    overlay_list_free(l);
    return r;
}
