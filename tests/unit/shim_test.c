// SPDX-License-Identifier: Apache-2.0
// The shim's parts that read what others write: configuration, frames, the queue of bytes.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "shim.pb-c.h"
#include "shim/bytes.h"
#include "shim/options.h"
#include "shim/sha256.h"
#include "shim/ttrpc.h"

static struct options o;

static int set_up(void **state)
{
    options_init(&o);
    return 0;
}

static int tear_down(void **state)
{
    options_fini(&o);
    return 0;
}

static int parse(const char *text)
{
    return options_parse(&o, "file", text, strlen(text));
}

static void test_options(void **state)
{
    assert_int_equal(parse("# a comment\n\n  binary = \"/b \\\"x\\\"\"  # more\nroot='/r\\n'\r\n"
                           "log_level = \"debug\"\nsystemd_cgroup = true\nio_uid = 7\nio_gid=8\n"
                           "log_path = \"/l/%ID%.log\"\n[flags]\nplatform = \"systrap\"\nnumber = 3"),
                     0);
    assert_string_equal(o.binary, "/b \"x\"");
    assert_string_equal(o.root, "/r\\n");
    assert_true(o.debug && o.systemd_cgroup);
    assert_int_equal(o.io_uid, 7);
    assert_int_equal(o.io_gid, 8);
    assert_int_equal(o.flag_count, 2);
    assert_string_equal(o.flags[0], "--platform=systrap");
    assert_string_equal(o.flags[1], "--number=3");
    char *path = options_log_path(&o, "c1");
    assert_string_equal(path, "/l/c1.log");
    free(path);
}

static void test_bad_options(void **state)
{
    static const char *const bad[] = {
        "x",          "= 1",          "binary",        "binary =",      "binary = \"x",
        "binary = 1", "binary = \"\\q\"", "io_uid = -1", "io_uid = 1x", "io_uid = 99999999999999999999",
        "nothing = 1", "[other]",     "[flags",        "systemd_cgroup = \"true\"", "root = \"a\" \"b\"",
        "binary = \"\n\""};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(parse(bad[i]), -EINVAL);
        assert_non_null(strstr(o.error, "file, line 1: "));
    }
    assert_int_equal(parse("\n\n?"), -EINVAL);
    assert_non_null(strstr(o.error, "line 3"));
}

// However long, however cut: never more than a refusal.
static void test_hostile_options(void **state)
{
    char *text = malloc(100000);
    memset(text, 'a', 100000);
    assert_int_equal(options_parse(&o, "f", text, 100000), -EINVAL);
    memcpy(text, "root = \"", 8);
    assert_int_equal(options_parse(&o, "f", text, 100000), -EINVAL);
    strcpy(text, "[flags]\n");
    for (int i = 0; i < 100; i++)
        strcat(text, "f = \"x\"\n");
    assert_int_equal(options_parse(&o, "f", text, strlen(text)), -EINVAL);
    assert_int_equal(o.flag_count, OPTIONS_FLAGS_MAX);
    static const char whole[] = "binary = \"/b\\n\"\n[flags]\na = 'b' # c\n";
    for (size_t n = 0; n < sizeof(whole); n++) {
        options_fini(&o);
        options_init(&o);
        char *cut = malloc(n ? n : 1); // exactly as long as it may be read
        memcpy(cut, whole, n);
        options_parse(&o, "f", cut, n);
        free(cut);
    }
    free(text);
}

static void test_any(void **state)
{
    Pb__Any any = PB__ANY__INIT;
    Pb__RuncOptions runc = PB__RUNC_OPTIONS__INIT;
    uint8_t packed[256];
    assert_int_equal(options_read_any(&o, NULL), 0);
    assert_int_equal(options_read_any(&o, &any), 0);
    runc.binary_name = (char *)"/bin/runtime";
    runc.io_uid = 5;
    runc.no_pivot_root = true;
    any.type_url = (char *)"containerd.runc.v1.Options";
    any.value.data = packed;
    any.value.len = pb__runc_options__pack(&runc, packed);
    assert_int_equal(options_read_any(&o, &any), 0);
    assert_string_equal(o.binary, "/bin/runtime");
    assert_int_equal(o.io_uid, 5);
    assert_true(o.no_pivot);
    any.value.len = 3; // cut short
    assert_int_equal(options_read_any(&o, &any), -EBADMSG);
    any.type_url = (char *)"strange.Options";
    assert_int_equal(options_read_any(&o, &any), -EINVAL);
}

static void test_sha256(void **state)
{
    static const struct { const char *text, *hex; } known[] = {
        {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"}};
    char hex[65];
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        sha256_hex(known[i].text, strlen(known[i].text), hex);
        assert_string_equal(hex, known[i].hex);
    }
}

static void test_frames(void **state)
{
    struct bytes b = {0};
    struct ttrpc_header h;
    Pb__IdRequest m = PB__ID_REQUEST__INIT;
    m.id = (char *)"c1";
    assert_true(ttrpc_add_frame(&b, 5, TTRPC_REQUEST, &m.base));
    assert_int_equal(b.size, TTRPC_HEADER + 4);
    assert_true(ttrpc_header(&b, &h));
    assert_int_equal(h.size, 4);
    assert_int_equal(h.stream, 5);
    assert_int_equal(h.type, TTRPC_REQUEST);
    bytes_cut(&b, 5);
    assert_false(ttrpc_header(&b, &h));
    bytes_cut(&b, b.size);
    assert_null(b.data);
    m.id = malloc(TTRPC_FRAME_MAX + 1);
    memset(m.id, 'x', TTRPC_FRAME_MAX);
    m.id[TTRPC_FRAME_MAX] = 0;
    assert_false(ttrpc_add_frame(&b, 1, TTRPC_REQUEST, &m.base));
    free(m.id);
    bytes_fini(&b);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_options), T(test_bad_options), T(test_hostile_options),
        T(test_any),     T(test_sha256),      T(test_frames),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
