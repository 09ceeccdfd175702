// SPDX-License-Identifier: Apache-2.0
// Within runtime/cgroup/: systemd over D-Bus (org.freedesktop.systemd1(5)). libsystemd is loaded by the first
// call, so that who does not use --systemd-cgroup has nothing of it; without the library, or built without its
// headers, systemd_open fails.
//
// Each call waits for its answer, and for the end of the job where there is one, as long as sd-bus does by
// default (25 s; SYSTEMD_BUS_TIMEOUT).
#ifndef BAILEY_RUNTIME_CGROUP_BUS_H
#define BAILEY_RUNTIME_CGROUP_BUS_H

#include "runtime/cgroup/unit.h"

struct systemd;

// True when this build has the driver.
bool systemd_built_in(void);

// Connects to the host's systemd or, `user`, to that of the user who started bailey: by the bus
// (DBUS_SYSTEM_BUS_ADDRESS; DBUS_SESSION_BUS_ADDRESS, XDG_RUNTIME_DIR), and where there is none by systemd's own
// socket. *ret ends in systemd_close. 0, or a negative errno with message.
int systemd_open(bool user, struct systemd **ret, struct error *e);
void systemd_close(struct systemd *s); // NULL is fine

// Starts a transient unit. A failed one of that name, left over, is forgotten first. -EEXIST when there is such
// a unit; -ETIMEDOUT; or another negative errno with message.
int systemd_start_unit(struct systemd *s, const char *unit, const struct unit_properties *p,
                       struct error *e);

// Changes properties until the next start of the host (of a transient unit: for good).
int systemd_set_properties(struct systemd *s, const char *unit, const struct unit_properties *p,
                           struct error *e);

// Stops a unit, so that its processes have ended and its groups are gone. That there is none is fine.
int systemd_stop_unit(struct systemd *s, const char *unit, struct error *e);

// Puts a process into the unit's group.
int systemd_attach(struct systemd *s, const char *unit, pid_t pid, struct error *e);

#endif
