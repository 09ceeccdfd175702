// SPDX-License-Identifier: Apache-2.0
// The VFS and tmpfs through their system calls, and against the host (vfs_model.c).
#include <dirent.h>
#include <errno.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cmocka.h>

#include "sentry/arena/arena.h"
#include "sentry/fs/overlay/overlay.h"
#include "sentry/fs/tmpfs/tmpfs.h"
#include "sentry/mm/usercopy.h"
#include "sentry/syscalls/sys_vfs.h"
#include "sentry/vfs/lock.h"
#include "sentry/fs/tty/job.h"
#include "tests/unit/vfs_model.h"
#include "tests/unit/vfs_stubs.h"

extern const struct inode_ops tmpfs_inode_ops, overlay_inode_ops;
extern const struct file_ops tmpfs_file_ops, overlay_file_ops;
extern const void *const drawn_in[];
const void *const drawn_in[] = {&tmpfs_inode_ops, &tmpfs_file_ops, &tmpfs_fs_type,
                                &overlay_inode_ops, &overlay_file_ops, &overlay_fs_type};

static struct fdtable *table;

struct fdtable *fdtable_current(void)
{
    return table;
}

s32 kernel_current_tgid(void)
{
    return 1;
}

s32 job_current_pid(void)
{
    return 1;
}

s32 job_pid_to_guest(s32 number)
{
    return number;
}

s32 job_pid_from_guest(s32 nr)
{
    return nr;
}

