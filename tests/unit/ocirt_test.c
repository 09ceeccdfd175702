// SPDX-License-Identifier: Apache-2.0
// libocirt against a fake runtime (ocirt_fake.sh): what is sent, how answers and failures are read,
// and that nothing is left over: each test ends with the descriptors that it began with and without
// a child.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "ocirt/ocirt.h"

static struct ocirt *rt;
static struct ocirt_options *o;
static struct ocirt_error *e;
static char dir[64];
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

static int set_up(void **state)
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

static int tear_down(void **state)
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

static const char *slurp(const char *name)
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

static const char *sent(void)
{
    static char line[65536];
    snprintf(line, sizeof(line), "%s", slurp("args"));
    for (char *p = line; *p; p++)
        if (*p == '\n')
            *p = p[1] ? ' ' : 0;
    return line;
}

static void fake(const char *mode, const char *name_value)
{
    char text[256];
    snprintf(text, sizeof(text), "FAKE=%s", mode);
    assert_int_equal(ocirt_add_env(rt, text), 0);
    if (name_value)
        assert_int_equal(ocirt_add_env(rt, name_value), 0);
}

static void says(const char *name_value)
{
    fake("say", name_value);
}

static void ended(const char *file) // the process whose pid is in the file
{
    pid_t pid = atoi(slurp(file));
    kill(pid, SIGKILL);
}

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

// ---- Failures ----

static void test_error(void **state)
{
    says("FAKE_STATUS=3");
    says("FAKE_OUT=out\n");
    says("FAKE_ERR=first\nlast words\n");
    assert_int_equal(ocirt_start(rt, "c1", NULL, e), -EREMOTEIO);
    assert_int_equal(ocirt_error_code(e), -EREMOTEIO);
    assert_int_equal(ocirt_error_exit_status(e), 3);
    assert_string_equal(ocirt_error_message(e),
                        "ocirt_fake.sh start c1: exit status 3: last words");
    assert_non_null(strstr(ocirt_error_output(e), "first"));
    assert_non_null(strstr(ocirt_error_output(e), "out"));
    assert_string_equal(ocirt_error_log(e), "");
    assert_int_equal(ocirt_start(rt, "c1", NULL, NULL), -EREMOTEIO);
    says("FAKE_STATUS=0");
    assert_int_equal(ocirt_start(rt, "c1", NULL, e), 0);
    assert_int_equal(ocirt_error_code(e), 0);
    assert_string_equal(ocirt_error_message(e), "");
}

static void test_error_log(void **state)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/log", dir);
    ocirt_set_log(rt, path);
    says("FAKE_STATUS=1");
    says("FAKE_LOG={\"level\":\"error\",\"msg\":\"old\"}");
    assert_int_equal(ocirt_start(rt, "c", NULL, e), -EREMOTEIO);
    assert_string_equal(ocirt_error_log(e), "old");
    says("FAKE_LOG={\"level\":\"error\",\"msg\":\"one\\ntwo\"}\n{\"level\":\"info\",\"msg\":\"x\"}"
         "\n{broken");
    assert_int_equal(ocirt_start(rt, "c", NULL, e), -EREMOTEIO);
    assert_string_equal(ocirt_error_log(e), "one\ntwo");
    assert_string_equal(ocirt_error_message(e), "ocirt_fake.sh start c: exit status 1: one two");
    // What earlier commands logged is not this one's.
    says("FAKE_LOG={\"level\":\"warning\",\"msg\":\"w\"}");
    says("FAKE_ERR=err\n");
    assert_int_equal(ocirt_start(rt, "c", NULL, e), -EREMOTEIO);
    assert_string_equal(ocirt_error_log(e), "");
    assert_string_equal(ocirt_error_message(e), "ocirt_fake.sh start c: exit status 1: err");
    // Without a log file, JSON lines come with the output.
    ocirt_set_log(rt, NULL);
    says("FAKE_ERR=x\n{\"level\":\"error\",\"msg\":\"printed\"}\n");
    assert_int_equal(ocirt_start(rt, "c", NULL, e), -EREMOTEIO);
    assert_string_equal(ocirt_error_log(e), "printed");
}

