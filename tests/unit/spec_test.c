// SPDX-License-Identifier: Apache-2.0
// config.json: the specification's own good and bad documents, and what its schemas cannot say.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/options.h"
#include "runtime/spec/schema.h"
#include "runtime/spec/spec.h"

static struct error e;

static char *slurp(const char *path, size_t *ret_size)
{
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    char *text = calloc(1, 1 << 20);
    *ret_size = fread(text, 1, (1 << 20) - 1, f);
    fclose(f);
    return text;
}

// Calls `check` for each document of a directory of examples; returns how many there were.
static int each_document(const char *kind, void (*check)(const char *name, const char *text,
                                                         size_t size))
{
    char dir[512], path[1024];
    int count = 0;
    snprintf(dir, sizeof(dir), "%s/%s", OCI_DATA, kind);
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (struct dirent *entry; (entry = readdir(d));) {
        size_t size;
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
        char *text = slurp(path, &size);
        check(entry->d_name, text, size);
        free(text);
        count++;
    }
    closedir(d);
    return count;
}

static void check_good(const char *name, const char *text, size_t size)
{
    struct spec s;
    if (spec_parse(&s, name, text, size, &e) < 0)
        fail_msg("%s", e.text);
    spec_free(&s);
}

static void check_bad(const char *name, const char *text, size_t size)
{
    struct spec s;
    assert_int_equal(spec_parse(&s, name, text, size, &e), -EINVAL);
    assert_non_null(strstr(e.text, name));
}

static void test_documents(void **state)
{
    assert_int_equal(each_document("test/config/good", check_good), 5);
    assert_int_equal(each_document("test/config/bad", check_bad), 4);
}

static void check_schema(const struct schema *s, const char *path, int wanted)
{
    json_object *o = json_object_from_file(path);
    assert_int_equal(o ? schema_check(s, o, &e) : -EINVAL, wanted);
    json_object_put(o);
}

static void test_other_schemas(void **state)
{
    check_schema(&schema_state, OCI_DATA "/test/state/good/spec-example.json", 0);
    check_schema(&schema_state, OCI_DATA "/test/state/bad/invalid-json.json", -EINVAL);
    check_schema(&schema_features, OCI_DATA "/test/features/good/runc.json", 0);
    check_schema(&schema_features, OCI_DATA "/test/features/bad/missing-ociVersionMax.json",
                 -EINVAL);
}

static void expect_failure(const char *text, const char *message)
{
    struct spec s;
    e.text[0] = 0;
    if (spec_parse(&s, "config.json", text, strlen(text), &e) != -EINVAL || !strstr(e.text, message))
        fail_msg("%s: wanted \"%s\", got \"%s\"", text, message, e.text);
}

static void test_messages(void **state)
{
    expect_failure("", "not JSON: line 1, column 1: the document is cut short");
    expect_failure("{\n \"a\": }", "not JSON: line 2, column 7");
    expect_failure("{} {}", "not JSON: line 1, column 4");
    expect_failure("[]", "document: wanted an object, found an array");
    expect_failure("{}", "ociVersion: required, but missing");
    expect_failure("{\"ociVersion\":1}", "ociVersion: wanted a string, found the number 1");
    expect_failure("{\"ociVersion\":\"one\"}", "ociVersion: wanted a version");
    expect_failure("{\"ociVersion\":\"2.0.0\"}", "ociVersion: version 2.0.0 is not supported");
#define V "{\"ociVersion\":\"1.0.2\","
    expect_failure(V "\"process\":{}}", "process.cwd: required, but missing");
    expect_failure(V "\"process\":{\"cwd\":\"x\"}}", "process.cwd: wanted an absolute path");
    expect_failure(V "\"process\":{\"cwd\":\"/\",\"args\":[\"a\",7]}}",
                   "process.args[1]: wanted a string, found the number 7");
    expect_failure(V "\"process\":{\"cwd\":\"/\",\"user\":{\"uid\":-1}}}",
                   "process.user.uid: wanted an integer from 0 to 4294967295, found the number -1");
    expect_failure(V "\"process\":{\"cwd\":\"/\",\"rlimits\":[{\"type\":\"RLIMIT_X\",\"soft\":1,"
                     "\"hard\":1}]}}", "process.rlimits[0].type: unknown limit");
    expect_failure(V "\"process\":{\"cwd\":\"/\",\"rlimits\":[{\"type\":\"X\",\"soft\":1,"
                     "\"hard\":1}]}}", "wanted a string that matches ^RLIMIT_[A-Z]+$");
    expect_failure(V "\"process\":{\"cwd\":\"/\",\"rlimits\":[{\"type\":\"RLIMIT_AS\",\"soft\":2,"
                     "\"hard\":1}]}}", "above the hard limit");
    expect_failure(V "\"mounts\":[{\"destination\":\"/x\",\"type\":\"bind\"}]}",
                   "mounts[0].source: required for a bind mount");
    expect_failure(V "\"mounts\":[{\"destination\":\"/x\",\"options\":[\"rwx\"]}]}",
                   "mounts[0].options: unknown option \"rwx\"");
    expect_failure(V "\"linux\":{\"namespaces\":[{\"type\":\"pid\"},{\"type\":\"pid\"}]}}",
                   "linux.namespaces[1].type: \"pid\" is there twice");
    expect_failure(V "\"linux\":{\"rootfsPropagation\":\"odd\"}}",
                   "linux.rootfsPropagation: wanted one of private shared slave unbindable");
    expect_failure(V "\"hostname\":\"nul\\u0000\"}", "without NUL");
}