static void write_file(const char *path, const void *data, u64 size)
{
    long fd = CALL(open, P(path), O_CREAT | O_WRONLY | O_TRUNC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(CALL(write, (u64)fd, P(data), size), size);
    assert_int_equal(CALL(close, (u64)fd), 0);
}

static void assert_content(const char *path, const char *want)
{
    char buf[256] = "";
    long fd = CALL(open, P(path), O_RDONLY);
    assert_true(fd >= 0);
    long n = CALL(read, (u64)fd, P(buf), sizeof(buf) - 1);
    assert_true(n >= 0);
    buf[n] = 0;
    assert_string_equal(buf, want);
    CALL(close, (u64)fd);
}

static char memdir[] = "/dev/shm/vfs-test-XXXXXX";

static void remove_memdir(void)
{
    rmdir(memdir); // its files have no names
}

static void begin(u16 fs, const struct mount_request *m)
{
    static bool once;
    if (!once) {
        if (!mkdtemp(memdir))
            abort();
        atexit(remove_memdir);
        tmpfs_init(open(memdir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), 1ull << 30);
        once = true;
    }
    stub_boot(fs, m);
    stub_fs->umask = 0;
    stub_cred.ref.count = 1u << 30; // tests copy it: it never goes
    table = fdtable_new();
}

static void end(void)
{
    fdtable_unref(table);
    fs_context_unref(stub_fs);
}

static int setup(void **state)
{
    struct mount_request m = {.source = "tmpfs", .options = "mode=755"};
    begin(FS_TMPFS, &m);
    return 0;
}

static int teardown(void **state)
{
    end();
    return 0;
}

// ---- single rules ------------------------------------------------------------------------------

static void test_walk(void **state)
{
    struct stat st;
    assert_int_equal(CALL(mkdir, P("/a"), 0755), 0);
    assert_int_equal(CALL(mkdir, P("/a/b"), 0755), 0);
    write_file("/a/b/f", "hello", 5);
    assert_int_equal(CALL(symlink, P("b/f"), P("/a/l")), 0);
    assert_int_equal(CALL(symlink, P("/a/"), P("/abs")), 0);
    assert_int_equal(CALL(symlink, P("loop"), P("/loop")), 0);
    assert_content("/a/l", "hello");
    assert_content("/abs/b/../b/./f", "hello");
    assert_content("/../../a//b/f", "hello");
    assert_int_equal(CALL(stat, P("/loop"), P(&st)), -ELOOP);
    assert_int_equal(CALL(stat, P("/a/l/"), P(&st)), -ENOTDIR);
    assert_int_equal(CALL(stat, P("/a/b/f/x"), P(&st)), -ENOTDIR);
    assert_int_equal(CALL(stat, P(""), P(&st)), -ENOENT);
    assert_int_equal(CALL(lstat, P("/a/l"), P(&st)), 0);
    assert_true(S_ISLNK(st.st_mode) && st.st_size == 3);
    assert_int_equal(CALL(open, P("/a/l"), O_RDONLY | O_NOFOLLOW), -ELOOP);
    assert_int_equal(CALL(open, P("/a"), O_RDWR), -EISDIR);
    assert_int_equal(CALL(open, P("/a/b/f"), O_RDONLY | O_DIRECTORY), -ENOTDIR);
    char name[300];
    memset(name, 'x', sizeof(name));
    name[256] = 0;
    assert_int_equal(CALL(stat, P(name), P(&st)), -ENAMETOOLONG);
    name[255] = 0;
    assert_int_equal(CALL(stat, P(name), P(&st)), -ENOENT);
    char cwd[64];
    assert_int_equal(CALL(chdir, P("/a/b")), 0);
    assert_int_equal(CALL(getcwd, P(cwd), sizeof(cwd)), 5);
    assert_string_equal(cwd, "/a/b");
    assert_int_equal(CALL(rename, P("/a"), P("/z")), 0);
    assert_int_equal(CALL(getcwd, P(cwd), sizeof(cwd)), 5);
    assert_string_equal(cwd, "/z/b");
    assert_content("f", "hello");
    assert_int_equal(CALL(unlink, P("f")), 0);
    assert_int_equal(CALL(rmdir, P("/z/b")), 0);
    assert_int_equal(CALL(getcwd, P(cwd), sizeof(cwd)), -ENOENT);
    assert_int_equal(CALL(mkdir, P("new"), 0755), -ENOENT);
}

static void test_chroot_and_openat2(void **state)
{
    struct open_how how = {.flags = O_RDONLY};
    CALL(mkdir, P("/jail"), 0755);
    CALL(mkdir, P("/jail/in"), 0755);
    write_file("/secret", "s", 1);
    write_file("/jail/in/f", "x", 1);
    CALL(symlink, P("/secret"), P("/jail/abs"));
    CALL(symlink, P("../../secret"), P("/jail/in/up"));
    long dir = CALL(open, P("/jail"), O_PATH | O_DIRECTORY);
    assert_true(dir >= 0);
    how.resolve = RESOLVE_BENEATH;
    assert_int_equal(CALL(openat2, (u64)dir, P("../secret"), P(&how), sizeof(how)), -EXDEV);
    assert_int_equal(CALL(openat2, (u64)dir, P("abs"), P(&how), sizeof(how)), -EXDEV);
    assert_int_equal(CALL(openat2, (u64)dir, P("in/up"), P(&how), sizeof(how)), -EXDEV);
    assert_true(CALL(openat2, (u64)dir, P("in/../in/f"), P(&how), sizeof(how)) >= 0);
    how.resolve = RESOLVE_IN_ROOT;
    assert_int_equal(CALL(openat2, (u64)dir, P("abs"), P(&how), sizeof(how)), -ENOENT);
    assert_int_equal(CALL(openat2, (u64)dir, P("in/up"), P(&how), sizeof(how)), -ENOENT);
    how.resolve = RESOLVE_NO_SYMLINKS;
    assert_int_equal(CALL(openat2, (u64)dir, P("abs"), P(&how), sizeof(how)), -ELOOP);
    assert_int_equal(CALL(chroot, P("/jail")), 0);
    assert_int_equal(CALL(chdir, P("/")), 0);
    assert_int_equal(CALL(open, P("../../secret"), O_RDONLY), -ENOENT);
    assert_int_equal(CALL(open, P("/abs"), O_RDONLY), -ENOENT);
    assert_true(CALL(open, P("/in/f"), O_RDONLY) >= 0);
}

static void test_permissions(void **state)
{
    struct cred saved = stub_cred;
    CALL(mkdir, P("/t"), 01777);
    CALL(mkdir, P("/p"), 0700);
    write_file("/t/root", "r", 1);
    write_file("/p/f", "r", 1);
    CALL(chmod, P("/t/root"), 0640);
    stub_cred.fsuid = stub_cred.euid = stub_cred.uid = 1000;
    stub_cred.fsgid = stub_cred.egid = stub_cred.gid = 1000;
    stub_cred.cap_effective = stub_cred.cap_permitted = 0;
    assert_int_equal(CALL(open, P("/p/f"), O_RDONLY), -EACCES);
    assert_int_equal(CALL(open, P("/t/root"), O_RDONLY), -EACCES);
    assert_int_equal(CALL(unlink, P("/t/root")), -EPERM);
    assert_int_equal(CALL(mkdir, P("/no"), 0755), -EACCES);
    assert_int_equal(CALL(chmod, P("/t/root"), 0777), -EPERM);
    long fd = CALL(open, P("/t/mine"), O_CREAT | O_RDWR | O_EXCL, 06755);
    assert_true(fd >= 0);
    struct stat st;
    assert_int_equal(CALL(fstat, (u64)fd, P(&st)), 0);
    assert_int_equal(st.st_mode, S_IFREG | 06755);
    assert_int_equal(st.st_uid, 1000);
    assert_int_equal(CALL(write, (u64)fd, P("x"), 1), 1);
    assert_int_equal(CALL(fstat, (u64)fd, P(&st)), 0);
    assert_int_equal(st.st_mode, S_IFREG | 0755);
    assert_int_equal(CALL(chown, P("/t/mine"), 0, 1000), -EPERM);
    assert_int_equal(CALL(access, P("/t/root"), R_OK), -EACCES);
    stub_cred = saved;
    assert_int_equal(CALL(access, P("/t/root"), R_OK | W_OK), 0);
    assert_int_equal(CALL(access, P("/t/root"), X_OK), -EACCES);
}

static void test_fds(void **state)
{
    write_file("/f", "0123456789", 10);
    assert_int_equal(CALL(open, P("/f"), O_RDONLY), 0);
    assert_int_equal(CALL(dup, 0), 1);
    assert_int_equal(CALL(dup2, 0, 7), 7);
    assert_int_equal(CALL(dup3, 0, 7, O_CLOEXEC), 7);
    assert_int_equal(CALL(dup3, 0, 0, 0), -EINVAL);
    assert_int_equal(CALL(fcntl, 7, F_GETFD), FD_CLOEXEC);
    assert_int_equal(CALL(fcntl, 0, F_DUPFD, 5), 5);
    assert_int_equal(CALL(fcntl, 0, F_DUPFD_CLOEXEC, 5), 6);
    char c;
    assert_int_equal(CALL(read, 1, P(&c), 1), 1);
    assert_int_equal(CALL(read, 5, P(&c), 1), 1);
    assert_int_equal(c, '1');
    assert_int_equal(CALL(lseek, 0, 0, SEEK_CUR), 2);
    struct fdtable *child = fdtable_dup(table);
    fdtable_close_on_exec(child);
    struct file *f = fdtable_get(child, 6);
    assert_null(f);
    assert_int_equal(child->count, 3);
    fdtable_unref(child);
    assert_int_equal(CALL(close_range, 1, 6, 0), 0);
    assert_int_equal(CALL(close, 5), -EBADF);
    assert_int_equal(CALL(dup, 0), 1);
    assert_int_equal(CALL(read, 99, P(&c), 1), -EBADF);
    assert_int_equal(CALL(write, 0, P(&c), 1), -EBADF);
    long fd = CALL(open, P("/f"), O_PATH);
    assert_int_equal(CALL(read, (u64)fd, P(&c), 1), -EBADF);
    struct stat st;
    assert_int_equal(CALL(fstat, (u64)fd, P(&st)), 0);
}

static void test_directories(void **state)
{
    char name[32];
    u8 seen[300] = {0};
    CALL(mkdir, P("/d"), 0755);
    for (int i = 0; i < 300; i++) {
        snprintf(name, sizeof(name), "/d/%d", i);
        write_file(name, "", 0);
    }
    long fd = CALL(open, P("/d"), O_RDONLY | O_DIRECTORY);
    char buf[512];
    int dots = 0, total = 0;
    for (long n; (n = CALL(getdents64, (u64)fd, P(buf), sizeof(buf))) != 0;) {
        assert_true(n > 0);
        for (long at = 0; at < n;) {
            struct dirent64 *d = (struct dirent64 *)(buf + at);
            at += d->d_reclen;
            if (d->d_name[0] == '.') {
                dots++;
                continue;
            }
            int k = atoi(d->d_name);
            assert_int_equal(seen[k], 0);
            seen[k] = 1;
            total++;
            snprintf(name, sizeof(name), "/d/%d", k); // removed while it is read
            assert_int_equal(CALL(unlink, P(name)), 0);
        }
    }
    assert_int_equal(dots, 2);
    assert_int_equal(total, 300);
    assert_int_equal(CALL(getdents64, (u64)fd, P(buf), 8), 0);
    CALL(lseek, (u64)fd, 0, SEEK_SET);
    assert_int_equal(CALL(getdents64, (u64)fd, P(buf), 8), -EINVAL);
}

static void test_tmpfile_and_link(void **state)
{
    CALL(mkdir, P("/d"), 0755);
    long fd = CALL(open, P("/d"), O_TMPFILE | O_RDWR, 0600);
    assert_true(fd >= 0);
    struct stat st;
    assert_int_equal(CALL(write, (u64)fd, P("tmp"), 3), 3);
    assert_int_equal(CALL(linkat, (u64)fd, P(""), CWD, P("/d/name"), AT_EMPTY_PATH), 0);
    assert_content("/d/name", "tmp");
    assert_int_equal(CALL(stat, P("/d/name"), P(&st)), 0);
    assert_int_equal(st.st_nlink, 1);
    assert_int_equal(CALL(link, P("/d/name"), P("/d/two")), 0);
    assert_int_equal(CALL(fstat, (u64)fd, P(&st)), 0);
    assert_int_equal(st.st_nlink, 2);
    assert_int_equal(CALL(link, P("/d"), P("/e")), -EPERM);
}

static void test_limits(void **state)
{
    CALL(mkdir, P("/m"), 0755);
    assert_int_equal(CALL(mount, P("t"), P("/m"), P("tmpfs"), 0, P("size=64k,nr_inodes=4")), 0);
    static char big[128 << 10];
    long fd = CALL(open, P("/m/f"), O_CREAT | O_RDWR, 0644);
    assert_int_equal(CALL(write, (u64)fd, P(big), sizeof(big)), 64 << 10);
    assert_int_equal(CALL(write, (u64)fd, P(big), 1), -ENOSPC);
    assert_int_equal(CALL(ftruncate, (u64)fd, 100), 0);
    assert_int_equal(CALL(pwrite64, (u64)fd, P("x"), 1, 5000), 1);
    assert_int_equal(CALL(mkdir, P("/m/a"), 0755), 0);
    assert_int_equal(CALL(mkdir, P("/m/b"), 0755), 0);
    assert_int_equal(CALL(mkdir, P("/m/c"), 0755), -ENOSPC);
    CALL(rmdir, P("/m/a"));
    assert_int_equal(CALL(mkdir, P("/m/c"), 0755), 0);
    assert_int_equal(CALL(umount2, P("/m"), 0), -EBUSY);
    CALL(close, (u64)fd);
    assert_int_equal(CALL(umount2, P("/m"), 0), 0);
    stub_fsize_limit = 10;
    fd = CALL(open, P("/f"), O_CREAT | O_RDWR, 0644);
    assert_int_equal(CALL(write, (u64)fd, P("0123456789abc"), 13), 10);
    assert_int_equal(CALL(write, (u64)fd, P("x"), 1), -EFBIG);
    assert_int_equal(CALL(ftruncate, (u64)fd, 11), -EFBIG);
    stub_fsize_limit = ~0ull;
}

static void test_memfd(void **state)
{
    struct file *f;
    char buf[8];
    assert_int_equal(tmpfs_memfd_new("name", MFD_ALLOW_SEALING, &f), 0);
    char text[64];
    assert_true(file_to_string(f, text, sizeof(text)) > 0);
    assert_string_equal(text, "/memfd:name (deleted)");
    u64 fd = (u64)fd_install(f, 0);
    assert_int_equal(CALL(ftruncate, fd, 3 << 20), 0);
    assert_int_equal(CALL(pwrite64, fd, P("arena"), 5, 100), 5);
    int host_fd = file_ops(f)->map_fd(f, true);
    assert_true(host_fd >= 0);
    char *m = mmap(NULL, 3 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, host_fd, 0);
    assert_true(m != MAP_FAILED);
    assert_memory_equal(m + 100, "arena", 5);
    memcpy(m + (2 << 20), "mapped", 6);
    assert_int_equal(CALL(pread64, fd, P(buf), 6, 2 << 20), 6);
    assert_memory_equal(buf, "mapped", 6);
    munmap(m, 3 << 20);
    int ro = file_ops(f)->map_fd(f, false);
    assert_true(mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, ro, 0) == MAP_FAILED);
    assert_int_equal(CALL(fcntl, fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_WRITE), 0);
    assert_int_equal(CALL(ftruncate, fd, 1), -EPERM);
    assert_int_equal(CALL(write, fd, P("x"), 1), -EPERM);
    assert_int_equal(CALL(fcntl, fd, F_GET_SEALS), F_SEAL_SHRINK | F_SEAL_WRITE);
}

