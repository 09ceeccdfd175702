// SPDX-License-Identifier: Apache-2.0
// What bailey makes of hostile answers of a sandbox: it waits for a limited time, takes a limited text, and shows
// nothing that a terminal would obey. What the sandbox says is in the connection before it is asked.
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/client.h"
#include "runtime/clock.h"
#include "runtime/processes.h"

static struct client k;
static struct error e;
static int sandbox; // the other end

static int set_up(void **state)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return -1;
    k = (struct client){.fd = pair[0], .id = "", .seconds = 1};
    sandbox = pair[1];
    return 0;
}

static int tear_down(void **state)
{
    client_close(&k);
    close(sandbox);
    return 0;
}

static bool say(const struct control_message *m, int flags)
{
    static u8 buf[CONTROL_SIZE_MAX];
    int size = control_encode(m, buf, sizeof(buf));
    assert_true(size > 0);
    return send(sandbox, buf, (size_t)size, flags | MSG_NOSIGNAL) == size;
}

static struct control_message reply(u32 id, const char *text, bool more)
{
    return (struct control_message){
        .type = CONTROL_REPLY, .id = id, .container = "", .text = text, .more = more};
}

// Says the same again and again, for as long as anybody listens.
static void *chatter(void *message)
{
    while (say(message, 0))
        ;
    return NULL;
}

static void check_late(struct control_message m, bool text)
{
    struct control_message answer, ask = {.type = CONTROL_STATE};
    pthread_t thread;
    char *all = NULL;
    assert_int_equal(pthread_create(&thread, NULL, chatter, &m), 0);
    s64 begin = clock_msec();
    int r = text ? client_ask_text(&k, "look", &ask, NULL, 0, &all, &e)
                 : client_ask(&k, &ask, NULL, 0, &answer, &e);
    assert_int_equal(r, -ETIMEDOUT);
    assert_true(clock_msec() - begin >= 1000);
    assert_null(all);
    assert_non_null(strstr(e.text, "did not answer"));
    shutdown(k.fd, SHUT_RDWR);
    pthread_join(thread, NULL);
}

static void test_answers_of_others(void **state)
{
    check_late(reply(7, "", false), false);
}

static void test_no_end(void **state)
{
    check_late(reply(1, "", true), true);
}

static void test_long_text(void **state)
{
    static char piece[CONTROL_TEXT_MAX + 1];
    memset(piece, 'x', CONTROL_TEXT_MAX);
    struct control_message ask = {.type = CONTROL_PS}, m = reply(1, piece, true);
    pthread_t thread;
    char *all;
    k.seconds = 60;
    assert_int_equal(pthread_create(&thread, NULL, chatter, &m), 0);
    assert_int_equal(client_ask_text(&k, "look", &ask, NULL, 0, &all, &e), -EMSGSIZE);
    assert_string_equal(e.text, "look: the sandbox's answer is too long");
    shutdown(k.fd, SHUT_RDWR);
    pthread_join(thread, NULL);
}

static void test_pieces(void **state)
{
    struct control_message ask = {.type = CONTROL_PS}, m[] = {reply(1, "one\n", true), reply(1, "", true),
                                                              reply(9, "none", false), reply(1, "two", false)};
    char *all;
    for (size_t i = 0; i < array_size(m); i++)
        assert_true(say(&m[i], MSG_DONTWAIT));
    assert_int_equal(client_ask_text(&k, "look", &ask, NULL, 0, &all, &e), 0);
    assert_string_equal(all, "one\ntwo");
    free(all);
    m[0].id = 2;
    m[0].error = -EPERM;
    assert_true(say(&m[0], MSG_DONTWAIT));
    assert_int_equal(client_ask_text(&k, "look", &ask, NULL, 0, &all, &e), -EPERM);
    assert_string_equal(e.text, "look: operation not permitted");
}

static void test_harmless(void **state)
{
    struct control_message answer, ask = {.type = CONTROL_STATE};
    struct control_message m = reply(1, "a\033]0;b\007\177\r\tc\n", false);
    assert_true(say(&m, MSG_DONTWAIT));
    assert_int_equal(client_ask(&k, &ask, NULL, 0, &answer, &e), 0);
    assert_string_equal(answer.text, "a?]0;b???\tc\n");
}

static void test_nonsense(void **state)
{
    struct control_message answer, ask = {.type = CONTROL_STATE};
    assert_int_equal(send(sandbox, "xyz", 3, 0), 3);
    assert_int_equal(client_ask(&k, &ask, NULL, 0, &answer, &e), -EPIPE);
    assert_int_equal(answer.type, 0);
    assert_null(answer.text);
}

// Connections that a sandbox does not take fill its queue up: the next one waits for a limited time as well.
static void test_full_queue(void **state)
{
    char dir[] = "/tmp/client-test-XXXXXX", command[64];
    struct container c = {.lock_fd = -1, .id = "c"};
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int waiting[8], count = 0;
    assert_non_null(mkdtemp(dir));
    c.dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int listener = container_listen(&c, &e);
    assert_true(listener >= 0);
    assert_int_equal(listen(listener, 0), 0);
    snprintf(a.sun_path, sizeof(a.sun_path), "%s/control.sock", dir);
    do
        waiting[count] = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    while (connect(waiting[count++], (struct sockaddr *)&a, sizeof(a)) == 0 && count < 8);
    assert_int_equal(errno, EAGAIN);
    s64 begin = clock_msec();
    assert_int_equal(container_connect(&c, 1, &e), -ETIMEDOUT);
    assert_true(clock_msec() - begin >= 900);
    while (count)
        close(waiting[--count]);
    close(listener);
    close(c.dir_fd);
    snprintf(command, sizeof(command), "rm -r %s", dir);
    assert_int_equal(system(command), 0);
}

static int parse(struct guest_processes *ps, const char *text)
{
    processes_free(ps);
    return processes_parse(ps, text);
}

static void test_processes(void **state)
{
    struct guest_processes ps = {0};
    assert_int_equal(parse(&ps, "1 2 3 0 7 S 1 99 5 pts/0 sh sh -c a b\n\n4 5 6 1 0 R 1 0 0 ? x\n"), 0);
    assert_int_equal(ps.count, 2);
    assert_string_equal(ps.items[0].arguments, "sh -c a b");
    assert_string_equal(ps.items[1].name, "x");
    assert_string_equal(ps.items[1].arguments, "");
    // What a terminal would obey, wherever it stands.
    assert_int_equal(parse(&ps, "1 2 3 0 7 \033 1 99 5 \033[2J \033[3J \033[4J"), 0);
    assert_int_equal(ps.items[0].state, '?');
    assert_string_equal(ps.items[0].terminal, "?[2J");
    assert_string_equal(ps.items[0].name, "?[3J");
    assert_string_equal(ps.items[0].arguments, "?[4J");
    // A date that no calendar has; too little; too much.
    assert_int_equal(parse(&ps, "1 2 3 0 7 S 1 18446744073709551615 5 ? x\n"), -EPROTO);
    assert_int_equal(parse(&ps, "1 2 3 0 7 S 1 9223372036854775807 5 ? x\n"), -EPROTO);
    assert_int_equal(parse(&ps, "1 2 3\n"), -EPROTO);
    static char lines[70001];
    memset(lines, '\n', sizeof(lines) - 1);
    assert_int_equal(parse(&ps, lines), -EPROTO);
    processes_free(&ps);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_answers_of_others), T(test_no_end), T(test_long_text), T(test_pieces),
        T(test_harmless), T(test_nonsense), T(test_full_queue), T(test_processes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
