// SPDX-License-Identifier: Apache-2.0
#include "shim/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define DATA_MAX 65536
#define KERNEL_DATA_MAX 4095 // mount(2) takes a page
#define REMOVE_MAX 64

static const struct flag {
    const char *name;
    unsigned long flag;
    bool clear;
} flag_names[] = {
    {"async", MS_SYNCHRONOUS, true},
    {"atime", MS_NOATIME, true},
    {"bind", MS_BIND, false},
    {"defaults", 0, false},
    {"dev", MS_NODEV, true},
    {"diratime", MS_NODIRATIME, true},
    {"dirsync", MS_DIRSYNC, false},
    {"exec", MS_NOEXEC, true},
    {"mand", MS_MANDLOCK, false},
    {"noatime", MS_NOATIME, false},
    {"nodev", MS_NODEV, false},
    {"nodiratime", MS_NODIRATIME, false},
    {"noexec", MS_NOEXEC, false},
    {"nomand", MS_MANDLOCK, true},
    {"norelatime", MS_RELATIME, true},
    {"nostrictatime", MS_STRICTATIME, true},
    {"nosuid", MS_NOSUID, false},
    {"rbind", MS_BIND | MS_REC, false},
    {"relatime", MS_RELATIME, false},
    {"remount", MS_REMOUNT, false},
    {"ro", MS_RDONLY, false},
    {"rw", MS_RDONLY, true},
    {"strictatime", MS_STRICTATIME, false},
    {"suid", MS_NOSUID, true},
    {"sync", MS_SYNCHRONOUS, false},
};

static const struct flag propagation_names[] = {
    {"private", MS_PRIVATE, false},
    {"rprivate", MS_PRIVATE | MS_REC, false},
    {"rshared", MS_SHARED | MS_REC, false},
    {"rslave", MS_SLAVE | MS_REC, false},
    {"runbindable", MS_UNBINDABLE | MS_REC, false},
    {"shared", MS_SHARED, false},
    {"slave", MS_SLAVE, false},
    {"unbindable", MS_UNBINDABLE, false},
};

struct parsed {
    unsigned long flags, propagation;
    bool loop;
    char data[DATA_MAX];
    size_t size;
};

static const struct flag *find(const struct flag *table, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(table[i].name, name) == 0)
            return &table[i];
    return NULL;
}

static int parse(const Pb__Mount *m, struct parsed *p)
{
    for (size_t i = 0; i < m->n_options; i++) {
        const char *option = m->options[i];
        const struct flag *f = find(flag_names, sizeof(flag_names) / sizeof(flag_names[0]), option);
        const struct flag *g = find(
            propagation_names, sizeof(propagation_names) / sizeof(propagation_names[0]), option);
        size_t length = strlen(option);
        if (f) {
            p->flags = f->clear ? p->flags & ~f->flag : p->flags | f->flag;
        } else if (g) {
            p->propagation |= g->flag;
        } else if (strcmp(option, "loop") == 0) {
            p->loop = true;
        } else {
            if (p->size + length + 2 > sizeof(p->data))
                return -E2BIG;
            if (p->size)
                p->data[p->size++] = ',';
            memcpy(p->data + p->size, option, length + 1);
            p->size += length;
        }
    }
    return 0;
}

// overlay's data is longer than a page when there are many layers: their common directory becomes
// the working one of a child process, and their names relative to it.
static bool common_directory(const char *data, char *ret_dir, size_t size)
{
    const char *lower = strstr(data, "lowerdir=");
    if (!lower)
        return false;
    lower += strlen("lowerdir=");
    size_t end = strcspn(lower, ","), common = end;
    for (const char *p = lower; p < lower + end;) {
        size_t length = strcspn(p, ":,"), k = 0;
        while (k < common && k < length && p[k] == lower[k])
            k++;
        common = k;
        p += length + (p[length] == ':');
        if (p[-1] != ':')
            break;
    }
    while (common && lower[common - 1] != '/')
        common--;
    if (common < 2 || common >= size)
        return false;
    memcpy(ret_dir, lower, common);
    ret_dir[common] = 0;
    return true;
}

static void make_relative(char *data, const char *dir)
{
    size_t length = strlen(dir);
    for (char *p = data; (p = strstr(p, dir));) {
        if (p > data && (p[-1] == ':' || p[-1] == '='))
            memmove(p, p + length, strlen(p + length) + 1);
        else
            p += length;
    }
}

