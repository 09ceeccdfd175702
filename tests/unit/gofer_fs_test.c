// SPDX-License-Identifier: Apache-2.0
// Host files through the VFS, in each of the ways to reach them: directfs, messages with donated
// descriptors, messages alone. What the guest sees is compared with what the host has.
#include <dirent.h>
#include <errno.h>
#include <linux/fs.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "host/host.h"
#include "gofer/server.h"
#include "sentry/arena/arena.h"
#include "sentry/fs/gofer/gofer.h"
#include "tests/unit/vfs_stubs.h"

// The VFS refers to these weakly, which draws nothing out of a library.
extern const struct inode_ops gofer_inode_ops;
extern const struct file_ops gofer_file_ops;
extern const void *const drawn_in[];
const void *const drawn_in[] = {&gofer_inode_ops, &gofer_file_ops};

enum mode { DIRECT, DONATED, KEPT, MODES };
static const char *const mode_names[] = {"direct", "donated", "kept"};

static char dir[64];
static int host; // the served directory
static struct server server;
static pthread_t thread;
static char self_path[4096];

static void *serve(void *arg)
{
    server_run(&server, (int)(intptr_t)arg);
    return NULL;
}

struct serve_args {
    struct server *server;
    int fd;
};

static void *serve_args(void *arg)
{
    struct serve_args *a = arg;
    server_run(a->server, a->fd);
    return NULL;
}

static void begin(enum mode mode, bool exclusive, u32 flags)
{
    strcpy(dir, "/tmp/gofer-fs-XXXXXX");
    assert_non_null(mkdtemp(dir));
    chmod(dir, 0755);
    host = open(dir, O_RDONLY | O_DIRECTORY);
    struct gofer_source src = {.root_fd = -1, .write_fd = -1, .gofer_fd = -1, .exclusive = exclusive};
    int root = open(dir, O_PATH | O_DIRECTORY);
    if (mode == DIRECT) {
        src.root_fd = root;
    } else {
        int pair[2];
        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
        assert_int_equal(server_init(&server, root, -1, false, flags & MS_RDONLY), 0);
        server.no_donate = mode == KEPT;
        src.gofer_fd = pair[0];
        assert_int_equal(
            pthread_create(&thread, NULL, serve, (void *)(intptr_t)pair[1]), 0);
    }
    struct mount_request m = {.source = "test", .options = "", .flags = flags, .arg = &src};
    stub_boot(FS_GOFER, &m);
}

static void end(enum mode mode)
{
    fs_context_unref(stub_fs);
    dentry_prune(NULL);
    close(host);
    if (mode != DIRECT) {
        pthread_join(thread, NULL); // the superblock is gone, so its channel is closed
        server_fini(&server);
    }
    assert_int_equal(gofer_open_fds(), 0);
    char cmd[128];
    snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
    assert_int_equal(system(cmd), 0);
}

// ---- what a task would do ----------------------------------------------------------------------------

static struct file *open_file(const char *path, u32 flags, u32 mode)
{
    struct open_request q = {.flags = flags, .mode = mode};
    struct file *f = NULL;
    int r = vfs_openat(AT_FDCWD, path, &q, &f);
    if (r)
        fail_msg("open %s: %d", path, r);
    return f;
}

static int try_open(const char *path, u32 flags)
{
    struct open_request q = {.flags = flags, .mode = 0644};
    struct file *f;
    int r = vfs_openat(AT_FDCWD, path, &q, &f);
    if (r == 0)
        file_unref(f);
    return r;
}

static long put(struct file *f, const char *text)
{
    struct uio u;
    uio_init_kernel(&u, (void *)text, strlen(text));
    return file_write(f, &u);
}

static long get_at(struct file *f, char *buf, u64 size, s64 pos)
{
    struct uio u;
    memset(buf, 0, size);
    uio_init_kernel(&u, buf, size - 1);
    return file_pread(f, &u, pos);
}

static void make(const char *path, const char *text)
{
    struct file *f = open_file(path, O_CREAT | O_WRONLY | O_TRUNC, 0644);
    assert_int_equal(put(f, text), strlen(text));
    file_unref(f);
}

static struct kstat stat_of(const char *path)
{
    struct path p;
    struct kstat st;
    int r = path_lookup(AT_FDCWD, path, 0, &p);
    if (r)
        fail_msg("stat %s: %d", path, r);
    assert_int_equal(vfs_getattr(p.dentry->inode, p.mount, &st), 0);
    path_put(&p);
    return st;
}