static void test_signal(void **state)
{
    fake("signal", NULL);
    assert_int_equal(ocirt_start(rt, "c", NULL, e), -EREMOTEIO);
    assert_int_equal(ocirt_error_exit_status(e), 128 + SIGKILL);
    assert_string_equal(ocirt_error_message(e), "ocirt_fake.sh start c: ended by signal 9");
}

static void test_no_runtime(void **state)
{
    ocirt_set_command(rt, "/nonexistent/runtime");
    assert_int_equal(ocirt_start(rt, "c", NULL, e), -ENOENT);
    ocirt_set_command(rt, "no-such-runtime-anywhere");
    assert_int_equal(ocirt_start(rt, "c", NULL, e), -ENOENT);
    assert_string_equal(ocirt_error_message(e),
                        "no-such-runtime-anywhere: No such file or directory");
    assert_int_equal(ocirt_error_exit_status(e), -1);
    ocirt_set_command(rt, "/etc/passwd");
    assert_int_equal(ocirt_start(rt, "c", NULL, e), -EACCES);
    ocirt_set_command(rt, FAKE_RUNTIME);
    ocirt_set_work_dir(rt, "/nonexistent");
    assert_int_equal(ocirt_start(rt, "c", NULL, e), -ENOENT);
}

static void test_status(void **state)
{
    int status = -1;
    says("FAKE_STATUS=7");
    assert_int_equal(ocirt_run(rt, "c", "/b", NULL, &status, e), 0);
    assert_int_equal(status, 7);
    assert_int_equal(ocirt_error_exit_status(e), 7);
    assert_int_equal(ocirt_run(rt, "c", "/b", NULL, NULL, e), -EREMOTEIO);
    assert_int_equal(ocirt_exec(rt, "c", "{}", NULL, &status, e), 0);
    assert_int_equal(status, 7);
}

static void test_deadline(void **state)
{
    fake("hang", NULL);
    ocirt_options_set_timeout(o, 50);
    assert_int_equal(ocirt_start(rt, "c", o, e), -ETIMEDOUT);
    assert_int_equal(ocirt_error_exit_status(e), -1);
    ocirt_set_timeout(rt, 50);
    assert_int_equal(ocirt_start(rt, "c", NULL, e), -ETIMEDOUT);
}

static void *make_readable(void *arg)
{
    usleep(20000);
    eventfd_write(*(int *)arg, 1);
    return NULL;
}

static void test_cancel(void **state)
{
    int fd = eventfd(0, EFD_CLOEXEC);
    pthread_t thread;
    fake("hang", NULL);
    ocirt_options_set_fd(o, OCIRT_CANCEL_FD, fd);
    pthread_create(&thread, NULL, make_readable, &fd);
    assert_int_equal(ocirt_start(rt, "c", o, e), -ECANCELED);
    pthread_join(thread, NULL);
    close(fd);
}

static void test_flood(void **state)
{
    ocirt_set_output_limit(rt, 1 << 20);
    fake("flood", NULL);
    assert_int_equal(ocirt_start(rt, "c", NULL, e), -EFBIG);
    assert_true(strlen(ocirt_error_output(e)) <= 128 * 1024);
    fake("flood-err", NULL);
    assert_int_equal(ocirt_start(rt, "c", NULL, e), -EFBIG);
}

static void test_grandchild_keeps_pipes(void **state)
{
    struct ocirt_doc *doc;
    fake("grandchild", NULL);
    assert_int_equal(ocirt_list(rt, NULL, &doc, e), 0);
    ocirt_doc_free(doc);
    ended("grandchild");
}

