// SPDX-License-Identifier: Apache-2.0
#include "wire/boot.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

#include "base/log.h"

#define CAP_LAST 40
#define CAPS_ALL ((2ull << CAP_LAST) - 1)
#define RLIMIT_KINDS 16

static const u64 mount_flags_known =
    MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_SYNCHRONOUS | MS_NOATIME | MS_NODIRATIME |
    MS_RELATIME | MS_STRICTATIME | MS_DIRSYNC | MS_SHARED | MS_SLAVE | MS_PRIVATE | MS_UNBINDABLE |
    MS_REC | MS_BIND | 256 /* MS_NOSYMFOLLOW */;

// Refuses a decoded value that breaks a rule.
static void require(struct codec *c, bool holds)
{
    if (c->mode == CODEC_DECODE && !c->error && !holds)
        codec_fail(c, -EBADMSG);
}

// True for "/" and for "/a/b": absolute, no empty, "." or ".." components, no trailing slash.
static bool path_is_clean(const char *p)
{
    if (p[0] != '/')
        return false;
    if (p[1] == 0)
        return true;
    while (*p) {
        const char *name = ++p;
        while (*p && *p != '/')
            p++;
        size_t len = (size_t)(p - name);
        if (len == 0 || len > 255 || (len == 1 && name[0] == '.') ||
            (len == 2 && name[0] == '.' && name[1] == '.'))
            return false;
    }
    return true;
}

static void visit_path(struct codec *c, const char **s)
{
    codec_str(c, s, BOOT_STR_MAX);
    require(c, *s && path_is_clean(*s));
}

static void visit_path_item(struct codec *c, void *p)
{
    visit_path(c, p);
}

static void visit_rlimit(struct codec *c, void *p)
{
    struct boot_rlimit *r = p;
    codec_u32_max(c, &r->resource, RLIMIT_KINDS - 1);
    codec_u64(c, &r->soft);
    codec_u64(c, &r->hard);
    require(c, r->soft <= r->hard);
}

static void visit_gid(struct codec *c, void *p)
{
    codec_u32(c, p);
}

static void visit_filter(struct codec *c, void *p)
{
    codec_u64(c, p);
}

static void visit_caps(struct codec *c, u64 *caps)
{
    codec_u64(c, caps);
    require(c, !(*caps & ~CAPS_ALL));
}

static void visit_process(struct codec *c, struct boot_process *p)
{
    codec_str_list(c, &p->args, &p->arg_count, BOOT_ARGS_MAX, BOOT_ARG_MAX);
    require(c, p->arg_count > 0);
    codec_str_list(c, &p->env, &p->env_count, BOOT_ARGS_MAX, BOOT_ARG_MAX);
    visit_path(c, &p->cwd);
    codec_u32(c, &p->uid);
    codec_u32(c, &p->gid);
    require(c, p->uid != UINT32_MAX && p->gid != UINT32_MAX);
    codec_list(c, (void **)&p->gids, &p->gid_count, sizeof(*p->gids), BOOT_GIDS_MAX, visit_gid);
    codec_u32_max(c, &p->umask, 0777);
    codec_list(c, (void **)&p->rlimits, &p->rlimit_count, sizeof(*p->rlimits), BOOT_RLIMITS_MAX,
               visit_rlimit);
    visit_caps(c, &p->cap_effective);
    visit_caps(c, &p->cap_permitted);
    visit_caps(c, &p->cap_inheritable);
    visit_caps(c, &p->cap_bounding);
    visit_caps(c, &p->cap_ambient);
    codec_bool(c, &p->no_new_privs);
    codec_bool(c, &p->terminal);
    codec_u16(c, &p->console_rows);
    codec_u16(c, &p->console_columns);
    codec_s32(c, &p->oom_score_adj);
    require(c, p->oom_score_adj >= -1000 && p->oom_score_adj <= 1000);
    codec_list(c, (void **)&p->filter, &p->filter_count, sizeof(*p->filter), BOOT_FILTER_MAX,
               visit_filter);
}