static int lookup_error(const char *path)
{
    struct path p;
    int r = path_lookup(AT_FDCWD, path, 0, &p);
    if (r == 0)
        path_put(&p);
    return r;
}

static int change(const char *path, struct attr_change c)
{
    struct path p;
    int r = path_lookup(AT_FDCWD, path, 0, &p);
    if (r)
        return r;
    r = inode_setattr(p.dentry->inode, &c, &stub_cred);
    path_put(&p);
    return r;
}

// The guest's stat agrees with the host's.
static void check_same(const char *path)
{
    struct stat h;
    struct kstat g = stat_of(path);
    assert_int_equal(fstatat(host, path[1] ? path + 1 : ".", &h, AT_SYMLINK_NOFOLLOW), 0);
    assert_int_equal(g.mode, h.st_mode);
    assert_int_equal(g.uid, h.st_uid);
    assert_int_equal(g.gid, h.st_gid);
    assert_int_equal(g.nlink, h.st_nlink);
    assert_int_equal(g.size, h.st_size);
    assert_int_equal(g.ino, h.st_ino);
    assert_int_equal(g.mtime, h.st_mtim.tv_sec * NSEC_PER_SEC + h.st_mtim.tv_nsec);
    assert_int_equal(g.ctime, h.st_ctim.tv_sec * NSEC_PER_SEC + h.st_ctim.tv_nsec);
}

// ---- tests -------------------------------------------------------------------------------------------

static void test_data(enum mode mode)
{
    char buf[32];
    begin(mode, true, 0);
    struct file *f = open_file("/f", O_CREAT | O_EXCL | O_RDWR, 0640);
    assert_int_equal(put(f, "hello "), 6);
    assert_int_equal(put(f, "world"), 5);
    assert_int_equal(get_at(f, buf, sizeof(buf), 0), 11);
    assert_string_equal(buf, "hello world");
    assert_int_equal(get_at(f, buf, 4, 6), 3);
    assert_string_equal(buf, "wor");
    assert_int_equal(get_at(f, buf, sizeof(buf), 11), 0);
    assert_int_equal(file_seek(f, -5, SEEK_END), 6);
    assert_int_equal(put(f, "there"), 5);
    assert_int_equal(file_ops(f)->fsync(f, false), 0);
    check_same("/f");
    assert_int_equal(stat_of("/f").mode, S_IFREG | 0640);
    struct file *a = open_file("/f", O_WRONLY | O_APPEND, 0);
    assert_int_equal(put(a, "!"), 1);
    assert_int_equal(put(f, "?"), 1); // at 11, over the "!"
    assert_int_equal(put(a, "."), 1);
    assert_int_equal(get_at(f, buf, sizeof(buf), 0), 13);
    assert_string_equal(buf, "hello there?.");
    assert_int_equal(change("/f", (struct attr_change){.mask = ATTR_SIZE, .size = 5}), 0);
    assert_int_equal(get_at(f, buf, sizeof(buf), 0), 5);
    assert_int_equal(file_seek(f, 0, SEEK_END), 5);
    int r = file_ops(f)->fallocate(f, 0, 0, 10000);
    assert_true(r == 0 || r == -EOPNOTSUPP);
    if (r == 0)
        assert_int_equal(file_seek(f, 0, SEEK_END), 10000);
    check_same("/f");
    file_unref(a);
    file_unref(f);
    end(mode);
}

static void test_large(enum mode mode)
{
    begin(mode, true, 0);
    u64 size = 3u << 20;
    char *a = malloc(size), *b = malloc(size + 1);
    for (u64 i = 0; i < size; i++)
        a[i] = (char)(i * 7 + (i >> 12));
    struct file *f = open_file("/f", O_CREAT | O_RDWR, 0644);
    struct uio u;
    uio_init_kernel(&u, a, size);
    assert_int_equal(file_write(f, &u), size);
    assert_int_equal(get_at(f, b, size + 1, 0), size);
    assert_memory_equal(a, b, size);
    stub_fsize_limit = size + 10;
    assert_int_equal(file_seek(f, 0, SEEK_END), size);
    assert_int_equal(put(f, "0123456789abcdef"), 10);
    assert_int_equal(put(f, "x"), -EFBIG);
    stub_fsize_limit = ~0ull;
    file_unref(f);
    free(a);
    free(b);
    end(mode);
}

