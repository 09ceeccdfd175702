// SPDX-License-Identifier: Apache-2.0
#include "runtime/namespaces.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/idmap.h"
#include "runtime/log.h"
#include "runtime/rootless.h"

static const char *const names[SPEC_NS_KINDS] = {"mount", "pid",  "network", "uts",
                                                 "ipc",   "user", "cgroup",  "time"};

static int refuse_paths(const struct spec *s, struct error *e)
{
    static const enum spec_namespace refused[] = {SPEC_NS_MOUNT, SPEC_NS_PID, SPEC_NS_TIME};
    for (size_t i = 0; i < array_size(refused); i++)
        if (s->namespaces.path[refused[i]])
            return error_set(e, -ENOTSUP,
                             "linux.namespaces: joining the %s namespace %s is not supported: a "
                             "sandbox has its own",
                             names[refused[i]], s->namespaces.path[refused[i]]);
    if (s->namespaces.path[SPEC_NS_IPC])
        rlog(RLOG_WARN, "linux.namespaces: the ipc namespace %s is not shared with this sandbox",
             s->namespaces.path[SPEC_NS_IPC]);
    return 0;
}

static int settle_user(struct spec *s, struct error *e)
{
    const char *path = s->namespaces.path[SPEC_NS_USER];
    struct idmaps maps;
    if (!path)
        return 0;
    if (s->uid_map_count || s->gid_map_count)
        return error_set(e, -EINVAL,
                         "linux.uidMappings, linux.gidMappings: not allowed with a "
                         "user namespace by path");
    int r = idmap_read(path, &s->pool, &maps, e);
    if (r < 0)
        return error_wrap(e, r, "linux.namespaces: user");
    s->uid_maps = pool_alloc(&s->pool, (maps.uid_count + 1) * sizeof(*s->uid_maps));
    s->gid_maps = pool_alloc(&s->pool, (maps.gid_count + 1) * sizeof(*s->gid_maps));
    memcpy(s->uid_maps, maps.uids, maps.uid_count * sizeof(*s->uid_maps));
    memcpy(s->gid_maps, maps.gids, maps.gid_count * sizeof(*s->gid_maps));
    s->uid_map_count = maps.uid_count;
    s->gid_map_count = maps.gid_count;
    return 0;
}

// uname(2) as of that namespace. 0 or a negative errno.
static int names_of(const char *path, struct utsname *ret)
{
    int out[2], fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return -errno;
    int r = pipe2(out, O_CLOEXEC) < 0 ? -errno : 0;
    pid_t pid = r < 0 ? -1 : fork();
    if (pid == 0) {
        if (setns(fd, CLONE_NEWUTS) == 0 && uname(ret) == 0)
            _exit(write(out[1], ret, sizeof(*ret)) != sizeof(*ret));
        _exit(1);
    }
    close(fd);
    if (r < 0)
        return r;
    r = pid < 0 ? -errno : 0;
    close(out[1]);
    if (!r && read(out[0], ret, sizeof(*ret)) != sizeof(*ret))
        r = -EINVAL;
    close(out[0]);
    if (pid > 0)
        waitpid(pid, NULL, 0);
    return r;
}

static int settle_names(struct spec *s, struct error *e)
{
    const char *path = s->namespaces.path[SPEC_NS_UTS];
    struct utsname u;
    if (!path && s->namespaces.present[SPEC_NS_UTS])
        return 0;
    // Without one, the container has the host's names.
    int r = path ? names_of(path, &u) : uname(&u) < 0 ? -errno : 0;
    if (r < 0)
        return error_errno(e, r, "linux.namespaces: join the uts namespace %s", path);
    if (!s->hostname)
        s->hostname = pool_printf(&s->pool, "%.64s", u.nodename);
    if (!s->domainname && strcmp(u.domainname, "(none)"))
        s->domainname = pool_printf(&s->pool, "%.64s", u.domainname);
    return 0;
}

// Mounts that are to be mapped, without saying how, are mapped as the container is.
static void settle_mounts(struct spec *s)
{
    for (u32 i = 0; i < s->mount_count; i++) {
        struct spec_mount *m = &s->mounts[i];
        if (!m->idmap || m->uid_map_count)
            continue;
        m->uid_maps = s->uid_maps, m->uid_map_count = s->uid_map_count;
        m->gid_maps = s->gid_maps, m->gid_map_count = s->gid_map_count;
    }
}

int namespaces_settle(struct spec *s, bool joins, struct error *e)
{
    int r = joins ? 0 : refuse_paths(s, e);
    if (!r)
        r = settle_user(s, e);
    if (!r && !joins)
        r = settle_names(s, e);
    settle_mounts(s);
    return r < 0 ? r : rootless_translate(s, e);
}
