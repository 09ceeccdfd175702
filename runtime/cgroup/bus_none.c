// SPDX-License-Identifier: Apache-2.0
// Built without libsystemd's headers.
#include <errno.h>

#include "runtime/cgroup/bus.h"

static int refuse(struct error *e)
{
    return error_set(e, -ENOTSUP, "--systemd-cgroup: this build is without libsystemd");
}

bool systemd_built_in(void)
{
    return false;
}

int systemd_open(bool user, struct systemd **ret, struct error *e)
{
    return refuse(e);
}

void systemd_close(struct systemd *s)
{
}

int systemd_start_unit(struct systemd *s, const char *unit, const struct unit_properties *p,
                       struct error *e)
{
    return refuse(e);
}

int systemd_set_properties(struct systemd *s, const char *unit, const struct unit_properties *p,
                           struct error *e)
{
    return refuse(e);
}

int systemd_stop_unit(struct systemd *s, const char *unit, struct error *e)
{
    return refuse(e);
}

int systemd_attach(struct systemd *s, const char *unit, pid_t pid, struct error *e)
{
    return refuse(e);
}