static void test_names(enum mode mode)
{
    char buf[16];
    begin(mode, true, 0);
    assert_int_equal(vfs_mkdirat(AT_FDCWD, "/d", 0755), 0);
    assert_int_equal(vfs_mkdirat(AT_FDCWD, "/d", 0755), -EEXIST);
    make("/d/f", "one");
    check_same("/d");
    assert_int_equal(vfs_linkat(AT_FDCWD, "/d/f", AT_FDCWD, "/l", 0), 0);
    check_same("/l");
    check_same("/d/f");
    assert_int_equal(stat_of("/l").ino, stat_of("/d/f").ino);
    struct file *f = open_file("/d/f", O_RDWR, 0);
    assert_int_equal(vfs_unlinkat(AT_FDCWD, "/d/f", 0), 0);
    assert_int_equal(stat_of("/l").nlink, 1);
    assert_int_equal(put(f, "ONE"), 3);
    struct file *l = open_file("/l", O_RDONLY, 0);
    assert_int_equal(get_at(l, buf, sizeof(buf), 0), 3);
    assert_string_equal(buf, "ONE");
    file_unref(l);
    assert_int_equal(change("/l", (struct attr_change){.mask = ATTR_MODE, .mode = 0600}), 0);
    check_same("/l");
    assert_int_equal(vfs_unlinkat(AT_FDCWD, "/l", 0), 0);
    assert_int_equal(lookup_error("/l"), -ENOENT);
    assert_int_equal(get_at(f, buf, sizeof(buf), 0), 3);
    struct kstat st;
    assert_int_equal(vfs_fgetattr(f, &st), 0);
    assert_int_equal(st.nlink, 0);
    assert_int_equal(st.size, 3);
    file_unref(f);
    assert_int_equal(vfs_unlinkat(AT_FDCWD, "/d", 0), -EISDIR);
    make("/d/x", "x");
    assert_int_equal(vfs_unlinkat(AT_FDCWD, "/d", AT_REMOVEDIR), -ENOTEMPTY);
    assert_int_equal(vfs_unlinkat(AT_FDCWD, "/d/x", 0), 0);
    assert_int_equal(vfs_unlinkat(AT_FDCWD, "/d", AT_REMOVEDIR), 0);
    check_same("/");
    end(mode);
}

// A file with several names is reached by those that are left, in whichever order they go.
static void test_links(enum mode mode)
{
    char a[16], b[16], buf[16];
    begin(mode, true, 0);
    assert_int_equal(vfs_mkdirat(AT_FDCWD, "/d", 0755), 0);
    make("/d/tmp", "data");
    assert_int_equal(vfs_linkat(AT_FDCWD, "/d/tmp", AT_FDCWD, "/final", 0), 0);
    assert_int_equal(vfs_unlinkat(AT_FDCWD, "/d/tmp", 0), 0);
    struct file *f = open_file("/final", O_RDWR, 0);
    if (mode != KEPT)
        assert_true(file_ops(f)->map_fd(f, false) >= 0);
    file_unref(f);
    gofer_set_fd_limit(16);
    for (int i = 0; i < 20; i++) {
        snprintf(a, sizeof(a), "/l%d", i);
        assert_int_equal(vfs_linkat(AT_FDCWD, "/final", AT_FDCWD, a, 0), 0);
    }
    assert_int_equal(vfs_unlinkat(AT_FDCWD, "/final", 0), 0);
    for (int i = 0; i < 19; i++) {
        snprintf(a, sizeof(a), "/l%d", i * 7 % 20);
        snprintf(b, sizeof(b), "/l%d", (i + 1) * 7 % 20);
        assert_int_equal(vfs_unlinkat(AT_FDCWD, a, 0), 0);
        make("/d/other", "other"); // closes some
        f = open_file(b, O_RDONLY, 0);
        assert_int_equal(get_at(f, buf, sizeof(buf), 0), 4);
        file_unref(f);
        assert_int_equal(change(b, (struct attr_change){.mask = ATTR_MODE, .mode = 0600 + (u32)i}), 0);
        check_same(b);
    }
    assert_int_equal(vfs_renameat(AT_FDCWD, b, AT_FDCWD, "/last", 0), 0);
    check_same("/last");
    gofer_set_fd_limit(1024);
    // Mapped for reading without a name.
    f = open_file("/last", O_RDWR, 0);
    struct file *r = open_file("/last", O_RDONLY, 0);
    assert_int_equal(vfs_unlinkat(AT_FDCWD, "/last", 0), 0);
    if (mode != KEPT) {
        assert_true(file_ops(r)->map_fd(r, false) >= 0);
        assert_true(file_ops(f)->map_fd(f, true) >= 0);
    }
    file_unref(r);
    file_unref(f);
    end(mode);
}

