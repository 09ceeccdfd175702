// SPDX-License-Identifier: Apache-2.0
// open(2) and its flags, read/write variants, rename(2), link(2), symlink(7), unlink(2),
// getdents64(2), path walk.
#include "t.h"

#include <dirent.h>
#include <limits.h>
#include <linux/openat2.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>

static char big[1 << 20];

static int make(const char *path, const char *text)
{
    int fd = SYS(open(path, O_RDWR | O_CREAT | O_TRUNC, 0644));
    CHECK_EQ(write(fd, text, strlen(text)), strlen(text));
    return fd;
}

static long size_of(const char *path)
{
    struct stat st;
    SYS(lstat(path, &st));
    return st.st_size;
}

TEST(open_errors)
{
    char name[300];
    CHECK_ERR(open("nope", O_RDONLY), ENOENT);
    CHECK_ERR(open("", O_RDONLY), ENOENT);
    CHECK_ERR(open("nope/x", O_RDWR | O_CREAT, 0600), ENOENT);
    CHECK_ERR(open(".", O_WRONLY), EISDIR);
    CHECK_ERR(open(".", O_RDONLY | O_CREAT, 0600), EISDIR);
    close(make("f", ""));
    CHECK_ERR(open("f/x", O_RDONLY), ENOTDIR);
    CHECK_ERR(open("f/", O_RDONLY), ENOTDIR);
    CHECK_ERR(open("f", O_RDONLY | O_DIRECTORY), ENOTDIR);
    CHECK_ERR(open("f", O_CREAT | O_EXCL | O_RDWR, 0600), EEXIST);
    CHECK_ERR(open("new/", O_CREAT | O_RDWR, 0600), EISDIR);
    memset(name, 'n', sizeof name);
    name[256] = 0;
    CHECK_ERR(open(name, O_RDONLY), ENAMETOOLONG);
    name[255] = 0;
    CHECK_ERR(open(name, O_RDONLY), ENOENT);
    close((int)SYS(open(name, O_CREAT | O_WRONLY, 0600)));
    CHECK_ERR(open((char *)16, O_RDONLY), EFAULT);
    CHECK_ERR(close(999), EBADF);
}

TEST(path_max)
{
    static char path[5000];
    for (int i = 0; i < 2500; i++)
        memcpy(path + 2 * i, "./", 2);
    path[4094] = 'f';
    path[4095] = 0;
    close(make("f", ""));
    close((int)SYS(open(path, O_RDONLY)));
    path[4095] = 'f';
    path[4096] = 0;
    CHECK_ERR(open(path, O_RDONLY), ENAMETOOLONG);
}

TEST(lowest_fd_and_dup)
{
    int a = SYS(open("/dev/null", O_RDONLY)), b = SYS(dup(a));
    CHECK_EQ(b, a + 1);
    close(a);
    CHECK_EQ(open("/dev/null", O_RDONLY), a);
    CHECK_EQ(dup2(b, 20), 20);
    CHECK_EQ(dup2(b, b), b);
    CHECK_ERR(dup2(999, 5), EBADF);
    CHECK_ERR(dup3(b, b, 0), EINVAL);
    CHECK_ERR(dup3(b, 21, 0x40), EINVAL);
    CHECK_EQ(dup3(b, 21, O_CLOEXEC), 21);
    CHECK_EQ(fcntl(21, F_GETFD), FD_CLOEXEC);
    CHECK_EQ(fcntl(b, F_DUPFD, 30), 30);
    CHECK_EQ(fcntl(b, F_DUPFD_CLOEXEC, 30), 31);
    CHECK_EQ(fcntl(31, F_GETFD), FD_CLOEXEC);
    CHECK_ERR(fcntl(b, F_DUPFD, 1 << 30), EINVAL);
    CHECK_ERR(dup2(b, 1 << 30), EBADF);
    CHECK_EQ(syscall(SYS_close_range, 20, 31, 0), 0);
    CHECK_ERR(fcntl(21, F_GETFD), EBADF);
    CHECK_ERR(syscall(SYS_close_range, 5, 3, 0), EINVAL);
    CHECK_EQ(syscall(SYS_close_range, b, b, 4), 0); // CLOSE_RANGE_CLOEXEC
    CHECK_EQ(fcntl(b, F_GETFD), FD_CLOEXEC);
}

