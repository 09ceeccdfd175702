// SPDX-License-Identifier: Apache-2.0
// The container's control group: made when the configuration names one or sets limits, entered by
// the sentry and the gofer before they allocate anything, removed with the container.
//
// Three set-ups of the host are known: version 2 (one hierarchy at /sys/fs/cgroup), version 1 (one
// a controller below it), and hybrid (both: version 2 at /sys/fs/cgroup/unified, with the
// controllers that version 1 does not have). The group is made in every hierarchy that is mounted,
// so that clients find it by the reported pid's /proc/PID/cgroup whichever controller they look
// for.
//
// linux.cgroupsPath: absolute, from the hierarchies' roots; relative, and the default, below
// /bailey; with --systemd-cgroup "slice:prefix:name", the scope prefix-name.scope that systemd makes (bus.h,
// unit.h). systemd is told of the limits too, so that it does not undo them; every file is written here all
// the same.
//
// Numbers of the configuration count the guest's tasks; a guest process costs the host more (its
// stub, and the sentry's thread for it), so pids.max of the host is set higher (CGROUP_HOST_TASKS)
// and the sentry holds the exact limit. Device rules hold the sandbox's own processes (no device of the host can be
// opened in it anyway): by the devices controller of version 1, by a BPF program in version 2.
#ifndef BAILEY_RUNTIME_CGROUP_CGROUP_H
#define BAILEY_RUNTIME_CGROUP_CGROUP_H

#include "runtime/spec/spec.h"

#define CGROUP_DIRS_MAX 16
#define CGROUP_HOST_TASKS(guest) ((guest)*3 + 64)

struct cgroup_dir {
    const char *controller; // as /sys/fs/cgroup names it; "" for version 2. A constant
    char *path;             // absolute
    u32 made;               // how many directories of it were made, counted from its end
    int procs;              // cgroup.procs, open for writing; -1: closed
};

struct cgroup {
    bool unified; // pure version 2
    u32 count;    // 0: no cgroup
    struct cgroup_dir dirs[CGROUP_DIRS_MAX];
    char *path; // within the hierarchies; NULL: no cgroup
    char *unit; // systemd's name for it; NULL: not systemd's
    bool user;  // of the user's systemd
};

// True when this build knows systemd's driver.
bool cgroup_has_systemd(void);

// Bits of cgroup_create's flags.
#define CGROUP_SYSTEMD 1u // --systemd-cgroup
#define CGROUP_ROOTLESS                                                                            \
    2u // what an ordinary user may not do is left undone, unless it was asked for

// Makes the group and sets the limits of s->resources. `pids` (ended by 0) are those that will be in it:
// systemd makes no scope without a process, and they are in it then (and are killed on failure); otherwise
// they are left alone. 0 (also when none is wanted: count is 0 then), or a negative errno with a message that
// names the file or the field; nothing is left then.
int cgroup_create(struct cgroup *c, const struct spec *s, const char *id, u32 flags,
                  const pid_t *pids, struct error *e);

// What cgroup_create will make, to be saved before it does: so that a command which ends in between leaves
// nothing that cannot be found. Ends in cgroup_close.
int cgroup_plan(struct cgroup *c, const struct spec *s, const char *id, u32 flags, struct error *e);

// Puts a process into the group (0: the caller). 0 or a negative errno.
int cgroup_enter(const struct cgroup *c, pid_t pid);

// As cgroup_enter of another process; systemd is asked where the kernel does not let an ordinary user.
int cgroup_attach(const struct cgroup *c, pid_t pid, struct error *e);

// For state.json: all that cgroup_load needs to find the group again. A new object, NULL when there
// is no group.
json_object *cgroup_save(const struct cgroup *c);

// Finds a saved group again (`o` may be NULL: none). -EINVAL with message for what cgroup_save did
// not write. Ends in cgroup_close or cgroup_remove.
int cgroup_load(struct cgroup *c, json_object *o, struct error *e);

