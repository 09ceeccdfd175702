// SPDX-License-Identifier: Apache-2.0
// stat(2), statx(2), chmod(2), chown(2), utimensat(2), access(2), umask(2), xattr(7), truncate(2),
// fallocate(2), statfs(2).
#include "t.h"

#include <dirent.h>
#include <grp.h>
#include <linux/falloc.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <sys/resource.h>

static int make(const char *path, const char *text)
{
    int fd = SYS(open(path, O_RDWR | O_CREAT | O_TRUNC, 0644));
    CHECK_EQ(write(fd, text, strlen(text)), strlen(text));
    return fd;
}

static struct stat of(const char *path)
{
    struct stat st;
    SYS(lstat(path, &st));
    return st;
}

static unsigned mode_of(const char *path)
{
    return of(path).st_mode & 07777;
}

// Runs fn as an ordinary user in a child.
static void as_user(void (*fn)(void))
{
    pid_t pid = fork();
    if (pid == 0) {
        SYS(setresgid(1000, 1000, 1000));
        SYS(setgroups(0, NULL));
        SYS(setresuid(1000, 1000, 1000));
        fn();
        _exit(0);
    }
    t_join(pid);
}

TEST(stat_fields)
{
    int fd = make("f", "hello");
    struct stat a, b;
    SYS(fstat(fd, &a));
    SYS(stat("f", &b));
    CHECK_EQ(a.st_ino, b.st_ino);
    CHECK_EQ(a.st_dev, b.st_dev);
    CHECK_EQ(a.st_size, 5);
    CHECK_EQ(a.st_nlink, 1);
    CHECK_EQ(a.st_uid, geteuid());
    CHECK_EQ(a.st_gid, getegid());
    CHECK_EQ(a.st_mode, S_IFREG | 0644);
    CHECK(a.st_blksize >= 512);
    CHECK(a.st_blocks <= 64);
    CHECK_ERR(stat("nope", &a), ENOENT);
    CHECK_ERR(stat("f/x", &a), ENOTDIR);
    CHECK_ERR(syscall(SYS_newfstatat, AT_FDCWD, "f", 16, 0), EFAULT);
    CHECK_ERR(fstat(999, &a), EBADF);
}

TEST(statx_fields)
{
    struct statx sx;
    struct stat st;
    close(make("f", "hello"));
    SYS(statx(AT_FDCWD, "f", 0, STATX_BASIC_STATS, &sx));
    SYS(stat("f", &st));
    CHECK_EQ(sx.stx_mask & STATX_BASIC_STATS, STATX_BASIC_STATS);
    CHECK_EQ(sx.stx_size, 5);
    CHECK_EQ(sx.stx_mode, st.st_mode);
    CHECK_EQ(sx.stx_ino, st.st_ino);
    CHECK_EQ(makedev(sx.stx_dev_major, sx.stx_dev_minor), st.st_dev);
    CHECK_EQ(sx.stx_mtime.tv_sec, st.st_mtim.tv_sec);
    CHECK_EQ(sx.stx_mtime.tv_nsec, st.st_mtim.tv_nsec);
    CHECK_ERR(statx(AT_FDCWD, "f", 0x8000000, STATX_BASIC_STATS, &sx), EINVAL);
    CHECK_ERR(statx(AT_FDCWD, "f", 0, 0x80000000u, &sx), EINVAL);
    CHECK_ERR(statx(AT_FDCWD, "", 0, 0, &sx), ENOENT);
    SYS(statx(AT_FDCWD, "", AT_EMPTY_PATH, STATX_MODE, &sx));
    CHECK(S_ISDIR(sx.stx_mode));
}

TEST(creation_modes_and_umask)
{
    CHECK_EQ(umask(027), 022);
    close(SYS(open("a", O_CREAT | O_RDWR, 0666)));
    CHECK_EQ(mode_of("a"), 0640);
    SYS(mkdir("d", 0777));
    CHECK_EQ(mode_of("d"), 0750);
    SYS(mkfifo("p", 0666));
    CHECK_EQ(mode_of("p"), 0640);
    CHECK_EQ(umask(0xffff), 027);
    CHECK_EQ(umask(0), 0777);
    close(SYS(open("s", O_CREAT | O_RDWR, 07777)));
    CHECK_EQ(mode_of("s"), 07777);
    // A file made without permissions is still open as asked.
    int fd = SYS(open("ro", O_CREAT | O_RDWR, 0));
    CHECK_EQ(write(fd, "x", 1), 1);
}