static void visit_mount(struct codec *c, void *p)
{
    struct boot_mount *m = p;
    visit_path(c, &m->destination);
    codec_u32_max(c, &m->kind, BOOT_MOUNT_KINDS - 1);
    codec_u32_max(c, &m->traits, BOOT_TRAITS_ALL);
    codec_u64(c, &m->flags);
    require(c, !(m->flags & ~mount_flags_known));
    codec_str(c, &m->source, BOOT_STR_MAX);
    codec_str(c, &m->fstype, BOOT_STR_MAX);
    codec_str(c, &m->data, BOOT_STR_MAX);
    codec_fd(c, &m->root_fd);
    codec_fd(c, &m->write_fd);
    codec_fd(c, &m->gofer_fd);
    if (m->kind == BOOT_MOUNT_HOST)
        require(c, (m->root_fd >= 0) != (m->gofer_fd >= 0));
    else
        require(c, m->root_fd < 0 && m->write_fd < 0 && m->gofer_fd < 0);
}

static void visit_device(struct codec *c, void *p)
{
    struct boot_device *d = p;
    visit_path(c, &d->path);
    codec_u8(c, &d->type);
    require(c, d->type == 'c' || d->type == 'b' || d->type == 'p');
    codec_u32_max(c, &d->major, (1u << 12) - 1);
    codec_u32_max(c, &d->minor, (1u << 20) - 1);
    codec_u32_max(c, &d->mode, 07777);
    codec_u32(c, &d->uid);
    codec_u32(c, &d->gid);
}

static void visit_sysctl(struct codec *c, void *p)
{
    struct boot_sysctl *s = p;
    codec_str(c, &s->name, BOOT_STR_MAX);
    codec_str(c, &s->value, BOOT_STR_MAX);
}

static void visit_idmap(struct codec *c, void *p)
{
    struct boot_idmap *m = p;
    codec_u32(c, &m->container);
    codec_u32(c, &m->host);
    codec_u32(c, &m->size);
    require(c, m->size > 0 && (u64)m->container + m->size <= (1ull << 32) &&
                   (u64)m->host + m->size <= (1ull << 32));
}

static void visit_passed(struct codec *c, void *p)
{
    s32 *fd = p;
    codec_fd(c, fd);
    require(c, *fd >= 0);
}

static u32 visit_header(struct codec *c, u32 role)
{
    u32 magic = BOOT_MAGIC;
    u16 version = BOOT_VERSION, who = (u16)role;
    codec_u32(c, &magic);
    codec_u16(c, &version);
    codec_u16(c, &who);
    require(c, magic == BOOT_MAGIC && version == BOOT_VERSION);
    return who;
}

static void visit_container(struct codec *c, struct boot_message *m)
{
    codec_str(c, &m->hostname, 64);
    codec_str(c, &m->domainname, 64);
    codec_str(c, &m->pid_ns_of, 1024);
    codec_str(c, &m->uts_ns_of, 1024);
    codec_str(c, &m->ipc_ns_of, 1024);
    codec_list(c, (void **)&m->mounts, &m->mount_count, sizeof(*m->mounts), BOOT_MOUNTS_MAX,
               visit_mount);
    // (A list that failed to decode has empty elements.)
    require(c, c->error || (m->mount_count && !strcmp(m->mounts[0].destination, "/") &&
                            m->mounts[0].kind == BOOT_MOUNT_HOST));
    codec_list(c, (void **)&m->devices, &m->device_count, sizeof(*m->devices), BOOT_ENTRIES_MAX,
               visit_device);
    codec_list(c, (void **)&m->masked_paths, &m->masked_count, sizeof(*m->masked_paths),
               BOOT_ENTRIES_MAX, visit_path_item);
    codec_list(c, (void **)&m->readonly_paths, &m->readonly_count, sizeof(*m->readonly_paths),
               BOOT_ENTRIES_MAX, visit_path_item);
    codec_list(c, (void **)&m->sysctls, &m->sysctl_count, sizeof(*m->sysctls), BOOT_ENTRIES_MAX,
               visit_sysctl);
    codec_list(c, (void **)&m->uid_maps, &m->uid_map_count, sizeof(*m->uid_maps), BOOT_ENTRIES_MAX,
               visit_idmap);
    codec_list(c, (void **)&m->gid_maps, &m->gid_map_count, sizeof(*m->gid_maps), BOOT_ENTRIES_MAX,
               visit_idmap);
    visit_path(c, &m->cgroup_path);
    codec_fd(c, &m->notify_fd);
    codec_str(c, &m->notify_path, BOOT_STR_MAX);
    require(c, m->notify_fd < 0 || (m->notify_path && path_is_clean(m->notify_path)));
    codec_u64(c, &m->memory_limit);
    codec_u64(c, &m->pids_limit);
    codec_u64(c, &m->fds_limit);
    codec_u32_max(c, &m->cpu_count, 8192);
    codec_u64(c, &m->cpu_quota);
    codec_u64(c, &m->cpu_period);
    codec_u64(c, &m->cpu_weight);
    codec_fd(c, &m->oom_fd);
}

