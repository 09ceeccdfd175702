// SPDX-License-Identifier: Apache-2.0
// The options of a call: a table of what each is called, and for each verb the list of those that
// it has, in the order in which containerd's go-runc sends them.
#include "ocirt/internal.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FLAG_LAST OCIRT_PRE_DUMP
#define ORDER_MAX 20

static const struct {
    enum ocirt_option option;
    const char *arg;
} option_table[] = {
    {OCIRT_DETACH, "--detach"},
    {OCIRT_NO_PIVOT, "--no-pivot"},
    {OCIRT_NO_NEW_KEYRING, "--no-new-keyring"},
    {OCIRT_NO_SUBREAPER, "-no-subreaper"},
    {OCIRT_FORCE, "--force"},
    {OCIRT_ALL, "--all"},
    {OCIRT_TCP_ESTABLISHED, "--tcp-established"},
    {OCIRT_EXT_UNIX_SK, "--ext-unix-sk"},
    {OCIRT_SHELL_JOB, "--shell-job"},
    {OCIRT_FILE_LOCKS, "--file-locks"},
    {OCIRT_LAZY_PAGES, "--lazy-pages"},
    {OCIRT_LEAVE_RUNNING, "--leave-running"},
    {OCIRT_PRE_DUMP, "--pre-dump"},
    {OCIRT_PID_FILE, "--pid-file"},
    {OCIRT_CONSOLE_SOCKET, "--console-socket"},
    {OCIRT_PIDFD_SOCKET, "--pidfd-socket"},
    {OCIRT_IMAGE_PATH, "--image-path"},
    {OCIRT_WORK_PATH, "--work-path"},
    {OCIRT_PARENT_PATH, "--parent-path"},
    {OCIRT_PAGE_SERVER, "--page-server"},
    {OCIRT_CGROUPS_MODE, "--manage-cgroups-mode"},
    {OCIRT_EMPTY_NS, "--empty-ns"},
    {OCIRT_EXTRA_FD, "--preserve-fds"},
    {OCIRT_STATUS_FD, "--status-fd"},
};

#define CRIU_OPTIONS                                                             \
    OCIRT_IMAGE_PATH, OCIRT_WORK_PATH, OCIRT_PARENT_PATH, OCIRT_TCP_ESTABLISHED, \
        OCIRT_EXT_UNIX_SK, OCIRT_SHELL_JOB, OCIRT_PAGE_SERVER, OCIRT_FILE_LOCKS, \
        OCIRT_CGROUPS_MODE, OCIRT_EMPTY_NS, OCIRT_LAZY_PAGES
#define CREATE_OPTIONS                                                        \
    OCIRT_PID_FILE, OCIRT_CONSOLE_SOCKET, OCIRT_PIDFD_SOCKET, OCIRT_NO_PIVOT, \
        OCIRT_NO_NEW_KEYRING, OCIRT_DETACH, OCIRT_EXTRA_FD

static const struct {
    bool io; // has standard streams
    enum ocirt_option order[ORDER_MAX];
} verbs[OI_VERB_COUNT] = {
    [OI_CREATE] = {true, {CREATE_OPTIONS}},
    [OI_RUN] = {true, {CREATE_OPTIONS, OCIRT_NO_SUBREAPER}},
    [OI_EXEC] = {true, {OCIRT_CONSOLE_SOCKET, OCIRT_PIDFD_SOCKET, OCIRT_DETACH, OCIRT_PID_FILE}},
    [OI_CHECKPOINT] = {false,
                       {CRIU_OPTIONS, OCIRT_ARG, OCIRT_STATUS_FD, OCIRT_LEAVE_RUNNING,
                        OCIRT_PRE_DUMP}},
    [OI_RESTORE] = {true,
                    {CRIU_OPTIONS, OCIRT_DETACH, OCIRT_PID_FILE, OCIRT_CONSOLE_SOCKET,
                     OCIRT_NO_PIVOT, OCIRT_NO_SUBREAPER}},
    [OI_KILL] = {false, {OCIRT_ALL}},
    [OI_DELETE] = {false, {OCIRT_FORCE}},
};

const char *const oi_verb_names[OI_VERB_COUNT] = {
    [OI_CREATE] = "create",
    [OI_START] = "start",
    [OI_RUN] = "run",
    [OI_EXEC] = "exec",
    [OI_CHECKPOINT] = "checkpoint",
    [OI_RESTORE] = "restore",
    [OI_KILL] = "kill",
    [OI_DELETE] = "delete",
    [OI_PAUSE] = "pause",
    [OI_RESUME] = "resume",
    [OI_UPDATE] = "update",
    [OI_LIST] = "list",
    [OI_STATE] = "state",
    [OI_PS] = "ps",
    [OI_EVENTS] = "events",
    [OI_VERSION] = "--version",
    [OI_FEATURES] = "features",
};

struct ocirt_options *ocirt_options_new(void)
{
    struct ocirt_options *o = calloc(1, sizeof(*o));
    if (o)
        o->status_fd = o->cancel_fd = o->timeout = -1;
    return o;
}

void ocirt_options_free(struct ocirt_options *o)
{
    if (!o)
        return;
    for (int i = 0; i < OI_TEXTS; i++)
        free(o->texts[i]);
    oi_strv_fini(&o->empty_ns);
    oi_strv_fini(&o->args);
    free(o);
}

int ocirt_options_set_flag(struct ocirt_options *o, enum ocirt_option option, bool on)
{
    if (option < 1 || option > FLAG_LAST)
        return -EINVAL;
    o->flags = on ? o->flags | 1u << option : o->flags & ~(1u << option);
    return 0;
}

static int list_set(struct oi_strv *list, const char *text)
{
    if (text)
        return oi_strv_add(list, text);
    oi_strv_fini(list);
    return 0;
}

