// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/gofer_fs_env.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
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

const char *const mode_names[MODES] = {"direct", "donated", "kept"};

char dir[64];
int host; // the served directory
static struct server server;
static pthread_t thread;

static void *serve(void *arg)
{
    server_run(&server, (int)(intptr_t)arg);
    return NULL;
}

void begin(enum mode mode, bool exclusive, u32 flags)
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

void end(enum mode mode)
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

struct file *open_file(const char *path, u32 flags, u32 mode)
{
    struct open_request q = {.flags = flags, .mode = mode};
    struct file *f = NULL;
    int r = vfs_openat(AT_FDCWD, path, &q, &f);
    if (r)
        fail_msg("open %s: %d", path, r);
    return f;
}

int try_open(const char *path, u32 flags)
{
    struct open_request q = {.flags = flags, .mode = 0644};
    struct file *f;
    int r = vfs_openat(AT_FDCWD, path, &q, &f);
    if (r == 0)
        file_unref(f);
    return r;
}

long put(struct file *f, const char *text)
{
    struct uio u;
    uio_init_kernel(&u, (void *)text, strlen(text));
    return file_write(f, &u);
}

long get_at(struct file *f, char *buf, u64 size, s64 pos)
{
    struct uio u;
    memset(buf, 0, size);
    uio_init_kernel(&u, buf, size - 1);
    return file_pread(f, &u, pos);
}

void make(const char *path, const char *text)
{
    struct file *f = open_file(path, O_CREAT | O_WRONLY | O_TRUNC, 0644);
    assert_int_equal(put(f, text), strlen(text));
    file_unref(f);
}

struct kstat stat_of(const char *path)
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

int lookup_error(const char *path)
{
    struct path p;
    int r = path_lookup(AT_FDCWD, path, 0, &p);
    if (r == 0)
        path_put(&p);
    return r;
}

int change(const char *path, struct attr_change c)
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
void check_same(const char *path)
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
