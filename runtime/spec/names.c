// SPDX-License-Identifier: Apache-2.0
// Names of capabilities, resource limits and mount options.
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/mount.h>

#include "runtime/spec/spec.h"

#ifndef MS_NOSYMFOLLOW
#define MS_NOSYMFOLLOW 256
#endif

// In the order of their numbers: capabilities(7).
static const char *const capabilities[] = {
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID",
    "SETPCAP", "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW",
    "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT",
    "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD",
    "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG",
    "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE",
};

const char *const spec_default_capabilities[] = {
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW",
    "CAP_SETGID", "CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
};
const size_t spec_default_capability_count = array_size(spec_default_capabilities);

int spec_capability(const char *name)
{
    if (!strncasecmp(name, "CAP_", 4))
        name += 4;
    for (size_t i = 0; i < array_size(capabilities); i++)
        if (!strcasecmp(capabilities[i], name))
            return (int)i;
    return -1;
}

bool spec_capability_name(u32 number, char *text, size_t size)
{
    if (number >= array_size(capabilities))
        return false;
    snprintf(text, size, "CAP_%s", capabilities[number]);
    return true;
}

// In the order of their numbers: getrlimit(2).
static const char *const rlimits[] = {
    "CPU", "FSIZE", "DATA", "STACK", "CORE", "RSS", "NPROC", "NOFILE",
    "MEMLOCK", "AS", "LOCKS", "SIGPENDING", "MSGQUEUE", "NICE", "RTPRIO", "RTTIME",
};

int spec_rlimit(const char *name)
{
    if (strncmp(name, "RLIMIT_", 7))
        return -1;
    for (size_t i = 0; i < array_size(rlimits); i++)
        if (!strcmp(rlimits[i], name + 7))
            return (int)i;
    return -1;
}

struct mount_option {
    const char *name;
    bool clear;
    u64 flags;
};

// Options that are flags: OCI config.md "mounts", mount(8). Mounts below a bind mount's source are no mounts of the
// guest's: its flags hold for them, too, so that most of the recursive words say the same. Without flags: what
// means nothing to the guest's kernel.
static const struct mount_option mount_options[] = {
    {"async", true, MS_SYNCHRONOUS},
    {"atime", true, MS_NOATIME},
    {"bind", false, MS_BIND},
    {"defaults", false, 0},
    {"dev", true, MS_NODEV},
    {"diratime", true, MS_NODIRATIME},
    {"dirsync", false, MS_DIRSYNC},
    {"exec", true, MS_NOEXEC},
    {"iversion", false, 0},
    {"lazytime", false, 0},
    {"loud", false, 0},
    {"mand", false, 0},
    {"noatime", false, MS_NOATIME},
    {"nodev", false, MS_NODEV},
    {"nodiratime", false, MS_NODIRATIME},
    {"noexec", false, MS_NOEXEC},
    {"noiversion", false, 0},
    {"nolazytime", false, 0},
    {"nomand", false, 0},
    {"norelatime", true, MS_RELATIME},
    {"nostrictatime", true, MS_STRICTATIME},
    {"nosuid", false, MS_NOSUID},
    {"nosymfollow", false, MS_NOSYMFOLLOW},
    {"private", false, MS_PRIVATE},
    {"ratime", true, MS_NOATIME},
    {"rbind", false, MS_BIND | MS_REC},
    {"rdev", true, MS_NODEV},
    {"rdiratime", true, MS_NODIRATIME},
    {"relatime", false, MS_RELATIME},
    {"remount", false, 0},
    {"rexec", true, MS_NOEXEC},
    {"rnoatime", false, MS_NOATIME},
    {"rnodev", false, MS_NODEV},
    {"rnodiratime", false, MS_NODIRATIME},
    {"rnoexec", false, MS_NOEXEC},
    {"rnorelatime", true, MS_RELATIME},
    {"rnostrictatime", true, MS_STRICTATIME},
    {"rnosuid", false, MS_NOSUID},
    {"rnosymfollow", false, MS_NOSYMFOLLOW},
    {"ro", false, MS_RDONLY},
    {"rprivate", false, MS_PRIVATE | MS_REC},
    {"rrelatime", false, MS_RELATIME},
    {"rro", false, MS_RDONLY},
    {"rrw", true, MS_RDONLY},
    {"rshared", false, MS_SHARED | MS_REC},
    {"rslave", false, MS_SLAVE | MS_REC},
    {"rstrictatime", false, MS_STRICTATIME},
    {"rsuid", true, MS_NOSUID},
    {"rsymfollow", true, MS_NOSYMFOLLOW},
    {"runbindable", false, MS_UNBINDABLE | MS_REC},
    {"rw", true, MS_RDONLY},
    {"shared", false, MS_SHARED},
    {"silent", false, 0},
    {"slave", false, MS_SLAVE},
    {"strictatime", false, MS_STRICTATIME},
    {"suid", true, MS_NOSUID},
    {"symfollow", true, MS_NOSYMFOLLOW},
    {"sync", false, MS_SYNCHRONOUS},
    {"unbindable", false, MS_UNBINDABLE},
};

