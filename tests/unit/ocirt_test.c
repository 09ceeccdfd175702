// SPDX-License-Identifier: Apache-2.0
// libocirt against a fake runtime: what is sent, and how answers are read.
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/ocirt_env.h"

// ---- What is sent ----

static void test_global_args(void **state)
{
    ocirt_set_root(rt, "/r");
    ocirt_set_debug(rt, true);
    ocirt_set_log(rt, "/tmp/l");
    ocirt_set_log_format(rt, OCIRT_LOG_JSON);
    ocirt_set_systemd_cgroup(rt, true);
    ocirt_set_rootless(rt, OCIRT_ROOTLESS_FALSE);
    ocirt_add_arg(rt, "--extra");
    ocirt_add_arg(rt, "x y");
    assert_int_equal(ocirt_start(rt, "c1", NULL, e), 0);
    assert_string_equal(sent(), "--root /r --debug --log /tmp/l --log-format json --systemd-cgroup "
                                "--rootless=false --extra x y start c1");
    ocirt_options_set_text(o, OCIRT_LOG_FILE, "/tmp/other");
    ocirt_set_log_format(rt, OCIRT_LOG_TEXT);
    ocirt_set_rootless(rt, OCIRT_ROOTLESS_TRUE);
    assert_int_equal(ocirt_start(rt, "c1", o, e), 0);
    assert_string_equal(sent(),
                        "--root /r --debug --log /tmp/other --log-format text --systemd-cgroup "
                        "--rootless=true --extra x y start c1");
}

static void test_plain_args(void **state)
{
    assert_int_equal(ocirt_pause(rt, "c", NULL, e), 0);
    assert_string_equal(sent(), "pause c");
    assert_int_equal(ocirt_resume(rt, "c", NULL, e), 0);
    assert_string_equal(sent(), "resume c");
    assert_int_equal(ocirt_kill(rt, "c", 9, NULL, e), 0);
    assert_string_equal(sent(), "kill c 9");
    ocirt_options_set_flag(o, OCIRT_ALL, true);
    assert_int_equal(ocirt_kill(rt, "c", 15, o, e), 0);
    assert_string_equal(sent(), "kill --all c 15");
    ocirt_options_set_flag(o, OCIRT_ALL, false);
    assert_int_equal(ocirt_delete(rt, "c", o, e), 0);
    assert_string_equal(sent(), "delete c");
    ocirt_options_set_flag(o, OCIRT_FORCE, true);
    ocirt_options_set_text(o, OCIRT_ARG, "--now");
    assert_int_equal(ocirt_delete(rt, "c", o, e), 0);
    assert_string_equal(sent(), "delete --force --now c");
}

static void test_create_args(void **state)
{
    int fd = open("/dev/null", O_RDONLY);
    ocirt_options_set_text(o, OCIRT_ARG, "--more");
    ocirt_options_set_fd(o, OCIRT_EXTRA_FD, fd);
    ocirt_options_set_fd(o, OCIRT_EXTRA_FD, fd);
    ocirt_options_set_flag(o, OCIRT_DETACH, true);
    ocirt_options_set_flag(o, OCIRT_NO_NEW_KEYRING, true);
    ocirt_options_set_flag(o, OCIRT_NO_PIVOT, true);
    ocirt_options_set_text(o, OCIRT_PIDFD_SOCKET, "/p");
    ocirt_options_set_text(o, OCIRT_CONSOLE_SOCKET, "/s");
    ocirt_options_set_text(o, OCIRT_PID_FILE, "/pid");
    assert_int_equal(ocirt_create(rt, "c", "/b", o, e), 0);
    assert_string_equal(sent(),
                        "create --bundle /b --pid-file /pid --console-socket /s --pidfd-socket /p "
                        "--no-pivot --no-new-keyring --detach --preserve-fds 2 --more c");
    ocirt_options_set_flag(o, OCIRT_NO_SUBREAPER, true);
    assert_int_equal(ocirt_run(rt, "c", "/b", o, NULL, e), 0);
    assert_string_equal(
        sent(), "run --bundle /b --pid-file /pid --console-socket /s --pidfd-socket /p "
                "--no-pivot --no-new-keyring --detach --preserve-fds 2 -no-subreaper --more c");
    close(fd);
}