TEST(chmod_rules)
{
    int fd = make("f", "");
    SYS(chmod("f", 0600));
    CHECK_EQ(mode_of("f"), 0600);
    SYS(fchmod(fd, 04755));
    CHECK_EQ(mode_of("f"), 04755);
    SYS(symlink("f", "l"));
    SYS(chmod("l", 0640));
    CHECK_EQ(mode_of("f"), 0640);
    SYS(fchmodat(AT_FDCWD, "f", 0611, 0));
    CHECK_EQ(mode_of("f"), 0611);
    CHECK_ERR(chmod("nope", 0), ENOENT);
    CHECK_ERR(fchmod(999, 0), EBADF);
}

static void chmod_as_user(void)
{
    CHECK_ERR(chmod("f", 0777), EPERM);
    CHECK_ERR(chown("f", 1000, 1000), EPERM);
    SYS(chmod("mine", 0600));
    CHECK_ERR(chown("mine", 0, -1), EPERM);
    CHECK_ERR(chown("mine", -1, 7), EPERM);
    SYS(chown("mine", -1, 1000));
    SYS(chmod("othergroup", 02755)); // not a member of its group: the bit is dropped
    CHECK_EQ(mode_of("othergroup"), 0755);
}

TEST(chmod_chown_permissions)
{
    close(make("f", ""));
    close(make("mine", ""));
    SYS(chown("mine", 1000, 1000));
    close(make("othergroup", ""));
    SYS(chown("othergroup", 1000, 7));
    as_user(chmod_as_user);
}

TEST(chown_rules)
{
    close(make("f", ""));
    SYS(chmod("f", 06755));
    SYS(chown("f", 1000, 1001));
    CHECK_EQ(of("f").st_uid, 1000);
    CHECK_EQ(of("f").st_gid, 1001);
    CHECK_EQ(mode_of("f"), 0755); // the set-id bits go
    SYS(chown("f", -1, 55));
    CHECK_EQ(of("f").st_uid, 1000);
    CHECK_EQ(of("f").st_gid, 55);
    SYS(chmod("f", 02644)); // setgid without group execute is kept: mandatory locking mark
    SYS(chown("f", 1, -1));
    CHECK_EQ(mode_of("f"), 02644);
    SYS(symlink("f", "l"));
    SYS(lchown("l", 9, 9));
    CHECK_EQ(of("l").st_uid, 9);
    CHECK_EQ(of("f").st_uid, 1);
    SYS(fchownat(AT_FDCWD, "l", 3, 3, 0));
    CHECK_EQ(of("f").st_uid, 3);
    int fd = SYS(open("f", O_RDONLY));
    SYS(fchown(fd, 4, 4));
    SYS(fchownat(fd, "", 5, 5, AT_EMPTY_PATH));
    CHECK_EQ(of("f").st_uid, 5);
}

static void write_clears(void)
{
    int fd = SYS(open("suid", O_WRONLY));
    CHECK_EQ(write(fd, "x", 1), 1);
    CHECK_EQ(mode_of("suid"), 0777);
}

TEST(write_clears_set_id_bits)
{
    close(make("suid", ""));
    SYS(chmod("suid", 06777));
    SYS(chmod(".", 0777));
    as_user(write_clears);
}

static void access_as_user(void)
{
    char c;
    CHECK_ERR(open("secret", O_RDONLY), EACCES);
    CHECK_ERR(open("ro", O_WRONLY), EACCES);
    CHECK_ERR(open("ro", O_RDWR), EACCES);
    int fd = SYS(open("ro", O_RDONLY));
    CHECK_EQ(read(fd, &c, 1), 1);
    CHECK_ERR(access("secret", R_OK), EACCES);
    CHECK_EQ(access("secret", F_OK), 0);
    CHECK_ERR(access("ro", X_OK), EACCES);
    CHECK_ERR(open("closed/f", O_RDONLY), EACCES);
    CHECK_ERR(open("nowrite/new", O_CREAT | O_RDWR, 0600), EACCES);
    CHECK_ERR(unlink("nowrite/f"), EACCES);
    CHECK_ERR(mkdir("nowrite/d", 0700), EACCES);
    CHECK_ERR(rename("nowrite/f", "nowrite/g"), EACCES);
    CHECK_ERR(opendir("noread") ? 0 : -1, EACCES);
    struct stat st;
    SYS(stat("noread/f", &st)); // searchable though not readable
    CHECK_ERR(open("group", O_RDONLY), EACCES);
    CHECK_ERR(unlink("sticky/f"), EPERM);
    CHECK_ERR(rename("sticky/f", "sticky/g"), EPERM);
    close(SYS(open("sticky/mine", O_CREAT | O_RDWR, 0600)));
    SYS(unlink("sticky/mine"));
    CHECK_ERR(truncate("ro", 0), EACCES);
}

