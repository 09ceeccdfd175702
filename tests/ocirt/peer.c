// SPDX-License-Identifier: Apache-2.0
// ocirt-peer RUNTIME BUNDLE ROOT LOG: libocirt's operations against a real runtime, one line for
// each as tests/run-integration reads it. The bundle's process prints "ready" and sleeps.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ocirt/ocirt.h"

static struct ocirt *rt;
static struct ocirt_error *e;
static const char *peer;
static int failed;

#define PROCESS(args) PROCESS_WITH("", args)
#define PROCESS_WITH(more, args)                                                                   \
    "{" more "\"cwd\":\"/\",\"args\":[" args                                                       \
    "],\"env\":[\"PATH=/bin\"],\"user\":{\"uid\":0,\"gid\":0}}"

static bool check(bool good, const char *name)
{
    failed += !good;
    printf("%s - %s %s", good ? "ok" : "not ok", peer, name);
    if (!good)
        printf(": %s | %s", ocirt_error_message(e), ocirt_error_output(e));
    putchar('\n');
    fflush(stdout);
    return good;
}

static bool contains(const char *text, const char *part)
{
    return text && strstr(text, part);
}

static bool read_until(int fd, const char *text)
{
    char got[4096];
    size_t n = 0;
    struct pollfd p = {.fd = fd, .events = POLLIN};
    while (n < sizeof(got) - 1 && poll(&p, 1, 10000) == 1) {
        ssize_t k = read(fd, got + n, sizeof(got) - 1 - n);
        if (k <= 0)
            break;
        got[n += (size_t)k] = 0;
        if (strstr(got, text))
            return true;
    }
    return false;
}

static bool state_is(const char *id, const char *want)
{
    struct ocirt_doc *doc;
    if (ocirt_state(rt, id, NULL, &doc, e) < 0)
        return false;
    bool good = contains(ocirt_doc_string(doc, "/status"), want);
    ocirt_doc_free(doc);
    return good;
}

static struct ocirt_options *streams(struct ocirt_io **io, unsigned which)
{
    struct ocirt_options *o = ocirt_options_new();
    if (ocirt_io_new_pipes(which, (uid_t)-1, (gid_t)-1, io) < 0)
        abort();
    ocirt_options_set_io(o, *io);
    return o;
}

static void test_exec(const char *id)
{
    struct ocirt_io *io;
    struct ocirt_options *o = streams(&io, OCIRT_STDIN | OCIRT_STDOUT);
    int status = -1;
    if (write(ocirt_io_fd(io, OCIRT_STDIN), "through cat\n", 12) != 12)
        abort();
    ocirt_io_close(io, OCIRT_STDIN);
    int r = ocirt_exec(rt, id, PROCESS("\"/bin/sh\",\"-c\",\"cat; exit 3\""), o, &status, e);
    check(r == 0 && status == 3, "exec with a status");
    check(read_until(ocirt_io_fd(io, OCIRT_STDOUT), "through cat"), "exec with streams");
    ocirt_io_free(io);
    ocirt_options_free(o);
}

static void test_exec_detached(const char *id, const char *bundle)
{
    struct ocirt_io *io;
    struct ocirt_options *o = streams(&io, 0);
    char path[4096];
    pid_t pid = 0;
    int status = -1;
    snprintf(path, sizeof(path), "%s/exec.pid", bundle);
    ocirt_options_set_text(o, OCIRT_PID_FILE, path);
    ocirt_options_set_flag(o, OCIRT_DETACH, true);
    int r = ocirt_exec(rt, id, PROCESS("\"/bin/sh\",\"-c\",\"exit 9\""), o, NULL, e);
    check(r == 0 && ocirt_read_pid_file(path, &pid) == 0, "exec, detached");
    check(pid > 0 && waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 9,
          "exec, detached: its status");
    ocirt_io_free(io);
    ocirt_options_free(o);
}