static void test_group_killed(void **state)
{
    fake("group", NULL);
    ocirt_set_process_group(rt, true);
    ocirt_options_set_timeout(o, 300);
    assert_int_equal(ocirt_start(rt, "c", o, e), -ETIMEDOUT);
    // It has been sent the signal: it ends soon, if it has not been reaped by now.
    int fd = (int)syscall(SYS_pidfd_open, atoi(slurp("grandchild")), 0);
    struct pollfd ended_fd = {.fd = fd, .events = POLLIN};
    assert_int_equal(fd < 0 ? 1 : poll(&ended_fd, 1, 5000), 1);
    close(fd);
}

// ---- Streams ----

static char *read_fd(int fd)
{
    static char text[4096];
    size_t n = 0;
    ssize_t k;
    while ((k = read(fd, text + n, sizeof(text) - 1 - n)) > 0)
        n += (size_t)k;
    text[n] = 0;
    return text;
}

static void test_pipes(void **state)
{
    struct ocirt_io *io;
    int status;
    fake("copy", NULL);
    assert_int_equal(ocirt_io_new_pipes(OCIRT_STDIN | OCIRT_STDOUT | OCIRT_STDERR, 7, 8, &io), 0);
    struct stat st;
    fstat(ocirt_io_fd(io, OCIRT_STDOUT), &st);
    assert_int_equal(st.st_uid, 7);
    assert_int_equal(st.st_gid, 8);
    assert_int_equal(write(ocirt_io_fd(io, OCIRT_STDIN), "hello", 5), 5);
    ocirt_io_close(io, OCIRT_STDIN);
    ocirt_options_set_io(o, io);
    assert_int_equal(ocirt_run(rt, "c", "/b", o, &status, e), 0);
    assert_string_equal(read_fd(ocirt_io_fd(io, OCIRT_STDOUT)), "hello");
    int err = ocirt_io_take_fd(io, OCIRT_STDERR);
    assert_int_equal(ocirt_io_fd(io, OCIRT_STDERR), -1);
    ocirt_io_free(io);
    assert_string_equal(read_fd(err), "err\n");
    close(err);
    assert_int_equal(ocirt_io_new_pipes(OCIRT_STDOUT, -1, -1, &io), 0);
    assert_int_equal(ocirt_io_fd(io, OCIRT_STDIN), -1);
    ocirt_io_free(io);
    assert_int_equal(ocirt_io_new_pipes(8, -1, -1, &io), -EINVAL);
    assert_int_equal(ocirt_start(rt, "c", o, e), -EINVAL); // has no streams
}

static void test_files(void **state)
{
    struct ocirt_io *io;
    char path[128], in[128];
    snprintf(path, sizeof(path), "%s/both", dir);
    snprintf(in, sizeof(in), "%s/in", dir);
    FILE *f = fopen(in, "w");
    fputs("input\n", f);
    fclose(f);
    fake("copy", NULL);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(ocirt_io_new_files(in, path, path, &io), 0);
        ocirt_options_set_io(o, io);
        assert_int_equal(ocirt_run(rt, "c", "/b", o, NULL, e), 0);
        ocirt_io_free(io);
    }
    assert_string_equal(slurp("both"), "input\nerr\ninput\nerr\n");
    assert_int_equal(ocirt_io_new_files("/nonexistent", NULL, NULL, &io), -ENOENT);
    assert_int_equal(ocirt_io_new_null(&io), 0);
    ocirt_options_set_io(o, io);
    assert_int_equal(ocirt_run(rt, "c", "/b", o, NULL, e), 0);
    ocirt_io_free(io);
}

