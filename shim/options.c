// SPDX-License-Identifier: Apache-2.0
#include "shim/options.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEFAULT_CONFIG "/etc/bailey/shim.toml"
#define DEFAULT_ROOT "/run/containerd/bailey"
#define FILE_MAX (256 * 1024)

void options_init(struct options *o)
{
    *o = (struct options){.io_uid = 0};
}

void options_fini(struct options *o)
{
    free(o->binary);
    free(o->root);
    free(o->log_path);
    free(o->shim_cgroup);
    free(o->criu_work_path);
    for (size_t i = 0; i < o->flag_count; i++)
        free(o->flags[i]);
    *o = (struct options){0};
}

__attribute__((format(printf, 3, 4))) static int fail(struct options *o, int r, const char *fmt,
                                                      ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(o->error, sizeof(o->error), fmt, ap);
    va_end(ap);
    return r;
}

static int set_text(char **slot, const char *text)
{
    char *copy = strdup(text);
    if (!copy)
        return -ENOMEM;
    free(*slot);
    *slot = copy;
    return 0;
}

// ---- The subset of TOML ----

enum kind { KIND_TEXT,
            KIND_NUMBER,
            KIND_BOOLEAN };

struct value {
    enum kind kind;
    char text[OPTIONS_TEXT_MAX]; // as it is written, without quotes
    long number;
    bool boolean;
};

struct parser {
    struct options *o;
    const char *name, *at, *end;
    int line;
    bool in_flags;
};

static void skip_blanks(struct parser *p)
{
    while (p->at < p->end && (*p->at == ' ' || *p->at == '\t' || *p->at == '\r'))
        p->at++;
}

static int bad(struct parser *p, const char *what)
{
    return fail(p->o, -EINVAL, "%s, line %d: %s", p->name, p->line, what);
}

// "basic" with the usual escapes, or 'literal'
static int parse_string(struct parser *p, struct value *v)
{
    char quote = *p->at++;
    size_t n = 0;
    while (p->at < p->end && *p->at != quote && *p->at != '\n') {
        char c = *p->at++;
        if (c == '\\' && quote == '"') {
            static const char from[] = "nt\"\\", to[] = "\n\t\"\\";
            const char *escape = p->at < p->end ? strchr(from, *p->at) : NULL;
            if (!escape || !*escape)
                return bad(p, "an escape that is not supported");
            c = to[escape - from];
            p->at++;
        }
        if (n + 1 >= sizeof(v->text))
            return bad(p, "a string that is too long");
        v->text[n++] = c;
    }
    if (p->at >= p->end || *p->at != quote)
        return bad(p, "a string without its end");
    p->at++;
    v->text[n] = 0;
    v->kind = KIND_TEXT;
    return 0;
}

static int parse_word(struct parser *p, struct value *v)
{
    size_t n = 0;
    char *end;
    while (p->at < p->end && !strchr(" \t\r\n#,]", *p->at) && n + 1 < sizeof(v->text))
        v->text[n++] = *p->at++;
    v->text[n] = 0;
    v->boolean = strcmp(v->text, "true") == 0;
    v->kind = KIND_BOOLEAN;
    if (v->boolean || strcmp(v->text, "false") == 0)
        return 0;
    errno = 0;
    v->number = strtol(v->text, &end, 10);
    v->kind = KIND_NUMBER;
    return errno || end == v->text || *end ? bad(p, "neither a string, a number, true nor false")
                                           : 0;
}

static int add_flag(struct parser *p, const char *key, const struct value *v)
{
    struct options *o = p->o;
    char *flag;
    if (o->flag_count >= OPTIONS_FLAGS_MAX)
        return bad(p, "too many flags");
    if (asprintf(&flag, "--%s=%s", key, v->text) < 0)
        return -ENOMEM;
    o->flags[o->flag_count++] = flag;
    return 0;
}

static int set_level(struct options *o, const char *level)
{
    o->debug = strcmp(level, "debug") == 0 || strcmp(level, "trace") == 0;
    return 0;
}

static int set_key(struct parser *p, const char *key, const struct value *v)
{
    struct options *o = p->o;
    static const struct {
        const char *name;
        enum kind kind;
    } keys[] = {{"binary", KIND_TEXT},
                {"root", KIND_TEXT},
                {"log_path", KIND_TEXT},
                {"log_level", KIND_TEXT},
                {"systemd_cgroup", KIND_BOOLEAN},
                {"io_uid", KIND_NUMBER},
                {"io_gid", KIND_NUMBER}};
    size_t k = 0, count = sizeof(keys) / sizeof(keys[0]);

    if (p->in_flags)
        return add_flag(p, key, v);
    while (k < count && strcmp(keys[k].name, key) != 0)
        k++;
    if (k == count)
        return bad(p, "an unknown key");
    if (keys[k].kind != v->kind ||
        (v->kind == KIND_NUMBER && (v->number < 0 || v->number > INT_MAX)))
        return bad(p, "a value of the wrong type");
    switch (k) {
    case 0:
        return set_text(&o->binary, v->text);
    case 1:
        return set_text(&o->root, v->text);
    case 2:
        return set_text(&o->log_path, v->text);
    case 3:
        return set_level(o, v->text);
    case 4:
        o->systemd_cgroup = v->boolean;
        return 0;
    case 5:
        o->io_uid = (uid_t)v->number;
        return 0;
    default:
        o->io_gid = (gid_t)v->number;
        return 0;
    }
}

