// SPDX-License-Identifier: Apache-2.0
#include "sentry/boot/notify.h"

#include <string.h>
#include <sys/un.h>

#include "host/host.h"
#include "sentry/boot/boot.h"
#include "sentry/fs/anon/hostfd.h"
#include "sentry/kernel/container.h"
#include "sentry/socket/socket.h"
#include "sentry/vfs/fs_context.h"

static int bind_notify(struct file *f)
{
    static const struct sockaddr_un address = {AF_UNIX, BOOT_NOTIFY_DIR "/" BOOT_NOTIFY_NAME};
    struct socket_name name = {.size = sizeof(address)};
    memcpy(name.data, &address, sizeof(address));
    __atomic_store_n(&current->fs->umask, 0, __ATOMIC_RELAXED); // boot_process_load sets it
    return unix_socket_ops.bind(f, &name);
}

static void never(void *arg, u32 events)
{
}

static int take_host(struct container *c, s32 *fd)
{
    c->notify_host = hostfd_watch(*fd, never, c);
    if (!c->notify_host)
        return -ENOMEM;
    *fd = -1;
    return 0;
}

int boot_notify_open(struct container *c, struct boot_message *m)
{
    bool mounted = m->notify_fd >= 0;
    if (!mounted && !(m->features & BOOT_NOTIFY))
        return 0;
    int r = mounted ? take_host(c, &m->notify_fd) : 0;
    if (!r)
        r = unix_socket_new(SOCK_DGRAM, 0, 0, &c->notify);
    if (!r) {
        unix_make_notify(c->notify);
        r = mounted ? unix_stand_for(c->notify, m->notify_path) : bind_notify(c->notify);
    }
    // What there is goes with the container.
    if (r)
        boot_explain("cannot make %s: error %d", mounted ? m->notify_path : BOOT_NOTIFY_DIR "/" BOOT_NOTIFY_NAME, -r);
    return r;
}