TEST(permission_checks)
{
    close(make("secret", "x"));
    SYS(chmod("secret", 0600));
    close(make("ro", "x"));
    SYS(chmod("ro", 0644));
    SYS(mkdir("closed", 0700));
    close(make("closed/f", ""));
    SYS(mkdir("nowrite", 0755));
    close(make("nowrite/f", ""));
    SYS(mkdir("noread", 0711));
    close(make("noread/f", ""));
    close(make("group", "x"));
    SYS(chown("group", 0, 1000));
    SYS(chmod("group", 0604)); // the group's bits decide, not the others'
    SYS(mkdir("sticky", 0777));
    SYS(chmod("sticky", 01777));
    close(make("sticky/f", ""));
    as_user(access_as_user);
}

TEST(root_overrides)
{
    close(make("f", "x"));
    SYS(chmod("f", 0));
    close((int)SYS(open("f", O_RDWR)));
    CHECK_EQ(access("f", R_OK | W_OK), 0);
    CHECK_ERR(access("f", X_OK), EACCES); // no execute bit at all
    SYS(mkdir("d", 0));
    close(make("d/f", ""));
}

TEST(access_and_faccessat2)
{
    close(make("f", ""));
    CHECK_ERR(access("f", 8), EINVAL);
    CHECK_ERR(access("nope", F_OK), ENOENT);
    SYS(symlink("nope", "l"));
    CHECK_ERR(access("l", F_OK), ENOENT);
    SYS(syscall(SYS_faccessat2, AT_FDCWD, "l", F_OK, AT_SYMLINK_NOFOLLOW));
    SYS(syscall(SYS_faccessat2, AT_FDCWD, "f", R_OK, AT_EACCESS));
    CHECK_ERR(syscall(SYS_faccessat2, AT_FDCWD, "f", R_OK, 0x4000), EINVAL);
}

TEST(access_uses_real_ids)
{
    close(make("f", ""));
    SYS(chmod("f", 0600));
    pid_t pid = fork();
    if (pid == 0) {
        SYS(setresuid(1000, 0, 0)); // real user 1000, effective root
        CHECK_ERR(access("f", R_OK), EACCES);
        CHECK_EQ(syscall(SYS_faccessat2, AT_FDCWD, "f", R_OK, AT_EACCESS), 0);
        close(SYS(open("f", O_RDONLY)));
        _exit(0);
    }
    t_join(pid);
}

TEST(setgid_directory)
{
    SYS(mkdir("d", 0755));
    SYS(chown("d", -1, 1234));
    SYS(chmod("d", 02755));
    close(make("d/f", ""));
    CHECK_EQ(of("d/f").st_gid, 1234);
    SYS(mkdir("d/sub", 0755));
    CHECK_EQ(of("d/sub").st_gid, 1234);
    CHECK_EQ(mode_of("d/sub"), 02755);
}

TEST(utimens)
{
    struct timespec ts[2] = {{1000, 123456789}, {2000, 987654321}};
    struct stat st;
    int fd = make("f", "");
    SYS(utimensat(AT_FDCWD, "f", ts, 0));
    st = of("f");
    CHECK_EQ(st.st_atim.tv_sec, 1000);
    CHECK_EQ(st.st_mtim.tv_sec, 2000);
    CHECK_EQ(st.st_mtim.tv_nsec, 987654321);
    ts[0].tv_nsec = UTIME_OMIT;
    ts[1].tv_nsec = UTIME_NOW;
    SYS(futimens(fd, ts));
    st = of("f");
    CHECK_EQ(st.st_atim.tv_sec, 1000);
    CHECK(st.st_mtim.tv_sec > 1600000000);
    SYS(utimensat(AT_FDCWD, "f", NULL, 0));
    CHECK(of("f").st_atim.tv_sec > 1600000000);
    ts[0].tv_nsec = 2000000000;
    CHECK_ERR(utimensat(AT_FDCWD, "f", ts, 0), EINVAL);
    SYS(symlink("f", "l"));
    ts[0] = ts[1] = (struct timespec){77, 0};
    SYS(utimensat(AT_FDCWD, "l", ts, AT_SYMLINK_NOFOLLOW));
    CHECK_EQ(of("l").st_mtim.tv_sec, 77);
    CHECK(of("f").st_mtim.tv_sec != 77);
}

