// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <signal.h>

#include "sentry/fs/tty/tty_impl.h"

// What the line discipline asks of others.
static int last_signal;

void job_signal_pgrp(s32 pgrp, s32 session, int sig)
{
    last_signal = sig;
}

void ptmx_set_packet(struct tty *t, u8 set, u8 clear)
{
    if (t->packet)
        t->packet_status = (u8)((t->packet_status & ~clear) | set);
}

static struct tty tty;
static u8 in[TTY_IN_SIZE], out[TTY_OUT_SIZE];
static u64 marks[TTY_IN_SIZE / 64];

static int setup(void **state)
{
    memset(&tty, 0, sizeof(tty));
    memset(marks, 0, sizeof(marks));
    tty.in = in;
    tty.in_marks = marks;
    tty.out = out;
    tty.pgrp = tty.session = 1;
    last_signal = 0;
    ldisc_reset(&tty);
    return 0;
}

static void type(const char *s)
{
    u32 n = (u32)strlen(s);
    assert_int_equal(ldisc_receive(&tty, (const u8 *)s, n), n);
}

static void expect_output(const char *s)
{
    char got[512] = "";
    u32 n = 0;
    while (tty.out_tail != tty.out_head)
        got[n++] = (char)out[tty.out_tail++ & (TTY_OUT_SIZE - 1)];
    got[n] = 0;
    assert_string_equal(got, s);
}

static void expect_line(const char *s)
{
    u8 buf[512];
    bool end;
    u32 n = ldisc_take(&tty, buf, sizeof(buf) - 1, &end);
    buf[n] = 0;
    assert_string_equal((char *)buf, s);
}

static void test_line(void **state)
{
    type("ab");
    assert_false(ldisc_input_ready(&tty, false));
    type("c\rx");
    assert_true(ldisc_input_ready(&tty, false));
    assert_int_equal(ldisc_input_count(&tty), 4);
    expect_line("abc\n");
    assert_false(ldisc_input_ready(&tty, false));
    expect_output("abc\r\nx");
}

static void test_erase(void **state)
{
    type("abd\177c\n");
    expect_line("abc\n");
    expect_output("abd\b \bc\r\n");
    type("one two\027x\n");
    expect_line("one x\n");
    expect_output("one two\b \b\b \b\b \bx\r\n");
    type("zz\025ok\n");
    expect_line("ok\n");
    expect_output("zz\b \b\b \bok\r\n");
    type("\177\177a\001\177\n"); // erasing beyond the beginning; a control character takes two columns
    expect_line("a\n");
    expect_output("a^A\b \b\b \b\r\n");
}

static void test_erase_utf8(void **state)
{
    tty.t.c_iflag |= IUTF8;
    type("a\303\244\177b\n");
    expect_line("ab\n");
    expect_output("a\303\244\b \bb\r\n");
}

static void test_erase_tab(void **state)
{
    type("ab\t\177\n");
    expect_line("ab\n");
    expect_output("ab\t\b\b\b\b\b\b\r\n");
}

static void test_eof(void **state)
{
    u8 buf[8];
    bool end = false;
    type("ab\004");
    assert_int_equal(ldisc_take(&tty, buf, 2, &end), 2); // the mark right behind goes with it
    assert_true(end);
    assert_false(ldisc_input_ready(&tty, false));
    type("\004");
    assert_true(ldisc_input_ready(&tty, false));
    assert_int_equal(ldisc_take(&tty, buf, 8, &end), 0);
    assert_true(end);
}

static void test_partial_lines(void **state)
{
    u8 buf[8];
    bool end;
    type("hello\nworld\n");
    assert_int_equal(ldisc_take(&tty, buf, 3, &end), 3);
    assert_false(end);
    expect_line("lo\n");
    expect_line("world\n");
}

static void test_literal_next(void **state)
{
    type("a\026\003b\026\n\n");
    assert_int_equal(last_signal, 0);
    expect_line("a\003b\n\n");
}

static void test_signals(void **state)
{
    type("half\003");
    assert_int_equal(last_signal, SIGINT);
    assert_int_equal(tty.in_head, tty.in_tail);
    expect_output("^C"); // the echo before it was flushed
    type("\032");
    assert_int_equal(last_signal, SIGTSTP);
    tty.t.c_lflag &= ~(u32)ISIG;
    last_signal = 0;
    type("\003\n");
    assert_int_equal(last_signal, 0);
    expect_line("\003\n");
}

