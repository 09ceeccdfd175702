// SPDX-License-Identifier: Apache-2.0
// What tests of mounts share: a namespace of the case's own, and a look at mountinfo.
#ifndef BAILEY_TESTS_GUEST_MOUNTS_H
#define BAILEY_TESTS_GUEST_MOUNTS_H

#include <limits.h>
#include <sched.h>
#include <sys/mount.h>

#include "t.h"

static const char *work; // an absolute path: a private tmpfs of the case's own, the working directory

// A mount namespace of the case's own, and in it an empty private tmpfs.
__attribute__((unused)) static void setup(void)
{
    static char path[PATH_MAX];
    if (unshare(CLONE_NEWNS) < 0)
        FAIL("unshare: %s", strerror(errno));
    SYS(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
    SYS(mkdir("w", 0755));
    SYS(mount("work", "w", "tmpfs", 0, NULL));
    SYS(chdir("w"));
    CHECK(getcwd(path, sizeof(path)));
    work = path;
    SYS(mount(NULL, path, NULL, MS_PRIVATE, NULL));
}

__attribute__((unused)) static void make_dirs(const char *names)
{
    char buf[200];
    snprintf(buf, sizeof(buf), "%s", names);
    for (char *p = strtok(buf, " "); p; p = strtok(NULL, " "))
        SYS(mkdir(p, 0755));
}

__attribute__((unused)) static void tmpfs_at(const char *path)
{
    SYS(mount("some", path, "tmpfs", 0, NULL));
}

__attribute__((unused)) static void bind_to(const char *from, const char *to, unsigned long flags)
{
    if (mount(from, to, NULL, MS_BIND | flags, NULL) < 0)
        FAIL("bind %s to %s: %s", from, to, strerror(errno));
}

__attribute__((unused)) static void set_type(const char *path, unsigned long type)
{
    if (mount(NULL, path, NULL, type, NULL) < 0)
        FAIL("type %#lx of %s: %s", type, path, strerror(errno));
}

__attribute__((unused)) static bool exists(const char *path)
{
    return access(path, F_OK) == 0;
}

// A mount's line of mountinfo by its path below the work directory, the last of several. NULL.
__attribute__((unused)) static char *info_of(const char *name)
{
    static char text[200000], line[4096];
    char want[PATH_MAX], point[PATH_MAX];
    char *found = NULL;
    snprintf(want, sizeof(want), "%s%s%s", work, *name ? "/" : "", name);
    t_read_file("/proc/self/mountinfo", text, sizeof(text));
    for (char *l = strtok(text, "\n"); l; l = strtok(NULL, "\n")) {
        if (sscanf(l, "%*d %*d %*s %*s %s", point) == 1 && !strcmp(point, want)) {
            snprintf(line, sizeof(line), "%s", l);
            found = line;
        }
    }
    return found;
}

__attribute__((unused)) static bool is_mounted(const char *name)
{
    return info_of(name) != NULL;
}

// The number after `key` ("shared:") in the mount's optional fields; 0: none.
__attribute__((unused)) static int field_of(const char *name, const char *key)
{
    char *line = info_of(name);
    if (!line)
        FAIL("%s is not mounted", name);
    char *dash = strstr(line, " - ");
    CHECK(dash);
    *dash = 0;
    char *p = strstr(line, key);
    return p ? atoi(p + strlen(key)) : 0;
}

__attribute__((unused)) static bool has_word(const char *name, const char *word)
{
    char *line = info_of(name);
    if (!line)
        FAIL("%s is not mounted", name);
    *strstr(line, " - ") = 0;
    return strstr(line, word) != NULL;
}

#endif