TEST(emfile)
{
    struct rlimit rl = {10, 10};
    pid_t pid = fork();
    if (pid == 0) {
        SYS(setrlimit(RLIMIT_NOFILE, &rl));
        int fd, last = -1;
        while ((fd = open("/dev/null", O_RDONLY)) >= 0)
            last = fd;
        CHECK_EQ(errno, EMFILE);
        CHECK_EQ(last, 9);
        CHECK_ERR(dup(0), EMFILE);
        int p[2];
        CHECK_ERR(pipe(p), EMFILE);
        _exit(0);
    }
    t_join(pid);
}

TEST(access_modes)
{
    char c;
    close(make("f", "abc"));
    int r = SYS(open("f", O_RDONLY)), w = SYS(open("f", O_WRONLY));
    CHECK_ERR(write(r, "x", 1), EBADF);
    CHECK_ERR(read(w, &c, 1), EBADF);
    CHECK_ERR(ftruncate(r, 0), EINVAL);
    CHECK_EQ(fcntl(r, F_GETFL) & O_ACCMODE, O_RDONLY);
    CHECK_EQ(fcntl(w, F_GETFL) & O_ACCMODE, O_WRONLY);
    SYS(fcntl(w, F_SETFL, O_APPEND | O_NONBLOCK));
    CHECK_EQ(fcntl(w, F_GETFL) & (O_APPEND | O_NONBLOCK | O_ACCMODE),
             O_APPEND | O_NONBLOCK | O_WRONLY);
    CHECK_EQ(write(w, "d", 1), 1);
    CHECK_EQ(size_of("f"), 4);
}

TEST(append)
{
    char buf[16] = "";
    int a = SYS(open("f", O_RDWR | O_CREAT | O_APPEND, 0600)),
        b = SYS(open("f", O_WRONLY | O_APPEND));
    CHECK_EQ(write(a, "one", 3), 3);
    CHECK_EQ(write(b, "two", 3), 3);
    CHECK_EQ(write(a, "3", 1), 1);
    CHECK_EQ(pwrite(a, "X", 1, 0), 1); // appends, by Linux's rule
    CHECK_EQ(pread(a, buf, 16, 0), 8);
    CHECK_STR(buf, "onetwo3X");
    CHECK_EQ(lseek(a, 0, SEEK_CUR), 7 + 0);
}

TEST(trunc)
{
    close(make("f", "abcdef"));
    close(SYS(open("f", O_WRONLY)));
    CHECK_EQ(size_of("f"), 6);
    close(SYS(open("f", O_WRONLY | O_TRUNC)));
    CHECK_EQ(size_of("f"), 0);
}

TEST(lseek_rules)
{
    int fd = make("f", "0123456789");
    CHECK_EQ(lseek(fd, 4, SEEK_SET), 4);
    CHECK_EQ(lseek(fd, -1, SEEK_CUR), 3);
    CHECK_EQ(lseek(fd, 5, SEEK_END), 15);
    CHECK_ERR(lseek(fd, -1, SEEK_SET), EINVAL);
    CHECK_ERR(lseek(fd, 0, 77), EINVAL);
    char c = 'x';
    CHECK_EQ(read(fd, &c, 1), 0);
    CHECK_EQ(write(fd, "!", 1), 1); // makes a hole
    CHECK_EQ(size_of("f"), 16);
    CHECK_EQ(pread(fd, &c, 1, 12), 1);
    CHECK_EQ(c, 0);
    CHECK_ERR(pread(fd, &c, 1, -1), EINVAL);
}

TEST(sparse_seek_data_hole)
{
    int fd = SYS(open("f", O_RDWR | O_CREAT, 0600));
    CHECK_EQ(pwrite(fd, "data", 4, 1 << 20), 4);
    struct stat st;
    SYS(fstat(fd, &st));
    CHECK_EQ(st.st_size, (1 << 20) + 4);
    CHECK(st.st_blocks < 1000);
    long d = lseek(fd, 0, SEEK_DATA);
    CHECK(d == 1 << 20 || d == 0);
    CHECK_EQ(lseek(fd, 1 << 20, SEEK_HOLE), (1 << 20) + 4);
    CHECK_EQ(lseek(fd, 0, SEEK_HOLE), d == 0 ? (1 << 20) + 4 : 0);
    CHECK_ERR(lseek(fd, 2 << 20, SEEK_DATA), ENXIO);
}

