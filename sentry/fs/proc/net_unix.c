// SPDX-License-Identifier: Apache-2.0
// /proc/net/unix: the unix sockets that a process has a descriptor for.
#include <string.h>
#include <sys/un.h>

#include "sentry/arena/arena.h"
#include "sentry/fs/proc/proc.h"
#include "sentry/socket/socket.h"
#include "sentry/vfs/fdtable.h"

#define SOCKETS_MAX 4096 // that are listed
#define LISTENS 0x10000  // __SO_ACCEPTCON

// States, as SS_* of Linux.
enum { UNCONNECTED = 1, CONNECTED = 3 };

struct seen {
    u32 count;
    const struct file *files[SOCKETS_MAX]; // to compare only
};

static bool is_new(struct seen *s, const struct file *f)
{
    for (u32 i = 0; i < s->count; i++)
        if (s->files[i] == f)
            return false;
    if (s->count == SOCKETS_MAX)
        return false;
    s->files[s->count++] = f;
    return true;
}

static s32 option_of(struct file *f, int name)
{
    s32 v = 0;
    u32 size = sizeof(v);
    return socket_ops(f)->getsockopt(f, SOL_SOCKET, name, &v, &size) ? 0 : v;
}

// A path, or an abstract name with `@` for each NUL.
static void add_name(struct text *out, const struct socket_name *name)
{
    u32 at = offsetof(struct sockaddr_un, sun_path);
    if (name->size <= at)
        return;
    text_char(out, ' ');
    bool abstract = !name->data[at];
    for (u32 i = at; i < name->size && (abstract || name->data[i]); i++)
        text_char(out, name->data[i] ? (char)name->data[i] : '@');
}

static void add_socket(struct text *out, struct file *f)
{
    struct socket_name name = {0}, peer = {0};
    const struct socket_ops *ops = socket_ops(f);
    bool listens = option_of(f, SO_ACCEPTCONN);
    bool connected = !ops->getname(f, true, &peer);
    text_printf(out, "%016x: %08X %08X %08X %04X %02X %5llu", 0, 2, 0, listens ? LISTENS : 0,
                (u32)option_of(f, SO_TYPE), connected ? CONNECTED : UNCONNECTED,
                (unsigned long long)(f->inode ? f->inode->ino : 0));
    if (!ops->getname(f, false, &name))
        add_name(out, &name);
    text_char(out, '\n');
}

static void add_sockets(struct text *out, struct seen *seen, struct fdtable *table)
{
    struct file *f = NULL;
    for (int fd = fdtable_next(table, 0, &f, NULL); fd >= 0; fd = fdtable_next(table, fd + 1, &f, NULL)) {
        if (f->kind == FILE_UNIX && is_new(seen, f))
            add_socket(out, f);
        file_unref(f);
    }
}

int proc_show_net_unix(struct pseudo_ctx *x, struct text *out)
{
    struct seen *seen = arena_alloc(sizeof(*seen));
    if (!seen)
        return -ENOMEM;
    text_str(out, "Num       RefCount Protocol Flags    Type St Inode Path\n");
    for (struct process *p = process_next(1), *next; p; p = next) {
        struct task *t = process_any_thread(p);
        struct fdtable *table = t ? task_get_files(t) : NULL;
        if (table) {
            add_sockets(out, seen, table);
            fdtable_unref(table);
        }
        if (t)
            task_unref(t);
        next = process_next(process_nr(p) + 1);
        process_unref(p);
    }
    arena_free(seen);
    return 0;
}