static void visit_sandbox(struct codec *c, struct boot_message *m)
{
    codec_u32_max(c, &m->log_level, LOG_LEVEL_DEBUG);
    codec_u32_max(c, &m->strace, BOOT_STRACE_MODES - 1);
    codec_fd(c, &m->log_fd);
    codec_fd(c, &m->strace_fd);
    codec_fd(c, &m->user_log_fd);
    codec_fd(c, &m->control_fd);
    codec_fd(c, &m->listen_fd);
    codec_fd(c, &m->proc_net_fd);
    codec_fd(c, &m->sys_net_fd);
    codec_fd(c, &m->exit_fd);
    codec_fd(c, &m->snapshot_fd);
}

static void visit_boot(struct codec *c, struct boot_message *m)
{
    m->role = visit_header(c, m->role ? m->role : BOOT_SENTRY);
    require(c, m->role == BOOT_SENTRY || m->role == BOOT_CONTAINER || m->role == BOOT_EXEC);
    if (c->mode == CODEC_DECODE)
        m->notify_fd = m->log_fd = m->user_log_fd = m->strace_fd = m->control_fd = m->listen_fd =
            m->proc_net_fd = m->sys_net_fd = m->exit_fd = m->snapshot_fd = m->memdir_fd = m->oom_fd = -1;
    codec_str(c, &m->id, 1024);
    codec_u32_max(c, &m->features, BOOT_FEATURES_ALL);
    visit_process(c, &m->process);
    for (int i = 0; i < 3; i++)
        codec_fd(c, &m->stdio[i]);
    codec_list(c, (void **)&m->passed, &m->passed_count, sizeof(*m->passed), BOOT_PASSED_MAX,
               visit_passed);
    if (m->role == BOOT_SENTRY || m->role == BOOT_CONTAINER)
        visit_container(c, m);
    if (m->role == BOOT_SENTRY)
        visit_sandbox(c, m);
}

static void visit_export(struct codec *c, void *p)
{
    struct boot_export *e = p;
    codec_fd(c, &e->root_fd);
    codec_fd(c, &e->write_fd);
    codec_fd(c, &e->channel_fd);
    require(c, e->root_fd >= 0 && e->channel_fd >= 0);
    codec_u32_max(c, &e->traits, BOOT_TRAITS_ALL);
    codec_bool(c, &e->readonly);
}

static void visit_gofer(struct codec *c, struct boot_gofer *m)
{
    require(c, visit_header(c, BOOT_GOFER) == BOOT_GOFER);
    codec_u32_max(c, &m->log_level, LOG_LEVEL_DEBUG);
    codec_u32_max(c, &m->features, BOOT_FEATURES_ALL);
    codec_fd(c, &m->log_fd);
    codec_list(c, (void **)&m->exports, &m->export_count, sizeof(*m->exports), BOOT_MOUNTS_MAX,
               visit_export);
}