TEST(vectored_and_positional)
{
    char a[4] = "", b[8] = "";
    int fd = SYS(open("f", O_RDWR | O_CREAT, 0600));
    struct iovec o[2] = {{"abc", 3}, {"defg", 4}}, i[2] = {{a, 3}, {b, 7}};
    CHECK_EQ(writev(fd, o, 2), 7);
    CHECK_EQ(pwritev(fd, o, 2, 100), 7);
    CHECK_EQ(lseek(fd, 0, SEEK_CUR), 7);
    CHECK_EQ(preadv(fd, i, 2, 100), 7);
    CHECK_STR(a, "abc");
    CHECK_STR(b, "defg");
    CHECK_EQ(preadv2(fd, i, 2, -1, 0), 10); // at the file position
    CHECK_ERR(preadv2(fd, i, 2, 0, 0x4000), EOPNOTSUPP);
    CHECK_EQ(readv(fd, i, 0), 0);
}

TEST(large_io_is_whole)
{
    int fd = SYS(open("f", O_RDWR | O_CREAT, 0600));
    for (size_t i = 0; i < sizeof big; i++)
        big[i] = (char)(i * 31 + (i >> 12));
    CHECK_EQ(write(fd, big, sizeof big), sizeof big);
    char *copy = malloc(sizeof big);
    CHECK_EQ(pread(fd, copy, sizeof big, 0), sizeof big);
    CHECK(memcmp(copy, big, sizeof big) == 0);
    CHECK_EQ(pread(fd, copy, sizeof big, 100), sizeof big - 100);
    CHECK(memcmp(copy, big + 100, sizeof big - 100) == 0);
}

TEST(efault_io)
{
    int fd = make("f", "abc");
    CHECK_ERR(pread(fd, (void *)16, 3, 0), EFAULT);
    CHECK_ERR(pwrite(fd, (void *)16, 3, 0), EFAULT);
    CHECK_EQ(size_of("f"), 3);
    CHECK_EQ(pread(fd, (void *)16, 3, 10), 0); // nothing to copy
}

TEST(o_path)
{
    char c;
    close(make("f", "abc"));
    SYS(chmod("f", 0));
    int fd = SYS(open("f", O_PATH));
    CHECK_ERR(read(fd, &c, 1), EBADF);
    CHECK_ERR(fchmod(fd, 0600), EBADF);
    struct stat st;
    SYS(fstat(fd, &st));
    CHECK_EQ(st.st_size, 3);
    CHECK_EQ(fcntl(fd, F_GETFL) & O_PATH, O_PATH);
    SYS(symlink("f", "l"));
    int l = SYS(open("l", O_PATH | O_NOFOLLOW));
    SYS(fstat(l, &st));
    CHECK(S_ISLNK(st.st_mode));
    char buf[8] = "";
    CHECK_EQ(readlinkat(l, "", buf, sizeof buf), 1);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    SYS(chmod("f", 0600));
    int r = SYS(open(path, O_RDONLY));
    CHECK_EQ(read(r, &c, 1), 1);
}

TEST(o_nofollow_and_eloop)
{
    close(make("f", "abc"));
    SYS(symlink("f", "l"));
    CHECK_ERR(open("l", O_RDONLY | O_NOFOLLOW), ELOOP);
    close((int)SYS(open("l", O_RDONLY)));
    SYS(symlink("b", "a"));
    SYS(symlink("a", "b"));
    CHECK_ERR(open("a", O_RDONLY), ELOOP);
    CHECK_ERR(open("a/x", O_RDONLY), ELOOP);
    SYS(symlink("nowhere", "dangling"));
    CHECK_ERR(open("dangling", O_RDONLY), ENOENT);
    CHECK_ERR(open("dangling", O_CREAT | O_EXCL | O_RDWR, 0600), EEXIST);
    close(SYS(open("dangling", O_CREAT | O_RDWR, 0600)));
    CHECK_EQ(size_of("nowhere"), 0);
    char name[16], prev[16] = "f";
    for (int i = 0; i < 40; i++) {
        snprintf(name, sizeof name, "c%d", i);
        SYS(symlink(prev, name));
        strcpy(prev, name);
    }
    close((int)SYS(open("c39", O_RDONLY))); // 40 links are allowed
    SYS(symlink("c39", "c40"));
    CHECK_ERR(open("c40", O_RDONLY), ELOOP);
}

TEST(o_tmpfile)
{
    int fd = SYS(open(".", O_TMPFILE | O_RDWR, 0600));
    struct stat st;
    CHECK_EQ(write(fd, "tmp", 3), 3);
    SYS(fstat(fd, &st));
    CHECK_EQ(st.st_nlink, 0);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    SYS(linkat(AT_FDCWD, path, AT_FDCWD, "linked", AT_SYMLINK_FOLLOW));
    CHECK_EQ(size_of("linked"), 3);
    CHECK_ERR(open(".", O_TMPFILE | O_RDONLY, 0600), EINVAL);
    fd = SYS(open(".", O_TMPFILE | O_RDWR | O_EXCL, 0600));
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    CHECK_ERR(linkat(AT_FDCWD, path, AT_FDCWD, "linked2", AT_SYMLINK_FOLLOW), ENOENT);
}

