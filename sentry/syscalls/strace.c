// SPDX-License-Identifier: Apache-2.0
// Everything of the guest that is shown is copied in once, bounded and escaped.
#include "sentry/syscalls/strace.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "host/host.h"
#include "sentry/kernel/task.h"
#include "sentry/mm/usercopy.h"
#include "sentry/syscalls/strace_names.h"
#include "sentry/syscalls/table.h"

#define STRING_MAX 64
#define ARGV_MAX 8

enum strace_kind strace_mode;
static int strace_fd = -1;

void strace_init(enum strace_kind kind, int fd)
{
    strace_fd = fd;
    strace_mode = kind;
}

static void __attribute__((format(printf, 2, 3))) put(struct strace_line *l, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(l->text + l->size, sizeof(l->text) - l->size, fmt, ap);
    va_end(ap);
    if (n > 0)
        l->size = min(l->size + (u32)n, (u32)sizeof(l->text) - 1);
}

static void put_quoted(struct strace_line *l, const u8 *s, u64 n, bool cut)
{
    put(l, "\"");
    for (u64 i = 0; i < n; i++) {
        u8 c = s[i];
        if (c == '\n')
            put(l, "\\n");
        else if (c == '"' || c == '\\')
            put(l, "\\%c", c);
        else if (c < 0x20 || c > 0x7e)
            put(l, "\\x%02x", c);
        else
            put(l, "%c", c);
    }
    put(l, cut ? "\"..." : "\"");
}

static void put_bytes(struct strace_line *l, u64 addr, u64 size)
{
    u8 buf[STRING_MAX];
    u64 n = copy_in_partial(buf, uaddr(addr), min(size, (u64)STRING_MAX));
    if (!n && size)
        put(l, "%#llx", (unsigned long long)addr);
    else
        put_quoted(l, buf, n, size > n);
}

static void put_string(struct strace_line *l, u64 addr)
{
    u8 buf[STRING_MAX * 2];
    u64 n, size;
    if (!addr) {
        put(l, "NULL");
        return;
    }
    n = copy_in_partial(buf, uaddr(addr), sizeof(buf));
    const u8 *end = memchr(buf, 0, n);
    size = end ? (u64)(end - buf) : n;
    if (!n)
        put(l, "%#llx", (unsigned long long)addr);
    else
        put_quoted(l, buf, size, !end);
}

static void put_argv(struct strace_line *l, u64 addr)
{
    u64 p;
    put(l, "[");
    for (int i = 0; addr && i < ARGV_MAX; i++) {
        if (get_u64(&p, uaddr(addr + 8ull * (u64)i)) || !p)
            break;
        put(l, i ? ", " : "");
        put_string(l, p);
    }
    put(l, "]");
}

static void put_set(struct strace_line *l, u64 addr)
{
    u64 set;
    if (!addr) {
        put(l, "NULL");
        return;
    }
    if (get_u64(&set, uaddr(addr))) {
        put(l, "%#llx", (unsigned long long)addr);
        return;
    }
    bool inverted = __builtin_popcountll(set) > 32, first = true;
    put(l, inverted ? "~[" : "[");
    for (int i = 1; i <= 64; i++) {
        if (!!(set >> (i - 1) & 1) == inverted)
            continue;
        put(l, "%s%s", first ? "" : " ", strace_signal_name(i));
        first = false;
    }
    put(l, "]");
}

static void put_flags(struct strace_line *l, u64 v, const struct strace_name *names)
{
    bool first = true;
    for (; names->name; names++) {
        if (names->value ? (v & names->value) != names->value : (first ? v != 0 : true))
            continue;
        put(l, "%s%s", first ? "" : "|", names->name);
        v &= ~names->value;
        first = false;
    }
    if (v || first)
        put(l, "%s%#llx", first ? "" : "|", (unsigned long long)v);
}

static void put_choice(struct strace_line *l, u64 v, const struct strace_name *names)
{
    for (; names->name; names++) {
        if (names->value != v)
            continue;
        put(l, "%s", names->name);
        return;
    }
    put(l, "%#llx", (unsigned long long)v);
}

static void put_timespec(struct strace_line *l, u64 addr)
{
    s64 ts[2];
    if (!addr)
        put(l, "NULL");
    else if (copy_in(ts, uaddr(addr), sizeof(ts)))
        put(l, "%#llx", (unsigned long long)addr);
    else
        put(l, "{%lld.%09lld}", (long long)ts[0], (long long)ts[1]);
}

