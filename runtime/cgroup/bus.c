// SPDX-License-Identifier: Apache-2.0
#include "runtime/cgroup/bus.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-bus.h>
#include <time.h>

#include "runtime/log.h"
#include "runtime/rootless.h"

#define LIBRARY "libsystemd.so.0"
#define SERVICE "org.freedesktop.systemd1"
#define OBJECT "/org/freedesktop/systemd1"
#define MANAGER SERVICE ".Manager"
#define OPEN_TRIES 6 // a bus that is asked by many at once says EAGAIN
#define JOB_PATH_MAX 256

// What is used of libsystemd.
#define FUNCTIONS(X)                                                                               \
    X(bus_open_system) X(bus_open_user) X(bus_new) X(bus_set_address) X(bus_start)                 \
    X(bus_flush_close_unref) X(bus_get_method_call_timeout) X(bus_match_signal_async)              \
    X(bus_process) X(bus_wait) X(bus_call) X(bus_error_free) X(bus_get_property_string)            \
    X(bus_message_new_method_call) X(bus_message_append) X(bus_message_append_basic)               \
    X(bus_message_open_container) X(bus_message_close_container) X(bus_message_read)               \
    X(bus_message_unref)

static struct {
    void *handle;
#define POINTER(name) __typeof__(&sd_##name) name;
    FUNCTIONS(POINTER)
} sd;

struct systemd {
    sd_bus *bus;
    int version; // 0: not asked for yet
    char job[JOB_PATH_MAX], result[32]; // what is waited for, and how it ended
};

bool systemd_built_in(void)
{
    return true;
}