// Runtimes are started in a directory of their own (ocirt_set_work_dir), pid files are the
// caller's.
static int pid_file_set(char **slot, const char *path)
{
    char directory[PATH_MAX];
    struct oi_strv joined = {0};

    if (!path || path[0] == '/' || !path[0])
        return oi_text_set(slot, path);
    if (!getcwd(directory, sizeof(directory)))
        return -errno;
    int r = oi_strv_addf(&joined, "%s/%s", directory, path);
    if (r == 0)
        r = oi_text_set(slot, joined.v[0]);
    oi_strv_fini(&joined);
    return r;
}

int ocirt_options_set_text(struct ocirt_options *o, enum ocirt_option option, const char *text)
{
    if (option == OCIRT_EMPTY_NS)
        return list_set(&o->empty_ns, text);
    if (option == OCIRT_ARG)
        return list_set(&o->args, text);
    if (option < OCIRT_PID_FILE || option > OCIRT_CGROUPS_MODE)
        return -EINVAL;
    if (option == OCIRT_CGROUPS_MODE && text && strcmp(text, "soft") && strcmp(text, "full") &&
        strcmp(text, "strict"))
        return -EINVAL;
    char **slot = &o->texts[option - OCIRT_PID_FILE];
    return option == OCIRT_PID_FILE ? pid_file_set(slot, text) : oi_text_set(slot, text);
}

int ocirt_options_set_fd(struct ocirt_options *o, enum ocirt_option option, int fd)
{
    if (option == OCIRT_STATUS_FD) {
        o->status_fd = fd;
    } else if (option == OCIRT_CANCEL_FD) {
        o->cancel_fd = fd;
    } else if (option == OCIRT_EXTRA_FD && fd >= 0) {
        if (o->extra_count == sizeof(o->extra_fds) / sizeof(o->extra_fds[0]))
            return -E2BIG;
        o->extra_fds[o->extra_count++] = fd;
    } else {
        return -EINVAL;
    }
    return 0;
}

int ocirt_options_set_timeout(struct ocirt_options *o, int milliseconds)
{
    o->has_timeout = true;
    o->timeout = milliseconds < 0 ? -1 : milliseconds;
    return 0;
}

int ocirt_options_set_io(struct ocirt_options *o, struct ocirt_io *io)
{
    o->io = io;
    return 0;
}

int ocirt_options_set_started(struct ocirt_options *o, void (*started)(void *data, pid_t pid),
                              void *data)
{
    o->started = started;
    o->started_data = data;
    return 0;
}

const char *oi_options_text(const struct ocirt_options *o, enum ocirt_option option)
{
    return o ? o->texts[option - OCIRT_PID_FILE] : NULL;
}

static bool is_set(const struct ocirt_options *o, enum ocirt_option option)
{
    if (option <= FLAG_LAST)
        return o->flags & 1u << option;
    if (option <= OCIRT_CGROUPS_MODE)
        return oi_options_text(o, option);
    return (option == OCIRT_EMPTY_NS && o->empty_ns.count) ||
           (option == OCIRT_EXTRA_FD && o->extra_count) ||
           (option == OCIRT_STATUS_FD && o->status_fd >= 0);
}

int oi_options_check(const struct ocirt_options *o, enum oi_verb verb, struct ocirt_error *e)
{
    if (!o)
        return 0;
    if (o->io && !verbs[verb].io)
        return oi_error_set(e, -EINVAL, "%s has no standard streams", oi_verb_names[verb]);
    for (size_t i = 0; i < sizeof(option_table) / sizeof(option_table[0]); i++) {
        bool known = false;
        if (!is_set(o, option_table[i].option))
            continue;
        for (int k = 0; k < ORDER_MAX && !known; k++)
            known = verbs[verb].order[k] == option_table[i].option;
        if (!known)
            return oi_error_set(e, -EINVAL, "%s has no option %s", oi_verb_names[verb],
                                option_table[i].arg);
    }
    return 0;
}

static const char *arg_of(enum ocirt_option option)
{
    for (size_t i = 0; i < sizeof(option_table) / sizeof(option_table[0]); i++)
        if (option_table[i].option == option)
            return option_table[i].arg;
    return "";
}

static int add_option(const struct ocirt_options *o, enum ocirt_option option, struct oi_strv *argv)
{
    const char *arg = arg_of(option);
    int r = 0;

    if (option == OCIRT_EMPTY_NS) {
        for (size_t i = 0; i < o->empty_ns.count && r == 0; i++)
            if ((r = oi_strv_add(argv, arg)) == 0)
                r = oi_strv_add(argv, o->empty_ns.v[i]);
        return r;
    }
    r = oi_strv_add(argv, arg);
    if (r < 0 || option <= FLAG_LAST)
        return r;
    if (option == OCIRT_EXTRA_FD)
        return oi_strv_addf(argv, "%zu", o->extra_count);
    if (option == OCIRT_STATUS_FD)
        return oi_strv_add(argv, "3"); // the first one after the streams: oi_call_start
    return oi_strv_add(argv, oi_options_text(o, option));
}

int oi_options_args(const struct ocirt_options *o, enum oi_verb verb, struct oi_strv *argv)
{
    bool args_done = false;
    int r = 0;

    if (!o)
        return 0;
    for (int i = 0; i < ORDER_MAX && verbs[verb].order[i] && r == 0; i++) {
        enum ocirt_option option = verbs[verb].order[i];
        if (option == OCIRT_ARG) {
            args_done = true;
            r = oi_strv_add_all(argv, &o->args);
        } else if (is_set(o, option)) {
            r = add_option(o, option, argv);
        }
    }
    return r || args_done ? r : oi_strv_add_all(argv, &o->args);
}
