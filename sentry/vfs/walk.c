// SPDX-License-Identifier: Apache-2.0
#include "sentry/vfs/walk.h"

#include <string.h>

#include "sentry/arena/arena.h"
#include "sentry/vfs/vfs.h"

static void walk_lock(struct walk *w)
{
    if (!w->locked) {
        tree_read_lock();
        w->locked = true;
    }
}

void walk_unlock(struct walk *w)
{
    if (!w->locked)
        return;
    struct path old = w->pinned;
    path_ref(&w->cur);
    w->pinned = w->cur;
    if (!w->root_held) {
        path_ref(&w->root);
        w->root_held = true;
    }
    w->locked = false;
    tree_read_unlock();
    path_put(&old);
}

// Goes to a path whose reference is taken over; unlocked.
static void walk_jump(struct walk *w, const struct path *p)
{
    struct path old = w->pinned;
    w->pinned = w->cur = *p;
    path_put(&old);
}

int walk_begin(struct walk *w, const struct path *base, int dirfd, const char *name, u32 flags)
{
    struct fs_context *fs = fs_context_current();
    w->flags = flags;
    w->cred = cred_current();
    w->root_held = w->trailing = false;
    w->link_count = w->frame_count = 0;
    w->s = name;
    w->pinned = (struct path){NULL, NULL};
    w->start = (struct fdref){NULL, false};
    if (!*name && !(flags & LOOKUP_EMPTY))
        return -ENOENT;
    bool absolute = *name == '/' && !(flags & LOOKUP_IN_ROOT);
    if (absolute && (flags & LOOKUP_BENEATH))
        return -EXDEV;
    if (!absolute && !base && dirfd != AT_FDCWD) {
        w->start = fd_get_path(dirfd);
        if (!w->start.file)
            return -EBADF;
        if (!w->start.file->path.dentry) {
            fd_put(w->start);
            return -ENOTDIR;
        }
        base = &w->start.file->path;
    }
    tree_read_lock();
    w->locked = true;
    w->root = fs->root;
    w->cur = absolute ? fs->root : base ? *base : fs->cwd;
    if (flags & (LOOKUP_BENEATH | LOOKUP_IN_ROOT))
        w->root = w->cur;
    return 0;
}

void walk_end(struct walk *w, struct path *ret)
{
    if (ret) {
        *ret = w->cur;
        path_ref(ret);
    }
    if (w->locked)
        tree_read_unlock();
    path_put(&w->pinned);
    if (w->root_held)
        path_put(&w->root);
    fd_put(w->start);
    for (u32 i = 0; i < w->link_count; i++) {
        inode_unref(w->links[i]);
        arena_free(w->owned[i]);
    }
}

// ---- steps -------------------------------------------------------------------------------------

// Goes up onto what is mounted here; locked.
static int cross_down(struct walk *w)
{
    while (unlikely(w->cur.dentry->mounts)) {
        struct mount *m = mount_find(w->cur.mount, w->cur.dentry);
        if (!m)
            break;
        if (w->flags & LOOKUP_NO_XDEV)
            return -EXDEV;
        w->cur = (struct path){m, m->root};
    }
    return 0;
}

static int step_dotdot(struct walk *w)
{
    bool scoped = w->flags & (LOOKUP_BENEATH | LOOKUP_IN_ROOT);
    for (;;) {
        if (path_equal(&w->cur, &w->root))
            return w->flags & LOOKUP_BENEATH ? -EXDEV : 0;
        struct mount *m = w->cur.mount;
        if (w->cur.dentry != m->root)
            break;
        if (!m->ns || !m->parent || m->parent == m)
            return scoped ? -EXDEV : 0; // moved out of its scope meanwhile
        if (w->flags & LOOKUP_NO_XDEV)
            return -EXDEV;
        w->cur = (struct path){m->parent, m->point};
    }
    w->cur.dentry = w->cur.dentry->parent;
    return cross_down(w);
}

// Enters a symlink's text; its reference, and `owned`, are kept to the end.
static int enter_text(struct walk *w, const char *text)
{
    if (w->s[strspn(w->s, "/")])
        w->frames[w->frame_count++] = w->s;
    else if (*w->s && !w->frame_count)
        w->trailing = true;
    if (!*text)
        return -ENOENT;
    w->s = text;
    if (*text == '/') {
        if (w->flags & LOOKUP_BENEATH)
            return -EXDEV;
        if ((w->flags & LOOKUP_NO_XDEV) && w->cur.mount != w->root.mount)
            return -EXDEV;
        if (!w->locked) {
            path_ref(&w->root);
            struct path root = w->root;
            walk_jump(w, &root);
        } else {
            w->cur = w->root;
        }
    }
    return 0;
}