static void test_exec_args(void **state)
{
    fake("process", NULL);
    ocirt_options_set_text(o, OCIRT_CONSOLE_SOCKET, "/s");
    ocirt_options_set_flag(o, OCIRT_DETACH, true);
    ocirt_options_set_text(o, OCIRT_PID_FILE, "rel.pid");
    ocirt_options_set_text(o, OCIRT_ARG, "-x");
    assert_int_equal(ocirt_exec(rt, "c", "{\"args\":[\"sh\"]}", o, NULL, e), 0);
    assert_string_equal(slurp("process"), "{\"args\":[\"sh\"]}");
    char want[4096], cwd[1024], path[256];
    snprintf(path, sizeof(path), "%s", slurp("process-path"));
    path[strcspn(path, "\n")] = 0;
    snprintf(want, sizeof(want),
             "exec --process %s --console-socket /s --detach --pid-file %s/rel.pid -x c", path,
             getcwd(cwd, sizeof(cwd)));
    assert_string_equal(sent(), want);
    assert_int_equal(access(path, F_OK), -1);
}

static void set_criu(void)
{
    ocirt_options_set_text(o, OCIRT_IMAGE_PATH, "/i");
    ocirt_options_set_text(o, OCIRT_WORK_PATH, "/w");
    ocirt_options_set_text(o, OCIRT_PARENT_PATH, "/p");
    ocirt_options_set_flag(o, OCIRT_TCP_ESTABLISHED, true);
    ocirt_options_set_flag(o, OCIRT_EXT_UNIX_SK, true);
    ocirt_options_set_flag(o, OCIRT_SHELL_JOB, true);
    ocirt_options_set_text(o, OCIRT_PAGE_SERVER, "h:1");
    ocirt_options_set_flag(o, OCIRT_FILE_LOCKS, true);
    ocirt_options_set_text(o, OCIRT_CGROUPS_MODE, "strict");
    ocirt_options_set_text(o, OCIRT_EMPTY_NS, "network");
    ocirt_options_set_text(o, OCIRT_EMPTY_NS, "uts");
    ocirt_options_set_flag(o, OCIRT_LAZY_PAGES, true);
    ocirt_options_set_text(o, OCIRT_ARG, "-x");
}

#define CRIU_ARGS                                                                                  \
    "--image-path /i --work-path /w --parent-path /p --tcp-established --ext-unix-sk --shell-job " \
    "--page-server h:1 --file-locks --manage-cgroups-mode strict --empty-ns network "              \
    "--empty-ns uts --lazy-pages "

static void test_checkpoint_args(void **state)
{
    int fd = open("/dev/null", O_WRONLY);
    set_criu();
    ocirt_options_set_fd(o, OCIRT_STATUS_FD, fd);
    ocirt_options_set_flag(o, OCIRT_LEAVE_RUNNING, true);
    ocirt_options_set_flag(o, OCIRT_PRE_DUMP, true);
    assert_int_equal(ocirt_checkpoint(rt, "c", o, e), 0);
    assert_string_equal(sent(),
                        "checkpoint " CRIU_ARGS "-x --status-fd 3 --leave-running --pre-dump c");
    close(fd);
}

static void test_restore_args(void **state)
{
    set_criu();
    ocirt_options_set_flag(o, OCIRT_DETACH, true);
    ocirt_options_set_text(o, OCIRT_PID_FILE, "/pid");
    ocirt_options_set_text(o, OCIRT_CONSOLE_SOCKET, "/s");
    ocirt_options_set_flag(o, OCIRT_NO_PIVOT, true);
    ocirt_options_set_flag(o, OCIRT_NO_SUBREAPER, true);
    assert_int_equal(ocirt_restore(rt, "c", "/b", o, NULL, e), 0);
    assert_string_equal(sent(), "restore " CRIU_ARGS
                                "--detach --pid-file /pid --console-socket /s --no-pivot "
                                "-no-subreaper -x --bundle /b c");
}

static void test_refused(void **state)
{
    ocirt_options_set_flag(o, OCIRT_FORCE, true);
    assert_int_equal(ocirt_kill(rt, "c", 9, o, e), -EINVAL);
    assert_string_equal(ocirt_error_message(e), "kill has no option --force");
    assert_int_equal(ocirt_start(rt, "", NULL, e), -EINVAL);
    assert_int_equal(ocirt_start(rt, NULL, NULL, e), -EINVAL);
    assert_int_equal(ocirt_start(rt, "--all", NULL, e), -EINVAL);
    assert_int_equal(ocirt_create(rt, "c", NULL, NULL, e), -EINVAL);
    assert_int_equal(ocirt_exec(rt, "c", NULL, NULL, NULL, e), -EINVAL);
    assert_int_equal(ocirt_update(rt, "c", NULL, NULL, e), -EINVAL);
    assert_int_equal(ocirt_options_set_text(o, OCIRT_DETACH, "x"), -EINVAL);
    assert_int_equal(ocirt_options_set_flag(o, OCIRT_PID_FILE, true), -EINVAL);
    assert_int_equal(ocirt_options_set_fd(o, OCIRT_ARG, 1), -EINVAL);
    assert_int_equal(ocirt_options_set_text(o, OCIRT_CGROUPS_MODE, "loud"), -EINVAL);
    assert_int_equal(ocirt_add_env(rt, "novalue"), -EINVAL);
    assert_int_equal(ocirt_set_command(rt, ""), -EINVAL);
}