TEST(unlink_while_open)
{
    char buf[8] = "";
    int fd = make("f", "abc");
    struct stat st;
    SYS(unlink("f"));
    CHECK_ERR(stat("f", &st), ENOENT);
    SYS(fstat(fd, &st));
    CHECK_EQ(st.st_nlink, 0);
    CHECK_EQ(write(fd, "def", 3), 3);
    CHECK_EQ(pread(fd, buf, 8, 0), 6);
    int other = make("f", "new"); // the name is free again, with another file
    CHECK_EQ(pread(fd, buf, 8, 0), 6);
    CHECK_EQ(pread(other, buf, 8, 0), 3);
    char link[4200] = "", path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    SYS(readlink(path, link, sizeof link - 1));
    CHECK(strstr(link, "/f (deleted)"));
}

TEST(unlink_errors)
{
    SYS(mkdir("d", 0755));
    CHECK_ERR(unlink("d"), EISDIR);
    CHECK_ERR(unlink("nope"), ENOENT);
    close(make("f", ""));
    CHECK_ERR(rmdir("f"), ENOTDIR);
    CHECK_ERR(rmdir("."), EINVAL);
    CHECK_ERR(rmdir("d/.."), ENOTEMPTY);
    close(make("d/x", ""));
    CHECK_ERR(rmdir("d"), ENOTEMPTY);
    CHECK_ERR(unlinkat(AT_FDCWD, "d", 0), EISDIR);
    CHECK_ERR(unlinkat(AT_FDCWD, "d", 0x1000), EINVAL);
    SYS(unlink("d/x"));
    SYS(unlinkat(AT_FDCWD, "d", AT_REMOVEDIR));
    CHECK_ERR(unlink("f/"), ENOTDIR);
}

TEST(mkdir_rules)
{
    struct stat st;
    SYS(mkdir("d", 0777));
    SYS(stat("d", &st));
    CHECK_EQ(st.st_mode & 07777, 0755); // umask 022
    CHECK_EQ(st.st_nlink > 0, 1);
    CHECK_ERR(mkdir("d", 0777), EEXIST);
    CHECK_ERR(mkdir(".", 0777), EEXIST);
    CHECK_ERR(mkdir("a/b", 0777), ENOENT);
    SYS(mkdir("d/e/", 0700)); // a trailing slash is right for a directory
    close(make("f", ""));
    CHECK_ERR(mkdir("f/g", 0700), ENOTDIR);
    SYS(symlink("nothing", "l"));
    CHECK_ERR(mkdir("l", 0700), EEXIST);
}

TEST(removed_cwd)
{
    char buf[4096];
    SYS(mkdir("d", 0755));
    SYS(chdir("d"));
    SYS(rmdir("../d"));
    CHECK_ERR(syscall(SYS_getcwd, buf, sizeof buf), ENOENT);
    CHECK_ERR(open("x", O_CREAT | O_RDWR, 0600), ENOENT);
    int fd = SYS(open(".", O_RDONLY));
    close(fd);
    CHECK_ERR(chdir("nope"), ENOENT);
    SYS(chdir(".."));
}

TEST(getcwd_and_fchdir)
{
    char a[4096], b[4096];
    CHECK(getcwd(a, sizeof a));
    CHECK_EQ(a[0], '/');
    CHECK_ERR(syscall(SYS_getcwd, b, 2), ERANGE);
    int fd = SYS(open(".", O_RDONLY | O_DIRECTORY));
    SYS(mkdir("sub", 0755));
    SYS(chdir("sub/.././sub"));
    CHECK(getcwd(b, sizeof b));
    CHECK(strlen(b) == strlen(a) + 4 && !strcmp(b + strlen(a), "/sub"));
    SYS(fchdir(fd));
    CHECK(getcwd(b, sizeof b));
    CHECK_STR(a, b);
    int f = make("f", "");
    CHECK_ERR(fchdir(f), ENOTDIR);
    CHECK_ERR(chdir("f"), ENOTDIR);
    SYS(chdir("/"));
    CHECK(getcwd(b, sizeof b));
    CHECK_STR(b, "/");
    SYS(chdir(".."));
    CHECK(getcwd(b, sizeof b));
    CHECK_STR(b, "/");
    SYS(fchdir(fd));
}