static void test_exec_console(const char *id, const char *bundle)
{
    struct ocirt_options *o = ocirt_options_new();
    struct ocirt_socket *s;
    struct ocirt_io *io;
    char path[4096];
    int tty = -1, status;
    pid_t pid = 0;
    snprintf(path, sizeof(path), "%s/tty.pid", bundle);
    if (ocirt_socket_new_temp(&s) < 0 || ocirt_io_new_null(&io) < 0)
        abort();
    ocirt_options_set_io(o, io);
    ocirt_options_set_text(o, OCIRT_CONSOLE_SOCKET, ocirt_socket_path(s));
    ocirt_options_set_text(o, OCIRT_PID_FILE, path);
    ocirt_options_set_flag(o, OCIRT_DETACH, true);
    ocirt_options_set_timeout(o, 10000);
    int r = ocirt_exec(rt, id, PROCESS_WITH("\"terminal\":true,", "\"/bin/tty\""), o, NULL, e);
    r = r ? r : ocirt_socket_receive(s, o, &tty);
    check(r == 0 && read_until(tty, "/dev/"), "exec on a terminal");
    if (ocirt_read_pid_file(path, &pid) == 0)
        waitpid(pid, &status, 0);
    if (tty >= 0)
        close(tty);
    ocirt_socket_free(s);
    ocirt_io_free(io);
    ocirt_options_free(o);
}

static void test_questions(const char *id)
{
    struct ocirt_doc *doc = NULL;
    size_t count;
    pid_t *pids;
    uint64_t n;
    if (check(ocirt_list(rt, NULL, &doc, e) == 0 && contains(ocirt_doc_string(doc, "/0/id"), id),
              "list"))
        ocirt_doc_free(doc);
    if (check(ocirt_ps(rt, id, NULL, &pids, &count, e) == 0 && count >= 1, "ps"))
        free(pids);
    if (check(ocirt_top(rt, id, NULL, NULL, &doc, e) == 0 &&
                  ocirt_doc_count(doc, "/Processes") >= 1,
              "top"))
        ocirt_doc_free(doc);
    doc = NULL;
    if (ocirt_stats(rt, id, NULL, &doc, e) < 0 &&
        contains(ocirt_error_message(e), "unknown command")) {
        printf("ok - %s events # SKIP this version has no such command\n", peer);
        return;
    }
    ocirt_doc_free(doc);
    if (check(ocirt_stats(rt, id, NULL, &doc, e) == 0 &&
                  ocirt_doc_number(doc, "/memory/usage/usage", &n) == 0,
              "stats"))
        ocirt_doc_free(doc);
    struct ocirt_events *ev;
    struct ocirt_options *o = ocirt_options_new();
    ocirt_options_set_timeout(o, 10000);
    if (ocirt_events_open(rt, id, 1, NULL, &ev, e) < 0) {
        check(false, "events");
    } else {
        int r = ocirt_events_next(ev, o, &doc, e);
        check(r == 1 && contains(ocirt_doc_string(doc, "/type"), "stats"), "events");
        if (r == 1)
            ocirt_doc_free(doc);
        ocirt_events_close(ev);
    }
    ocirt_options_free(o);
}

static void test_changes(const char *id)
{
    check(ocirt_update(rt, id, "{\"memory\":{\"limit\":134217728}}", NULL, e) == 0, "update");
    check(ocirt_pause(rt, id, NULL, e) == 0 && state_is(id, "paused"), "pause");
    check(ocirt_resume(rt, id, NULL, e) == 0 && state_is(id, "running"), "resume");
}

