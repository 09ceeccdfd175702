// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/vfs_model.h"

#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "sentry/fs/overlay/overlay.h"
#include "sentry/fs/tmpfs/tmpfs.h"
#include "sentry/vfs/dentry.h"
#include "sentry/vfs/mount.h"
#include "sentry/vfs/path.h"

static u64 random_state = 88172645463325252ull;

static u32 rnd(u32 n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (u32)(random_state >> 32) % n;
}

static const char *random_path(void)
{
    static const char *const parts[] = {"a", "b", "c", "d", "a/", "a/b", "b/a", "a/../b", "c/./d",
                                        "a/b/c", "b/b", "c/c", "a//a", "d/", ".", "a/.", "b/..",
                                        "a/b/../c", "", "b/c/a"};
    return parts[rnd(array_size(parts))];
}

#define RAW(nr, ...) ({ long r_ = syscall(nr, __VA_ARGS__); r_ < 0 ? -errno : r_; })
#define FD_SLOTS 6

struct model {
    int host_dir;
    u64 our_dir;
    int host_fds[FD_SLOTS];
    long our_fds[FD_SLOTS];
    u32 step;
    bool overlay; // directories of the lower layer are not renamed, and hard links to it are not counted
};

static void same(struct model *m, const char *what, const char *path, long host, long ours)
{
    if (host != ours)
        fail_msg("step %u: %s(%s): the host says %ld, we say %ld", m->step, what, path, host, ours);
}

static void compare_stat(struct model *m, const char *path, u32 flags)
{
    struct stat h, o;
    long hr = RAW(SYS_newfstatat, m->host_dir, path, &h, flags);
    long r = CALL(newfstatat, m->our_dir, P(path), P(&o), flags);
    same(m, "stat", path, hr, r);
    if (hr)
        return;
    same(m, "st_mode", path, h.st_mode, o.st_mode);
    if (!m->overlay || !S_ISDIR(h.st_mode))
        same(m, "st_nlink", path, (long)h.st_nlink, (long)o.st_nlink);
    if (!S_ISDIR(h.st_mode))
        same(m, "st_size", path, h.st_size, o.st_size);
}

static u32 names_of(char *buf, long n, char names[][16])
{
    u32 count = 0;
    for (long at = 0; at < n;) {
        struct dirent64 *d = (struct dirent64 *)(buf + at);
        snprintf(names[count++], 16, "%.15s", d->d_name);
        at += d->d_reclen;
    }
    qsort(names, count, 16, (int (*)(const void *, const void *))strcmp);
    return count;
}

static void compare_dir(struct model *m, const char *path)
{
    static char hb[4096], ob[4096], hn[64][16], on[64][16];
    long hf = RAW(SYS_openat, m->host_dir, path, O_RDONLY | O_DIRECTORY, 0);
    long of = CALL(openat, m->our_dir, P(path), O_RDONLY | O_DIRECTORY, 0);
    same(m, "open of directory", path, hf < 0 ? hf : 0, of < 0 ? of : 0);
    if (hf < 0)
        return;
    u32 h = names_of(hb, RAW(SYS_getdents64, hf, hb, sizeof(hb)), hn);
    u32 o = names_of(ob, CALL(getdents64, (u64)of, P(ob), sizeof(ob)), on);
    same(m, "entries", path, h, o);
    for (u32 i = 0; i < h; i++)
        assert_string_equal(hn[i], on[i]);
    close((int)hf);
    CALL(close, (u64)of);
}

static void step_open(struct model *m)
{
    static const u32 flags[] = {O_RDONLY, O_RDWR, O_CREAT | O_RDWR, O_CREAT | O_EXCL | O_RDWR,
                                O_CREAT | O_RDWR | O_TRUNC, O_WRONLY | O_APPEND | O_CREAT,
                                O_RDONLY | O_NOFOLLOW, O_RDONLY | O_DIRECTORY, O_WRONLY | O_TRUNC,
                                O_PATH, O_PATH | O_NOFOLLOW, O_CREAT | O_RDWR | O_NOFOLLOW,
                                O_TMPFILE | O_RDWR};
    u32 slot = rnd(FD_SLOTS), f = flags[rnd(array_size(flags))], mode = rnd(2) ? 0644 : 0755;
    const char *path = random_path();
    if (m->host_fds[slot] >= 0) {
        close(m->host_fds[slot]);
        assert_int_equal(CALL(close, (u64)m->our_fds[slot]), 0);
        m->host_fds[slot] = -1;
    }
    long h = RAW(SYS_openat, m->host_dir, path, f, mode);
    long o = CALL(openat, m->our_dir, P(path), f, mode);
    char what[32];
    snprintf(what, sizeof(what), "open %o", f);
    same(m, what, path, h < 0 ? h : 0, o < 0 ? o : 0);
    m->host_fds[slot] = h < 0 ? -1 : (int)h;
    m->our_fds[slot] = o;
}