static void utimens_as_user(void)
{
    struct timespec ts[2] = {{1, 0}, {1, 0}};
    CHECK_ERR(utimensat(AT_FDCWD, "ro", ts, 0), EPERM);
    CHECK_ERR(utimensat(AT_FDCWD, "ro", NULL, 0), EACCES);
    SYS(utimensat(AT_FDCWD, "rw", NULL, 0)); // now: writable is enough
    CHECK_ERR(utimensat(AT_FDCWD, "rw", ts, 0), EPERM);
}

TEST(utimens_permissions)
{
    close(make("ro", ""));
    close(make("rw", ""));
    SYS(chmod("rw", 0666));
    as_user(utimens_as_user);
}

TEST(times_move)
{
    struct stat a, b;
    int fd = make("f", "x");
    struct timespec old[2] = {{1000, 0}, {1000, 0}};
    SYS(futimens(fd, old));
    CHECK_EQ(write(fd, "y", 1), 1);
    b = of("f");
    CHECK(b.st_mtim.tv_sec > 1000);
    a = of("f");
    SYS(futimens(fd, old));
    SYS(chmod("f", 0600));
    b = of("f");
    CHECK_EQ(b.st_mtim.tv_sec, 1000); // only ctime
    CHECK(b.st_ctim.tv_sec >= a.st_ctim.tv_sec);
    SYS(mkdir("d", 0755));
    SYS(utimensat(AT_FDCWD, "d", old, 0));
    close(make("d/x", ""));
    CHECK(of("d").st_mtim.tv_sec > 1000);
    SYS(utimensat(AT_FDCWD, "d", old, 0));
    SYS(unlink("d/x"));
    CHECK(of("d").st_mtim.tv_sec > 1000);
    SYS(futimens(fd, old));
    SYS(ftruncate(fd, 0));
    CHECK(of("f").st_mtim.tv_sec > 1000);
}

TEST(truncate_rules)
{
    char buf[16] = "";
    int fd = make("f", "0123456789");
    SYS(truncate("f", 4));
    CHECK_EQ(of("f").st_size, 4);
    SYS(ftruncate(fd, 8));
    CHECK_EQ(pread(fd, buf, 16, 0), 8);
    CHECK(memcmp(buf, "0123\0\0\0\0", 8) == 0); // what was cut off is gone
    CHECK_ERR(truncate("f", -1), EINVAL);
    CHECK_ERR(truncate(".", 0), EISDIR);
    CHECK_ERR(truncate("nope", 0), ENOENT);
    CHECK_EQ(lseek(fd, 0, SEEK_CUR), 10);
}

TEST(rlimit_fsize)
{
    pid_t pid = fork();
    if (pid == 0) {
        struct rlimit rl = {1000, 1000};
        signal(SIGXFSZ, SIG_IGN);
        SYS(setrlimit(RLIMIT_FSIZE, &rl));
        int fd = SYS(open("f", O_RDWR | O_CREAT, 0600));
        char buf[600] = "";
        CHECK_EQ(write(fd, buf, 600), 600);
        CHECK_EQ(write(fd, buf, 600), 400);
        CHECK_ERR(write(fd, buf, 600), EFBIG);
        CHECK_ERR(ftruncate(fd, 2000), EFBIG);
        signal(SIGXFSZ, SIG_DFL);
        write(fd, buf, 1);
        _exit(0);
    }
    CHECK_EQ(WTERMSIG(t_wait(pid)), SIGXFSZ);
}

