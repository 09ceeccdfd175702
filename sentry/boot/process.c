// SPDX-License-Identifier: Apache-2.0
#include "sentry/boot/process.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "host/host.h"
#include "sentry/boot/boot.h"
#include "sentry/boot/mounts.h"
#include "sentry/fs/anon/hostfd.h"
#include "sentry/fs/tty/tty.h"
#include "sentry/kernel/container.h"
#include "sentry/kernel/seccomp.h"
#include "sentry/loader/loader.h"
#include "sentry/socket/socket.h"
#include "sentry/vfs/fdtable.h"
#include "sentry/vfs/path.h"

#define FIRST_PASSED 3 // after stdio

// ---- the process -----------------------------------------------------------------------------------

static void set_limits(struct process *p, const struct boot_process *b)
{
    const u64 inf = ~0ull;
    u64 tasks = p->container->task_limit;
    for (u32 i = 0; i < RLIMIT_COUNT; i++)
        p->rlimits[i] = (struct limit){inf, inf};
    p->rlimits[RLIMIT_STACK] = (struct limit){8 << 20, inf};
    p->rlimits[RLIMIT_CORE] = (struct limit){0, inf};
    p->rlimits[RLIMIT_NOFILE] = (struct limit){1024, 1 << 20};
    p->rlimits[RLIMIT_NPROC] = (struct limit){tasks, tasks};
    p->rlimits[RLIMIT_MEMLOCK] = (struct limit){8 << 20, 8 << 20};
    p->rlimits[RLIMIT_SIGPENDING] = (struct limit){32768, 32768};
    p->rlimits[RLIMIT_MSGQUEUE] = (struct limit){819200, 819200};
    p->rlimits[RLIMIT_NICE] = (struct limit){0, 0};
    p->rlimits[RLIMIT_RTPRIO] = (struct limit){0, 0};
    for (u32 i = 0; i < b->rlimit_count; i++) {
        const struct boot_rlimit *l = &b->rlimits[i];
        p->rlimits[l->resource] = (struct limit){l->soft, l->hard};
    }
}

int boot_process_new(struct container *c, bool init, const struct boot_process *b, struct task **ret)
{
    struct task *t;
    struct cred *cred = cred_new();
    struct fdtable *files = fdtable_new();
    int r = cred && files ? container_add_process(c, init, &t) : -ENOMEM;
    if (r) {
        if (cred)
            cred_unref(cred);
        fdtable_unref(files);
        return r;
    }
    cred->cap_permitted = cred->cap_effective = cred->cap_bounding = CAPS_ALL;
    cred_unref(t->cred);
    t->cred = cred;
    t->files = files;
    set_limits(t->process, b);
    t->process->oom_score_adj = b->oom_score_adj;
    *ret = t;
    return 0;
}

// ---- stdio -----------------------------------------------------------------------------------------

// Where a terminal is seen: in the devpts of the container, if it has one.
static int open_named(struct tty *tty, struct file **ret)
{
    const struct open_request request = {.flags = O_RDWR | O_NOCTTY};
    char name[32];
    struct path pts;
    u32 index;
    int r = path_lookup(AT_FDCWD, "/dev/pts", LOOKUP_FOLLOW | LOOKUP_DIRECTORY, &pts);
    if (r)
        return r;
    r = tty_console_enter(tty, pts.dentry->inode, &index);
    path_put(&pts);
    if (r)
        return r;
    snprintf(name, sizeof(name), "/dev/pts/%u", index);
    r = vfs_openat(AT_FDCWD, name, &request, ret);
    if (!r && tty_of_file(*ret) != tty) {
        file_unref(*ret);
        r = -ENXIO;
    }
    return r;
}

static int open_terminal(struct tty *tty)
{
    struct task *t = current;
    struct file *f;
    if (open_named(tty, &f)) { // without a devpts the terminal has no name
        int r = tty_console_open(tty, &f);
        if (r)
            return r;
    }
    int r = 0;
    for (u32 fd = 0; r >= 0 && fd < 3; fd++)
        r = fd_install_at(t->files, f, 0, fd);
    file_unref(f);
    return r < 0 ? r : job_take_terminal(tty);
}