static void step_fd(struct model *m)
{
    static char data[9000], hb[9000], ob[9000];
    u32 slot = rnd(FD_SLOTS), size = rnd(4) ? rnd(100) : rnd(sizeof(data)), off = rnd(3) ? rnd(20000) : 0;
    int h = m->host_fds[slot];
    u64 o = (u64)m->our_fds[slot];
    if (h < 0)
        return;
    memset(data, 'a' + (int)(m->step % 26), sizeof(data));
    switch (rnd(8)) {
    case 0:
        same(m, "write", "", RAW(SYS_write, h, data, size), CALL(write, o, P(data), size));
        break;
    case 1:
        same(m, "pwrite", "", RAW(SYS_pwrite64, h, data, size, off), CALL(pwrite64, o, P(data), size, off));
        break;
    case 2:
    case 3: {
        long hr = RAW(SYS_pread64, h, hb, size, off), r = CALL(pread64, o, P(ob), size, off);
        same(m, "pread", "", hr, r);
        if (hr > 0)
            assert_memory_equal(hb, ob, (size_t)hr);
        break;
    }
    case 4: {
        long hr = S_ISDIR(0) ? 0 : RAW(SYS_read, h, hb, size), r = CALL(read, o, P(ob), size);
        same(m, "read", "", hr, r);
        if (hr > 0)
            assert_memory_equal(hb, ob, (size_t)hr);
        break;
    }
    case 5:
        same(m, "ftruncate", "", RAW(SYS_ftruncate, h, off), CALL(ftruncate, o, off));
        break;
    case 6: {
        int whence = (int)rnd(3);
        struct stat st;
        if (fstat(h, &st) == 0 && S_ISREG(st.st_mode))
            same(m, "lseek", "", RAW(SYS_lseek, h, (long)off - 5000, whence),
                 CALL(lseek, o, (u64)((s64)off - 5000), (u64)whence));
        break;
    }
    default: {
        struct stat hs, os;
        same(m, "fstat", "", RAW(SYS_fstat, h, &hs), CALL(fstat, o, P(&os)));
        if (!m->overlay || !S_ISDIR(hs.st_mode))
            same(m, "fstat nlink", "", (long)hs.st_nlink, (long)os.st_nlink);
        same(m, "fstat mode", "", hs.st_mode, os.st_mode);
        break;
    }
    }
}

static void step_name(struct model *m)
{
    const char *p = random_path(), *q = random_path();
    int h = m->host_dir;
    u64 o = m->our_dir;
    char hb[64], ob[64], what[64];
    snprintf(what, sizeof(what), "[%s] to", p);
    switch (rnd(14)) {
    case 0:
    case 1:
        same(m, "mkdir", p, RAW(SYS_mkdirat, h, p, 0755), CALL(mkdirat, o, P(p), 0755));
        break;
    case 2:
        same(m, "rmdir", p, RAW(SYS_unlinkat, h, p, AT_REMOVEDIR), CALL(unlinkat, o, P(p), AT_REMOVEDIR));
        break;
    case 3:
        same(m, "unlink", p, RAW(SYS_unlinkat, h, p, 0), CALL(unlinkat, o, P(p), 0));
        break;
    case 4:
    case 5: {
        static const u32 flags[] = {0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE};
        u32 f = flags[rnd(5)];
        long r = CALL(renameat2, o, P(p), o, P(q), f);
        if (r == -EXDEV && m->overlay)
            break;
        same(m, f ? "rename2" : what, q, RAW(SYS_renameat2, h, p, h, q, f), r);
        break;
    }
    case 6:
        same(m, "link", q, RAW(SYS_linkat, h, p, h, q, 0), CALL(linkat, o, P(p), o, P(q), 0));
        break;
    case 7:
        same(m, "link follow", q, RAW(SYS_linkat, h, p, h, q, AT_SYMLINK_FOLLOW),
             CALL(linkat, o, P(p), o, P(q), AT_SYMLINK_FOLLOW));
        break;
    case 8:
        same(m, "symlink", q, RAW(SYS_symlinkat, p, h, q), CALL(symlinkat, P(p), o, P(q)));
        break;
    case 9: {
        long hr = RAW(SYS_readlinkat, h, p, hb, sizeof(hb)), r = CALL(readlinkat, o, P(p), P(ob), sizeof(ob));
        same(m, "readlink", p, hr, r);
        if (hr > 0)
            assert_memory_equal(hb, ob, (size_t)hr);
        break;
    }
    case 10: {
        u32 mode = rnd(01000);
        same(m, "chmod", p, RAW(SYS_fchmodat, h, p, mode), CALL(fchmodat, o, P(p), mode));
        break;
    }
    case 11:
        same(m, "faccessat", p, RAW(SYS_faccessat, h, p, rnd(1)), CALL(faccessat, o, P(p), 0));
        break;
    default:
        compare_stat(m, p, rnd(2) ? AT_SYMLINK_NOFOLLOW : 0);
        compare_dir(m, p);
        break;
    }
}

