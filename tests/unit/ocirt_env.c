// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/ocirt_env.h"

#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

struct ocirt *rt;
struct ocirt_options *o;
struct ocirt_error *e;
char dir[64];
static int fds_before;

static int count_fds(void)
{
    int count = 0;
    DIR *d = opendir("/proc/self/fd");
    for (; readdir(d); count++)
        ;
    closedir(d);
    return count;
}

int set_up(void **state)
{
    fds_before = count_fds();
    strcpy(dir, "/tmp/ocirt-test-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    rt = ocirt_new(FAKE_RUNTIME);
    o = ocirt_options_new();
    e = ocirt_error_new();
    char env[128];
    snprintf(env, sizeof(env), "FAKE_DIR=%s", dir);
    return ocirt_add_env(rt, env);
}

int tear_down(void **state)
{
    char command[128];
    snprintf(command, sizeof(command), "rm -rf %s", dir);
    ocirt_free(rt);
    ocirt_options_free(o);
    ocirt_error_free(e);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
    assert_int_equal(count_fds(), fds_before);
    return system(command);
}

const char *slurp(const char *name)
{
    static char text[65536];
    char path[256];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    text[fread(text, 1, sizeof(text) - 1, f)] = 0;
    fclose(f);
    return text;
}

const char *sent(void)
{
    static char line[65536];
    snprintf(line, sizeof(line), "%s", slurp("args"));
    for (char *p = line; *p; p++)
        if (*p == '\n')
            *p = p[1] ? ' ' : 0;
    return line;
}

void fake(const char *mode, const char *name_value)
{
    char text[256];
    snprintf(text, sizeof(text), "FAKE=%s", mode);
    assert_int_equal(ocirt_add_env(rt, text), 0);
    if (name_value)
        assert_int_equal(ocirt_add_env(rt, name_value), 0);
}

void says(const char *name_value)
{
    fake("say", name_value);
}

void ended(const char *file) // the process whose pid is in the file
{
    pid_t pid = atoi(slurp(file));
    kill(pid, SIGKILL);
}
