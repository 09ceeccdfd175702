// SPDX-License-Identifier: Apache-2.0
#include "sentry/boot/notify.h"

#include <string.h>
#include <sys/un.h>

#include "sentry/boot/boot.h"
#include "sentry/kernel/container.h"
#include "sentry/socket/socket.h"
#include "sentry/vfs/fs_context.h"

static int bind_notify(struct file *f)
{
    static const struct sockaddr_un address = {AF_UNIX, BOOT_NOTIFY_DIR "/" BOOT_NOTIFY_NAME};
    struct socket_name name = {.size = sizeof(address)};
    memcpy(name.data, &address, sizeof(address));
    unix_make_notify(f);
    __atomic_store_n(&current->fs->umask, 0, __ATOMIC_RELAXED); // boot_process_load sets it
    return unix_socket_ops.bind(f, &name);
}

int boot_notify_open(struct container *c)
{
    struct file *f;
    int r = unix_socket_new(SOCK_DGRAM, 0, 0, &f);
    if (!r) {
        r = bind_notify(f);
        if (r)
            file_unref(f);
    }
    if (r)
        boot_explain("cannot make %s: error %d", BOOT_NOTIFY_DIR "/" BOOT_NOTIFY_NAME, -r);
    else
        c->notify = f;
    return r;
}
