// SPDX-License-Identifier: Apache-2.0
// Hooks: what they get, how they are judged, and how long they may take.
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/hooks.h"

static struct error e;
static char dir[] = "/tmp/bailey-hooks-XXXXXX";

#define STATE "{\"id\":\"c1\",\"status\":\"created\"}"

static int run_with(const char *json, enum hook_kind kind, const struct hook_run *how)
{
    struct hook_run run = how ? *how : (struct hook_run){0};
    run.hooks = json_tokener_parse(json);
    assert_non_null(run.hooks);
    run.state = run.state ? run.state : STATE;
    run.bundle = dir;
    e.text[0] = 0;
    int r = hooks_run(&run, kind, &e);
    json_object_put(run.hooks);
    return r;
}

// What a hook has left in a file of the bundle.
static const char *left(const char *name)
{
    static char text[4096], path[128];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *f = fopen(path, "re");
    if (!f)
        return "";
    text[fread(text, 1, sizeof(text) - 1, f)] = 0;
    fclose(f);
    unlink(path);
    return text;
}

static void test_input(void **state)
{
    assert_int_equal(run_with("{\"createRuntime\":[{\"path\":\"/bin/sh\",\"args\":[\"sh\",\"-c\","
                              "\"cat > in; echo $A-$HOME > env; pwd > cwd\"],\"env\":[\"A=b\"]}]}",
                              HOOK_CREATE_RUNTIME, NULL),
                     0);
    assert_string_equal(left("in"), STATE);
    assert_string_equal(left("env"), "b-\n");
    char want[64];
    snprintf(want, sizeof(want), "%s\n", dir);
    assert_string_equal(left("cwd"), want);
}

static void test_large_state_not_read(void **state)
{
    char *large = calloc(1, 300001);
    memset(large, 'x', 300000);
    struct hook_run how = {.state = large};
    assert_int_equal(run_with("{\"prestart\":[{\"path\":\"/bin/true\"}]}", HOOK_PRESTART, &how), 0);
    assert_int_equal(run_with("{\"prestart\":[{\"path\":\"/bin/sh\",\"args\":[\"sh\",\"-c\","
                              "\"wc -c > n\"]}]}",
                              HOOK_PRESTART, &how),
                     0);
    assert_int_equal(atoi(left("n")), 300000);
    free(large);
}

static void test_order_and_kinds(void **state)
{
    static const char hooks[] =
        "{\"poststop\":[{\"path\":\"/bin/sh\",\"args\":[\"sh\",\"-c\",\"echo stop >> log\"]}],"
        "\"prestart\":[{\"path\":\"/bin/sh\",\"args\":[\"sh\",\"-c\",\"echo 1 >> log\"]},"
        "{\"path\":\"/bin/sh\",\"args\":[\"sh\",\"-c\",\"echo 2 >> log\"]}]}";
    assert_int_equal(run_with(hooks, HOOK_PRESTART, NULL), 0);
    assert_string_equal(left("log"), "1\n2\n");
    assert_int_equal(run_with(hooks, HOOK_CREATE_RUNTIME, NULL), 0);
    assert_string_equal(left("log"), "");
}

static void test_failures(void **state)
{
    assert_int_equal(run_with("{\"createRuntime\":[{\"path\":\"/bin/sh\",\"args\":[\"sh\",\"-c\","
                              "\"echo oops >&2; exit 3\"]},{\"path\":\"/bin/sh\",\"args\":[\"sh\","
                              "\"-c\",\"echo 2 >> log\"]}]}",
                              HOOK_CREATE_RUNTIME, NULL),
                     -EIO);
    assert_string_equal(e.text, "error running createRuntime hook #0 (/bin/sh): exit status 3, "
                                "output: oops");
    assert_string_equal(left("log"), "");
    assert_int_equal(run_with("{\"prestart\":[{\"path\":\"/nowhere/hook\"}]}", HOOK_PRESTART, NULL),
                     -EIO);
    assert_non_null(strstr(e.text, "/nowhere/hook): exit status 127, output: no such file or "
                                   "directory"));
    assert_int_equal(run_with("{\"prestart\":[{\"path\":\"/bin/sh\",\"args\":[\"sh\",\"-c\","
                              "\"kill -9 $$\"]}]}",
                              HOOK_PRESTART, NULL),
                     -EIO);
    assert_non_null(strstr(e.text, "signal 9"));
}