static void test_xattrs(void **state)
{
    char buf[64];
    write_file("/f", "", 0);
    assert_int_equal(CALL(setxattr, P("/f"), P("user.a"), P("value"), 5, 0), 0);
    assert_int_equal(CALL(setxattr, P("/f"), P("user.a"), P("v"), 1, XATTR_CREATE), -EEXIST);
    assert_int_equal(CALL(setxattr, P("/f"), P("user.b"), P("v"), 1, XATTR_REPLACE), -ENODATA);
    assert_int_equal(CALL(setxattr, P("/f"), P("bad"), P("v"), 1, 0), -EOPNOTSUPP);
    assert_int_equal(CALL(getxattr, P("/f"), P("user.a"), P(buf), sizeof(buf)), 5);
    assert_int_equal(CALL(getxattr, P("/f"), P("user.a"), P(buf), 2), -ERANGE);
    assert_int_equal(CALL(getxattr, P("/f"), P("user.a"), 0, 0), 5);
    assert_int_equal(CALL(listxattr, P("/f"), P(buf), sizeof(buf)), 7);
    assert_string_equal(buf, "user.a");
    assert_int_equal(CALL(removexattr, P("/f"), P("user.a")), 0);
    assert_int_equal(CALL(removexattr, P("/f"), P("user.a")), -ENODATA);
}