TEST(dotdot_and_slashes)
{
    SYS(mkdir("a", 0755));
    SYS(mkdir("a/b", 0755));
    close(make("a/f", "x"));
    CHECK_EQ(size_of("a//b/..///f"), 1);
    CHECK_EQ(size_of("./a/./f"), 1);
    CHECK_ERR(open("a/f/..", O_RDONLY), ENOTDIR);
    CHECK_ERR(open("a/nope/../f", O_RDONLY), ENOENT);
    SYS(symlink("a/b", "l"));
    CHECK_EQ(size_of("l/../f"), 1); // physical: .. of the target
    SYS(symlink("a/", "ls"));
    CHECK_EQ(size_of("ls/f"), 1);
    struct stat st;
    SYS(lstat("ls", &st));
    CHECK(S_ISLNK(st.st_mode));
    SYS(lstat("ls/", &st));
    CHECK(S_ISDIR(st.st_mode));
}

TEST(link_rules)
{
    struct stat a, b;
    close(make("f", "x"));
    SYS(link("f", "g"));
    SYS(stat("f", &a));
    SYS(stat("g", &b));
    CHECK_EQ(a.st_ino, b.st_ino);
    CHECK_EQ(a.st_nlink, 2);
    CHECK_ERR(link("f", "g"), EEXIST);
    CHECK_ERR(link("nope", "h"), ENOENT);
    SYS(mkdir("d", 0755));
    CHECK_ERR(link("d", "h"), EPERM);
    SYS(symlink("f", "s"));
    SYS(link("s", "s2")); // the link itself
    SYS(lstat("s2", &a));
    CHECK(S_ISLNK(a.st_mode));
    SYS(linkat(AT_FDCWD, "s", AT_FDCWD, "s3", AT_SYMLINK_FOLLOW));
    SYS(lstat("s3", &a));
    CHECK(S_ISREG(a.st_mode));
    CHECK_EQ(a.st_nlink, 3);
    SYS(unlink("f"));
    SYS(stat("g", &a));
    CHECK_EQ(a.st_nlink, 2);
    int fd = SYS(open("g", O_WRONLY | O_TRUNC));
    CHECK_EQ(write(fd, "12345", 5), 5);
    CHECK_EQ(size_of("s3"), 5); // one inode, all names
}

TEST(symlink_rules)
{
    char buf[64];
    SYS(symlink("target/that is not there", "l"));
    CHECK_EQ(readlink("l", buf, sizeof buf), 24);
    CHECK_EQ(readlink("l", buf, 5), 5); // cut silently
    CHECK_EQ(size_of("l"), 24);
    CHECK_ERR(readlink("l", buf, 0), EINVAL);
    CHECK_ERR(symlink("x", "l"), EEXIST);
    CHECK_ERR(symlink("", "e"), ENOENT);
    close(make("f", ""));
    CHECK_ERR(readlink("f", buf, sizeof buf), EINVAL);
    CHECK_ERR(readlink("nope", buf, sizeof buf), ENOENT);
    static char longt[4097];
    memset(longt, 'x', 4096);
    CHECK_ERR(symlink(longt, "long"), ENAMETOOLONG);
}

TEST(rename_rules)
{
    close(make("a", "A"));
    close(make("b", "BB"));
    SYS(rename("a", "c"));
    CHECK_ERR(open("a", O_RDONLY), ENOENT);
    int old = SYS(open("b", O_RDONLY));
    SYS(rename("c", "b")); // replaces
    CHECK_EQ(size_of("b"), 1);
    struct stat st;
    SYS(fstat(old, &st));
    CHECK_EQ(st.st_size, 2);
    CHECK_EQ(st.st_nlink, 0);
    SYS(link("b", "hard"));
    SYS(rename("b", "hard")); // the same inode: does nothing
    CHECK_EQ(size_of("b"), 1);
    SYS(mkdir("d", 0755));
    SYS(mkdir("e", 0755));
    CHECK_ERR(rename("b", "d"), EISDIR);
    CHECK_ERR(rename("d", "b"), ENOTDIR);
    CHECK_ERR(rename("d", "d/x"), EINVAL);
    CHECK_ERR(rename("nope", "x"), ENOENT);
    CHECK_ERR(rename("d", "."), EBUSY);
    close(make("e/x", ""));
    CHECK_ERR(rename("d", "e"), ENOTEMPTY);
    SYS(rename("e", "d")); // over an empty directory
    CHECK_EQ(size_of("d/x"), 0);
    CHECK_ERR(rename("e", "q"), ENOENT);
    SYS(rename("d/x", "x"));
    SYS(rename("d/", "dd/"));
}

