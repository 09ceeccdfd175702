// SPDX-License-Identifier: Apache-2.0
#include "runtime/network.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/cmd/cmd.h"
#include "runtime/log.h"
#include "runtime/setting.h"

static const u64 net_caps = 1ull << CAP_NET_BIND_SERVICE | 1ull << CAP_NET_RAW |
                            1ull << CAP_NET_ADMIN;

enum network_kind network_kind(const struct globals *g, const struct spec *spec)
{
    const struct spec_namespaces *ns = &spec->namespaces;
    if (g->network && !strcmp(g->network, "none"))
        return NETWORK_NEW;
    if (!ns->present[SPEC_NS_NETWORK])
        return NETWORK_OWN;
    return ns->path[SPEC_NS_NETWORK] ? NETWORK_PATH : NETWORK_NEW;
}

bool network_is_shared(const struct globals *g, const struct spec *spec)
{
    enum network_kind kind = network_kind(g, spec);
    struct stat own, other;
    if (kind != NETWORK_PATH)
        return kind == NETWORK_OWN;
    // What cannot be told apart is not the container's alone.
    return stat("/proc/thread-self/ns/net", &own) < 0 ||
           stat(spec->namespaces.path[SPEC_NS_NETWORK], &other) < 0 ||
           (own.st_dev == other.st_dev && own.st_ino == other.st_ino);
}

// A container's own namespace that a client has made: low ports can be had there without a capability.
static bool opens_ports(const struct globals *g, const struct spec *spec)
{
    return network_kind(g, spec) == NETWORK_PATH && !network_is_shared(g, spec);
}

// The sentry is to have rights in a namespace that does not belong to a user namespace of its own.
static bool keeps_user(const struct globals *g, const struct spec *spec)
{
    u64 wanted = net_caps & spec->process.cap_bounding;
    if (opens_ports(g, spec))
        wanted &= ~(1ull << CAP_NET_BIND_SERVICE);
    return network_kind(g, spec) != NETWORK_NEW && wanted && g->directfs && !spec->uid_map_count &&
           !spec->gid_map_count;
}

u64 network_caps(const struct globals *g, const struct spec *spec)
{
    bool rights = network_kind(g, spec) == NETWORK_NEW || keeps_user(g, spec);
    return rights ? net_caps & spec->process.cap_bounding : 0;
}

bool network_is_sysctl(const struct boot_sysctl *c)
{
    return !strncmp(c->name, "net.", 4) || !strncmp(c->name, "net/", 4);
}

struct launch_sysctl network_sysctl(struct pool *pool, const struct boot_sysctl *c)
{
    char *path = pool_printf(pool, "/proc/sys/%s", c->name);
    for (char *p = path; *p; p++)
        if (*p == '.')
            *p = '/';
    return (struct launch_sysctl){
        .path = path, .value = c->value, .size = strlen(c->value),
        .what = pool_printf(pool, "sysctl %s=%s", c->name, c->value),
    };
}

static int set_sysctl(const struct launch_sysctl *c, struct error *e)
{
    int r = setting_write(c->path, c->value, c->size);
    return r < 0 ? error_errno(e, r, "%s", c->what) : 0;
}

static int set_sysctls(const struct spec *spec, struct error *e)
{
    struct pool pool = {0};
    int r = 0;
    for (u32 i = 0; !r && i < spec->sysctl_count; i++) {
        struct launch_sysctl c = network_sysctl(&pool, &spec->sysctls[i]);
        if (network_is_sysctl(&spec->sysctls[i]))
            r = set_sysctl(&c, e);
    }
    pool_free(&pool);
    return r;
}

static int open_namespace(const char *path, struct error *e)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return error_errno(e, -errno, "open the network namespace %s", path);
    if (ioctl(fd, NS_GET_NSTYPE) == CLONE_NEWNET)
        return fd;
    close(fd);
    return error_set(e, -EINVAL, "%s is not a network namespace", path);
}

// Lets the sentry, which has no capability there, serve ports of the container below 1024. As docker does
// for all of its containers. Who may not, leaves it.
static void open_ports(void)
{
    int r = setting_write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0", 1);
    if (r < 0)
        rlog(RLOG_DEBUG, "net.ipv4.ip_unprivileged_port_start: %s", error_text(-r));
}

// With bailey in that namespace for a moment: what is cloned then is in it as well.
static int begin_in(int ns, const struct globals *g, const struct spec *spec,
                    struct launched *sentry, struct error *e)
{
    // Asked before bailey is there itself.
    bool keep_user = keeps_user(g, spec);
    bool ports = !keep_user && opens_ports(g, spec) &&
                 spec->process.cap_bounding & 1ull << CAP_NET_BIND_SERVICE;
    int own = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    if (own < 0)
        return error_errno(e, -errno, "open /proc/thread-self/ns/net");
    int r = setns(ns, CLONE_NEWNET) < 0 ? -errno : 0;
    if (r < 0) {
        error_errno(e, r, "join the network namespace %s", spec->namespaces.path[SPEC_NS_NETWORK]);
    } else {
        if (ports)
            open_ports();
        r = set_sysctls(spec, e);
        if (!r)
            r = launch_begin(sentry, LAUNCH_NET_KEEP, keep_user, e);
        if (setns(own, CLONE_NEWNET) < 0 && !r)
            r = error_errno(e, -errno, "return from the network namespace");
    }
    close(own);
    return r;
}

static int check_shared(const struct spec *spec, struct error *e)
{
    for (u32 i = 0; i < spec->sysctl_count; i++)
        if (network_is_sysctl(&spec->sysctls[i]))
            return error_set(e, -EINVAL, "sysctl %s: not allowed in the host's network namespace",
                             spec->sysctls[i].name);
    return 0;
}

int network_enter(const struct globals *g, const struct spec *spec, struct launched *sentry,
                  struct error *e)
{
    enum network_kind kind = network_kind(g, spec);
    if (kind == NETWORK_NEW)
        return 0;
    int ns = -1, r = network_is_shared(g, spec) ? check_shared(spec, e) : 0;
    if (!r && kind == NETWORK_PATH) {
        ns = open_namespace(spec->namespaces.path[SPEC_NS_NETWORK], e);
        r = min(ns, 0);
    }
    if (!r) {
        launch_cancel(sentry);
        r = ns < 0 ? launch_begin(sentry, LAUNCH_NET_KEEP, keeps_user(g, spec), e)
                   : begin_in(ns, g, spec, sentry, e);
    }
    if (ns >= 0)
        close(ns);
    return r;
}