struct text {
    char s[8192];
    u32 size;
};

static bool collect(void *arg, const char *line, u32 size)
{
    struct text *t = arg;
    memcpy(t->s + t->size, line, size);
    t->size += size;
    t->s[t->size] = 0;
    return true;
}

static void test_mounts(void **state)
{
    struct stat st;
    CALL(mkdir, P("/m"), 0755);
    CALL(mkdir, P("/n"), 0755);
    write_file("/m/under", "u", 1);
    assert_int_equal(CALL(mount, P("src x"), P("/m"), P("tmpfs"), MS_NOSUID, P("size=1m")), 0);
    assert_int_equal(CALL(stat, P("/m/under"), P(&st)), -ENOENT);
    CALL(mkdir, P("/m/sub"), 0755);
    write_file("/m/sub/f", "in", 2);
    assert_int_equal(CALL(mount, P("t2"), P("/m/sub"), P("tmpfs"), 0, 0), 0);
    write_file("/m/sub/g", "deep", 4);
    assert_int_equal(CALL(mount, P("/m"), P("/n"), 0, MS_BIND, 0), 0);
    assert_content("/n/sub/f", "in");
    assert_int_equal(CALL(umount2, P("/n"), 0), 0);
    assert_int_equal(CALL(mount, P("/m"), P("/n"), 0, MS_BIND | MS_REC, 0), 0);
    assert_content("/n/sub/g", "deep");
    assert_int_equal(CALL(mount, 0, P("/n"), 0, MS_REMOUNT | MS_BIND | MS_RDONLY, 0), 0);
    assert_int_equal(CALL(mkdir, P("/n/x"), 0755), -EROFS);
    assert_int_equal(CALL(mkdir, P("/m/x"), 0755), 0);
    assert_int_equal(CALL(open, P("/n/new"), O_CREAT | O_WRONLY, 0644), -EROFS);
    assert_int_equal(CALL(rename, P("/n/x"), P("/m/y")), -EXDEV);
    assert_int_equal(CALL(rmdir, P("/m/sub")), -EBUSY);
    assert_int_equal(CALL(chdir, P("/n/sub")), 0);
    char cwd[64];
    CALL(getcwd, P(cwd), sizeof(cwd));
    assert_string_equal(cwd, "/n/sub");
    assert_int_equal(CALL(chdir, P("../..")), 0);
    static struct text t;
    t.size = 0;
    assert_int_equal(mount_format(stub_fs->ns, &stub_fs->root, MOUNT_FORMAT_MOUNTS, collect, &t), 0);
    assert_non_null(strstr(t.s, "src\\040x /m tmpfs rw,nosuid,relatime,size=1024k 0 0\n"));
    t.size = 0;
    assert_int_equal(mount_format(stub_fs->ns, &stub_fs->root, MOUNT_FORMAT_INFO, collect, &t), 0);
    assert_non_null(strstr(t.s, " / /n/sub rw,relatime - tmpfs t2 rw\n"));
    assert_int_equal(CALL(umount2, P("/n"), 0), -EBUSY);
    assert_int_equal(CALL(umount2, P("/n"), MNT_DETACH), 0);
    CALL(mkdir, P("/moved"), 0755);
    assert_int_equal(CALL(mount, P("/m"), P("/moved"), 0, MS_MOVE, 0), 0);
    assert_content("/m/under", "u");
    assert_content("/moved/sub/g", "deep");
    // As a container does: the new root, the old one put away below it.
    CALL(mkdir, P("/moved/old"), 0755);
    assert_int_equal(CALL(pivot_root, P("/moved"), P("/moved/old")), 0);
    assert_content("/sub/g", "deep");
    assert_content("/old/m/under", "u");
    assert_int_equal(CALL(umount2, P("/old"), MNT_DETACH), 0);
    assert_int_equal(CALL(stat, P("/old/m"), P(&st)), -ENOENT);
}