TEST(rename_flags)
{
    close(make("a", "A"));
    close(make("b", "BB"));
    CHECK_ERR(renameat2(AT_FDCWD, "a", AT_FDCWD, "b", RENAME_NOREPLACE), EEXIST);
    SYS(renameat2(AT_FDCWD, "a", AT_FDCWD, "c", RENAME_NOREPLACE));
    SYS(renameat2(AT_FDCWD, "b", AT_FDCWD, "c", RENAME_EXCHANGE));
    CHECK_EQ(size_of("b"), 1);
    CHECK_EQ(size_of("c"), 2);
    CHECK_ERR(renameat2(AT_FDCWD, "b", AT_FDCWD, "nope", RENAME_EXCHANGE), ENOENT);
    CHECK_ERR(renameat2(AT_FDCWD, "b", AT_FDCWD, "c", RENAME_EXCHANGE | RENAME_NOREPLACE), EINVAL);
    CHECK_ERR(renameat2(AT_FDCWD, "b", AT_FDCWD, "c", 0x100), EINVAL);
    SYS(mkdir("d", 0755));
    SYS(renameat2(AT_FDCWD, "b", AT_FDCWD, "d", RENAME_EXCHANGE)); // kinds may differ
    CHECK_EQ(size_of("d"), 1);
}

TEST(rename_directory_moves_open_cwd)
{
    char buf[4096];
    SYS(mkdir("a", 0755));
    SYS(mkdir("b", 0755));
    SYS(mkdir("a/in", 0755));
    SYS(chdir("a/in"));
    SYS(rename("../../a/in", "../../b/out"));
    CHECK(getcwd(buf, sizeof buf));
    CHECK(strstr(buf, "/b/out"));
    close(make("f", "zz"));
    SYS(chdir("../.."));
    CHECK_EQ(size_of("b/out/f"), 2);
}

TEST(at_calls)
{
    struct stat st;
    SYS(mkdir("d", 0755));
    int d = SYS(open("d", O_RDONLY | O_DIRECTORY));
    close(SYS(openat(d, "f", O_CREAT | O_RDWR, 0600)));
    SYS(mkdirat(d, "sub", 0755));
    SYS(symlinkat("f", d, "l"));
    SYS(fstatat(d, "f", &st, 0));
    SYS(fstatat(d, "l", &st, AT_SYMLINK_NOFOLLOW));
    CHECK(S_ISLNK(st.st_mode));
    SYS(fstatat(d, "", &st, AT_EMPTY_PATH));
    CHECK(S_ISDIR(st.st_mode));
    CHECK_ERR(fstatat(d, "", &st, 0), ENOENT);
    CHECK_ERR(fstatat(999, "f", &st, 0), EBADF);
    SYS(fstatat(999, "/", &st, 0)); // an absolute path needs no directory
    int f = SYS(openat(d, "f", O_RDONLY));
    CHECK_ERR(openat(f, "x", O_RDONLY), ENOTDIR);
    SYS(renameat(d, "f", AT_FDCWD, "moved"));
    SYS(linkat(AT_FDCWD, "moved", d, "back", 0));
    SYS(faccessat(d, "back", F_OK, 0));
    SYS(unlinkat(d, "back", 0));
    SYS(unlinkat(d, "sub", AT_REMOVEDIR));
    SYS(rename("d", "gone"));
    SYS(faccessat(d, "l", F_OK, AT_SYMLINK_NOFOLLOW));
    CHECK_ERR(fstatat(d, "f", &st, 0x40000), EINVAL);
}

static int count_dir(const char *path, int *dots)
{
    DIR *d = opendir(path);
    int n = 0;
    CHECK(d);
    *dots = 0;
    for (struct dirent *e; (e = readdir(d));) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
            (*dots)++;
        else
            n++;
    }
    closedir(d);
    return n;
}

TEST(getdents_types_and_count)
{
    int dots;
    SYS(mkdir("d", 0755));
    close(make("d/file", ""));
    SYS(mkdir("d/dir", 0755));
    SYS(symlink("x", "d/link"));
    SYS(mkfifo("d/fifo", 0600));
    CHECK_EQ(count_dir("d", &dots), 4);
    CHECK_EQ(dots, 2);
    DIR *d = opendir("d");
    for (struct dirent *e; (e = readdir(d));) {
        struct stat st;
        SYS(fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW));
        if (strcmp(e->d_name, ".."))
            CHECK_EQ(e->d_ino, st.st_ino);
        CHECK(e->d_type == DT_UNKNOWN || e->d_type == IFTODT(st.st_mode));
    }
    closedir(d);
    char small[8];
    int fd = SYS(open("d", O_RDONLY));
    CHECK_ERR(syscall(SYS_getdents64, fd, small, sizeof small), EINVAL);
    CHECK_ERR(read(fd, small, 1), EISDIR);
    int f = SYS(open("d/file", O_RDONLY));
    CHECK_ERR(syscall(SYS_getdents64, f, small, sizeof small), ENOTDIR);
}