static void put_sigaction(struct strace_line *l, u64 addr)
{
    struct guest_sigaction s;
    if (!addr) {
        put(l, "NULL");
        return;
    }
    if (copy_in(&s, uaddr(addr), sizeof(s))) {
        put(l, "%#llx", (unsigned long long)addr);
        return;
    }
    if (s.handler <= 1)
        put(l, "{%s", s.handler ? "SIG_IGN" : "SIG_DFL");
    else
        put(l, "{%#llx", (unsigned long long)s.handler);
    put(l, ", flags=%#llx, mask=%#llx}", (unsigned long long)s.flags, (unsigned long long)s.mask);
}

static void put_sockaddr(struct strace_line *l, u64 addr, u64 size)
{
    u8 b[STRING_MAX];
    u64 n = addr ? copy_in_partial(b, uaddr(addr), min(size, (u64)sizeof(b))) : 0;
    if (n < 2) {
        put(l, "%#llx", (unsigned long long)addr);
        return;
    }
    u16 family = (u16)(b[0] | b[1] << 8);
    if (family == 1) {
        put(l, "{unix ");
        put_quoted(l, b + 2, b[2] ? strnlen((char *)b + 2, n - 2) : n - 2, false);
        put(l, "}");
    } else if (family == 2 && n >= 8) {
        put(l, "{inet %u.%u.%u.%u:%u}", b[4], b[5], b[6], b[7], b[2] << 8 | b[3]);
    } else {
        put(l, "{family %u}", family);
    }
}

// Names of values, by kind of argument.
static bool put_named(struct strace_line *l, enum arg_kind kind, u64 v)
{
    static const struct strace_name *const flag_names[ARG_KINDS] = {
        [ARG_OPEN] = strace_open, [ARG_PROT] = strace_prot,   [ARG_MAP] = strace_map,
        [ARG_CLONE] = strace_clone, [ARG_WAITOPT] = strace_wait, [ARG_AT] = strace_at,
    };
    static const struct strace_name *const choice_names[ARG_KINDS] = {
        [ARG_SIGHOW] = strace_sighow,   [ARG_CLOCK] = strace_clock, [ARG_WHENCE] = strace_whence,
        [ARG_RESOURCE] = strace_rlimit, [ARG_DOMAIN] = strace_domain, [ARG_IOCTL] = strace_ioctl,
        [ARG_FCNTL] = strace_fcntl,     [ARG_PRCTL] = strace_prctl,
    };
    if (flag_names[kind])
        put_flags(l, (u32)v, flag_names[kind]);
    else if (choice_names[kind])
        put_choice(l, (u32)v, choice_names[kind]);
    else
        return false;
    return true;
}

// Arguments that are output are shown after the call.
static bool is_output(u8 kind)
{
    return kind == ARG_OUTBUF || kind == ARG_STATUS || kind == ARG_PIPEFDS;
}

static void put_number(struct strace_line *l, u8 kind, u64 v)
{
    switch (kind) {
    case ARG_INT:
    case ARG_FD:
    case ARG_PID:
        put(l, "%d", (s32)v);
        break;
    case ARG_UINT:
        put(l, "%u", (u32)v);
        break;
    case ARG_LONG:
        put(l, "%lld", (long long)v);
        break;
    case ARG_SIZE:
        put(l, "%llu", (unsigned long long)v);
        break;
    case ARG_MODE:
        put(l, "0%o", (u32)v);
        break;
    case ARG_DIRFD:
        if ((s32)v == -100)
            put(l, "AT_FDCWD");
        else
            put(l, "%d", (s32)v);
        break;
    case ARG_SIG:
        put(l, "%s", strace_signal_name((s32)v));
        break;
    case ARG_SOCKTYPE:
        put(l, "%u|%#x", (u32)v & 15, (u32)v & ~15u);
        break;
    case ARG_FUTEX:
        put(l, "%s%s", strace_futex_name((u32)v & 127), v & 128 ? "_PRIVATE" : "");
        break;
    default:
        if (v)
            put(l, "%#llx", (unsigned long long)v);
        else
            put(l, kind == ARG_HEX ? "0" : "NULL");
        break;
    }
}

static void put_argument(struct strace_line *l, u8 kind, const u64 *a)
{
    switch (kind) {
    case ARG_STR: put_string(l, a[0]); break;
    case ARG_BUF: put_bytes(l, a[0], a[1]); break;
    case ARG_ARGV: put_argv(l, a[0]); break;
    case ARG_SIGSET: put_set(l, a[0]); break;
    case ARG_SIGACT: put_sigaction(l, a[0]); break;
    case ARG_TIMESPEC: put_timespec(l, a[0]); break;
    case ARG_SOCKADDR: put_sockaddr(l, a[0], a[1]); break;
    default:
        if (!put_named(l, (enum arg_kind)kind, a[0]))
            put_number(l, kind, a[0]);
        break;
    }
}