static void test_values(void **state)
{
    struct spec s;
    size_t size;
    char *text = slurp(OCI_DATA "/test/config/good/spec-example.json", &size);
    assert_int_equal(spec_parse(&s, "x", text, size, &e), 0);
    assert_int_equal(s.process.uid, 1);
    assert_int_equal(s.process.gid_count, 2);
    assert_true(s.process.terminal && s.process.no_new_privs && s.root_readonly);
    assert_true(s.process.cap_effective == (1ull << 29 | 1ull << 5));
    assert_int_equal(s.process.rlimits[1].resource, 7);
    assert_string_equal(s.hostname, "slartibartfast");
    assert_int_equal(s.mount_count, 7);
    assert_string_equal(s.mounts[1].data, "mode=755,size=65536k");
    assert_true(s.mounts[1].flags == (MS_NOSUID | MS_STRICTATIME));
    assert_int_equal(s.devices[0].minor, 229);
    assert_int_equal(s.sysctl_count, 2);
    assert_int_equal(s.resources.pids_limit, 32771);
    assert_int_equal(s.uid_maps[0].size, 32000);
    assert_true(s.namespaces.present[SPEC_NS_USER]);
    assert_int_equal(spec_check_support(&s, &e), -ENOTSUP); // SELinux, hooks ...
    spec_free(&s);
    free(text);
}

static void test_template(void **state)
{
    struct spec s;
    for (int rootless = 0; rootless < 2; rootless++) {
        json_object *o = spec_template(rootless);
        const char *text = json_object_to_json_string(o);
        if (spec_parse(&s, "spec", text, strlen(text), &e) < 0 || spec_check_support(&s, &e) < 0)
            fail_msg("%s", e.text);
        assert_string_equal(s.process.args[0], "sh");
        spec_free(&s);
        json_object_put(o);
    }
}

static void test_paths(void **state)
{
    struct pool p = {0};
    assert_string_equal(spec_clean_path(&p, ""), "/");
    assert_string_equal(spec_clean_path(&p, "a//b/./c/"), "/a/b/c");
    assert_string_equal(spec_clean_path(&p, "/../../a/../b/.."), "/");
    assert_string_equal(spec_clean_path(&p, "/a/b/../../../c"), "/c");
    pool_free(&p);
}

struct values {
    const char *text;
    bool flag;
    s64 number;
    struct option_list list;
};

static const struct option options[] = {
    {"text", "t", OPTION_STRING, offsetof(struct values, text), NULL, NULL, NULL},
    {"flag", NULL, OPTION_FLAG, offsetof(struct values, flag), NULL, NULL, NULL},
    {"number", NULL, OPTION_NUMBER, offsetof(struct values, number), NULL, NULL, NULL},
    {"list", NULL, OPTION_LIST, offsetof(struct values, list), NULL, NULL, NULL},
};

static int parse(struct values *v, ...)
{
    char *argv[16];
    int n = 0;
    va_list ap;
    va_start(ap, v);
    while (n < 15 && (argv[n] = va_arg(ap, char *)))
        n++;
    va_end(ap);
    argv[n] = NULL;
    *v = (struct values){0};
    return options_parse(options, array_size(options), argv, v, &e);
}

static void test_options(void **state)
{
    struct values v;
    assert_int_equal(parse(&v, "--text", "a", "-flag", "--number=5", "rest", "--text", NULL), 4);
    assert_string_equal(v.text, "a");
    assert_true(v.flag);
    assert_int_equal(v.number, 5);
    assert_int_equal(parse(&v, "-t=x=y", "--flag=false", "--", "--flag", NULL), 3);
    assert_string_equal(v.text, "x=y");
    assert_false(v.flag);
    assert_int_equal(parse(&v, "--list", "a", "--list=b", NULL), 3);
    assert_int_equal(v.list.count, 2);
    free(v.list.items);
    assert_int_equal(parse(&v, "--other", NULL), -EINVAL);
    assert_string_equal(e.text, "unknown option: --other");
    assert_int_equal(parse(&v, "--text", NULL), -EINVAL);
    assert_int_equal(parse(&v, "--flag=maybe", NULL), -EINVAL);
    assert_int_equal(parse(&v, "--number", "5x", NULL), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_documents), cmocka_unit_test(test_other_schemas),
        cmocka_unit_test(test_messages),  cmocka_unit_test(test_values),
        cmocka_unit_test(test_template),  cmocka_unit_test(test_paths),
        cmocka_unit_test(test_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
