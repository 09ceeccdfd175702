// SPDX-License-Identifier: Apache-2.0
// Runs a container, streams its output, executes a command in it, and stops it:
//     cc -o ocirt-example ocirt-example.c $(pkg-config --cflags --libs ocirt)
//     ./ocirt-example runc /path/to/bundle name
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

#include <ocirt/ocirt.h>

static const char process[] =
    "{\"cwd\":\"/\",\"args\":[\"/bin/sh\",\"-c\",\"echo from exec; exit 3\"],"
    "\"env\":[\"PATH=/bin:/usr/bin\"],\"user\":{\"uid\":0,\"gid\":0}}";

static void copy_output(int fd)
{
    char piece[4096];
    ssize_t n;
    while ((n = read(fd, piece, sizeof(piece))) > 0)
        fwrite(piece, 1, (size_t)n, stdout);
    fflush(stdout);
}

static int say(const char *what, const struct ocirt_error *e)
{
    fprintf(stderr, "%s: %s\n", what, ocirt_error_message(e));
    return 1;
}

// `io` holds the streams of the container. Returns the program's exit status.
static int run(struct ocirt *rt, const char *id, struct ocirt_io *io, struct ocirt_error *e)
{
    struct ocirt_options *exec_options = ocirt_options_new();
    struct ocirt_io *exec_io = NULL;
    struct ocirt_doc *state;
    int status, result = 0;

    if (ocirt_start(rt, id, NULL, e) < 0)
        result = say("start", e);
    if (ocirt_state(rt, id, NULL, &state, e) == 0) {
        printf("%s is %s\n", id, ocirt_doc_string(state, "/status"));
        ocirt_doc_free(state);
    }

    ocirt_options_set_timeout(exec_options, 10000);
    ocirt_io_new_pipes(OCIRT_STDOUT | OCIRT_STDERR, (uid_t)-1, (gid_t)-1, &exec_io);
    ocirt_options_set_io(exec_options, exec_io);
    if (ocirt_exec(rt, id, process, exec_options, &status, e) < 0) {
        result = say("exec", e);
    } else {
        copy_output(ocirt_io_fd(exec_io, OCIRT_STDOUT));
        printf("exec ended with %d\n", status);
    }
    ocirt_io_free(exec_io);
    ocirt_options_free(exec_options);

    if (ocirt_kill(rt, id, SIGKILL, NULL, e) < 0)
        result = say("kill", e);
    copy_output(ocirt_io_fd(io, OCIRT_STDOUT)); // until the container has closed it
    return result;
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: %s RUNTIME BUNDLE ID\n", argv[0]);
        return 2;
    }
    struct ocirt *rt = ocirt_new(argv[1]);
    struct ocirt_error *e = ocirt_error_new();
    struct ocirt_options *o = ocirt_options_new();
    struct ocirt_options *force = ocirt_options_new();
    struct ocirt_io *io = NULL;
    int result = 1;

    ocirt_set_timeout(rt, 30000);
    if (getenv("OCIRT_ROOT"))
        ocirt_set_root(rt, getenv("OCIRT_ROOT"));
    ocirt_options_set_flag(force, OCIRT_FORCE, true);
    ocirt_io_new_pipes(OCIRT_STDOUT | OCIRT_STDERR, (uid_t)-1, (gid_t)-1, &io);
    ocirt_options_set_io(o, io);
    if (ocirt_create(rt, argv[3], argv[2], o, e) < 0) {
        say("create", e);
    } else {
        result = run(rt, argv[3], io, e);
        if (ocirt_delete(rt, argv[3], force, e) < 0)
            result = say("delete", e);
    }
    ocirt_io_free(io);
    ocirt_options_free(force);
    ocirt_options_free(o);
    ocirt_error_free(e);
    ocirt_free(rt);
    return result;
}