static int follow_link(struct walk *w, struct inode *link)
{
    if ((w->flags & LOOKUP_NO_SYMLINKS) ||
        unlikely(mount_flags(w->cur.mount) & MOUNT_NOSYMFOLLOW))
        return -ELOOP;
    if (w->link_count == WALK_LINKS_MAX)
        return -ELOOP;
    u32 index = w->link_count++;
    w->links[index] = inode_ref(link);
    w->owned[index] = NULL;
    const char *text = __atomic_load_n(&link->link, __ATOMIC_ACQUIRE);
    if (text)
        return enter_text(w, text);
    if (w->flags & LOOKUP_CACHED)
        return -EAGAIN;
    if (!inode_ops(link)->get_link)
        return -EINVAL;
    walk_unlock(w);
    struct link_target t = {0};
    int r = inode_ops(link)->get_link(link, &t);
    if (r)
        return r;
    if (!t.path.dentry) {
        w->owned[index] = t.owned;
        return enter_text(w, t.text);
    }
    arena_free(t.owned);
    if (w->flags & LOOKUP_NO_MAGICLINKS)
        r = -ELOOP;
    else if ((w->flags & (LOOKUP_BENEATH | LOOKUP_IN_ROOT)) ||
             ((w->flags & LOOKUP_NO_XDEV) && t.path.mount != w->cur.mount))
        r = -EXDEV;
    if (r) {
        path_put(&t.path);
        return r;
    }
    if (*w->s && !w->frame_count && !w->s[strspn(w->s, "/")])
        w->trailing = true;
    walk_jump(w, &t.path);
    return 0;
}

int walk_follow_last(struct walk *w, struct inode *link)
{
    return follow_link(w, link);
}

// Asks the filesystem for a name that is not cached. Leaves the walk unlocked with the dentry referenced.
static int lookup_slow(struct walk *w, const struct name *name, struct dentry **ret)
{
    if (w->flags & LOOKUP_CACHED)
        return -EAGAIN;
    walk_unlock(w);
    return dentry_lookup(w->cur.dentry, name, ret);
}

// Through one ordinary component. `last`: no more follow.
static int step_name(struct walk *w, const struct name *name, bool last)
{
    struct dentry *dir = w->cur.dentry, *d = NULL;
    walk_lock(w);
    if (likely(!(dir->inode->sb->flags & SUPER_REVALIDATE)))
        d = dentry_find(dir, name);
    if (unlikely(!d)) {
        int r = lookup_slow(w, name, &d);
        if (r)
            return r;
        if (!d->inode) {
            dentry_unref(d);
            return -ENOENT;
        }
        if (!S_ISLNK(d->inode->mode)) {
            struct path p = {mount_ref(w->cur.mount), d};
            walk_jump(w, &p);
            walk_lock(w);
            return cross_down(w);
        }
        int follow = !last || (w->flags & LOOKUP_FOLLOW) || w->trailing;
        if (follow) {
            r = follow_link(w, d->inode);
            dentry_unref(d);
            return r;
        }
        struct path p = {mount_ref(w->cur.mount), d};
        walk_jump(w, &p);
        return 0;
    }
    if (!d->inode)
        return -ENOENT;
    if (unlikely(S_ISLNK(d->inode->mode)) &&
        (!last || (w->flags & LOOKUP_FOLLOW) || w->trailing))
        return follow_link(w, d->inode);
    w->cur.dentry = d;
    return cross_down(w);
}

// Takes the next component of the text: its size (0: the end).
static int next_name(struct walk *w, struct name *ret)
{
    const char *s = w->s;
    while (*s == '/')
        s++;
    u32 h = 0x811c9dc5, n = 0;
    for (; s[n] && s[n] != '/'; n++)
        h = (h ^ (u8)s[n]) * 0x01000193;
    *ret = (struct name){s, n, h};
    w->s = s + n;
    return n > NAME_SIZE_MAX ? -ENAMETOOLONG : 0;
}

static enum last_type name_type(const struct name *n)
{
    if (n->s[0] != '.' || n->size > 2)
        return LAST_NAME;
    if (n->size == 1)
        return LAST_DOT;
    return n->s[1] == '.' ? LAST_DOTDOT : LAST_NAME;
}

static int may_search(struct walk *w)
{
    struct inode *dir = w->cur.dentry->inode;
    if (unlikely(!inode_is_dir(dir)))
        return -ENOTDIR;
    return inode_permission(dir, MAY_EXEC, w->cred);
}

int walk_run(struct walk *w, bool parent)
{
    struct name name;
    int r;

    w->last = (struct last_name){.type = LAST_ROOT};
    for (;;) {
        r = next_name(w, &name);
        if (!name.size) {
            if (!w->frame_count)
                break;
            w->s = w->frames[--w->frame_count];
            continue;
        }
        walk_lock(w);
        int search = may_search(w);
        if (search || r)
            return search ? search : r;
        bool last = !w->frame_count && !w->s[strspn(w->s, "/")];
        if (last && *w->s)
            w->trailing = true;
        enum last_type type = name_type(&name);
        if (last && parent) {
            w->last = (struct last_name){name, type, w->trailing};
            return 0;
        }
        if (type == LAST_NAME)
            r = step_name(w, &name, last);
        else if (type == LAST_DOTDOT) {
            if ((w->flags & (LOOKUP_BENEATH | LOOKUP_IN_ROOT)) && w->cur.mount == w->root.mount &&
                !dentry_is_ancestor(w->root.dentry, w->cur.dentry))
                r = -EXDEV;
            else
                r = step_dotdot(w);
        }
        if (r)
            return r;
    }
    if (!parent && (w->trailing || (w->flags & LOOKUP_DIRECTORY)) &&
        !inode_is_dir(w->cur.dentry->inode))
        return -ENOTDIR;
    return 0;
}