static void test_late_failures_are_warnings(void **state)
{
    assert_int_equal(run_with("{\"poststop\":[{\"path\":\"/bin/false\"},{\"path\":\"/bin/sh\","
                              "\"args\":[\"sh\",\"-c\",\"echo 2 >> log\"]}]}",
                              HOOK_POSTSTOP, NULL),
                     0);
    assert_string_equal(left("log"), "2\n");
}

static void test_timeout(void **state)
{
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    assert_int_equal(run_with("{\"prestart\":[{\"path\":\"/bin/sh\",\"timeout\":1,\"args\":[\"sh\","
                              "\"-c\",\"sleep 600 & sleep 600\"]}]}",
                              HOOK_PRESTART, NULL),
                     -ETIMEDOUT);
    clock_gettime(CLOCK_MONOTONIC, &b);
    assert_true(b.tv_sec - a.tv_sec < 10);
    assert_non_null(strstr(e.text, "did not end in its 1 s"));
}

// What a hook leaves running, with the hook's output open, holds nothing up.
static void test_daemon(void **state)
{
    assert_int_equal(run_with("{\"prestart\":[{\"path\":\"/bin/sh\",\"args\":[\"sh\",\"-c\","
                              "\"sleep 3 & exit 0\"]}]}",
                              HOOK_PRESTART, NULL),
                     0);
}

static void test_check(void **state)
{
    json_object *o = json_tokener_parse("{\"poststart\":[{\"path\":\"hook\"}]}");
    assert_int_equal(hooks_check(o, &e), -EINVAL);
    assert_string_equal(e.text, "hooks.poststart[0].path: wanted an absolute path, found \"hook\"");
    assert_true(hooks_any(o, HOOK_POSTSTART));
    assert_false(hooks_any(o, HOOK_POSTSTOP));
    assert_false(hooks_any(NULL, HOOK_POSTSTOP));
    json_object_put(o);
}

// In a child: what it finds becomes its status.
static int inside(void *arg, const char *path, const char *const *args, const char *const *env,
                  struct error *err)
{
    char text[64] = "";
    bool good = !strcmp(path, "/in") && !strcmp(args[0], "/in") && !args[1] && !env[0] &&
                read(0, text, sizeof(text) - 1) > 0 && !strcmp(text, STATE);
    return good ? *(int *)arg : 99;
}

static void test_start_container(void **state)
{
    int status = 5;
    struct hook_run how = {.run_inside = inside, .arg = &status};
    static const char hooks[] = "{\"startContainer\":[{\"path\":\"/in\",\"timeout\":7}]}";
    assert_int_equal(run_with(hooks, HOOK_START_CONTAINER, &how), -EIO);
    assert_non_null(strstr(e.text, "exit status 5"));
    status = 0;
    assert_int_equal(run_with(hooks, HOOK_START_CONTAINER, &how), 0);
    assert_int_equal(run_with(hooks, HOOK_START_CONTAINER, NULL), -ENOTSUP);
}

static int set_up(void **state)
{
    signal(SIGPIPE, SIG_IGN);
    return mkdtemp(dir) ? 0 : -1;
}

static int tear_down(void **state)
{
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_input),
        cmocka_unit_test(test_large_state_not_read),
        cmocka_unit_test(test_order_and_kinds),
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_late_failures_are_warnings),
        cmocka_unit_test(test_timeout),
        cmocka_unit_test(test_daemon),
        cmocka_unit_test(test_check),
        cmocka_unit_test(test_start_container),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