static void test_fifos(void **state)
{
    struct ocirt_io *io;
    char in[128], out[128];
    snprintf(in, sizeof(in), "%s/in", dir);
    snprintf(out, sizeof(out), "%s/out", dir);
    fake("copy", NULL);
    assert_int_equal(ocirt_io_new_fifos(in, out, NULL, &io), 0);
    int reader = open(out, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    int writer = open(in, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    assert_true(reader >= 0 && writer >= 0);
    assert_int_equal(write(writer, "through", 7), 7);
    close(writer);
    ocirt_io_close(io, OCIRT_STDIN);
    ocirt_options_set_io(o, io);
    assert_int_equal(ocirt_run(rt, "c", "/b", o, NULL, e), 0);
    ocirt_io_free(io);
    assert_string_equal(read_fd(reader), "through");
    close(reader);
    assert_int_equal(ocirt_io_new_fifos("/dev/null", NULL, NULL, &io), -EINVAL);
}

static void test_extra_fds(void **state)
{
    int ends[2], kept = open("/dev/null", O_RDONLY); // without close-on-exec: must not get there
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_int_equal(write(ends[1], "extra", 5), 5);
    close(ends[1]);
    fake("fds", NULL);
    ocirt_options_set_fd(o, OCIRT_EXTRA_FD, ends[0]);
    assert_int_equal(ocirt_create(rt, "c", "/b", o, e), 0);
    assert_string_equal(slurp("extra"), "extra");
    assert_string_equal(slurp("fds"), "0 1 2 3 4 "); // 4: the directory that ls reads
    close(ends[0]);
    close(kept);
}

static void *send_fd(void *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    strcpy(a.sun_path, path);
    int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0),
        fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    if (connect(s, (struct sockaddr *)&a, sizeof(a)) == 0) {
        char control[CMSG_SPACE(sizeof(int))] = {0};
        struct iovec iov = {.iov_base = "/dev/zero", .iov_len = 9};
        struct msghdr m = {.msg_iov = &iov,
                           .msg_iovlen = 1,
                           .msg_control = control,
                           .msg_controllen = sizeof(control)};
        struct cmsghdr *h = CMSG_FIRSTHDR(&m);
        *h = (struct cmsghdr){
            .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
        memcpy(CMSG_DATA(h), &fd, sizeof(fd));
        sendmsg(s, &m, MSG_NOSIGNAL);
    }
    close(s);
    close(fd);
    return NULL;
}

static void test_socket(void **state)
{
    struct ocirt_socket *s;
    pthread_t thread;
    char path[128], byte = 1;
    int fd;
    assert_int_equal(ocirt_socket_new_temp(&s), 0);
    snprintf(path, sizeof(path), "%s", ocirt_socket_path(s));
    ocirt_options_set_timeout(o, 20);
    assert_int_equal(ocirt_socket_receive(s, o, &fd), -ETIMEDOUT);
    ocirt_options_set_timeout(o, 5000);
    pthread_create(&thread, NULL, send_fd, path);
    assert_int_equal(ocirt_socket_receive(s, o, &fd), 0);
    pthread_join(thread, NULL);
    assert_int_equal(read(fd, &byte, 1), 1);
    assert_int_equal(byte, 0);
    close(fd);
    ocirt_socket_free(s);
    assert_int_equal(access(path, F_OK), -1);
    *strrchr(path, '/') = 0;
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(ocirt_socket_new("/nonexistent/socket", &s), -ENOENT);
    char much[256];
    memset(much, 'x', sizeof(much) - 1);
    much[255] = 0;
    assert_int_equal(ocirt_socket_new(much, &s), -ENAMETOOLONG);
}

static void test_pid_file(void **state)
{
    static const struct {
        const char *text;
        int r;
    } files[] = {
        {"42", 0},        {"42\n", 0},     {"", -EBADMSG},      {"x", -EBADMSG},
        {"-3", -EBADMSG}, {"0", -EBADMSG}, {"42 43", -EBADMSG}, {"99999999999999999999", -EBADMSG}};
    char path[128];
    pid_t pid;
    snprintf(path, sizeof(path), "%s/pid", dir);
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        FILE *f = fopen(path, "w");
        fputs(files[i].text, f);
        fclose(f);
        assert_int_equal(ocirt_read_pid_file(path, &pid), files[i].r);
    }
    assert_int_equal(ocirt_read_pid_file("/nonexistent", &pid), -ENOENT);
}

// ---- Events ----

static void test_events(void **state)
{
    struct ocirt_events *ev;
    struct ocirt_doc *doc;
    fake("events", "FAKE_OUT={\"type\":\"oom\",\"id\":\"c\"}\n{broken\n{\"no\":\"type\"}\n"
                   "{\"type\":\"stats\",\"id\":\"c\",\"data\":{}}");
    assert_int_equal(ocirt_events_open(rt, "c", 5, NULL, &ev, e), 0);
    ocirt_options_set_timeout(o, 5000);
    assert_int_equal(ocirt_events_next(ev, o, &doc, e), 1);
    assert_string_equal(sent(), "events --interval=5s c");
    assert_string_equal(ocirt_doc_string(doc, "/type"), "oom");
    ocirt_doc_free(doc);
    assert_int_equal(ocirt_events_next(ev, o, &doc, e), -EBADMSG);
    assert_int_equal(ocirt_events_next(ev, o, &doc, e), -EBADMSG);
    assert_int_equal(ocirt_events_next(ev, o, &doc, e), 1);
    assert_string_equal(ocirt_doc_string(doc, "/type"), "stats");
    ocirt_doc_free(doc);
    ocirt_options_set_timeout(o, 20);
    assert_int_equal(ocirt_events_next(ev, o, &doc, e), -ETIMEDOUT);
    assert_true(ocirt_events_fd(ev) >= 0);
    ocirt_events_close(ev);
}

static void test_events_end(void **state)
{
    struct ocirt_events *ev;
    struct ocirt_doc *doc;
    says("FAKE_OUT={\"type\":\"oom\",\"id\":\"c\"}\n");
    assert_int_equal(ocirt_events_open(rt, "c", 1, NULL, &ev, e), 0);
    assert_int_equal(ocirt_events_next(ev, NULL, &doc, e), 1);
    ocirt_doc_free(doc);
    assert_int_equal(ocirt_events_next(ev, NULL, &doc, e), 0);
    assert_int_equal(ocirt_events_next(ev, NULL, &doc, e), 0);
    ocirt_events_close(ev);
    says("FAKE_STATUS=1");
    says("FAKE_OUT=");
    says("FAKE_ERR=container does not exist\n");
    assert_int_equal(ocirt_events_open(rt, "c", 1, NULL, &ev, e), 0);
    assert_int_equal(ocirt_events_next(ev, NULL, &doc, e), -EREMOTEIO);
    assert_non_null(strstr(ocirt_error_message(e), "container does not exist"));
    ocirt_events_close(ev);
    ocirt_set_output_limit(rt, 1 << 16);
    fake("flood", NULL);
    ocirt_options_set_timeout(o, 5000);
    assert_int_equal(ocirt_events_open(rt, "c", 1, NULL, &ev, e), 0);
    assert_int_equal(ocirt_events_next(ev, o, &doc, e), -EBADMSG);
    ocirt_events_close(ev);
}

// ---- Monitors, threads ----

static void note_pid(void *data, pid_t pid)
{
    *(pid_t *)data = pid;
}

// A monitor of a program that reaps by itself: an eventfd, written by the thread that waits.
struct own {
    pid_t pid;
    int fd, started, waited;
};

static void *reap(void *arg)
{
    struct own *own = arg;
    siginfo_t si;
    waitid(P_PID, (id_t)own->pid, &si, WEXITED | WNOWAIT);
    eventfd_write(own->fd, 1);
    return NULL;
}

static int own_start(void *data, const struct ocirt_command *command, struct ocirt_child *child)
{
    struct own *own = data;
    assert_string_equal(ocirt_command_argv(command)[1], "start");
    int r = ocirt_command_spawn(command, &own->pid, NULL);
    if (r < 0)
        return r;
    own->fd = eventfd(0, EFD_CLOEXEC);
    own->started++;
    pthread_t *thread = malloc(sizeof(*thread));
    pthread_create(thread, NULL, reap, own);
    *child = (struct ocirt_child){.pid = own->pid, .fd = own->fd, .handle = thread};
    return 0;
}

static int own_wait(void *data, struct ocirt_child *child, struct ocirt_exit *ret_exit)
{
    struct own *own = data;
    int status;
    pthread_join(*(pthread_t *)child->handle, NULL);
    free(child->handle);
    waitpid(child->pid, &status, 0);
    close(child->fd);
    own->waited++;
    *ret_exit = (struct ocirt_exit){.pid = child->pid, .status = WEXITSTATUS(status)};
    return 0;
}

static int own_kill(void *data, struct ocirt_child *child, int signal_number, bool group)
{
    return kill(child->pid, signal_number) < 0 ? -errno : 0;
}

static void test_monitor(void **state)
{
    struct own own = {0};
    struct ocirt_monitor m = {
        .size = sizeof(m), .data = &own, .start = own_start, .wait = own_wait, .kill = own_kill};
    pid_t pid = 0;
    assert_int_equal(ocirt_set_monitor(rt, &m), 0);
    ocirt_options_set_started(o, note_pid, &pid);
    says("FAKE_STATUS=5");
    assert_int_equal(ocirt_start(rt, "c", o, e), -EREMOTEIO);
    assert_int_equal(ocirt_error_exit_status(e), 5);
    assert_int_equal(pid, own.pid);
    fake("hang", NULL);
    ocirt_options_set_timeout(o, 30);
    assert_int_equal(ocirt_start(rt, "c", o, e), -ETIMEDOUT);
    assert_int_equal(own.started, 2);
    assert_int_equal(own.waited, 2);
    m.wait = NULL;
    assert_int_equal(ocirt_set_monitor(rt, &m), -EINVAL);
    assert_int_equal(ocirt_set_monitor(rt, NULL), 0);
}

static void *many_calls(void *failed)
{
    struct ocirt_error *mine = ocirt_error_new();
    for (int i = 0; i < 25; i++) {
        struct ocirt_doc *doc;
        if (ocirt_state(rt, "c", NULL, &doc, mine) < 0) {
            fprintf(stderr, "%s\n", ocirt_error_message(mine));
            *(int *)failed = 1;
            break;
        }
        ocirt_doc_free(doc);
    }
    ocirt_error_free(mine);
    return NULL;
}

static void test_threads(void **state)
{
    pthread_t threads[8];
    int failed[8] = {0};
    says("FAKE_OUT={\"status\":\"running\"}\n");
    for (int i = 0; i < 8; i++)
        pthread_create(&threads[i], NULL, many_calls, &failed[i]);
    for (int i = 0; i < 8; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(failed[i], 0);
    }
}

static void *call_and_die(void *arg)
{
    struct ocirt_events *ev;
    if (ocirt_events_open(rt, "c", 1, NULL, &ev, NULL) == 0)
        *(struct ocirt_events **)arg = ev;
    return NULL;
}

static void test_death_signal(void **state)
{
    struct ocirt_events *ev = NULL;
    struct ocirt_doc *doc;
    pthread_t thread;
    fake("hang", NULL);
    ocirt_set_death_signal(rt, SIGKILL);
    pthread_create(&thread, NULL, call_and_die, &ev);
    pthread_join(thread, NULL);
    assert_non_null(ev);
    ocirt_options_set_timeout(o, 5000);
    assert_int_equal(ocirt_events_next(ev, o, &doc, e), -EREMOTEIO);
    assert_int_equal(ocirt_error_exit_status(e), 128 + SIGKILL);
    ocirt_events_close(ev);
    assert_int_equal(ocirt_set_death_signal(rt, 99), -EINVAL);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

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
        T(test_error),
        T(test_error_log),
        T(test_signal),
        T(test_no_runtime),
        T(test_status),
        T(test_deadline),
        T(test_cancel),
        T(test_flood),
        T(test_grandchild_keeps_pipes),
        T(test_group_killed),
        T(test_pipes),
        T(test_files),
        T(test_fifos),
        T(test_extra_fds),
        T(test_socket),
        T(test_pid_file),
        T(test_events),
        T(test_events_end),
        T(test_monitor),
        T(test_threads),
        T(test_death_signal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