static void test_rename(enum mode mode)
{
    char buf[16];
    begin(mode, true, 0);
    make("/a", "a");
    make("/b", "b");
    assert_int_equal(vfs_mkdirat(AT_FDCWD, "/d", 0755), 0);
    assert_int_equal(vfs_mkdirat(AT_FDCWD, "/d/e", 0755), 0);
    struct file *b = open_file("/b", O_RDONLY, 0), *a = open_file("/a", O_RDWR, 0);
    assert_int_equal(vfs_renameat(AT_FDCWD, "/a", AT_FDCWD, "/b", RENAME_NOREPLACE), -EEXIST);
    assert_int_equal(vfs_renameat(AT_FDCWD, "/a", AT_FDCWD, "/b", 0), 0);
    assert_int_equal(get_at(b, buf, sizeof(buf), 0), 1); // replaced, still open
    assert_string_equal(buf, "b");
    file_unref(b);
    assert_int_equal(lookup_error("/a"), -ENOENT);
    check_same("/b");
    assert_int_equal(vfs_renameat(AT_FDCWD, "/b", AT_FDCWD, "/d/e/c", 0), 0);
    assert_int_equal(vfs_renameat(AT_FDCWD, "/d/e", AT_FDCWD, "/g", 0), 0);
    check_same("/g/c");
    check_same("/d");
    check_same("/");
    assert_int_equal(put(a, "A"), 1);
    check_same("/g/c");
    assert_int_equal(vfs_renameat(AT_FDCWD, "/g", AT_FDCWD, "/d", RENAME_EXCHANGE), 0);
    check_same("/d/c");
    check_same("/g");
    assert_int_equal(change("/d/c", (struct attr_change){.mask = ATTR_MODE, .mode = 0600}), 0);
    check_same("/d/c");
    file_unref(a);
    end(mode);
}

static void test_other_kinds(enum mode mode)
{
    char buf[64];
    struct path p;
    begin(mode, true, 0);
    make("/f", "text");
    assert_int_equal(vfs_symlinkat("f", AT_FDCWD, "/s"), 0);
    check_same("/s");
    assert_int_equal(path_lookup(AT_FDCWD, "/s", 0, &p), 0);
    assert_int_equal(vfs_readlink(&p, buf, sizeof(buf)), 1);
    path_put(&p);
    struct file *f = open_file("/s", O_RDONLY, 0);
    assert_int_equal(get_at(f, buf, sizeof(buf), 0), 4);
    file_unref(f);
    assert_int_equal(symlinkat("d/../f", host, "t"), 0);
    assert_int_equal(mkdirat(host, "d", 0700), 0);
    assert_int_equal(try_open("/t", O_RDONLY), 0);
    assert_int_equal(vfs_symlinkat("loop", AT_FDCWD, "/loop"), 0);
    assert_int_equal(try_open("/loop", O_RDONLY), -ELOOP);
    assert_int_equal(vfs_mknodat(AT_FDCWD, "/fifo", S_IFIFO | 0622, 0, NULL), 0);
    assert_int_equal(vfs_mknodat(AT_FDCWD, "/sock", S_IFSOCK | 0666, 0, NULL), 0);
    assert_int_equal(change("/sock", (struct attr_change){.mask = ATTR_MODE, .mode = 0777}), 0);
    check_same("/fifo");
    check_same("/sock");
    assert_int_equal(
        vfs_mknodat(AT_FDCWD, "/dev", S_IFBLK | 0600, DEV_MAKE(8, 1), NULL), -EPERM);
    struct attr_change own = {.mask = ATTR_UID | ATTR_GID, .uid = 12, .gid = 34};
    assert_int_equal(change("/s", own), 0);
    assert_int_equal(change("/fifo", own), 0);
    assert_int_equal(change("/f", own), 0);
    check_same("/s");
    check_same("/fifo");
    check_same("/f");
    end(mode);
}

