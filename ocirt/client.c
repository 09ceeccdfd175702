// SPDX-License-Identifier: Apache-2.0
#include "ocirt/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct ocirt *ocirt_new(const char *command)
{
    struct ocirt *rt = calloc(1, sizeof(*rt));
    if (!rt)
        return NULL;
    rt->timeout = -1;
    rt->output_limit = OI_OUTPUT_LIMIT;
    rt->monitor = oi_default_monitor;
    if (ocirt_set_command(rt, command) < 0) {
        ocirt_free(rt);
        return NULL;
    }
    return rt;
}

void ocirt_free(struct ocirt *rt)
{
    if (!rt)
        return;
    free(rt->command);
    free(rt->root);
    free(rt->log);
    free(rt->work_dir);
    oi_strv_fini(&rt->args);
    oi_strv_fini(&rt->env);
    free(rt);
}

int ocirt_set_command(struct ocirt *rt, const char *command)
{
    return command && *command ? oi_text_set(&rt->command, command) : -EINVAL;
}

int ocirt_set_root(struct ocirt *rt, const char *directory)
{
    return oi_text_set(&rt->root, directory);
}

int ocirt_set_log(struct ocirt *rt, const char *path)
{
    return oi_text_set(&rt->log, path);
}

int ocirt_set_log_format(struct ocirt *rt, enum ocirt_log_format format)
{
    if (format > OCIRT_LOG_TEXT)
        return -EINVAL;
    rt->log_format = format;
    return 0;
}

int ocirt_set_debug(struct ocirt *rt, bool on)
{
    rt->debug = on;
    return 0;
}

int ocirt_set_systemd_cgroup(struct ocirt *rt, bool on)
{
    rt->systemd_cgroup = on;
    return 0;
}

int ocirt_set_rootless(struct ocirt *rt, enum ocirt_rootless rootless)
{
    if (rootless > OCIRT_ROOTLESS_FALSE)
        return -EINVAL;
    rt->rootless = rootless;
    return 0;
}

int ocirt_add_arg(struct ocirt *rt, const char *arg)
{
    return arg ? oi_strv_add(&rt->args, arg) : -EINVAL;
}

int ocirt_set_work_dir(struct ocirt *rt, const char *directory)
{
    return oi_text_set(&rt->work_dir, directory);
}

int ocirt_add_env(struct ocirt *rt, const char *name_value)
{
    if (!name_value || name_value[0] == '=' || !strchr(name_value, '='))
        return -EINVAL;
    return oi_strv_add(&rt->env, name_value);
}

int ocirt_set_death_signal(struct ocirt *rt, int signal_number)
{
    if (signal_number < 0 || signal_number > 64)
        return -EINVAL;
    rt->death_signal = signal_number;
    return 0;
}

int ocirt_set_process_group(struct ocirt *rt, bool on)
{
    rt->group = on;
    return 0;
}

int ocirt_set_timeout(struct ocirt *rt, int milliseconds)
{
    rt->timeout = milliseconds < 0 ? -1 : milliseconds;
    return 0;
}

int ocirt_set_output_limit(struct ocirt *rt, size_t bytes)
{
    if (!bytes)
        return -EINVAL;
    rt->output_limit = bytes;
    return 0;
}

int ocirt_set_monitor(struct ocirt *rt, const struct ocirt_monitor *monitor)
{
    if (!monitor)
        monitor = &oi_default_monitor;
    if (monitor->size < sizeof(*monitor) || !monitor->start || !monitor->wait || !monitor->kill)
        return -EINVAL;
    rt->monitor = *monitor;
    return 0;
}

int oi_client_args(const struct ocirt *rt, const char *log_file, struct oi_strv *argv)
{
    static const char *const formats[] = {NULL, "json", "text"};
    static const char *const rootless[] = {NULL, "--rootless=true", "--rootless=false"};
    const char *log = log_file ? log_file : rt->log;
    int r = oi_strv_add(argv, rt->command);

    if (r == 0 && rt->root && (r = oi_strv_add(argv, "--root")) == 0)
        r = oi_strv_add(argv, rt->root);
    if (r == 0 && rt->debug)
        r = oi_strv_add(argv, "--debug");
    if (r == 0 && log && (r = oi_strv_add(argv, "--log")) == 0)
        r = oi_strv_add(argv, log);
    if (r == 0 && rt->log_format && (r = oi_strv_add(argv, "--log-format")) == 0)
        r = oi_strv_add(argv, formats[rt->log_format]);
    if (r == 0 && rt->systemd_cgroup)
        r = oi_strv_add(argv, "--systemd-cgroup");
    if (r == 0 && rt->rootless)
        r = oi_strv_add(argv, rootless[rt->rootless]);
    return r ? r : oi_strv_add_all(argv, &rt->args);
}