static void test_copy(void **state)
{
    static char big[300000], back[300000];
    for (u32 i = 0; i < sizeof(big); i++)
        big[i] = (char)(i * 7 >> 3);
    write_file("/in", big, sizeof(big));
    u64 in = (u64)CALL(open, P("/in"), O_RDONLY), out = (u64)CALL(open, P("/out"), O_CREAT | O_RDWR, 0644);
    s64 off = 100;
    assert_int_equal(CALL(sendfile, out, in, P(&off), 1000), 1000);
    assert_int_equal(off, 1100);
    assert_int_equal(CALL(lseek, in, 0, SEEK_CUR), 0);
    assert_int_equal(CALL(copy_file_range, in, 0, out, 0, sizeof(big), 0), sizeof(big));
    assert_int_equal(CALL(pread64, out, P(back), sizeof(back), 1000), sizeof(back));
    assert_memory_equal(back, big, sizeof(big));
    assert_int_equal(CALL(fallocate, out, 3, 5000, 10000), 0); // a hole
    assert_int_equal(CALL(lseek, out, 0, SEEK_HOLE), 8192);
    assert_int_equal(CALL(lseek, out, 8192, SEEK_DATA), 12288);
    assert_int_equal(CALL(pread64, out, P(back), 1, 6000), 1);
    assert_int_equal(back[0], 0);
}