// Deep down, so that ".." through symlinks stays within.
static void go_down(struct model *m, bool make)
{
    for (int i = 0; i < 12; i++) {
        if (make)
            assert_int_equal(mkdirat(m->host_dir, "p", 0755), 0);
        if (make)
            assert_int_equal(CALL(mkdirat, m->our_dir, P("p"), 0755), 0);
        m->host_dir = openat(m->host_dir, "p", O_RDONLY | O_DIRECTORY);
        m->our_dir = (u64)CALL(openat, m->our_dir, P("p"), O_RDONLY | O_DIRECTORY);
    }
}

static void run_steps(struct model *m, u32 steps)
{
    memset(m->host_fds, -1, sizeof(m->host_fds));
    for (u32 end_step = m->step + steps; m->step < end_step; m->step++) {
        u32 k = rnd(10);
        if (k < 2)
            step_open(m);
        else if (k < 5)
            step_fd(m);
        else
            step_name(m);
        if (m->step % 500 == 0)
            dentry_prune(NULL);
    }
    for (u32 i = 0; i < FD_SLOTS; i++)
        if (m->host_fds[i] >= 0) {
            close(m->host_fds[i]);
            CALL(close, (u64)m->our_fds[i]);
        }
}

void vfs_model_run(u32 steps, bool overlay)
{
    char dir[] = "/dev/shm/vfs-model-XXXXXX", command[64];
    assert_non_null(mkdtemp(dir));
    struct model m = {.host_dir = open(dir, O_RDONLY | O_DIRECTORY)};
    umask(0);
    assert_true(m.host_dir >= 0 && CALL(mkdir, P("/base"), 0755) == 0);
    assert_int_equal(CALL(mount, P("lower"), P("/base"), P("tmpfs"), 0, P("size=1g")), 0);
    m.our_dir = (u64)CALL(open, P("/base"), O_RDONLY | O_DIRECTORY);
    int host_top = m.host_dir;
    go_down(&m, true);
    run_steps(&m, overlay ? 2000 : steps);
    if (overlay) {
        struct path at, base;
        assert_int_equal(CALL(mkdir, P("/merged"), 0755), 0);
        assert_int_equal(path_lookup(AT_FDCWD, "/base", LOOKUP_FOLLOW, &base), 0);
        assert_int_equal(path_lookup(AT_FDCWD, "/merged", LOOKUP_FOLLOW, &at), 0);
        struct overlay_source source = {.lower = base.mount->sb};
        struct mount_request q = {.source = "overlay", .options = "", .arg = &source};
        assert_int_equal(mount_new_at(FS_OVERLAY, &q, &at), 0);
        path_put(&at);
        path_put(&base);
        m.host_dir = host_top;
        m.our_dir = (u64)CALL(open, P("/merged"), O_RDONLY | O_DIRECTORY);
        m.overlay = true;
        go_down(&m, false);
        compare_dir(&m, ".");
        run_steps(&m, steps);
    }
    snprintf(command, sizeof(command), "rm -rf %s", dir);
    assert_int_equal(system(command), 0);
}

u32 vfs_model_steps(u32 steps)
{
    const char *many = getenv("VFS_MODEL_STEPS"), *seed = getenv("VFS_MODEL_SEED"); // by hand
    if (seed)
        random_state ^= strtoull(seed, NULL, 0) * 0x9e3779b97f4a7c15ull;
    return many ? (u32)atoi(many) : steps;
}