static void test_lifecycle(const char *bundle)
{
    const char *id = "ocirt-peer";
    struct ocirt_io *io;
    struct ocirt_options *o = streams(&io, OCIRT_STDOUT), *force = ocirt_options_new();
    char path[4096];
    pid_t pid = 0;
    snprintf(path, sizeof(path), "%s/init.pid", bundle);
    ocirt_options_set_text(o, OCIRT_PID_FILE, path);
    ocirt_options_set_flag(force, OCIRT_FORCE, true);
    if (check(ocirt_create(rt, id, bundle, o, e) == 0, "create")) {
        check(ocirt_read_pid_file(path, &pid) == 0, "the pid file");
        check(state_is(id, "created"), "state: created");
        check(ocirt_create(rt, id, bundle, NULL, e) == -EREMOTEIO &&
                  contains(ocirt_error_message(e), "exist"),
              "create again is refused");
        check(ocirt_start(rt, id, NULL, e) == 0 && state_is(id, "running"), "start");
        check(read_until(ocirt_io_fd(io, OCIRT_STDOUT), "ready"), "the output");
        test_questions(id);
        test_exec(id);
        test_exec_detached(id, bundle);
        test_exec_console(id, bundle);
        test_changes(id);
        check(ocirt_kill(rt, id, SIGKILL, NULL, e) == 0, "kill");
        int status = 0;
        check(pid > 0 && waitpid(pid, &status, 0) == pid &&
                  (WIFSIGNALED(status) ? WTERMSIG(status) == SIGKILL
                                       : WEXITSTATUS(status) == 128 + SIGKILL),
              "init is this process's to wait for");
        check(ocirt_delete(rt, id, NULL, e) == 0, "delete");
    }
    check(ocirt_delete(rt, id, force, e) == 0, "delete --force of what is gone");
    ocirt_options_free(o);
    ocirt_options_free(force);
    ocirt_io_free(io);
}

static void test_run(const char *bundle)
{
    struct ocirt_doc *doc;
    struct ocirt_io *io;
    struct ocirt_options *o = streams(&io, 0);
    int status = -1;
    ocirt_options_set_timeout(o, 300); // ends what sleeps, but not before it runs
    ocirt_options_set_text(o, OCIRT_PID_FILE, "/nonexistent/pid");
    int r = ocirt_run(rt, "ocirt-run", bundle, o, &status, e);
    check(r == 0 && status != 0 && *ocirt_error_log(e), "the JSON log's last error");
    ocirt_options_free(o);
    ocirt_io_free(io);
    struct ocirt_options *force = ocirt_options_new();
    ocirt_options_set_flag(force, OCIRT_FORCE, true);
    ocirt_delete(rt, "ocirt-run", force, e);
    ocirt_options_free(force);
    check(ocirt_state(rt, "ocirt-nobody", NULL, &doc, e) == -EREMOTEIO &&
              (contains(ocirt_error_message(e), "exist") ||
               contains(ocirt_error_message(e), "No such file")),
          "state of nobody");
}

int main(int argc, char **argv)
{
    struct ocirt_doc *doc;
    if (argc != 5)
        return 2;
    peer = strrchr(argv[1], '/') ? strrchr(argv[1], '/') + 1 : argv[1];
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    rt = ocirt_new(argv[1]);
    e = ocirt_error_new();
    ocirt_set_root(rt, argv[3]);
    ocirt_set_log(rt, argv[4]);
    ocirt_set_log_format(rt, OCIRT_LOG_JSON);
    ocirt_set_timeout(rt, 30000);
    if (check(ocirt_version(rt, NULL, &doc, e) == 0 && *ocirt_doc_string(doc, "/version"),
              "version"))
        ocirt_doc_free(doc);
    if (ocirt_features(rt, NULL, &doc, e) == 0) {
        check(ocirt_doc_string(doc, "/ociVersionMax"), "features");
        ocirt_doc_free(doc);
    }
    if (check(ocirt_list(rt, NULL, &doc, e) == 0 && ocirt_doc_count(doc, "") == 0,
              "list of nothing"))
        ocirt_doc_free(doc);
    test_lifecycle(argv[2]);
    test_run(argv[2]);
    ocirt_error_free(e);
    ocirt_free(rt);
    return failed != 0;
}