static void test_attributes(enum mode mode)
{
    begin(mode, true, 0);
    make("/f", "x");
    struct attr_change c = {.mask = ATTR_ATIME | ATTR_MTIME, .atime = -1, .mtime = 1500000000123456789};
    assert_int_equal(change("/f", c), 0);
    check_same("/f");
    assert_int_equal(stat_of("/f").atime, -1);
    assert_int_equal(change("/f", (struct attr_change){.mask = ATTR_MODE, .mode = 06755}), 0);
    check_same("/f");
    assert_int_equal(change("/", (struct attr_change){.mask = ATTR_MODE, .mode = 0711}), 0);
    check_same("/");
    // Owner and mode of new files are the guest's, and set-group-id directories hand down their group.
    stub_cred.fsuid = 1000;
    stub_cred.fsgid = 1001;
    make("/u", "u");
    assert_int_equal(vfs_mkdirat(AT_FDCWD, "/g", 0777), 0);
    assert_int_equal(change("/g", (struct attr_change){.mask = ATTR_GID | ATTR_MODE, .gid = 77, .mode = 02777}), 0);
    make("/g/f", "");
    assert_int_equal(vfs_mkdirat(AT_FDCWD, "/g/d", 0777), 0);
    stub_cred.fsuid = stub_cred.fsgid = 0;
    assert_int_equal(stat_of("/u").uid, 1000);
    assert_int_equal(stat_of("/g/f").gid, 77);
    assert_int_equal(stat_of("/g/d").mode, S_IFDIR | 02755);
    check_same("/u");
    check_same("/g/f");
    check_same("/g/d");
    struct path p;
    assert_int_equal(path_lookup(AT_FDCWD, "/f", 0, &p), 0);
    struct inode *i = p.dentry->inode;
    char buf[64];
    int r = inode_ops(i)->setxattr(i, "user.a", "value", 5, 0);
    if (r != -EOPNOTSUPP) {
        assert_int_equal(r, 0);
        assert_int_equal(inode_ops(i)->getxattr(i, "user.a", NULL, 0), 5);
        assert_int_equal(inode_ops(i)->getxattr(i, "user.a", buf, 2), -ERANGE);
        assert_int_equal(inode_ops(i)->getxattr(i, "user.a", buf, 64), 5);
        assert_int_equal(inode_ops(i)->listxattr(i, buf, 64), 7);
        assert_int_equal(inode_ops(i)->removexattr(i, "user.a"), 0);
        assert_int_equal(inode_ops(i)->getxattr(i, "user.a", buf, 64), -ENODATA);
    }
    assert_int_equal(inode_ops(i)->getxattr(i, "system.posix_acl_access", buf, 64), -ENODATA);
    path_put(&p);
    end(mode);
}

struct collect {
    struct dir_emit e;
    int seen[1000];
    int count, room;
};

static bool collect_one(struct dir_emit *e, const char *name, u32 size, u64 ino, u8 type, s64 next)
{
    struct collect *c = container_of(e, struct collect, e);
    int n;
    char copy[64];
    if (c->room-- <= 0)
        return false;
    memcpy(copy, name, size);
    copy[size] = 0;
    if (sscanf(copy, "f%d", &n) == 1) {
        assert_int_equal(type, DT_REG);
        c->seen[n]++;
    }
    c->count++;
    return true;
}

static void test_readdir(enum mode mode)
{
    static struct collect c;
    char name[32];
    begin(mode, true, 0);
    for (int i = 0; i < 1000; i++) {
        snprintf(name, sizeof(name), "f%d", i);
        int fd = openat(host, name, O_CREAT | O_WRONLY, 0644);
        assert_true(fd >= 0);
        close(fd);
    }
    struct file *f = open_file("/", O_RDONLY | O_DIRECTORY, 0);
    c = (struct collect){.e.emit = collect_one};
    f->pos = 2;
    for (int before = -1; before != c.count;) {
        before = c.count;
        c.room = 7;
        mutex_lock(&f->pos_lock, RANK_FILE_POS);
        assert_int_equal(inode_ops(f->inode)->readdir(f, &c.e), 0);
        mutex_unlock(&f->pos_lock);
    }
    assert_int_equal(c.count, 1000);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(c.seen[i], 1);
    // Half of what was listed goes away meanwhile: everything else is still seen, once.
    c = (struct collect){.e.emit = collect_one};
    f->pos = 2;
    for (int before = -1, gone = 0; before != c.count;) {
        before = c.count;
        c.room = 11;
        assert_int_equal(inode_ops(f->inode)->readdir(f, &c.e), 0);
        for (int i = 0, n = 0; i < 1000 && n < 5; i++) {
            if (c.seen[i] != 1 || gone >= 500)
                continue;
            snprintf(name, sizeof(name), "/f%d", i);
            assert_int_equal(vfs_unlinkat(AT_FDCWD, name, 0), 0);
            c.seen[i] = 100;
            n++, gone++;
        }
    }
    for (int i = 0; i < 1000; i++)
        assert_true(c.seen[i] == 1 || c.seen[i] == 100);
    file_unref(f);
    end(mode);
}