TEST(getdents_large_directory_rewind_and_seek)
{
    enum { N = 3000 };
    static char seen[N];
    char name[32];
    SYS(mkdir("d", 0755));
    for (int i = 0; i < N; i++) {
        snprintf(name, sizeof name, "d/entry-%d", i);
        close((int)SYS(open(name, O_CREAT | O_WRONLY, 0600)));
    }
    DIR *d = opendir("d");
    long mid = -1;
    char mid_name[256] = "";
    int n = 0, k;
    for (struct dirent *e; (e = readdir(d));) {
        if (sscanf(e->d_name, "entry-%d", &k) == 1) {
            CHECK_EQ(seen[k], 0);
            seen[k] = 1;
            n++;
        }
        if (n == 1000 && mid < 0) {
            mid = telldir(d);
            struct dirent *next = readdir(d);
            snprintf(mid_name, sizeof mid_name, "%s", next->d_name);
            if (sscanf(next->d_name, "entry-%d", &k) == 1) {
                seen[k] = 1;
                n++;
            }
        }
    }
    CHECK_EQ(n, N);
    seekdir(d, mid);
    CHECK_STR(readdir(d)->d_name, mid_name);
    rewinddir(d);
    n = 0;
    while (readdir(d))
        n++;
    CHECK_EQ(n, N + 2);
    closedir(d);
}

TEST(readdir_while_unlinking)
{
    enum { N = 500 };
    char name[300];
    SYS(mkdir("d", 0755));
    for (int i = 0; i < N; i++) {
        snprintf(name, sizeof name, "d/%d", i);
        close(SYS(open(name, O_CREAT | O_WRONLY, 0600)));
    }
    DIR *d = opendir("d");
    for (struct dirent *e; (e = readdir(d));)
        if (e->d_name[0] != '.')
            SYS(unlinkat(dirfd(d), e->d_name, 0));
    closedir(d);
    SYS(rmdir("d")); // nothing was missed
}

TEST(copy_file_range_works)
{
    char buf[32] = "";
    int a = make("a", "0123456789"), b = SYS(open("b", O_RDWR | O_CREAT, 0600));
    off_t in = 2, out = 1;
    CHECK_EQ(copy_file_range(a, &in, b, &out, 5, 0), 5);
    CHECK_EQ(in, 7);
    CHECK_EQ(out, 6);
    CHECK_EQ(pread(b, buf, 32, 0), 6);
    CHECK(memcmp(buf, "\00023456", 6) == 0);
    SYS(lseek(a, 8, SEEK_SET));
    CHECK_EQ(copy_file_range(a, NULL, b, NULL, 100, 0), 2);
    CHECK_EQ(copy_file_range(a, NULL, b, NULL, 100, 0), 0);
    CHECK_ERR(copy_file_range(a, NULL, b, NULL, 1, 7), EINVAL);
    int r = SYS(open("b", O_RDONLY));
    CHECK_ERR(copy_file_range(a, NULL, r, NULL, 1, 0), EBADF);
    int d = SYS(open(".", O_RDONLY));
    CHECK_ERR(copy_file_range(d, NULL, b, NULL, 1, 0), EISDIR);
}

TEST(sendfile_between_files)
{
    int a = make("a", "0123456789"), b = SYS(open("b", O_RDWR | O_CREAT, 0600));
    off_t off = 5;
    CHECK_EQ(sendfile(b, a, &off, 100), 5);
    CHECK_EQ(off, 10);
    CHECK_EQ(size_of("b"), 5);
    CHECK_ERR(sendfile(b, 999, NULL, 1), EBADF);
    int ap = SYS(open("b", O_WRONLY | O_APPEND));
    CHECK_ERR(sendfile(ap, a, NULL, 1), EINVAL);
}

