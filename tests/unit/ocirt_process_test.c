// SPDX-License-Identifier: Apache-2.0
// libocirt against a fake runtime: failures, time limits, streams, events, monitors and threads.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "tests/unit/ocirt_env.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
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
