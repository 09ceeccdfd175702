// SPDX-License-Identifier: Apache-2.0
// Host files through the VFS, in each of the ways to reach them: contents, what others change, threads, and files
// that outlive a snapshot.
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
#include <sys/wait.h>

#include <cmocka.h>

#include "host/host.h"
#include "gofer/server.h"
#include "sentry/arena/arena.h"
#include "tests/unit/gofer_fs_env.h"

static char self_path[4096];

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

#define EACH(X) X(data) X(large) X(shared) X(readonly) X(file_mount) X(threads)

EACH(EACH_MODE)

int main(int argc, char **argv)
{
    if (argc == 7 && strcmp(argv[1], "restored") == 0)
        return restored(argv);
    ssize_t n = readlink("/proc/self/exe", self_path, sizeof(self_path) - 1);
    assert_true(n > 0 && server_prepare() == 0);
    const struct CMUnitTest tests[] = {EACH(MODE_TEST) cmocka_unit_test(run_restore)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