#define MS_PROPAGATION (MS_SHARED | MS_SLAVE | MS_PRIVATE | MS_UNBINDABLE)

u64 spec_propagation(const char *word)
{
    for (size_t i = 0; i < array_size(mount_options); i++)
        if (!strcmp(mount_options[i].name, word) && mount_options[i].flags & MS_PROPAGATION)
            return mount_options[i].flags;
    return 0;
}

const char *spec_mount_option_name(u32 index)
{
    return index < array_size(mount_options) ? mount_options[index].name : NULL;
}

// Options with values that the guest's file systems understand; what is not there and has no "=" is a mistake.
static bool is_word_option(const char *name)
{
    static const char *const words[] = {"newinstance", "nsdelegate", "inode32", "inode64", "copy",
                                        "nocopy", "z", "Z", "O", "U",
                                        "swap", "noswap"};
    for (size_t i = 0; i < array_size(words); i++)
        if (!strcmp(words[i], name))
            return true;
    return false;
}

int spec_mount_options(struct spec_mount *m, struct pool *pool, const char *const *options,
                       u32 count, const char **ret_bad)
{
    size_t room = 1;
    for (u32 i = 0; i < count; i++)
        room += strlen(options[i]) + 1;
    char *data = pool_alloc(pool, room), *end = data;

    for (u32 i = 0; i < count; i++) {
        const struct mount_option *found = NULL;
        if (!strcmp(options[i], "tmpcopyup")) {
            m->copy_up = true;
            continue;
        }
        if (!strcmp(options[i], "idmap") || !strcmp(options[i], "ridmap")) {
            m->idmap = true;
            m->idmap_all |= options[i][0] == 'r';
            continue;
        }
        for (size_t j = 0; j < array_size(mount_options); j++)
            if (!strcmp(mount_options[j].name, options[i]))
                found = &mount_options[j];
        if (found) {
            if (found->flags & MS_BIND) {
                m->bind = true;
                m->recursive |= (found->flags & MS_REC) != 0;
            } else if (found->flags & MS_PROPAGATION) {
                m->flags = (m->flags & ~(u64)(MS_PROPAGATION | MS_REC)) | found->flags;
            } else if (found->clear) {
                m->rw_all |= !strcmp(found->name, "rrw");
                m->flags &= ~found->flags;
            } else {
                m->ro_all |= !strcmp(found->name, "rro");
                m->flags |= found->flags;
            }
            continue;
        }
        if (!strchr(options[i], '=') && !is_word_option(options[i])) {
            *ret_bad = options[i];
            return -EINVAL;
        }
        if (end != data)
            *end++ = ',';
        end = stpcpy(end, options[i]);
    }
    m->data = data;
    return 0;
}

char *spec_clean_path(struct pool *pool, const char *path)
{
    char *out = pool_alloc(pool, strlen(path) + 2), *end = out;
    *end++ = '/';
    while (*path) {
        size_t len = strcspn(path, "/");
        if (len == 2 && path[0] == '.' && path[1] == '.') {
            while (end > out + 1 && *--end != '/')
                ;
            if (end == out)
                end = out + 1;
        } else if (len && !(len == 1 && path[0] == '.')) {
            if (end > out + 1)
                *end++ = '/';
            memcpy(end, path, len);
            end += len;
        }
        path += len;
        path += strspn(path, "/");
    }
    *end = 0;
    return out;
}