static int load(struct error *e)
{
    if (sd.handle)
        return 0;
    void *handle = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (!handle)
        return error_set(e, -ENOTSUP, "--systemd-cgroup needs libsystemd: %s", dlerror());
#define FIND(name)                                                                                 \
    if (!(sd.name = (__typeof__(sd.name))dlsym(handle, "sd_" #name)))                              \
        return error_set(e, -ENOTSUP, "--systemd-cgroup needs a newer libsystemd: %s", dlerror());
    FUNCTIONS(FIND)
    sd.handle = handle;
    return 0;
}

static int open_socket(sd_bus **ret, const char *path)
{
    char address[128];
    sd_bus *bus = NULL;
    snprintf(address, sizeof(address), "unix:path=%s", path);
    int r = sd.bus_new(&bus);
    if (r >= 0)
        r = sd.bus_set_address(bus, address);
    if (r >= 0)
        r = sd.bus_start(bus);
    if (r < 0)
        sd.bus_flush_close_unref(bus);
    else
        *ret = bus;
    return r;
}

static int connect_bus(bool user, sd_bus **ret)
{
    char path[64] = "/run/systemd/private";
    int r = user ? sd.bus_open_user(ret) : sd.bus_open_system(ret);
    if (r >= 0 || r == -EAGAIN)
        return r;
    if (user)
        snprintf(path, sizeof(path), "/run/user/%u/systemd/private", rootless_owner());
    return open_socket(ret, path) < 0 ? r : 0;
}

static int on_job_removed(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    struct systemd *s = userdata;
    const char *path, *unit, *result;
    u32 id;
    if (sd.bus_message_read(m, "uoss", &id, &path, &unit, &result) >= 0 && !strcmp(path, s->job))
        snprintf(s->result, sizeof(s->result), "%s", result);
    return 0;
}

int systemd_open(bool user, struct systemd **ret, struct error *e)
{
    int r = load(e);
    if (r < 0)
        return r;
    struct systemd *s = calloc(1, sizeof(*s));
    if (!s)
        return error_set(e, -ENOMEM, "out of memory");
    struct timespec pause = {0, 50000000};
    for (int i = 0; (r = connect_bus(user, &s->bus)) == -EAGAIN && i < OPEN_TRIES; i++) {
        nanosleep(&pause, NULL);
        pause.tv_nsec = min(pause.tv_nsec * 2, 900000000l);
    }
    if (r >= 0)
        r = sd.bus_match_signal_async(s->bus, NULL, NULL, OBJECT, MANAGER, "JobRemoved", on_job_removed,
                                      NULL, s);
    if (r < 0) {
        systemd_close(s);
        return error_errno(e, r, "--systemd-cgroup: connect to %s systemd by D-Bus",
                           user ? "the user's" : "the host's");
    }
    *ret = s;
    return 0;
}

void systemd_close(struct systemd *s)
{
    if (s && s->bus)
        sd.bus_flush_close_unref(s->bus);
    free(s);
}

static int out_of_words(struct error *e, int r)
{
    return error_errno(e, r, "--systemd-cgroup: write a message");
}

static int new_call(struct systemd *s, const char *method, sd_bus_message **ret, struct error *e)
{
    int r = sd.bus_message_new_method_call(s->bus, ret, SERVICE, OBJECT, MANAGER, method);
    return r < 0 ? out_of_words(e, r) : 0;
}

static int append_basic(sd_bus_message *m, char type, const union unit_value *v)
{
    const int flag = v->number != 0;
    const u8 byte = (u8)v->number;
    const u16 half = (u16)v->number;
    const u32 word = (u32)v->number;
    switch (type) {
    case 'b': return sd.bus_message_append_basic(m, type, &flag);
    case 'y': return sd.bus_message_append_basic(m, type, &byte);
    case 'n':
    case 'q': return sd.bus_message_append_basic(m, type, &half);
    case 'i':
    case 'u': return sd.bus_message_append_basic(m, type, &word);
    case 'x':
    case 't': return sd.bus_message_append_basic(m, type, &v->number);
    case 'd': return sd.bus_message_append_basic(m, type, &v->real);
    default: return sd.bus_message_append_basic(m, 's', v->text);
    }
}

static int append_value(sd_bus_message *m, const struct unit_property *p)
{
    const bool array = p->type[0] == 'a', pairs = array && p->type[1] == '(';
    int r = array ? sd.bus_message_open_container(m, 'a', p->type + 1) : 0;
    for (u32 i = 0; i < p->count && r >= 0; i += 1 + pairs)
        r = pairs ? sd.bus_message_append(m, "(ss)", p->values[i].text, p->values[i + 1].text)
                  : append_basic(m, p->type[array], &p->values[i]);
    return r >= 0 && array ? sd.bus_message_close_container(m) : r;
}

// "v252.38-1~deb12u1", "249.11": the first number.
static int ask_version(struct systemd *s)
{
    char *text = NULL;
    if (s->version)
        return s->version;
    s->version = -1;
    if (sd.bus_get_property_string(s->bus, SERVICE, OBJECT, MANAGER, "Version", NULL, &text) >= 0)
        s->version = atoi(text + strcspn(text, "0123456789"));
    free(text);
    return s->version;
}

static bool is_known(struct systemd *s, const struct unit_property *p)
{
    if (!p->since || ask_version(s) >= (int)p->since)
        return true;
    rlog(RLOG_DEBUG, "systemd %d has no %s yet: written to the file alone", s->version, p->name);
    return false;
}

static int append_properties(struct systemd *s, sd_bus_message *m, const struct unit_properties *p,
                             bool start, struct error *e)
{
    int r = sd.bus_message_open_container(m, 'a', "(sv)");
    for (u32 i = 0; i < p->count && r >= 0; i++) {
        const struct unit_property *v = &p->items[i];
        if ((v->start_only && !start) || !is_known(s, v))
            continue;
        r = sd.bus_message_open_container(m, 'r', "sv");
        if (r >= 0)
            r = sd.bus_message_append_basic(m, 's', v->name);
        if (r >= 0)
            r = sd.bus_message_open_container(m, 'v', v->type);
        if (r >= 0)
            r = append_value(m, v);
        if (r >= 0)
            r = sd.bus_message_close_container(m);
        if (r >= 0)
            r = sd.bus_message_close_container(m);
        if (r < 0)
            return error_errno(e, r, "--systemd-cgroup: property %s", v->name);
    }
    if (r >= 0)
        r = sd.bus_message_close_container(m);
    return r < 0 ? out_of_words(e, r) : 0;
}

// Sends `m`, which ends here. The job that the answer names, if `job`, is remembered.
static int call(struct systemd *s, sd_bus_message *m, const char *method, const char *unit, bool job,
                struct error *e)
{
    sd_bus_error why = SD_BUS_ERROR_NULL;
    sd_bus_message *answer = NULL;
    const char *path;
    s->job[0] = s->result[0] = 0;
    int r = sd.bus_call(s->bus, m, 0, &why, &answer);
    if (r >= 0 && job) {
        r = sd.bus_message_read(answer, "o", &path);
        if (r >= 0)
            snprintf(s->job, sizeof(s->job), "%s", path);
    }
    if (r < 0 && why.name && strstr(why.name, "NoSuchUnit"))
        r = -ENOENT;
    else if (r < 0 && why.name && strstr(why.name, "UnitExists"))
        r = -EEXIST;
    if (r < 0 && why.message && r != -ETIMEDOUT)
        error_set(e, r, "systemd: %s of %s: %s", method, unit, why.message);
    else if (r < 0)
        error_errno(e, r, "systemd: %s of %s", method, unit);
    sd.bus_error_free(&why);
    sd.bus_message_unref(answer);
    sd.bus_message_unref(m);
    return r < 0 ? r : 0;
}

static u64 now_usec(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (u64)t.tv_sec * 1000000 + (u64)t.tv_nsec / 1000;
}

static int await_job(struct systemd *s, const char *what, const char *unit, struct error *e)
{
    u64 limit = 25000000;
    sd.bus_get_method_call_timeout(s->bus, &limit);
    const u64 end = now_usec() + limit;
    while (!s->result[0]) {
        u64 now = now_usec();
        int r = sd.bus_process(s->bus, NULL);
        if (r == 0 && now >= end)
            return error_set(e, -ETIMEDOUT, "systemd: timed out waiting for it to %s %s", what, unit);
        if (r == 0)
            r = sd.bus_wait(s->bus, end - now);
        if (r < 0 && r != -EINTR)
            return error_errno(e, r, "systemd: wait for it to %s %s", what, unit);
    }
    return strcmp(s->result, "done")
               ? error_set(e, -EIO, "systemd: %s of %s: the job's result is \"%s\"", what, unit, s->result)
               : 0;
}

// systemd keeps a unit that has failed for who wants to know of it.
static void forget_failure(struct systemd *s, const char *unit)
{
    struct error ignored;
    sd_bus_message *m = NULL;
    if (new_call(s, "ResetFailedUnit", &m, &ignored) == 0) {
        sd.bus_message_append_basic(m, 's', unit);
        call(s, m, "ResetFailedUnit", unit, false, &ignored);
    }
}

static int start_transient(struct systemd *s, const char *unit, const struct unit_properties *p,
                           struct error *e)
{
    sd_bus_message *m = NULL;
    int r = new_call(s, "StartTransientUnit", &m, e);
    if (r < 0)
        return r;
    r = sd.bus_message_append(m, "ss", unit, "replace");
    r = r < 0 ? out_of_words(e, r) : append_properties(s, m, p, true, e);
    if (!r && sd.bus_message_append(m, "a(sa(sv))", 0) < 0)
        r = out_of_words(e, -EINVAL);
    if (!r)
        return call(s, m, "StartTransientUnit", unit, true, e);
    sd.bus_message_unref(m);
    return r;
}

int systemd_start_unit(struct systemd *s, const char *unit, const struct unit_properties *p,
                       struct error *e)
{
    int r = start_transient(s, unit, p, e);
    if (r == -EEXIST) {
        forget_failure(s, unit);
        r = start_transient(s, unit, p, e);
    }
    if (r < 0)
        return r;
    r = await_job(s, "start", unit, e);
    if (r == -EIO)
        forget_failure(s, unit);
    return r;
}

int systemd_set_properties(struct systemd *s, const char *unit, const struct unit_properties *p,
                           struct error *e)
{
    sd_bus_message *m = NULL;
    int r = new_call(s, "SetUnitProperties", &m, e);
    if (r < 0)
        return r;
    r = sd.bus_message_append(m, "sb", unit, 1);
    r = r < 0 ? out_of_words(e, r) : append_properties(s, m, p, false, e);
    if (!r)
        return call(s, m, "SetUnitProperties", unit, false, e);
    sd.bus_message_unref(m);
    return r;
}

int systemd_stop_unit(struct systemd *s, const char *unit, struct error *e)
{
    sd_bus_message *m = NULL;
    int r = new_call(s, "StopUnit", &m, e);
    if (r < 0)
        return r;
    sd.bus_message_append(m, "ss", unit, "replace");
    r = call(s, m, "StopUnit", unit, true, e);
    if (!r)
        r = await_job(s, "stop", unit, e);
    forget_failure(s, unit);
    return r == -ENOENT ? 0 : r;
}

int systemd_attach(struct systemd *s, const char *unit, pid_t pid, struct error *e)
{
    sd_bus_message *m = NULL;
    int r = new_call(s, "AttachProcessesToUnit", &m, e);
    if (r < 0)
        return r;
    sd.bus_message_append(m, "ssau", unit, "", 1, (u32)pid);
    return call(s, m, "AttachProcessesToUnit", unit, false, e);
}
