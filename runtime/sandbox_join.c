// SPDX-License-Identifier: Apache-2.0
// A container that joins a sandbox which runs already.
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/client.h"
#include "runtime/cmd/cmd.h"
#include "runtime/sandbox_mounts.h"
#include "runtime/sandbox_setup.h"
#include "runtime/seed.h"

// The descriptors of a message in the order in which they are sent.
struct list {
    int *fds;
    u32 count;
};

static void put(void *arg, s32 *fd)
{
    struct list *l = arg;
    if (*fd < 0)
        return;
    l->fds[l->count] = *fd;
    *fd = (s32)l->count++;
}

static int ask(struct setup *u, struct client *k, u64 seed, struct error *e)
{
    struct control_message answer, m = {.type = CONTROL_CREATE};
    u32 most = u->boot.mount_count * 3 + 5 + u->boot.passed_count;
    struct list l = {pool_alloc(&u->pool, most * sizeof(int)), 1};
    void *buf;
    size_t size;
    m.values[CONTROL_SEED_NAME] = seed;
    boot_each_fd(&u->boot, put, &l);
    int r = boot_encode(&u->boot, &buf, &size);
    if (r < 0)
        return r == -EMSGSIZE ? error_set(e, r, "the configuration is too large")
                              : error_errno(e, r, "boot message");
    l.fds[0] = setup_file(buf, size, e);
    free(buf);
    if (l.fds[0] < 0)
        return l.fds[0];
    r = client_ask(k, &m, l.fds, l.count, &answer, e);
    close(l.fds[0]);
    if (r < 0 && answer.type && answer.text[0])
        return error_set(e, r, "%s", answer.text);
    return r < 0 && answer.type ? error_errno(e, r, "make the container") : r;
}

static const char *shared(const struct sandbox_config *c, bool share)
{
    return share ? c->joins : "";
}

static int join(struct sandbox *s, struct setup *u, const struct container *sandbox,
                struct client *k, struct error *e)
{
    const struct sandbox_config *c = u->config;
    int r = setup_logs(u, e);
    if (!r)
        r = setup_mounts(u, e);
    if (r < 0)
        return r;
    setup_boot(u, &s->cgroup);
    u->boot.role = BOOT_CONTAINER;
    u->boot.pid_ns_of = shared(c, c->share_pid);
    u->boot.uts_ns_of = shared(c, c->share_uts);
    u->boot.ipc_ns_of = shared(c, c->share_ipc);
    if (u->gofer.export_count) {
        u->gofer_exec = launch_open_program("bailey-gofer", e);
        r = u->gofer_exec < 0 ? u->gofer_exec : setup_start_gofer(s, u, e);
    }
    u64 seed = 0;
    if (!r)
        r = seed_place(k, sandbox, &s->cgroup, &seed, e);
    if (!r && c->globals->directfs)
        r = sandbox_mounts_attach(sandbox, c->id, u->attach, u->attach_count, e);
    return r < 0 ? r : ask(u, k, seed, e);
}

int sandbox_join(struct sandbox *s, const struct sandbox_config *c, struct client *k,
                 struct error *e)
{
    struct setup u = {.config = c, .sentry_exec = -1, .gofer_exec = -1, .view_fd = -1};
    int r = sandbox_make_cgroup(s, c, e);
    if (r < 0)
        return r;
    struct container sandbox;
    r = container_open(&sandbox, c->globals->root, c->joins, false, e);
    if (r < 0)
        return r;
    r = join(s, &u, &sandbox, k, e);
    container_close(&sandbox);
    setup_finish(&u);
    return r;
}