// In a thread with a working directory of its own, which is unshared from that of the shim.
static int mount_in(const char *dir, const Pb__Mount *m, const char *target, const struct parsed *p)
{
    char absolute[4096];
    int self = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC), r = 0;
    if (!realpath(target, absolute) || self < 0)
        return -errno;
    if (chdir(dir) < 0 || mount(m->source, absolute, m->type, p->flags, p->data) < 0)
        r = -errno;
    if (fchdir(self) < 0 && r == 0)
        r = -errno;
    close(self);
    return r;
}

static int attach_loop(const char *file, bool read_only, char *ret_path, size_t size)
{
    int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), device = -1, r = -EBUSY;
    int backing = open(file, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
    if (control < 0 || backing < 0)
        r = -errno;
    for (int i = 0; control >= 0 && backing >= 0 && i < 16 && r == -EBUSY; i++) {
        int n = ioctl(control, LOOP_CTL_GET_FREE);
        struct loop_config config = {.fd = (uint32_t)backing,
                                     .info.lo_flags =
                                         LO_FLAGS_AUTOCLEAR | (read_only ? LO_FLAGS_READ_ONLY : 0)};
        snprintf(ret_path, size, "/dev/loop%d", n);
        device = n < 0 ? -1 : open(ret_path, O_RDWR | O_CLOEXEC);
        if (device < 0)
            r = -errno;
        else
            r = ioctl(device, LOOP_CONFIGURE, &config) < 0 ? -errno : device;
        if (r < 0 && device >= 0)
            close(device);
    }
    if (control >= 0)
        close(control);
    if (backing >= 0)
        close(backing);
    return r;
}

static int mount_parsed(const Pb__Mount *m, const char *target, struct parsed *p,
                        const char **ret_what)
{
    const unsigned long bind_later = MS_BIND | MS_RDONLY;
    char dir[4096], loop[32];
    int device = -1, r = 0;

    *ret_what = "mount";
    Pb__Mount with_loop = *m;
    if (p->loop) {
        device = attach_loop(m->source, p->flags & MS_RDONLY, loop, sizeof(loop));
        if (device < 0)
            return device;
        with_loop.source = loop;
        m = &with_loop;
    }
    if (p->size > KERNEL_DATA_MAX && common_directory(p->data, dir, sizeof(dir))) {
        make_relative(p->data, dir);
        r = strlen(p->data) > KERNEL_DATA_MAX ? -E2BIG : mount_in(dir, m, target, p);
    } else if (mount(m->source, target, m->type, p->flags, p->data) < 0) {
        r = -errno;
    }
    if (device >= 0)
        close(device);
    if (r == 0 && p->propagation && mount("none", target, NULL, p->propagation, NULL) < 0)
        r = -errno;
    // The flags of a bind mount are taken by a second call only.
    if (r == 0 && (p->flags & bind_later) == bind_later &&
        mount(NULL, target, NULL, p->flags | MS_REMOUNT, NULL) < 0)
        r = -errno;
    return r;
}

int mount_one(const Pb__Mount *m, const char *target, const char **ret_what)
{
    char joined[4096];
    struct parsed *p = calloc(1, sizeof(*p));
    int r = p ? parse(m, p) : -ENOMEM;

    *ret_what = "mount options";
    if (*m->target && strcmp(m->target, "/") != 0) {
        if ((size_t)snprintf(joined, sizeof(joined), "%s/%s", target, m->target) >=
                sizeof(joined) ||
            strstr(m->target, ".."))
            r = -EINVAL;
        target = joined;
    }
    if (r == 0)
        r = mount_parsed(m, target, p, ret_what);
    free(p);
    return r;
}

int mount_remove_all(const char *target)
{
    for (int i = 0; i < REMOVE_MAX; i++) {
        if (umount2(target, UMOUNT_NOFOLLOW) == 0)
            continue;
        if (errno == EBUSY && umount2(target, MNT_DETACH | UMOUNT_NOFOLLOW) == 0)
            continue;
        // EINVAL: nothing is mounted there.
        return errno == EINVAL || errno == ENOENT ? 0 : -errno;
    }
    return -ELOOP;
}