// ---- locks -------------------------------------------------------------------------------------

static u64 lock_file_fd;
static struct sleeper locker_sleeper;
static u32 locker_done;

static struct lock_range range(s64 start, s64 stop, u8 type)
{
    return (struct lock_range){start, stop, type, 1};
}

static void *locker(void *arg)
{
    struct lock_range r = range(0, 9, F_WRLCK);
    current_sleeper = &locker_sleeper;
    int err = lock_set(arg, LOCK_CLASS_POSIX, "B", &r, true);
    __atomic_store_n(&locker_done, 1, __ATOMIC_SEQ_CST);
    return (void *)(intptr_t)err;
}

static void test_locks(void **state)
{
    static struct sleeper mine;
    current_sleeper = &mine;
    write_file("/l", "0123456789", 10);
    lock_file_fd = (u64)CALL(open, P("/l"), O_RDWR);
    struct file *f = fdtable_get(table, (int)lock_file_fd);
    struct lock_range r = range(0, 99, F_WRLCK);
    assert_int_equal(lock_set(f, LOCK_CLASS_POSIX, "A", &r, false), 0);
    r = range(20, 29, F_UNLCK); // cuts it in two
    assert_int_equal(lock_set(f, LOCK_CLASS_POSIX, "A", &r, false), 0);
    r = range(20, 29, F_RDLCK);
    assert_int_equal(lock_set(f, LOCK_CLASS_POSIX, "B", &r, false), 0);
    r = range(19, 29, F_RDLCK);
    assert_int_equal(lock_set(f, LOCK_CLASS_POSIX, "B", &r, false), -EAGAIN);
    r = range(0, INT64_MAX, F_WRLCK);
    assert_int_equal(lock_test(f, LOCK_CLASS_POSIX, "B", &r), 0);
    assert_true(r.start == 0 && r.end == 19 && r.type == F_WRLCK);
    // B waits for A, so A may not wait for B.
    pthread_t thread;
    pthread_create(&thread, NULL, locker, f);
    struct lock_range mine_wants = range(20, 29, F_WRLCK);
    for (int e = -EAGAIN; e != -EDEADLK;) { // until B is known to wait
        struct lock_range probe = mine_wants;
        e = __atomic_load_n(&locker_sleeper.asleep, __ATOMIC_SEQ_CST)
                ? lock_set(f, LOCK_CLASS_POSIX, "A", &probe, true)
                : -EAGAIN;
        assert_false(locker_done);
    }
    r = range(0, 99, F_UNLCK);
    assert_int_equal(lock_set(f, LOCK_CLASS_POSIX, "A", &r, false), 0);
    void *result;
    pthread_join(thread, &result);
    assert_null(result);
    // flock(2) does not see them; two opens exclude each other.
    u64 other = (u64)CALL(open, P("/l"), O_RDWR);
    assert_int_equal(CALL(flock, lock_file_fd, LOCK_EX), 0);
    assert_int_equal(CALL(flock, other, LOCK_SH | LOCK_NB), -EAGAIN);
    assert_int_equal(CALL(flock, lock_file_fd, LOCK_SH), 0);
    assert_int_equal(CALL(flock, other, LOCK_SH | LOCK_NB), 0);
    struct flock fl = {.l_type = F_WRLCK, .l_whence = SEEK_END, .l_start = -5, .l_len = 2};
    assert_int_equal(CALL(fcntl, other, F_OFD_SETLK, P(&fl)), -EAGAIN); // B's
    lock_drop_posix(f->inode, "B");
    assert_int_equal(CALL(fcntl, other, F_OFD_SETLK, P(&fl)), 0);
    fl = (struct flock){.l_type = F_WRLCK};
    assert_int_equal(CALL(fcntl, lock_file_fd, F_GETLK, P(&fl)), 0);
    assert_true(fl.l_type == F_WRLCK && fl.l_start == 5 && fl.l_len == 2 && fl.l_pid == -1);
    CALL(close, other);
    fl = (struct flock){.l_type = F_WRLCK};
    assert_int_equal(CALL(fcntl, lock_file_fd, F_GETLK, P(&fl)), 0);
    assert_int_equal(fl.l_type, F_UNLCK);
    file_unref(f);
}