static void test_flow(void **state)
{
    type("\023");
    assert_true(tty.stopped);
    assert_int_equal(ldisc_write(&tty, (const u8 *)"x", 1), 0);
    type("\021");
    assert_int_equal(ldisc_write(&tty, (const u8 *)"x\n", 2), 2);
    expect_output("x\r\n");
}

static void test_raw(void **state)
{
    struct termios2 old = tty.t;
    type("typed");
    tty.t.c_lflag &= ~(u32)(ICANON | ECHO | ISIG);
    tty.t.c_iflag = 0;
    tty.t.c_oflag = 0;
    ldisc_settings_changed(&tty, &old);
    expect_line("typed");
    expect_output("typed");
    type("\r\003\004");
    assert_int_equal(ldisc_input_count(&tty), 3);
    expect_line("\r\003\004");
    old = tty.t;
    tty.t.c_cc[VMIN] = 3;
    ldisc_settings_changed(&tty, &old);
    type("ab");
    assert_false(ldisc_input_ready(&tty, true));
    assert_true(ldisc_input_ready(&tty, false));
    type("c");
    assert_true(ldisc_input_ready(&tty, true));
    old = tty.t;
    tty.t.c_lflag |= ICANON;
    ldisc_settings_changed(&tty, &old);
    expect_line("abc");
    assert_int_equal(ldisc_write(&tty, (const u8 *)"\n\t", 2), 2);
    expect_output("\n\t");
}

static void test_overflow(void **state)
{
    tty.t.c_lflag &= ~(u32)ECHO;
    for (int i = 0; i < 10000; i++)
        type("x");
    assert_int_equal(tty.in_head - tty.in_tail, TTY_IN_SIZE - 1);
    type("\n"); // the end of the line always fits
    assert_true(ldisc_input_ready(&tty, false));
    assert_int_equal(ldisc_receive(&tty, (const u8 *)"y", 1), 0); // now a reader must make room
}

// Random input through random settings: indices stay in order and what is read was typed.
static void test_random(void **state)
{
    u8 buf[64];
    bool end;
    srandom(1);
    for (int i = 0; i < 200000; i++) {
        u8 c = (u8)random();
        struct termios2 old = tty.t;
        switch (random() % 8) {
        case 0:
            tty.t.c_lflag ^= (u32)random() & (ICANON | ECHO | ECHOE | ECHOK | ECHOPRT | ISIG | NOFLSH);
            tty.t.c_iflag ^= (u32)random() & (IXON | ICRNL | INLCR | IGNCR | IUTF8 | IMAXBEL | IXANY);
            tty.t.c_oflag ^= (u32)random() & (OPOST | ONLCR | OCRNL | ONOCR);
            ldisc_settings_changed(&tty, &old);
            break;
        case 1:
            ldisc_take(&tty, buf, (u32)(random() % sizeof(buf)), &end);
            break;
        case 2:
            tty.out_tail += (u32)(random() % (tty.out_head - tty.out_tail + 1));
            break;
        case 3:
            ldisc_write(&tty, &c, 1);
            break;
        default:
            ldisc_receive(&tty, &c, 1);
        }
        assert_true(tty.in_head - tty.in_tail <= TTY_IN_SIZE);
        assert_true(tty.out_head - tty.out_tail <= TTY_OUT_SIZE);
        if (tty.t.c_lflag & ICANON) {
            assert_true(tty.in_canon - tty.in_tail <= TTY_IN_SIZE);
            assert_true(tty.in_head - tty.in_canon <= TTY_IN_SIZE);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_line, setup),
        cmocka_unit_test_setup(test_erase, setup),
        cmocka_unit_test_setup(test_erase_utf8, setup),
        cmocka_unit_test_setup(test_erase_tab, setup),
        cmocka_unit_test_setup(test_eof, setup),
        cmocka_unit_test_setup(test_partial_lines, setup),
        cmocka_unit_test_setup(test_literal_next, setup),
        cmocka_unit_test_setup(test_signals, setup),
        cmocka_unit_test_setup(test_flow, setup),
        cmocka_unit_test_setup(test_raw, setup),
        cmocka_unit_test_setup(test_overflow, setup),
        cmocka_unit_test_setup(test_random, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