TEST(fallocate_modes)
{
    int fd = make("f", "0123456789");
    char buf[16] = "";
    SYS(fallocate(fd, 0, 0, 100));
    CHECK_EQ(of("f").st_size, 100);
    SYS(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 1 << 20));
    CHECK_EQ(of("f").st_size, 100);
    SYS(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 2, 3));
    CHECK_EQ(pread(fd, buf, 10, 0), 10);
    CHECK(memcmp(buf,
                 "01\0\0\0"
                 "56789",
                 10) == 0);
    CHECK_ERR(fallocate(fd, 0, -1, 10), EINVAL);
    CHECK_ERR(fallocate(fd, 0, 0, 0), EINVAL);
    CHECK_ERR(fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 10), EOPNOTSUPP);
    int r = SYS(open("f", O_RDONLY));
    CHECK_ERR(fallocate(r, 0, 0, 10), EBADF);
    int p[2];
    SYS(pipe(p));
    CHECK_ERR(fallocate(p[1], 0, 0, 10), ESPIPE);
    int d = SYS(open(".", O_RDONLY));
    CHECK_ERR(fallocate(d, 0, 0, 10), EBADF);
}

TEST(xattrs)
{
    char buf[256];
    int fd = make("f", "");
    if (setxattr("f", "user.one", "1234", 4, 0) != 0 && errno == EOPNOTSUPP) {
        CHECK_ERR(getxattr("f", "user.one", buf, sizeof buf), EOPNOTSUPP);
        t_skip("no user xattrs on this filesystem");
    }
    CHECK_EQ(getxattr("f", "user.one", buf, sizeof buf), 4);
    CHECK(memcmp(buf, "1234", 4) == 0);
    CHECK_EQ(getxattr("f", "user.one", NULL, 0), 4);
    CHECK_ERR(getxattr("f", "user.one", buf, 2), ERANGE);
    CHECK_ERR(getxattr("f", "user.two", buf, sizeof buf), ENODATA);
    CHECK_ERR(fsetxattr(fd, "user.one", "x", 1, XATTR_CREATE), EEXIST);
    CHECK_ERR(fsetxattr(fd, "user.two", "x", 1, XATTR_REPLACE), ENODATA);
    SYS(fsetxattr(fd, "user.two", "", 0, XATTR_CREATE));
    ssize_t n = SYS(listxattr("f", buf, sizeof buf));
    CHECK_EQ(n, 18);
    CHECK(memmem(buf, n, "user.one", 9) && memmem(buf, n, "user.two", 9));
    CHECK_EQ(flistxattr(fd, NULL, 0), 18);
    SYS(removexattr("f", "user.one"));
    CHECK_ERR(removexattr("f", "user.one"), ENODATA);
    CHECK_ERR(setxattr("f", "odd.name", "x", 1, 0), EOPNOTSUPP);
    char name[300];
    memset(name, 'x', sizeof name);
    memcpy(name, "user.", 5);
    name[299] = 0;
    CHECK_ERR(setxattr("f", name, "x", 1, 0), ERANGE);
    SYS(symlink("f", "l"));
    CHECK_ERR(lsetxattr("l", "user.x", "x", 1, 0), EPERM);
    SYS(setxattr("l", "user.x", "x", 1, 0));
    CHECK_EQ(getxattr("f", "user.x", buf, sizeof buf), 1);
    CHECK_ERR(lgetxattr("l", "user.x", buf, sizeof buf), ENODATA);
}

TEST(statfs_answers)
{
    struct statfs a, b;
    struct statvfs v;
    int fd = make("f", "");
    SYS(statfs(".", &a));
    SYS(fstatfs(fd, &b));
    CHECK_EQ(a.f_type, b.f_type);
    CHECK(a.f_bsize > 0 && a.f_namelen == 255);
    SYS(statvfs(".", &v));
    CHECK_ERR(statfs("nope", &a), ENOENT);
    SYS(statfs("/proc", &a));
    CHECK_EQ(a.f_type, 0x9fa0);
}

TEST(chroot_confines)
{
    SYS(mkdir("root", 0755));
    SYS(mkdir("root/in", 0755));
    close(make("root/f", "inside"));
    pid_t pid = fork();
    if (pid == 0) {
        char buf[64] = "";
        SYS(chroot("root"));
        SYS(chdir("/"));
        CHECK_EQ(of("/f").st_size, 6);
        CHECK_EQ(of("/../../f").st_size, 6);
        CHECK(getcwd(buf, sizeof buf));
        CHECK_STR(buf, "/");
        SYS(setresuid(1000, 1000, 1000));
        CHECK_ERR(chroot("in"), EPERM);
        _exit(0);
    }
    t_join(pid);
}