static void test_eviction(enum mode mode)
{
    char name[4200], buf[16];
    struct file *f[100];
    begin(mode, true, 0);
    gofer_set_fd_limit(16);
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof(name), "/f%d", i);
        f[i] = open_file(name, O_CREAT | O_RDWR, 0644);
        assert_int_equal(put(f[i], name), strlen(name));
    }
    assert_true(gofer_open_fds() <= 17);
    assert_int_equal(vfs_unlinkat(AT_FDCWD, "/f3", 0), 0);
    assert_int_equal(vfs_renameat(AT_FDCWD, "/f4", AT_FDCWD, "/g4", 0), 0);
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof(name), "/f%d", i);
        assert_int_equal(get_at(f[i], buf, sizeof(buf), 0), strlen(name));
        assert_string_equal(buf, name);
    }
    for (int i = 0; i < 100; i++)
        file_unref(f[i]);
    // A deep tree: directories are opened again from the top.
    int at = 0;
    for (int i = 0; i < 300; i++) {
        at += snprintf(name + at, sizeof(name) - (size_t)at, "/%d", i % 10);
        assert_int_equal(vfs_mkdirat(AT_FDCWD, name, 0755), 0);
    }
    strcat(name, "/x");
    make(name, "deep");
    check_same(name);
    gofer_set_fd_limit(1024);
    end(mode);
}

static void test_tmpfile(enum mode mode)
{
    char buf[16];
    begin(mode, true, 0);
    struct open_request q = {.flags = O_TMPFILE | O_RDWR, .mode = 0600};
    struct file *f;
    int r = vfs_openat(AT_FDCWD, "/", &q, &f);
    if (r != -EOPNOTSUPP) {
        assert_int_equal(r, 0);
        assert_int_equal(put(f, "tmp"), 3);
        assert_int_equal(f->inode->nlink, 0);
        struct inode *root = stub_fs->root.dentry->inode;
        struct name n = name_make("named", 5);
        mutex_lock(&root->lock, RANK_INODE);
        mutex_lock_nested(&f->inode->lock, RANK_INODE);
        assert_int_equal(inode_ops(root)->link(root, &n, f->inode), 0);
        mutex_unlock(&f->inode->lock);
        mutex_unlock(&root->lock);
        file_unref(f);
        f = open_file("/named", O_RDONLY, 0);
        assert_int_equal(get_at(f, buf, sizeof(buf), 0), 3);
        file_unref(f);
        check_same("/named");
    }
    end(mode);
}

// Others change the files: every use asks again.
static void test_shared(enum mode mode)
{
    char buf[16];
    begin(mode, false, 0);
    assert_int_equal(lookup_error("/f"), -ENOENT);
    int fd = openat(host, "f", O_CREAT | O_RDWR, 0644);
    assert_int_equal(write(fd, "host", 4), 4);
    check_same("/f");
    struct file *f = open_file("/f", O_RDWR | O_APPEND, 0);
    assert_int_equal(write(fd, " more", 5), 5);
    check_same("/f");
    assert_int_equal(put(f, "!"), 1);
    assert_int_equal(pread(fd, buf, sizeof(buf), 0), 10);
    assert_int_equal(buf[9], '!');
    assert_int_equal(fchmod(fd, 0600), 0);
    check_same("/f");
    assert_int_equal(unlinkat(host, "f", 0), 0);
    assert_int_equal(lookup_error("/f"), -ENOENT);
    assert_int_equal(mkdirat(host, "f", 0700), 0);
    assert_true(S_ISDIR(stat_of("/f").mode));
    file_unref(f);
    close(fd);
    end(mode);
}