// A file for a descriptor of the host, which is taken over.
static int open_passed_one(s32 *fd, struct file **ret)
{
    struct stat st;
    int host = *fd;
    *fd = -1;
    long r = host_sys(SYS_fstat, host, &st);
    if (!r && S_ISSOCK(st.st_mode))
        return foreign_socket_new(host, ret);
    if (!r && !S_ISDIR(st.st_mode))
        return hostfd_file_new(host, ret);
    host_close(host);
    return r ? (int)r : -EISDIR;
}

static int open_passed(struct boot_message *m)
{
    for (u32 i = 0; i < m->passed_count; i++) {
        struct file *f;
        int r = open_passed_one(&m->passed[i], &f);
        if (!r) {
            r = fd_install_at(current->files, f, 0, FIRST_PASSED + i);
            file_unref(f);
        }
        if (r < 0) {
            boot_explain("cannot pass descriptor %u: error %d", FIRST_PASSED + i, -r);
            return r;
        }
    }
    return 0;
}

static int open_stdio(struct boot_message *m)
{
    for (u32 fd = 0; fd < 3; fd++) {
        struct file *f;
        int host = m->stdio[fd];
        if (host < 0)
            continue;
        m->stdio[fd] = -1;
        int r = m->role == BOOT_SENTRY ? hostfd_stdio_new(fd, host, &f) : hostfd_file_new(host, &f);
        if (r)
            return r;
        r = fd_install_at(current->files, f, 0, fd);
        file_unref(f);
        if (r < 0)
            return r;
    }
    return 0;
}

int boot_process_console(struct boot_message *m, struct tty **ret)
{
    int in = m->stdio[0], out = m->stdio[1];
    *ret = NULL;
    if (!m->process.terminal)
        return 0;
    if (in < 0)
        return -EBADF;
    m->stdio[0] = m->stdio[1] = -1;
    return tty_console_new(in, out, m->process.console_rows, m->process.console_columns, ret);
}

// ---- where and who ---------------------------------------------------------------------------------

static const char *reason(int r)
{
    static const struct {
        int error;
        const char *text;
    } texts[] = {{ENOENT, "no such file or directory"}, {EACCES, "permission denied"},
                 {ENOTDIR, "not a directory"},          {ENOEXEC, "exec format error"},
                 {EISDIR, "is a directory: permission denied"},
                 {ELOOP, "too many levels of symbolic links"}, {ENOMEM, "cannot allocate memory"},
                 {EPERM, "operation not permitted"},    {ETXTBSY, "text file busy"},
                 {E2BIG, "argument list too long"},     {EIO, "input/output error"}};
    for (u32 i = 0; i < array_size(texts); i++)
        if (texts[i].error == -r)
            return texts[i].text;
    return "unexpected error";
}

static int enter_directory(const char *cwd, bool make)
{
    struct path p;
    int r = path_lookup(AT_FDCWD, cwd, LOOKUP_FOLLOW | LOOKUP_DIRECTORY, &p);
    if (r == -ENOENT && make) {
        r = boot_make_path(cwd, true);
        if (!r)
            r = path_lookup(AT_FDCWD, cwd, LOOKUP_FOLLOW | LOOKUP_DIRECTORY, &p);
    }
    if (r) {
        boot_explain("chdir to cwd (\"%s\") set in config.json failed: %s", cwd, reason(r));
        return r;
    }
    fs_context_set_cwd(current->fs, &p);
    path_put(&p);
    return 0;
}

static int set_credentials(const struct boot_process *b)
{
    struct cred *c = cred_new();
    if (!c)
        return -ENOMEM;
    c->uid = c->euid = c->suid = c->fsuid = b->uid;
    c->gid = c->egid = c->sgid = c->fsgid = b->gid;
    c->cap_permitted = b->cap_permitted & CAPS_ALL;
    c->cap_effective = b->cap_effective & CAPS_ALL;
    c->cap_inheritable = b->cap_inheritable & CAPS_ALL;
    c->cap_bounding = b->cap_bounding & CAPS_ALL;
    c->cap_ambient = b->cap_ambient & CAPS_ALL;
    c->no_new_privs = b->no_new_privs;
    int r = cred_set_groups(c, b->gids, b->gid_count);
    if (r) {
        cred_unref(c);
        return r;
    }
    task_set_cred(current, c);
    return 0;
}

// ---- the program -----------------------------------------------------------------------------------

static int set_filter(const struct boot_process *b)
{
    const struct sock_filter *program = (const struct sock_filter *)b->filter;
    return b->filter_count ? (int)seccomp_add(current, program, b->filter_count, false, NULL) : 0;
}

