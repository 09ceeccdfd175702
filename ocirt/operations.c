// SPDX-License-Identifier: Apache-2.0
// The operations that change something. Arguments and their order are go-runc's.
#include "ocirt/internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

// VERB [options] [bundle] ID [last]
static int simple(const struct ocirt *rt, enum oi_verb verb, const char *id, const char *last,
                  const struct ocirt_options *o, struct ocirt_error *e)
{
    struct oi_call c;
    int r = oi_call_init(&c, rt, verb, id ? id : "", o, e);
    if (r == 0)
        r = oi_options_args(o, verb, &c.argv);
    if (r == 0)
        r = oi_strv_add(&c.argv, id);
    if (r == 0 && last)
        r = oi_strv_add(&c.argv, last);
    if (r == 0)
        r = oi_call_run(&c, NULL, e);
    oi_call_fini(&c);
    return r;
}

// create, run and restore: with --bundle before or after the options
static int with_bundle(const struct ocirt *rt, enum oi_verb verb, const char *id,
                       const char *bundle, const struct ocirt_options *o, int *ret_status,
                       struct ocirt_error *e)
{
    struct oi_call c;
    int r = oi_call_init(&c, rt, verb, id ? id : "", o, e);

    if (r == 0 && (!bundle || !*bundle))
        r = oi_error_set(e, -EINVAL, "%s %s: no bundle", oi_verb_names[verb], id);
    if (r == 0 && verb == OI_RESTORE)
        r = oi_options_args(o, verb, &c.argv);
    if (r == 0)
        r = oi_strv_add(&c.argv, "--bundle");
    if (r == 0)
        r = oi_strv_add(&c.argv, bundle);
    if (r == 0 && verb != OI_RESTORE)
        r = oi_options_args(o, verb, &c.argv);
    if (r == 0)
        r = oi_strv_add(&c.argv, id);
    if (r == 0)
        r = oi_call_run(&c, ret_status, e);
    oi_call_fini(&c);
    return r;
}

int ocirt_create(const struct ocirt *rt, const char *id, const char *bundle,
                 const struct ocirt_options *o, struct ocirt_error *e)
{
    return with_bundle(rt, OI_CREATE, id, bundle, o, NULL, e);
}

int ocirt_run(const struct ocirt *rt, const char *id, const char *bundle,
              const struct ocirt_options *o, int *ret_status, struct ocirt_error *e)
{
    return with_bundle(rt, OI_RUN, id, bundle, o, ret_status, e);
}

int ocirt_restore(const struct ocirt *rt, const char *id, const char *bundle,
                  const struct ocirt_options *o, int *ret_status, struct ocirt_error *e)
{
    return with_bundle(rt, OI_RESTORE, id, bundle, o, ret_status, e);
}

int ocirt_start(const struct ocirt *rt, const char *id, const struct ocirt_options *o,
                struct ocirt_error *e)
{
    return simple(rt, OI_START, id, NULL, o, e);
}

int ocirt_checkpoint(const struct ocirt *rt, const char *id, const struct ocirt_options *o,
                     struct ocirt_error *e)
{
    return simple(rt, OI_CHECKPOINT, id, NULL, o, e);
}

int ocirt_kill(const struct ocirt *rt, const char *id, int signal_number,
               const struct ocirt_options *o, struct ocirt_error *e)
{
    char number[16];
    snprintf(number, sizeof(number), "%d", signal_number);
    return simple(rt, OI_KILL, id, number, o, e);
}

int ocirt_delete(const struct ocirt *rt, const char *id, const struct ocirt_options *o,
                 struct ocirt_error *e)
{
    return simple(rt, OI_DELETE, id, NULL, o, e);
}

int ocirt_pause(const struct ocirt *rt, const char *id, const struct ocirt_options *o,
                struct ocirt_error *e)
{
    return simple(rt, OI_PAUSE, id, NULL, o, e);
}