TEST(openat2_resolve)
{
    SYS(mkdir("d", 0755));
    close(make("out", "x"));
    close(make("d/in", "x"));
    SYS(symlink("in", "d/l"));
    SYS(symlink("../out", "d/esc"));
    int d = SYS(open("d", O_RDONLY | O_DIRECTORY));
    struct open_how how = {.flags = O_RDONLY, .resolve = RESOLVE_BENEATH};
    close((int)SYS(syscall(SYS_openat2, d, "l", &how, sizeof how)));
    CHECK_ERR(syscall(SYS_openat2, d, "esc", &how, sizeof how), EXDEV);
    CHECK_ERR(syscall(SYS_openat2, d, "/etc", &how, sizeof how), EXDEV);
    how.resolve = RESOLVE_NO_SYMLINKS;
    CHECK_ERR(syscall(SYS_openat2, d, "l", &how, sizeof how), ELOOP);
    how.resolve = RESOLVE_IN_ROOT;
    CHECK_ERR(syscall(SYS_openat2, d, "/out", &how, sizeof how), ENOENT);
    close((int)SYS(syscall(SYS_openat2, d, "/in", &how, sizeof how)));
    how.resolve = 1 << 20;
    CHECK_ERR(syscall(SYS_openat2, d, "in", &how, sizeof how), EINVAL);
    how = (struct open_how){.flags = 1ull << 40};
    CHECK_ERR(syscall(SYS_openat2, d, "in", &how, sizeof how), EINVAL);
    CHECK_ERR(syscall(SYS_openat2, d, "in", &how, 3), EINVAL);
}

TEST(device_nodes_of_dev)
{
    char buf[64];
    int n = SYS(open("/dev/null", O_RDWR)), z = SYS(open("/dev/zero", O_RDWR)),
        u = SYS(open("/dev/urandom", O_RDONLY)), f = SYS(open("/dev/full", O_RDWR));
    CHECK_EQ(read(n, buf, 10), 0);
    CHECK_EQ(write(n, buf, 10), 10);
    memset(buf, 1, sizeof buf);
    CHECK_EQ(read(z, buf, sizeof buf), sizeof buf);
    for (size_t i = 0; i < sizeof buf; i++)
        CHECK_EQ(buf[i], 0);
    CHECK_EQ(read(u, buf, sizeof buf), sizeof buf);
    CHECK_ERR(write(f, "x", 1), ENOSPC);
    struct stat st;
    SYS(fstat(n, &st));
    CHECK(S_ISCHR(st.st_mode));
    CHECK_EQ(st.st_rdev, makedev(1, 3));
    CHECK_EQ(lseek(z, 10, SEEK_SET) >= 0, 1);
    CHECK_ERR(ioctl(n, TIOCGWINSZ, buf), ENOTTY);
}

TEST(mknod_kinds)
{
    struct stat st;
    SYS(mknod("reg", S_IFREG | 0644, 0));
    SYS(mknod("fifo", S_IFIFO | 0644, 0));
    SYS(mknod("sock", S_IFSOCK | 0644, 0));
    SYS(stat("sock", &st));
    CHECK(S_ISSOCK(st.st_mode));
    CHECK_ERR(mknod("reg", S_IFREG | 0644, 0), EEXIST);
    CHECK_ERR(mknod("dir", S_IFDIR | 0755, 0), EPERM);
    CHECK_ERR(mknod("odd", 0x3000 | 0755, 0), EINVAL);
}

TEST(fsync_family)
{
    int fd = make("f", "abc");
    SYS(fsync(fd));
    SYS(fdatasync(fd));
    SYS(syncfs(fd));
    SYS(sync_file_range(fd, 0, 3, SYNC_FILE_RANGE_WRITE));
    int p[2];
    SYS(pipe(p));
    CHECK_ERR(fsync(p[0]), EINVAL);
    sync();
    SYS(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) ? -1 : 0);
    SYS(readahead(fd, 0, 100));
}

TEST(two_processes_see_each_other)
{
    int fd = make("f", "");
    pid_t pid = fork();
    if (pid == 0) {
        int w = SYS(open("f", O_WRONLY));
        CHECK_EQ(pwrite(w, "child", 5, 0), 5);
        SYS(mkdir("made", 0755));
        _exit(0);
    }
    t_join(pid);
    char buf[8] = "";
    CHECK_EQ(pread(fd, buf, 8, 0), 5);
    CHECK_STR(buf, "child");
    SYS(rmdir("made"));
}

TEST(concurrent_appends_lose_nothing)
{
    enum { P = 4, N = 200 };
    close(make("f", ""));
    for (int p = 0; p < P; p++)
        if (fork() == 0) {
            int fd = SYS(open("f", O_WRONLY | O_APPEND));
            for (int i = 0; i < N; i++)
                CHECK_EQ(write(fd, "0123456789\n", 11), 11);
            _exit(0);
        }
    while (wait(NULL) > 0)
        ;
    CHECK_EQ(size_of("f"), P * N * 11);
}