static const char *path_variable(const struct boot_process *b)
{
    for (u32 i = 0; i < b->env_count; i++)
        if (!strncmp(b->env[i], "PATH=", 5))
            return b->env[i] + 5;
    return "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
}

static int exec_path(const char *path, const struct loader_strings *argv,
                     const struct loader_strings *envp)
{
    int r = (int)task_exec(current, AT_FDCWD, path, 0, argv, envp);
    current->keep_regs = 0;
    return r;
}

// execvp(3): the first of PATH that can be run; else the error that tells most.
static int exec_search(const struct boot_process *b, const struct loader_strings *argv,
                       const struct loader_strings *envp)
{
    const char *name = b->args[0], *dir = path_variable(b);
    char path[4096];
    int best = -ENOENT;
    if (strchr(name, '/'))
        return exec_path(name, argv, envp);
    for (;;) {
        size_t n = strcspn(dir, ":");
        int size = snprintf(path, sizeof(path), "%.*s%s%s", (int)n, dir, n ? "/" : "", name);
        int r = size < (int)sizeof(path) ? exec_path(path, argv, envp) : -ENAMETOOLONG;
        if (r != -ENOENT && r != -ENOTDIR && r != -EACCES)
            return r;
        if (r == -EACCES)
            best = r;
        if (!dir[n])
            return best;
        dir += n + 1;
    }
}

static int explain_program(const char *name, int r)
{
    struct path p;
    if (!strchr(name, '/') && (r == -ENOENT || r == -ENOTDIR)) {
        boot_explain("exec: \"%s\": executable file not found in $PATH", name);
        return -ENOENT;
    }
    if (r == -EACCES && !path_lookup(AT_FDCWD, name, LOOKUP_FOLLOW | LOOKUP_DIRECTORY, &p)) {
        path_put(&p);
        boot_explain("exec: \"%s\": %s", name, reason(-EISDIR));
    } else if (r == -ENOENT || r == -ENOTDIR) {
        boot_explain("exec: \"%s\": stat %s: %s", name, name, reason(r));
    } else if (r == -ENOEXEC) {
        boot_explain("exec %s: %s", name, reason(r));
    } else {
        boot_explain("exec: \"%s\": %s", name, reason(r));
    }
    return r;
}

// With LISTEN_PID, if the message asks for it (sd_listen_fds(3)).
static int environment(const struct boot_message *m, struct loader_strings *ret)
{
    const struct boot_process *b = &m->process;
    char text[32];
    if (!(m->features & BOOT_LISTEN_PID))
        return loader_strings_from(ret, b->env, b->env_count);
    const char **all = malloc((b->env_count + 1) * sizeof(*all));
    if (!all)
        return -ENOMEM;
    memcpy(all, b->env, b->env_count * sizeof(*all));
    snprintf(text, sizeof(text), "LISTEN_PID=%d", current->process->pid->nr);
    all[b->env_count] = text;
    int r = loader_strings_from(ret, all, b->env_count + 1);
    free(all);
    return r;
}

static int load_program(const struct boot_message *m)
{
    const struct boot_process *b = &m->process;
    struct loader_strings argv, envp = {0};
    int r = loader_strings_from(&argv, b->args, b->arg_count);
    if (!r)
        r = environment(m, &envp);
    if (!r)
        r = exec_search(b, &argv, &envp);
    loader_strings_free(&argv);
    loader_strings_free(&envp);
    return r ? explain_program(b->args[0], r) : 0;
}

int boot_process_load(struct boot_message *m, struct tty *terminal, bool make_cwd)
{
    __atomic_store_n(&current->fs->umask, m->process.umask & 0777, __ATOMIC_RELAXED);
    int r = enter_directory(m->process.cwd, make_cwd);
    if (r)
        return r;
    r = terminal ? open_terminal(terminal) : open_stdio(m);
    if (r) {
        boot_explain("cannot set up standard input and output: error %d", -r);
        return r;
    }
    r = open_passed(m);
    if (r)
        return r;
    r = set_credentials(&m->process);
    if (r) {
        boot_explain("cannot set up the credentials: error %d", -r);
        return r;
    }
    r = set_filter(&m->process);
    if (r) {
        boot_explain("cannot set up the seccomp filter: error %d", -r);
        return r;
    }
    return load_program(m);
}