// Changes the limits that `resources` (linux.resources, checked by the schema) names; the others
// stay. All or nothing: what had been written is put back when a later one fails.
int cgroup_update(const struct cgroup *c, json_object *resources, struct error *e);

// Gives `c` at least the weight of CPU time that `least` has. What cannot be read or written is left.
void cgroup_raise_weight(const struct cgroup *c, const struct cgroup *least);

// Checks a resources document of `update` against the specification's schema. 0 or -EINVAL with
// message.
int cgroup_check_resources(json_object *resources, struct error *e);

// What the guest is shown of its limits, read from the group's files.
struct cgroup_limits {
    u32 cpus;   // as many as its CPU set and its quota (rounded up) come to
    u64 quota;  // CPU time, us, in each `period`; 0: no limit
    u64 period; // us
    u64 weight; // as version 2 counts it: 1 to 10000
};

void cgroup_get_limits(const struct cgroup *c, struct cgroup_limits *ret);

// Adds "cpu", "cpuset", "memory", "pids", "blkio" and "hugetlb" to `data`, shaped as `events
// --stats` prints them. What cannot be read is left out or zero.
void cgroup_stats(const struct cgroup *c, json_object *data);

// The processes in the group and below it. The list is malloc'ed, *ret_count long; 0 or a negative
// errno.
int cgroup_pids(const struct cgroup *c, pid_t **ret, u32 *ret_count);

// Stops all processes of the group, or lets them go on; returns when they have. -ENOTSUP without a
// freezer.
int cgroup_freeze(const struct cgroup *c, bool frozen);

// Ends all processes of the group (frozen ones too) and waits until they are gone. 0, or -EBUSY
// when some are still there after a few seconds.
int cgroup_kill(const struct cgroup *c);

// A descriptor that becomes readable when the kernel has ended a process of the group for want of
// memory; read it (any size) before the next poll. -ENOTSUP where there is no memory controller.
int cgroup_oom_fd(const struct cgroup *c);

// How many processes of the group the kernel has ended so; `absent` when it does not tell.
u64 cgroup_oom_kills(const struct cgroup *c, u64 absent);

// Removes the group and those of its parents that were made for it and are empty; its processes
// must have ended. Releases `c`. Safe to repeat.
void cgroup_remove(struct cgroup *c);

// Releases `c`; the group stays.
void cgroup_close(struct cgroup *c);

// --- Limits as the kernel's files take them (also for tests). ---

struct cgroup_setting {
    const char *controller; // version 1: the hierarchy
    const char *file;
    const char *field; // of the configuration, for messages
    const char *value;
    const char *hybrid_file; // its name where version 1 lacks the controller; NULL: the same
    bool optional;           // a kernel without the file is fine
    bool device;             // a key and a value: what stood there cannot be put back by writing it
};

// linux.resources.devices.
struct device_rule {
    bool allow;
    char type;        // 'c', 'b'; 'a': all devices, whatever else it says
    s64 major, minor; // -1: any
    u8 access;        // DEVICE_*
};

// As BPF_DEVCG_ACC_*.
#define DEVICE_MKNOD 1u
#define DEVICE_READ 2u
#define DEVICE_WRITE 4u
#define DEVICE_ALL 7u

struct cgroup_settings {
    struct pool pool;
    struct cgroup_setting *items;
    u32 count, room;
    struct device_rule *rules; // in order: the last one that speaks of an access decides; no rule, no access
    u32 rule_count;            // 0: nothing was said of devices
};

// Translates linux.resources (NULL: none), in the order of writing. 0, or -EINVAL or -ENOTSUP with
// a message for what has no file. Ends in cgroup_settings_free, in any case.
int cgroup_settings_read(struct cgroup_settings *s, json_object *resources, bool unified,
                         struct error *e);
void cgroup_settings_free(struct cgroup_settings *s);

#endif