static void test_readonly(enum mode mode)
{
    begin(mode, true, MS_RDONLY);
    int fd = openat(host, "f", O_CREAT | O_RDWR, 0644);
    close(fd);
    assert_int_equal(try_open("/f", O_RDONLY), 0);
    assert_int_equal(try_open("/f", O_RDWR), -EROFS);
    assert_int_equal(try_open("/g", O_RDWR | O_CREAT), -EROFS);
    assert_int_equal(vfs_unlinkat(AT_FDCWD, "/f", 0), -EROFS);
    assert_int_equal(vfs_mkdirat(AT_FDCWD, "/d", 0755), -EROFS);
    end(mode);
}

// A mount of one file, as of /etc/resolv.conf.
static void test_file_mount(enum mode mode)
{
    char buf[32];
    struct path at;
    begin(mode, true, 0);
    make("/point", "below");
    make("/real", "above");
    struct gofer_source src = {.root_fd = openat(host, "real", O_RDONLY),
                               .write_fd = openat(host, "real", O_RDWR),
                               .gofer_fd = -1,
                               .exclusive = false,
                               .is_file = true};
    struct server file_server;
    pthread_t file_thread;
    struct serve_args args;
    if (mode != DIRECT) {
        int pair[2];
        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
        assert_int_equal(server_init(&file_server, src.root_fd, src.write_fd, true, false), 0);
        file_server.no_donate = mode == KEPT;
        args = (struct serve_args){&file_server, pair[1]};
        assert_int_equal(pthread_create(&file_thread, NULL, serve_args, &args), 0);
        src.root_fd = src.write_fd = -1;
        src.gofer_fd = pair[0];
    }
    struct mount_request m = {.source = "real", .options = "", .arg = &src};
    assert_int_equal(path_lookup(AT_FDCWD, "/point", 0, &at), 0);
    assert_int_equal(mount_new_at(FS_GOFER, &m, &at), 0);
    path_put(&at);
    struct file *f = open_file("/point", O_RDWR, 0);
    assert_int_equal(get_at(f, buf, sizeof(buf), 0), 5);
    assert_string_equal(buf, "above");
    assert_int_equal(put(f, "ABOVE"), 5);
    file_unref(f);
    make("/point", "short");
    assert_int_equal(change("/point", (struct attr_change){.mask = ATTR_MODE, .mode = 0604}), 0);
    struct stat st;
    assert_int_equal(fstatat(host, "real", &st, 0), 0);
    assert_int_equal(st.st_mode, S_IFREG | 0604);
    assert_int_equal(stat_of("/point").ino, st.st_ino);
    assert_int_equal(path_lookup(AT_FDCWD, "/point", 0, &at), 0);
    assert_int_equal(mount_umount(&at, MNT_DETACH), 0);
    path_put(&at);
    f = open_file("/real", O_RDONLY, 0);
    assert_int_equal(get_at(f, buf, sizeof(buf), 0), 5);
    assert_string_equal(buf, "short");
    file_unref(f);
    if (mode != DIRECT) {
        pthread_join(file_thread, NULL);
        server_fini(&file_server);
    }
    end(mode);
}

static void *churn(void *arg)
{
    char a[32], b[32], buf[32];
    for (int i = 0; i < 300; i++) {
        snprintf(a, sizeof(a), "/d/%p-%d", arg, i);
        snprintf(b, sizeof(b), "/e/%p", arg);
        struct file *f = open_file(a, O_CREAT | O_RDWR, 0644);
        assert_int_equal(put(f, a), strlen(a));
        assert_int_equal(vfs_renameat(AT_FDCWD, a, AT_FDCWD, b, 0), 0);
        assert_int_equal(change(b, (struct attr_change){.mask = ATTR_MODE, .mode = 0600}), 0);
        assert_int_equal(get_at(f, buf, sizeof(buf), 0), strlen(a));
        assert_string_equal(buf, a);
        file_unref(f);
        assert_int_equal(stat_of(b).mode, S_IFREG | 0600);
    }
    return NULL;
}

static void test_threads(enum mode mode)
{
    pthread_t t[4];
    begin(mode, true, 0);
    gofer_set_fd_limit(16);
    assert_int_equal(vfs_mkdirat(AT_FDCWD, "/d", 0755), 0);
    assert_int_equal(vfs_mkdirat(AT_FDCWD, "/e", 0755), 0);
    for (uintptr_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&t[i], NULL, churn, (void *)(i + 1)), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    check_same("/d");
    check_same("/e");
    gofer_set_fd_limit(1024);
    end(mode);
}

// ---- restore -----------------------------------------------------------------------------------------

// What a snapshot's root object holds here.
struct saved {
    struct vfs *vfs;
    struct fs_context *fs;
    struct file *file, *gone;
};