int boot_decode(const void *buf, size_t size, struct boot_message *ret)
{
    struct codec c;
    *ret = (struct boot_message){0};
    codec_init_decode(&c, buf, size);
    if (size > BOOT_SIZE_MAX)
        codec_fail(&c, -EBADMSG);
    visit_boot(&c, ret);
    if (!codec_finished(&c))
        codec_fail(&c, -EBADMSG);
    if (c.error)
        boot_free(ret);
    return c.error;
}

int boot_decode_gofer(const void *buf, size_t size, struct boot_gofer *ret)
{
    struct codec c;
    *ret = (struct boot_gofer){0};
    codec_init_decode(&c, buf, size);
    if (size > BOOT_SIZE_MAX)
        codec_fail(&c, -EBADMSG);
    visit_gofer(&c, ret);
    if (!codec_finished(&c))
        codec_fail(&c, -EBADMSG);
    if (c.error)
        boot_free_gofer(ret);
    return c.error;
}

void boot_each_fd(struct boot_message *m, void (*visit)(void *arg, s32 *fd), void *arg)
{
    for (int i = 0; i < 3; i++)
        visit(arg, &m->stdio[i]);
    for (u32 i = 0; i < m->passed_count; i++)
        visit(arg, &m->passed[i]);
    visit(arg, &m->notify_fd);
    visit(arg, &m->oom_fd);
    for (u32 i = 0; i < m->mount_count; i++) {
        visit(arg, &m->mounts[i].root_fd);
        visit(arg, &m->mounts[i].write_fd);
        visit(arg, &m->mounts[i].gofer_fd);
    }
}

struct taking {
    s32 *fds;
    u32 count;
    bool bad;
};

static void take_fd(void *arg, s32 *fd)
{
    struct taking *t = arg;
    s32 place = *fd;
    *fd = -1;
    if (place < 0)
        return;
    if ((u32)place >= t->count || t->fds[place] < 0) {
        t->bad = true;
        return;
    }
    *fd = t->fds[place];
    t->fds[place] = -1;
}

int boot_take_fds(struct boot_message *m, s32 *fds, u32 count)
{
    struct taking t = {fds, count, m->role != BOOT_CONTAINER && m->role != BOOT_EXEC};
    if (!t.bad)
        boot_each_fd(m, take_fd, &t);
    return t.bad ? -EBADMSG : 0;
}

void boot_free(struct boot_message *m)
{
    struct codec c;
    codec_init_free(&c);
    visit_boot(&c, m);
    *m = (struct boot_message){0};
}

void boot_free_gofer(struct boot_gofer *m)
{
    struct codec c;
    codec_init_free(&c);
    visit_gofer(&c, m);
    *m = (struct boot_gofer){0};
}

// Hands the encoded bytes over after a look through the decoder's eyes.
static int boot_encoded(struct codec *c, int checked, void **ret_buf, size_t *ret_size)
{
    int r = c->error ? c->error : checked == -EBADMSG ? -EINVAL : checked;
    if (r < 0) {
        free(c->buf);
        return r;
    }
    *ret_buf = c->buf;
    *ret_size = c->size;
    return 0;
}

int boot_encode(const struct boot_message *m, void **ret_buf, size_t *ret_size)
{
    struct codec c;
    struct boot_message copy = *m, probe;
    int r = 0;
    codec_init_encode(&c, BOOT_SIZE_MAX);
    visit_boot(&c, &copy);
    if (!c.error) {
        r = boot_decode(c.buf, c.size, &probe);
        if (!r)
            boot_free(&probe);
    }
    return boot_encoded(&c, r, ret_buf, ret_size);
}

int boot_encode_gofer(const struct boot_gofer *m, void **ret_buf, size_t *ret_size)
{
    struct codec c;
    struct boot_gofer copy = *m, probe;
    int r = 0;
    codec_init_encode(&c, BOOT_SIZE_MAX);
    visit_gofer(&c, &copy);
    if (!c.error) {
        r = boot_decode_gofer(c.buf, c.size, &probe);
        if (!r)
            boot_free_gofer(&probe);
    }
    return boot_encoded(&c, r, ret_buf, ret_size);
}