static int parse_line(struct parser *p)
{
    static const char flags_table[] = "[flags]";
    struct value v;
    char key[128];
    size_t n = 0;
    int r;

    skip_blanks(p);
    if (p->at >= p->end || *p->at == '\n' || *p->at == '#')
        return 0;
    if (*p->at == '[') {
        size_t size = sizeof(flags_table) - 1;
        if ((size_t)(p->end - p->at) < size || memcmp(p->at, flags_table, size) != 0)
            return bad(p, "an unknown table");
        p->at += size;
        p->in_flags = true;
        return 0;
    }
    while (p->at < p->end && !strchr(" \t\r\n=", *p->at) && n + 1 < sizeof(key))
        key[n++] = *p->at++;
    key[n] = 0;
    skip_blanks(p);
    if (!n || p->at >= p->end || *p->at != '=')
        return bad(p, "no key = value");
    p->at++;
    skip_blanks(p);
    if (p->at >= p->end)
        return bad(p, "no value");
    r = *p->at == '"' || *p->at == '\'' ? parse_string(p, &v) : parse_word(p, &v);
    return r ? r : set_key(p, key, &v);
}

int options_parse(struct options *o, const char *name, const char *text, size_t size)
{
    struct parser p = {.o = o, .name = name, .at = text, .end = text + size, .line = 1};
    while (p.at < p.end) {
        int r = parse_line(&p);
        if (r < 0)
            return r;
        skip_blanks(&p);
        if (p.at < p.end && *p.at == '#')
            while (p.at < p.end && *p.at != '\n')
                p.at++;
        if (p.at < p.end && *p.at != '\n')
            return bad(&p, "something after the value");
        p.at++;
        p.line++;
    }
    return 0;
}

int options_read_file(struct options *o, const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return fail(o, -errno, "%s: %s", path, strerrordesc_np(errno));
    char *text = malloc(FILE_MAX);
    ssize_t n = text ? read(fd, text, FILE_MAX) : -1;
    int r = n < 0           ? fail(o, -EIO, "%s cannot be read", path)
            : n == FILE_MAX ? fail(o, -EFBIG, "%s is too long", path)
                            : options_parse(o, path, text, (size_t)n);
    free(text);
    close(fd);
    return r;
}

int options_read_default(struct options *o)
{
    const char *path = getenv("BAILEY_SHIM_CONFIG");
    if (path && *path)
        return options_read_file(o, path);
    return access(DEFAULT_CONFIG, F_OK) == 0 ? options_read_file(o, DEFAULT_CONFIG) : 0;
}

static int use_runc_options(struct options *o, const Pb__RuncOptions *from)
{
    int r = 0;
    if (*from->binary_name)
        r = set_text(&o->binary, from->binary_name);
    if (r == 0 && *from->root)
        r = set_text(&o->root, from->root);
    if (r == 0 && *from->shim_cgroup)
        r = set_text(&o->shim_cgroup, from->shim_cgroup);
    if (r == 0 && *from->criu_work_path)
        r = set_text(&o->criu_work_path, from->criu_work_path);
    o->no_pivot |= from->no_pivot_root;
    o->no_new_keyring |= from->no_new_keyring;
    o->systemd_cgroup |= from->systemd_cgroup;
    if (from->io_uid)
        o->io_uid = from->io_uid;
    if (from->io_gid)
        o->io_gid = from->io_gid;
    return r;
}

static bool ends_with(const char *text, const char *end)
{
    size_t a = strlen(text), b = strlen(end);
    return a >= b && strcmp(text + a - b, end) == 0;
}

int options_read_any(struct options *o, const Pb__Any *any)
{
    int r = 0;
    if (!any || !*any->type_url)
        return 0;
    if (ends_with(any->type_url, "runtimeoptions.v1.Options")) {
        Pb__RuntimeOptions *m = pb__runtime_options__unpack(NULL, any->value.len, any->value.data);
        if (!m)
            return fail(o, -EBADMSG, "the runtime options are no message");
        if (*m->config_path)
            r = options_read_file(o, m->config_path);
        else if (m->config_body.len)
            r = options_parse(o, "options", (char *)m->config_body.data, m->config_body.len);
        pb__runtime_options__free_unpacked(m, NULL);
    } else if (ends_with(any->type_url, "runc.v1.Options")) {
        Pb__RuncOptions *m = pb__runc_options__unpack(NULL, any->value.len, any->value.data);
        if (!m)
            return fail(o, -EBADMSG, "the options are no message");
        r = use_runc_options(o, m);
        pb__runc_options__free_unpacked(m, NULL);
    } else {
        return fail(o, -EINVAL, "options of type %s are not known", any->type_url);
    }
    return r;
}

int options_complete(struct options *o)
{
    char path[PATH_MAX];
    if (!o->root && set_text(&o->root, DEFAULT_ROOT) < 0)
        return -ENOMEM;
    if (o->binary)
        return 0;
    ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 16);
    char *slash = n > 0 ? memrchr(path, '/', (size_t)n) : NULL;
    if (slash) {
        strcpy(slash + 1, "bailey");
        if (access(path, X_OK) == 0)
            return set_text(&o->binary, path);
    }
    return set_text(&o->binary, "bailey");
}

char *options_log_path(const struct options *o, const char *id)
{
    const char *mark = o->log_path ? strstr(o->log_path, "%ID%") : NULL;
    char *path = NULL;
    if (!mark)
        return o->log_path ? strdup(o->log_path) : NULL;
    return asprintf(&path, "%.*s%s%s", (int)(mark - o->log_path), o->log_path, id, mark + 4) < 0
               ? NULL
               : path;
}
