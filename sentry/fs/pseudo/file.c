// SPDX-License-Identifier: Apache-2.0
// Open files of pseudo filesystems. f->priv is the text as it was when reading began.
#include <string.h>
#include <unistd.h>

#include "sentry/arena/arena.h"
#include "sentry/fs/pseudo/pseudo.h"

#define WRITE_MAX 4096 // longest text that one write may bring, as Linux's page

static void release(struct file *f)
{
    struct text *t = f->priv;
    if (!t)
        return;
    text_fini(t);
    arena_free(t);
    f->priv = NULL;
}

static int make_text(struct file *f)
{
    const struct pseudo_entry *e = pseudo_entry(f->inode);
    struct pseudo_ctx x;
    struct text fresh = {0}, *t = f->priv;
    if (!e->show && !e->text)
        return -EINVAL;
    int r = pseudo_ctx_init(&x, f->inode);
    if (r)
        return r;
    x.file = f;
    if (e->show)
        r = e->show(&x, &fresh);
    else
        text_str(&fresh, e->text);
    pseudo_ctx_fini(&x);
    if (!r)
        r = text_error(&fresh);
    if (!r && !t)
        t = f->priv = arena_alloc(sizeof(*t));
    if (!r && !t)
        r = -ENOMEM;
    if (r) {
        text_fini(&fresh);
        return r;
    }
    text_fini(t);
    *t = fresh;
    return 0;
}

static long direct(struct file *f, struct uio *u, s64 *pos, bool writing)
{
    const struct pseudo_entry *e = pseudo_entry(f->inode);
    struct pseudo_ctx x;
    int r = pseudo_ctx_init(&x, f->inode);
    if (r)
        return r;
    long n = writing ? e->write(&x, u, *pos) : e->read(&x, u, *pos);
    pseudo_ctx_fini(&x);
    if (n > 0)
        *pos += n;
    return n;
}

static long pseudo_read(struct file *f, struct uio *u, s64 *pos)
{
    if (pseudo_entry(f->inode)->read)
        return direct(f, u, pos, false);
    if (*pos == 0 || !f->priv) {
        int r = make_text(f);
        if (r)
            return r;
    }
    const struct text *t = f->priv;
    if (*pos < 0 || (u64)*pos >= t->size)
        return 0;
    long n = uio_put(u, t->data + *pos, t->size - (u64)*pos);
    if (n > 0)
        *pos += n;
    return n;
}

static long pseudo_write(struct file *f, struct uio *u, s64 *pos)
{
    const struct pseudo_entry *e = pseudo_entry(f->inode);
    char buf[WRITE_MAX + 1];
    struct pseudo_ctx x;
    if (e->write)
        return direct(f, u, pos, true);
    if (!e->store)
        return -EIO;
    if (u->resid > WRITE_MAX)
        return -EINVAL;
    u64 want = u->resid;
    long n = uio_get(u, buf, want);
    if (n < 0)
        return n;
    if ((u64)n < want)
        return -EFAULT;
    buf[n] = 0;
    int r = pseudo_ctx_init(&x, f->inode);
    if (r)
        return r;
    x.file = f;
    r = e->store(&x, buf, (u32)n);
    pseudo_ctx_fini(&x);
    if (r)
        return r;
    *pos += n;
    return n;
}

static s64 pseudo_seek(struct file *f, s64 off, int whence)
{
    switch (whence) {
    case SEEK_SET:
        break;
    case SEEK_CUR:
        off += f->pos;
        break;
    default:
        return -EINVAL;
    }
    return off < 0 && !pseudo_entry(f->inode)->read ? -EINVAL : off;
}

static u32 pseudo_ready(struct file *f)
{
    const struct pseudo_entry *e = pseudo_entry(f->inode);
    return e->ready ? e->ready(f) : 0x145u; // IN | OUT | RDNORM | WRNORM
}

static struct waitq *pseudo_queue(struct file *f)
{
    const struct pseudo_entry *e = pseudo_entry(f->inode);
    return e->queue ? e->queue(f) : NULL;
}

const struct file_ops proc_file_ops = {
    .name = "pseudo",
    .release = release,
    .read = pseudo_read,
    .write = pseudo_write,
    .seekable = true,
    .seek = pseudo_seek,
    .ready = pseudo_ready,
    .queue = pseudo_queue,
};
