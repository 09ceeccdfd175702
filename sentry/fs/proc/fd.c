// SPDX-License-Identifier: Apache-2.0
// /proc/PID/fd and fdinfo.
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "sentry/arena/arena.h"
#include "sentry/fs/proc/proc.h"
#include "sentry/vfs/fdtable.h"
#include "sentry/vfs/path.h"

// The descriptor's file, referenced; NULL.
static struct file *get_file(struct task *t, u32 fd, bool *ret_cloexec)
{
    struct file *f = NULL;
    bool cloexec = false;
    struct fdtable *table = task_get_files(t);
    if (!table)
        return NULL;
    if (fdtable_next(table, (int)fd, &f, &cloexec) != (int)fd && f) {
        file_unref(f);
        f = NULL;
    }
    fdtable_unref(table);
    if (ret_cloexec)
        *ret_cloexec = cloexec;
    return f;
}

// The two nameless entries at the end of the process' table.
static u16 nameless_entry(bool info)
{
    return (u16)(pseudo_tables[PSEUDO_PROC_PROCESS]->count - (info ? 1 : 2));
}

static int lookup(const struct pseudo_ctx *dir, const struct name *name, struct pseudo_ref *ret,
                  bool info)
{
    s64 fd = proc_parse_number(name, FD_CEILING);
    struct file *f = fd >= 0 ? get_file(dir->task, (u32)fd, NULL) : NULL;
    if (!f)
        return -ENOENT;
    file_unref(f);
    *ret = dir->ref;
    ret->table = PSEUDO_PROC_PROCESS;
    ret->entry = nameless_entry(info);
    ret->param = (u32)fd;
    return 0;
}

static int next(const struct pseudo_ctx *dir, u64 *cursor, char *name, u32 size)
{
    struct file *f = NULL;
    struct fdtable *table = task_get_files(dir->task);
    if (!table)
        return 0;
    int fd = *cursor > FD_CEILING ? -1 : fdtable_next(table, (int)*cursor, &f, NULL);
    fdtable_unref(table);
    if (fd < 0)
        return 0;
    file_unref(f);
    *cursor = (u64)fd + 1;
    return snprintf(name, size, "%d", fd);
}

static int fds_lookup(const struct pseudo_ctx *dir, const struct name *name, struct pseudo_ref *ret)
{
    return lookup(dir, name, ret, false);
}

static int fds_next(const struct pseudo_ctx *dir, u64 *cursor, char *name, u32 size, u8 *type)
{
    *type = 10; // DT_LNK
    return next(dir, cursor, name, size);
}

const struct pseudo_dynamic proc_fds = {fds_lookup, fds_next};

static int fdinfos_lookup(const struct pseudo_ctx *dir, const struct name *name,
                          struct pseudo_ref *ret)
{
    return lookup(dir, name, ret, true);
}

static int fdinfos_next(const struct pseudo_ctx *dir, u64 *cursor, char *name, u32 size, u8 *type)
{
    *type = 8; // DT_REG
    return next(dir, cursor, name, size);
}

const struct pseudo_dynamic proc_fdinfos = {fdinfos_lookup, fdinfos_next};

int proc_link_fd(struct pseudo_ctx *x, struct link_target *ret)
{
    char buf[PATH_SIZE_MAX];
    struct file *f = get_file(x->task, x->ref.param, NULL);
    if (!f)
        return -ENOENT;
    int r = 0;
    if (!f->path.dentry) {
        r = file_to_string(f, buf, sizeof(buf));
        if (r >= 0) {
            ret->owned = arena_memdup(buf, (u64)r + 1);
            ret->text = ret->owned;
            r = ret->owned ? 0 : -ENOMEM;
        }
    }
    // What has no inode has a name but leads nowhere.
    if (!r)
        r = file_get_path(f, &ret->path);
    file_unref(f);
    return r == -ENOENT && ret->text ? 0 : r;
}

int proc_show_fdinfo(struct pseudo_ctx *x, struct text *out)
{
    char more[512];
    bool cloexec;
    struct file *f = get_file(x->task, x->ref.param, &cloexec);
    if (!f)
        return -ENOENT;
    text_printf(out, "pos:\t%lld\nflags:\t0%o\nmnt_id:\t%u\nino:\t%llu\n", (long long)f->pos,
                f->flags | (cloexec ? O_CLOEXEC : 0), f->path.mount ? f->path.mount->id : 0,
                f->inode ? (unsigned long long)f->inode->ino : 0ull);
    const struct file_ops *ops = file_ops(f);
    if (ops && ops->fdinfo) {
        int n = ops->fdinfo(f, more, sizeof(more));
        if (n > 0)
            text_add(out, more, min((u64)n, (u64)sizeof(more)));
    }
    file_unref(f);
    return 0;
}