static void test_update_stdin(void **state)
{
    fake("stdin", NULL);
    assert_int_equal(ocirt_update(rt, "c", "{\"pids\":{\"limit\":7}}", NULL, e), 0);
    assert_string_equal(sent(), "update --resources=- c");
    assert_string_equal(slurp("stdin"), "{\"pids\":{\"limit\":7}}");
}

static void test_environment(void **state)
{
    setenv("NOTIFY_SOCKET", "/n", 1);
    fake("env", "EXTRA=1");
    ocirt_set_work_dir(rt, "/usr");
    assert_int_equal(ocirt_start(rt, "c", NULL, e), 0);
    unsetenv("NOTIFY_SOCKET");
    assert_string_equal(slurp("pwd"), "/usr\n");
    assert_non_null(strstr(slurp("env"), "EXTRA=1\n"));
    assert_null(strstr(slurp("env"), "NOTIFY_SOCKET"));
}

// ---- Answers ----

static void test_state(void **state)
{
    struct ocirt_doc *doc;
    struct timespec t;
    uint64_t n;
    says("FAKE_OUT={\"ociVersion\":\"1.0.2\",\"id\":\"c\",\"pid\":42,\"status\":\"running\","
         "\"bundle\":\"/b\","
         "\"created\":\"2026-01-02T03:04:05.25+01:00\",\"annotations\":{\"a.b/c\":\"v\"}}\n");
    assert_int_equal(ocirt_state(rt, "c", NULL, &doc, e), 0);
    assert_string_equal(sent(), "state c");
    assert_string_equal(ocirt_doc_string(doc, "/status"), "running");
    assert_int_equal(ocirt_doc_number(doc, "/pid", &n), 0);
    assert_int_equal(n, 42);
    assert_string_equal(ocirt_doc_string(doc, "/pid"), "42");
    assert_string_equal(ocirt_doc_string(doc, "/annotations/a.b~1c"), "v");
    assert_string_equal(ocirt_doc_key(doc, "/annotations", 0), "a.b/c");
    assert_null(ocirt_doc_key(doc, "/annotations", 1));
    assert_int_equal(ocirt_doc_time(doc, "/created", &t), 0);
    assert_int_equal(t.tv_sec, 1767319445);
    assert_int_equal(t.tv_nsec, 250000000);
    assert_int_equal(ocirt_doc_time(doc, "/id", &t), -ENOENT);
    assert_int_equal(ocirt_doc_number(doc, "/id", &n), -ENOENT);
    assert_null(ocirt_doc_string(doc, "/annotations"));
    assert_null(ocirt_doc_string(doc, "/nothing/here"));
    assert_non_null(strstr(ocirt_doc_text(doc), "\"running\""));
    ocirt_doc_free(doc);
}

static void test_list_and_features(void **state)
{
    struct ocirt_doc *doc;
    says("FAKE_OUT=[{\"id\":\"a\"},{\"id\":\"b\"}]");
    assert_int_equal(ocirt_list(rt, NULL, &doc, e), 0);
    assert_string_equal(sent(), "list --format=json");
    assert_int_equal(ocirt_doc_count(doc, ""), 2);
    assert_string_equal(ocirt_doc_string(doc, "/1/id"), "b");
    ocirt_doc_free(doc);
    assert_int_equal(ocirt_features(rt, NULL, &doc, e), 0);
    assert_string_equal(sent(), "features");
    ocirt_doc_free(doc);
    says("FAKE_OUT=null\n");
    assert_int_equal(ocirt_list(rt, NULL, &doc, e), 0);
    assert_int_equal(ocirt_doc_count(doc, ""), 0);
    ocirt_doc_free(doc);
}

static void test_ps(void **state)
{
    size_t count;
    pid_t *pids;
    says("FAKE_OUT=[12,13]\n");
    assert_int_equal(ocirt_ps(rt, "c", NULL, &pids, &count, e), 0);
    assert_string_equal(sent(), "ps --format json c");
    assert_int_equal(count, 2);
    assert_int_equal(pids[1], 13);
    free(pids);
    says("FAKE_OUT=[12,\"x\"]\n");
    assert_int_equal(ocirt_ps(rt, "c", NULL, &pids, &count, e), -EBADMSG);
}