// ---- against the host --------------------------------------------------------------------------

static void test_model(void **state)
{
    vfs_model_run(vfs_model_steps(30000), false);
}

static void test_model_overlay(void **state)
{
    for (u32 i = vfs_model_steps(10); i; i--) {
        vfs_model_run(3000, true);
        teardown(state);
        setup(state);
    }
}

static void test_overlay(void **state)
{
    struct path lower, at;
    struct stat st, st2;
    CALL(mkdir, P("/lower"), 0755);
    CALL(mkdir, P("/m"), 0755);
    assert_int_equal(CALL(mount, P("l"), P("/lower"), P("tmpfs"), 0, 0), 0);
    CALL(mkdir, P("/lower/d"), 0755);
    CALL(mkdir, P("/lower/d/sub"), 0755);
    write_file("/lower/d/f", "lower", 5);
    write_file("/lower/d/g", "gone", 4);
    CALL(link, P("/lower/d/f"), P("/lower/hard"));
    CALL(symlink, P("d/f"), P("/lower/sym"));
    CALL(setxattr, P("/lower/d/f"), P("user.x"), P("val"), 3, 0);
    assert_int_equal(path_lookup(AT_FDCWD, "/lower", LOOKUP_FOLLOW, &lower), 0);
    assert_int_equal(path_lookup(AT_FDCWD, "/m", LOOKUP_FOLLOW, &at), 0);
    struct overlay_source source = {.lower = lower.mount->sb};
    struct mount_request q = {.source = "overlay", .options = "", .arg = &source};
    assert_int_equal(mount_new_at(FS_OVERLAY, &q, &at), 0);
    path_put(&at);
    path_put(&lower);
    assert_content("/m/sym", "lower");
    CALL(stat, P("/m/d/f"), P(&st));
    u64 reader = (u64)CALL(open, P("/m/d/f"), O_RDONLY), fd = (u64)CALL(open, P("/m/d/f"), O_RDWR | O_APPEND);
    assert_int_equal(CALL(write, fd, P("+up"), 3), 3);
    char buf[32] = "";
    assert_int_equal(CALL(pread64, reader, P(buf), 31, 0), 8); // sees the copy
    assert_string_equal(buf, "lower+up");
    assert_content("/lower/d/f", "lower");
    assert_content("/m/hard", "lower+up"); // the other name, too
    assert_int_equal(CALL(stat, P("/m/d/f"), P(&st2)), 0);
    assert_true(st.st_ino == st2.st_ino && st2.st_nlink == 2 && st2.st_size == 8);
    assert_int_equal(CALL(getxattr, P("/m/d/f"), P("user.x"), P(buf), 3), 3);
    assert_int_equal(CALL(unlink, P("/m/d/g")), 0);
    assert_int_equal(CALL(open, P("/m/d/g"), O_RDONLY), -ENOENT);
    assert_content("/lower/d/g", "gone");
    assert_int_equal(CALL(rename, P("/m/d/sub"), P("/m/d/sub2")), -EXDEV);
    assert_int_equal(CALL(rmdir, P("/m/d/sub")), 0);
    assert_int_equal(CALL(mkdir, P("/m/d/sub"), 0700), 0);
    assert_int_equal(CALL(rmdir, P("/m/d")), -ENOTEMPTY);
    assert_int_equal(CALL(chmod, P("/m/sym"), 0600), 0);
    dentry_prune(NULL);
    assert_int_equal(CALL(stat, P("/m/hard"), P(&st2)), 0);
    assert_int_equal(st2.st_mode, S_IFREG | 0600);
    // The other name, after all caches are gone.
    CALL(close, reader);
    CALL(close, fd);
    dentry_prune(NULL);
    assert_content("/m/hard", "lower+up");
}