// In a new process, with nothing but the arena and the directory: the open file and names work again.
static int restored(char **argv)
{
    char buf[32];
    int fd = atoi(argv[2]);
    struct gofer_source src = {.root_fd = atoi(argv[6]), .write_fd = -1, .gofer_fd = -1,
                               .exclusive = true};
    u64 base = strtoull(argv[3], NULL, 16), size = strtoull(argv[4], NULL, 16);
    if (arena_restore(fd, 0, base, size, strtoull(argv[5], NULL, 16)) != 0)
        return 10;
    struct saved *s = arena_root();
    vfs_attach(s->vfs);
    stub_fs = s->fs;
    if (gofer_reattach(stub_fs->root.mount->sb, &src) != 0)
        return 11;
    if (get_at(s->file, buf, sizeof(buf), 0) != 4 || strcmp(buf, "kept") != 0)
        return 12;
    if (put(s->file, "more") != 4 || get_at(s->file, buf, sizeof(buf), 0) != 8)
        return 13;
    if (get_at(s->gone, buf, sizeof(buf), 0) != -ESTALE) // its file had no name
        return 14;
    struct open_request q = {.flags = O_CREAT | O_RDWR, .mode = 0644};
    struct file *f;
    if (vfs_openat(AT_FDCWD, "/d/new", &q, &f) != 0 || put(f, "new") != 3)
        return 15;
    file_unref(f);
    return 0;
}

static void run_restore(void **state)
{
    char text[5][24];
    int status;
    struct arena_stats st;
    begin(DIRECT, true, 0);
    assert_int_equal(vfs_mkdirat(AT_FDCWD, "/d", 0755), 0);
    struct saved *s = arena_alloc(sizeof(*s));
    *s = (struct saved){stub_vfs, stub_fs, open_file("/d/f", O_CREAT | O_RDWR, 0644),
                        open_file("/d/gone", O_CREAT | O_RDWR, 0644)};
    assert_int_equal(put(s->file, "kept"), 4);
    assert_int_equal(vfs_unlinkat(AT_FDCWD, "/d/gone", 0), 0);
    arena_set_root(s);
    arena_get_stats(&st);
    int m = memfd_create("arena", 0);
    assert_true(host_pwrite(m, (void *)st.base, st.committed, 0) == (long)st.committed);
    snprintf(text[0], 24, "%d", m);
    snprintf(text[1], 24, "%lx", st.base);
    snprintf(text[2], 24, "%lx", st.committed);
    snprintf(text[3], 24, "%lx", st.limit);
    snprintf(text[4], 24, "%d", open(dir, O_PATH | O_DIRECTORY));
    pid_t pid = fork();
    if (pid == 0) {
        execl(self_path, self_path, "restored", text[0], text[1], text[2], text[3], text[4], NULL);
        _exit(127);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    char buf[16] = "";
    int fd = openat(host, "d/f", O_RDONLY);
    assert_int_equal(read(fd, buf, sizeof(buf)), 8);
    assert_string_equal(buf, "keptmore");
    close(fd);
    close(m);
    close(atoi(text[4]));
    assert_int_equal(faccessat(host, "d/new", F_OK, 0), 0);
    file_unref(s->file);
    file_unref(s->gone);
    arena_set_root(NULL);
    arena_free(s);
    end(DIRECT);
}

#define EACH(X)                                                                                    \
    X(data) X(large) X(names) X(links) X(rename) X(other_kinds) X(attributes) X(readdir) X(eviction)        \
        X(tmpfile) X(shared) X(readonly) X(file_mount) X(threads)

#define DEFINE(t)                                                                                  \
    static void run_##t(void **state)                                                              \
    {                                                                                              \
        for (int m = 0; m < MODES; m++) {                                                          \
            print_message("%s: %s\n", #t, mode_names[m]);                                          \
            test_##t((enum mode)m);                                                                \
        }                                                                                          \
    }
EACH(DEFINE)

#define LIST(t) cmocka_unit_test(run_##t),

int main(int argc, char **argv)
{
    if (argc == 7 && strcmp(argv[1], "restored") == 0)
        return restored(argv);
    ssize_t n = readlink("/proc/self/exe", self_path, sizeof(self_path) - 1);
    assert_true(n > 0 && server_prepare() == 0);
    const struct CMUnitTest tests[] = {EACH(LIST) cmocka_unit_test(run_restore)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