static void put_output(struct strace_line *l, u8 kind, u64 v, long ret)
{
    u32 w[2];
    if (kind == ARG_OUTBUF && ret >= 0)
        put_bytes(l, v, (u64)ret);
    else if (kind == ARG_STATUS && ret > 0 && v && !get_u32(&w[0], uaddr(v)))
        put(l, "[%#x]", w[0]);
    else if (kind == ARG_PIPEFDS && ret >= 0 && !copy_in(w, uaddr(v), sizeof(w)))
        put(l, "[%u, %u]", w[0], w[1]);
    else
        put(l, "%#llx", (unsigned long long)v);
}

// The arguments from the first output one on wait for the call's end.
static int first_output(const struct syscall_entry *e)
{
    for (int i = 0; i < 6; i++)
        if (is_output(e->args[i]) || e->args[i] == ARG_NONE)
            return i;
    return 6;
}

static const struct syscall_entry *entry_of(u64 nr)
{
    static const struct syscall_entry unknown = {
        .args = {ARG_HEX, ARG_HEX, ARG_HEX, ARG_HEX, ARG_HEX, ARG_HEX}};
    return nr < SYSCALL_COUNT && syscall_table[nr].name ? &syscall_table[nr] : &unknown;
}

void strace_begin(struct strace_line *l, struct task *t, u64 nr, const u64 a[6])
{
    const struct syscall_entry *e = entry_of(nr);
    l->size = 0;
    l->text[0] = 0;
    l->begin = sched_now();
    int end = first_output(e);
    for (int i = 0; i < end; i++) {
        put(l, i ? ", " : "");
        put_argument(l, e->args[i], a + i);
    }
    // Calls that do not come back are shown at once.
    if (nr == 60 || nr == 231)
        strace_end(l, t, nr, a, 0);
}

static void put_result(struct strace_line *l, long ret)
{
    const char *name = ret < 0 && ret > -4096 ? strace_errno_name((int)-ret) : NULL;
    if (name)
        put(l, "-1 %s", name);
    else if (ret < 0 || ret > 0xffffff)
        put(l, "%#lx", (unsigned long)ret);
    else
        put(l, "%ld", ret);
}

static void json_escape(struct strace_line *to, const char *s)
{
    for (; *s; s++)
        put(to, *s == '"' || *s == '\\' ? "\\%c" : "%c", *s);
}

static void write_line(const struct strace_line *l)
{
    // To a pipe or file of the user's: what cannot be written is lost.
    if (strace_fd >= 0)
        host_write(strace_fd, l->text, l->size);
    else
        log_write(LOG_LEVEL_INFO, "%.*s", (int)l->size - 1, l->text);
}

void strace_end(struct strace_line *l, struct task *t, u64 nr, const u64 a[6], long ret)
{
    const struct syscall_entry *e = entry_of(nr);
    struct strace_line out = {.size = 0};
    char name[32], comm[TASK_COMM_MAX];
    bool leaves = nr == 60 || nr == 231;

    if (leaves && l->begin == 0)
        return; // shown already
    int i = first_output(e);
    for (; i < 6 && e->args[i] != ARG_NONE; i++) {
        put(l, i ? ", " : "");
        if (is_output(e->args[i]))
            put_output(l, e->args[i], a[i], ret);
        else
            put_argument(l, e->args[i], a + i);
    }
    if (e->name)
        snprintf(name, sizeof(name), "%s", e->name);
    else
        snprintf(name, sizeof(name), "syscall_%llu", (unsigned long long)nr);
    s64 took = (sched_now() - l->begin) / 1000;
    l->begin = 0;
    if (strace_mode == STRACE_TEXT) {
        put(&out, "[%d] %s(%s) = ", t->tid, name, l->text);
        if (leaves)
            put(&out, "?");
        else
            put_result(&out, ret);
        out.size = min(out.size, (u32)sizeof(out.text) - 2);
        put(&out, "\n");
    } else {
        l->text[min(l->size, (u32)STRACE_LINE_MAX / 2)] = 0;
        task_get_comm(t, comm);
        put(&out, "{\"pid\":%d,\"comm\":\"", t->tid);
        json_escape(&out, comm);
        put(&out, "\",\"syscall\":\"%s\",\"args\":\"", name);
        json_escape(&out, l->text);
        put(&out, "\",\"result\":%ld,\"us\":%lld}\n", ret, (long long)took);
    }
    write_line(&out);
}