// Prints what a warm stat costs; nothing is asserted, since machines differ.
static void test_warm_stat(void **state)
{
    struct stat st;
    CALL(mkdir, P("/1"), 0755);
    CALL(mkdir, P("/1/2"), 0755);
    CALL(mkdir, P("/1/2/3"), 0755);
    CALL(mkdir, P("/1/2/3/4"), 0755);
    write_file("/1/2/3/4/5", "x", 1);
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    for (int i = 0; i < 200000; i++)
        CALL(stat, P("/1/2/3/4/5"), P(&st));
    clock_gettime(CLOCK_MONOTONIC, &b);
    print_message("warm stat of 5 components: %lld ns\n",
                  (long long)((b.tv_sec - a.tv_sec) * NSEC_PER_SEC + b.tv_nsec - a.tv_nsec) / 200000);
    clock_gettime(CLOCK_MONOTONIC, &a);
    for (int i = 0; i < 200000; i++)
        CALL(close, (u64)CALL(open, P("/1/2/3/4/5"), O_RDONLY));
    clock_gettime(CLOCK_MONOTONIC, &b);
    print_message("open+close: %lld ns\n",
                  (long long)((b.tv_sec - a.tv_sec) * NSEC_PER_SEC + b.tv_nsec - a.tv_nsec) / 200000);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_walk), T(test_chroot_and_openat2), T(test_permissions), T(test_fds),
        T(test_directories), T(test_tmpfile_and_link), T(test_limits), T(test_memfd),
        T(test_xattrs), T(test_mounts), T(test_copy), T(test_locks), T(test_overlay),
        T(test_model), T(test_model_overlay),
        T(test_warm_stat),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
