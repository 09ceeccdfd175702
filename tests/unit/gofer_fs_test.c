// SPDX-License-Identifier: Apache-2.0
// Host files through the VFS, in each of the ways to reach them: names and attributes. What the guest sees is
// compared with what the host has.
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "host/host.h"
#include "gofer/server.h"
#include "sentry/arena/arena.h"
#include "tests/unit/gofer_fs_env.h"

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

#define EACH(X)                                                                                    \
    X(names) X(links) X(rename) X(other_kinds) X(attributes) X(readdir) X(eviction) X(tmpfile)

EACH(EACH_MODE)

int main(void)
{
    assert_true(server_prepare() == 0);
    const struct CMUnitTest tests[] = {EACH(MODE_TEST)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