int ocirt_resume(const struct ocirt *rt, const char *id, const struct ocirt_options *o,
                 struct ocirt_error *e)
{
    return simple(rt, OI_RESUME, id, NULL, o, e);
}

static int write_all(int fd, const char *text)
{
    for (size_t left = strlen(text); left;) {
        ssize_t n = write(fd, text, left);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        text += n;
        left -= (size_t)n;
    }
    return 0;
}

// The process document goes by a file, as every runtime reads it.
static int write_process(const char *process, char *path, size_t size)
{
    const char *directory = getenv("XDG_RUNTIME_DIR");
    if ((size_t)snprintf(path, size, "%s/ocirt-process-XXXXXX",
                         directory && *directory ? directory : "/tmp") >= size)
        return -ENAMETOOLONG;
    int fd = mkostemp(path, 02000000 /* O_CLOEXEC */);
    if (fd < 0) {
        path[0] = 0;
        return -errno;
    }
    int r = write_all(fd, process);
    close(fd);
    return r;
}

int ocirt_exec(const struct ocirt *rt, const char *id, const char *process,
               const struct ocirt_options *o, int *ret_status, struct ocirt_error *e)
{
    char path[4096] = "";
    struct oi_call c;
    int r = oi_call_init(&c, rt, OI_EXEC, id ? id : "", o, e);

    if (r == 0 && !process)
        r = oi_error_set(e, -EINVAL, "exec %s: no process", id);
    if (r == 0 && (r = write_process(process, path, sizeof(path))) < 0)
        oi_error_set(e, r, "exec %s: %s: %s", id, path, strerrordesc_np(-r));
    if (r == 0)
        r = oi_strv_add(&c.argv, "--process");
    if (r == 0)
        r = oi_strv_add(&c.argv, path);
    if (r == 0)
        r = oi_options_args(o, OI_EXEC, &c.argv);
    if (r == 0)
        r = oi_strv_add(&c.argv, id);
    if (r == 0)
        r = oi_call_run(&c, ret_status, e);
    if (path[0])
        unlink(path);
    oi_call_fini(&c);
    return r;
}

int ocirt_update(const struct ocirt *rt, const char *id, const char *resources,
                 const struct ocirt_options *o, struct ocirt_error *e)
{
    struct oi_call c;
    int r = oi_call_init(&c, rt, OI_UPDATE, id ? id : "", o, e);

    if (r == 0 && !resources)
        r = oi_error_set(e, -EINVAL, "update %s: no resources", id);
    // A file and not a pipe: a runtime that does not read it must not raise SIGPIPE here.
    if (r == 0 && (c.stdin_fd = memfd_create("resources", MFD_CLOEXEC)) < 0)
        r = -errno;
    if (r == 0 && (r = write_all(c.stdin_fd, resources)) == 0)
        lseek(c.stdin_fd, 0, SEEK_SET);
    if (r == 0)
        r = oi_strv_add(&c.argv, "--resources=-");
    if (r == 0)
        r = oi_options_args(o, OI_UPDATE, &c.argv);
    if (r == 0)
        r = oi_strv_add(&c.argv, id);
    if (r == 0)
        r = oi_call_run(&c, NULL, e);
    oi_close(&c.stdin_fd);
    oi_call_fini(&c);
    return r;
}

int ocirt_read_pid_file(const char *path, pid_t *ret_pid)
{
    char text[32], *end;
    FILE *f = fopen(path, "re");
    if (!f)
        return -errno;
    size_t n = fread(text, 1, sizeof(text) - 1, f);
    fclose(f);
    text[n] = 0;
    errno = 0;
    long pid = strtol(text, &end, 10);
    if (errno || end == text || (*end && strcmp(end, "\n") != 0) || pid <= 0 || pid > 1 << 22)
        return -EBADMSG;
    *ret_pid = (pid_t)pid;
    return 0;
}