static void test_top(void **state)
{
    struct ocirt_doc *doc;
    says("FAKE_OUT=UID   PID CMD\nroot  1 sh -c  sleep\nroot - thread\nshort\n\nu 2 x");
    assert_int_equal(ocirt_top(rt, "c", "-ef", NULL, &doc, e), 0);
    assert_string_equal(sent(), "ps --format table c -ef");
    assert_int_equal(ocirt_doc_count(doc, "/Headers"), 3);
    assert_string_equal(ocirt_doc_string(doc, "/Headers/2"), "CMD");
    assert_int_equal(ocirt_doc_count(doc, "/Processes"), 2);
    assert_string_equal(ocirt_doc_string(doc, "/Processes/0/2"), "sh -c sleep");
    assert_string_equal(ocirt_doc_string(doc, "/Processes/1/1"), "2");
    ocirt_doc_free(doc);
    says("FAKE_OUT=A B\n1 2\n");
    assert_int_equal(ocirt_top(rt, "c", NULL, NULL, &doc, e), -EBADMSG);
}

static void test_stats(void **state)
{
    struct ocirt_doc *doc;
    uint64_t n;
    says("FAKE_OUT={\"type\":\"stats\",\"id\":\"c\",\"data\":{\"memory\":{\"usage\":{\"limit\":"
         "18446744073709551615}}}}\n");
    assert_int_equal(ocirt_stats(rt, "c", NULL, &doc, e), 0);
    assert_string_equal(sent(), "events --stats c");
    assert_int_equal(ocirt_doc_number(doc, "/memory/usage/limit", &n), 0);
    assert_true(n == UINT64_MAX);
    ocirt_doc_free(doc);
    says("FAKE_OUT={\"type\":\"stats\"}\n");
    assert_int_equal(ocirt_stats(rt, "c", NULL, &doc, e), -EBADMSG);
}

static void test_version(void **state)
{
    struct ocirt_doc *doc;
    says("FAKE_OUT=runc version 1.1.5\ncommit: abc\nspec: 1.0.2\ngo: go1.19\n");
    assert_int_equal(ocirt_version(rt, NULL, &doc, e), 0);
    assert_string_equal(sent(), "--version");
    assert_string_equal(ocirt_doc_string(doc, "/name"), "runc");
    assert_string_equal(ocirt_doc_string(doc, "/version"), "1.1.5");
    assert_string_equal(ocirt_doc_string(doc, "/commit"), "abc");
    assert_string_equal(ocirt_doc_string(doc, "/spec"), "1.0.2");
    ocirt_doc_free(doc);
    says("FAKE_OUT=hello\n");
    assert_int_equal(ocirt_version(rt, NULL, &doc, e), -EBADMSG);
}

static void test_broken_json(void **state)
{
    static const char *const broken[] = {
        "",
        "{",
        "{\"status\":",
        "[1,2",
        "{} {}",
        "\"",
        "nonsense",
        "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["};
    struct ocirt_doc *doc;
    size_t count;
    pid_t *pids;
    for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++) {
        char env[256];
        snprintf(env, sizeof(env), "FAKE_OUT=%s", broken[i]);
        says(env);
        assert_int_equal(ocirt_state(rt, "c", NULL, &doc, e), -EBADMSG);
        assert_int_equal(ocirt_list(rt, NULL, &doc, e), -EBADMSG);
        assert_int_equal(ocirt_ps(rt, "c", NULL, &pids, &count, e), -EBADMSG);
        assert_int_equal(ocirt_stats(rt, "c", NULL, &doc, e), -EBADMSG);
        assert_int_equal(ocirt_features(rt, NULL, &doc, e), -EBADMSG);
        assert_string_equal(ocirt_error_message(e),
                            "ocirt_fake.sh features: the answer is not JSON");
    }
    assert_int_equal(ocirt_doc_parse("17", 2, &doc), 0);
    ocirt_doc_free(doc);
    assert_int_equal(ocirt_doc_parse("\"s\" ", 4, &doc), 0);
    assert_string_equal(ocirt_doc_string(doc, ""), "s");
    ocirt_doc_free(doc);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_global_args),
        T(test_plain_args),
        T(test_create_args),
        T(test_exec_args),
        T(test_checkpoint_args),
        T(test_restore_args),
        T(test_refused),
        T(test_update_stdin),
        T(test_environment),
        T(test_state),
        T(test_list_and_features),
        T(test_ps),
        T(test_top),
        T(test_stats),
        T(test_version),
        T(test_broken_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
