// SPDX-License-Identifier: Apache-2.0
// Mounts by descriptor: fsopen(2), fsconfig(2), fsmount(2), fspick(2), open_tree(2), move_mount(2), mount_setattr(2).
#include "mounts.h"

static int fs_open(const char *type)
{
    return (int)syscall(SYS_fsopen, type, FSOPEN_CLOEXEC);
}

static int config(int fd, unsigned command, const char *key, const char *value)
{
    return (int)syscall(SYS_fsconfig, fd, command, key, value, 0);
}

static int fs_mount(int fd, unsigned attr)
{
    return (int)syscall(SYS_fsmount, fd, FSMOUNT_CLOEXEC, attr);
}

static int open_tree_at(const char *path, unsigned flags)
{
    return (int)syscall(SYS_open_tree, AT_FDCWD, path, flags | OPEN_TREE_CLOEXEC);
}

static int move_to(int tree, const char *path)
{
    return (int)syscall(SYS_move_mount, tree, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH);
}

static int set_attr(int fd, const char *path, unsigned flags, uint64_t set, uint64_t clear, uint64_t propagation)
{
    struct mount_attr attr = {.attr_set = set, .attr_clr = clear, .propagation = propagation};
    return (int)syscall(SYS_mount_setattr, fd, path, flags, &attr, sizeof(attr));
}

// A detached tmpfs with a file in it.
static int detached_tmpfs(void)
{
    int fs = SYS(fs_open("tmpfs"));
    SYS(config(fs, FSCONFIG_SET_STRING, "source", "new"));
    SYS(config(fs, FSCONFIG_SET_STRING, "mode", "700"));
    SYS(config(fs, FSCONFIG_CMD_CREATE, NULL, NULL));
    int tree = SYS(fs_mount(fs, 0));
    close(fs);
    close(SYS(openat(tree, "file", O_CREAT | O_WRONLY, 0644)));
    return tree;
}

TEST(new_filesystem)
{
    struct stat st;
    setup();
    make_dirs("a");
    int tree = detached_tmpfs();
    CHECK(!is_mounted("a"));
    CHECK(fcntl(tree, F_GETFL) & O_PATH);
    SYS(move_to(tree, "a"));
    CHECK(is_mounted("a") && exists("a/file"));
    CHECK(strstr(info_of("a"), " - tmpfs new rw"));
    SYS(stat("a", &st));
    CHECK_EQ(st.st_mode & 07777, 0700);
    close(tree);
    CHECK(exists("a/file"));
    // What is attached cannot be attached twice by way of the descriptor; it is moved.
    make_dirs("b");
    tree = SYS(open_tree_at("a", 0));
    SYS(move_to(tree, "b"));
    CHECK(!is_mounted("a") && exists("b/file"));
}

TEST(config_errors)
{
    char text[200];
    setup();
    CHECK_ERR(fs_open("nonesuch"), ENODEV);
    CHECK_ERR(syscall(SYS_fsopen, "tmpfs", 0x40), EINVAL);
    int fs = SYS(fs_open("tmpfs"));
    CHECK_ERR(read(fs, text, sizeof(text)), ENODATA);
    CHECK_ERR(config(fs, FSCONFIG_SET_STRING, "nonesuch", "x"), EINVAL);
    CHECK(read(fs, text, sizeof(text)) > 0); // why
    CHECK_EQ(text[0], 'e');
    CHECK_ERR(config(fs, FSCONFIG_SET_STRING, "size", "many"), EINVAL);
    CHECK_ERR(config(fs, FSCONFIG_SET_STRING, NULL, "x"), EINVAL);
    CHECK_ERR(config(fs, FSCONFIG_SET_FLAG, "ro", "x"), EINVAL);
    CHECK_ERR(config(fs, FSCONFIG_CMD_CREATE, "x", NULL), EINVAL);
    CHECK_ERR(config(fs, 99, NULL, NULL), EOPNOTSUPP);
    CHECK_ERR(config(-1, FSCONFIG_CMD_CREATE, NULL, NULL), EINVAL);
    CHECK_ERR(config(1000, FSCONFIG_CMD_CREATE, NULL, NULL), EBADF);
    CHECK_ERR(config(0, FSCONFIG_CMD_CREATE, NULL, NULL), EINVAL);
    CHECK_ERR(fs_mount(fs, 0), EINVAL); // nothing yet
    SYS(config(fs, FSCONFIG_SET_STRING, "source", "x"));
    CHECK_ERR(config(fs, FSCONFIG_SET_STRING, "source", "y"), EINVAL);
    SYS(config(fs, FSCONFIG_CMD_CREATE, NULL, NULL));
    CHECK_ERR(config(fs, FSCONFIG_CMD_CREATE, NULL, NULL), EBUSY);
    CHECK_ERR(config(fs, FSCONFIG_SET_FLAG, "ro", NULL), EBUSY);
    CHECK_ERR(fs_mount(fs, 0x8000), EINVAL);
    close(SYS(fs_mount(fs, MOUNT_ATTR_NOSUID)));
    CHECK_ERR(fs_mount(fs, 0), EBUSY);
}

TEST(mount_attributes_and_superblocks)
{
    setup();
    make_dirs("a b");
    int fs = SYS(fs_open("tmpfs"));
    SYS(config(fs, FSCONFIG_SET_FLAG, "ro", NULL));
    SYS(config(fs, FSCONFIG_CMD_CREATE, NULL, NULL));
    int tree = SYS(fs_mount(fs, MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOATIME));
    SYS(move_to(tree, "a"));
    CHECK(has_word("a", "noexec") && has_word("a", "noatime") && !has_word("a", " ro"));
    CHECK_ERR(mkdir("a/x", 0755), EROFS);
    // The superblock is changed by what made it ...
    SYS(config(fs, FSCONFIG_SET_FLAG, "rw", NULL));
    SYS(config(fs, FSCONFIG_CMD_RECONFIGURE, NULL, NULL));
    SYS(mkdir("a/x", 0755));
    close(fs);
    // ... or by one that is mounted.
    fs = SYS(syscall(SYS_fspick, AT_FDCWD, "a", FSPICK_CLOEXEC));
    SYS(config(fs, FSCONFIG_SET_FLAG, "ro", NULL));
    SYS(config(fs, FSCONFIG_SET_STRING, "size", "64k"));
    SYS(config(fs, FSCONFIG_CMD_RECONFIGURE, NULL, NULL));
    CHECK_ERR(mkdir("a/y", 0755), EROFS);
    CHECK(strstr(info_of("a"), "size=64k"));
    CHECK_ERR(syscall(SYS_fspick, AT_FDCWD, "a/x", 0), EINVAL); // no mount
}

TEST(never_attached_goes)
{
    setup();
    int tree = detached_tmpfs();
    int fd = SYS(openat(tree, "file", O_RDONLY));
    close(tree);
    char path[64], link[PATH_MAX];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    CHECK(readlink(path, link, sizeof(link)) > 0);
    struct stat st;
    SYS(fstat(fd, &st)); // the file is still there
    CHECK_EQ(st.st_nlink, 1);
}

TEST(clone_of_a_tree)
{
    setup();
    make_dirs("a b c");
    tmpfs_at("a");
    make_dirs("a/sub");
    tmpfs_at("a/sub");
    t_write_file("a/sub/deep", "x");
    int tree = SYS(open_tree_at("a", OPEN_TREE_CLONE));
    CHECK_ERR(faccessat(tree, "sub/deep", F_OK, 0), ENOENT); // without what is mounted on it
    SYS(move_to(tree, "b"));
    CHECK(is_mounted("b") && !is_mounted("b/sub"));
    tree = SYS(open_tree_at("a", OPEN_TREE_CLONE | AT_RECURSIVE));
    SYS(faccessat(tree, "sub/deep", F_OK, 0));
    SYS(umount2("a", MNT_DETACH));
    SYS(faccessat(tree, "sub/deep", F_OK, 0));
    SYS(move_to(tree, "c"));
    CHECK(is_mounted("c/sub") && exists("c/sub/deep"));
    CHECK_ERR(syscall(SYS_open_tree, AT_FDCWD, "c", AT_RECURSIVE), EINVAL);
    CHECK_ERR(syscall(SYS_open_tree, AT_FDCWD, "c", 0x4000000), EINVAL);
}

TEST(subdirectory_as_a_tree)
{
    setup();
    make_dirs("a a/x a/x/y b");
    int tree = SYS(open_tree_at("a/x", OPEN_TREE_CLONE));
    SYS(move_to(tree, "b"));
    CHECK(exists("b/y"));
    close(tree);
    SYS(umount("b"));
    tree = SYS(open_tree_at("a/x", 0)); // no mount of its own
    CHECK_ERR(move_to(tree, "b"), EINVAL);
}

TEST(attributes)
{
    setup();
    make_dirs("a");
    tmpfs_at("a");
    make_dirs("a/sub");
    tmpfs_at("a/sub");
    SYS(set_attr(AT_FDCWD, "a", 0, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID, 0, 0));
    CHECK(has_word("a", "ro,nosuid") && !has_word("a/sub", "nosuid"));
    CHECK_ERR(mkdir("a/x", 0755), EROFS);
    SYS(mkdir("a/sub/x", 0755));
    SYS(set_attr(AT_FDCWD, "a", AT_RECURSIVE, MOUNT_ATTR_NODEV, MOUNT_ATTR_RDONLY, 0));
    CHECK(has_word("a", "rw,nosuid,nodev") && has_word("a/sub", "nodev"));
    SYS(mkdir("a/x", 0755));
    SYS(set_attr(AT_FDCWD, "a", 0, MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME, 0));
    CHECK(has_word("a", "noatime") && !has_word("a", "relatime"));
    SYS(set_attr(AT_FDCWD, "a", 0, MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME, 0));
    CHECK(has_word("a", "relatime"));
    SYS(set_attr(AT_FDCWD, "a", AT_RECURSIVE, 0, 0, MS_SHARED));
    CHECK(field_of("a", "shared:") > 0 && field_of("a/sub", "shared:") > 0);
    SYS(set_attr(AT_FDCWD, "a", 0, 0, 0, MS_PRIVATE));
    CHECK(field_of("a", "shared:") == 0 && field_of("a/sub", "shared:") > 0);
    int tree = SYS(open_tree_at("a", OPEN_TREE_CLONE | AT_RECURSIVE));
    SYS(set_attr(tree, "", AT_EMPTY_PATH | AT_RECURSIVE, MOUNT_ATTR_RDONLY, 0, 0));
    make_dirs("b");
    SYS(move_to(tree, "b"));
    CHECK_ERR(mkdir("b/sub/y", 0755), EROFS);
    SYS(mkdir("a/sub/y", 0755));
}

TEST(attribute_errors)
{
    setup();
    make_dirs("a a/b");
    tmpfs_at("a");
    make_dirs("a/b");
    struct mount_attr attr[2] = {{.attr_set = MOUNT_ATTR_RDONLY}};
    CHECK_ERR(set_attr(AT_FDCWD, "a/b", 0, MOUNT_ATTR_RDONLY, 0, 0), EINVAL); // no mount
    CHECK_ERR(set_attr(AT_FDCWD, "a", 0, 1ull << 40, 0, 0), EINVAL);
    CHECK_ERR(set_attr(AT_FDCWD, "a", 0, MOUNT_ATTR_NOATIME, 0, 0), EINVAL);
    CHECK_ERR(set_attr(AT_FDCWD, "a", 0, 0, MOUNT_ATTR_NOATIME, 0), EINVAL);
    CHECK_ERR(set_attr(AT_FDCWD, "a", 0, 0, 0, MS_SHARED | MS_PRIVATE), EINVAL);
    CHECK_ERR(set_attr(AT_FDCWD, "a", 0, 0, 0, MS_REC | MS_PRIVATE), EINVAL);
    CHECK_ERR(set_attr(AT_FDCWD, "a", 0x10000000, 0, 0, MS_PRIVATE), EINVAL);
    CHECK_ERR(syscall(SYS_mount_setattr, AT_FDCWD, "a", 0, attr, 8), EINVAL);
    CHECK_ERR(syscall(SYS_mount_setattr, AT_FDCWD, "a", 0, attr, 100000), E2BIG);
    SYS(syscall(SYS_mount_setattr, AT_FDCWD, "a", 0, attr, sizeof(attr)));
    attr[1].attr_set = 1;
    CHECK_ERR(syscall(SYS_mount_setattr, AT_FDCWD, "a", 0, attr, sizeof(attr)), E2BIG);
    SYS(set_attr(AT_FDCWD, "nonesuch", 0, 0, 0, 0)); // nothing to do is no error
}

TEST(move_errors)
{
    setup();
    make_dirs("a b");
    t_write_file("file", "x");
    int tree = detached_tmpfs();
    CHECK_ERR(move_to(tree, "nonesuch"), ENOENT);
    CHECK_ERR(move_to(tree, "file"), EINVAL);
    CHECK_ERR(syscall(SYS_move_mount, tree, "", AT_FDCWD, "a", 0), ENOENT);
    CHECK_ERR(syscall(SYS_move_mount, tree, "", AT_FDCWD, "a", 0x1000), EINVAL);
    SYS(move_to(tree, "a"));
    make_dirs("a/in");
    CHECK_ERR(move_to(tree, "a/in"), ELOOP);
}

TEST(move_onto_shared_propagates)
{
    setup();
    make_dirs("a b");
    tmpfs_at("a");
    set_type("a", MS_SHARED);
    make_dirs("a/x");
    bind_to("a", "b", 0);
    SYS(move_to(detached_tmpfs(), "a/x"));
    CHECK(exists("b/x/file"));
}

TEST(group_of_another)
{
    setup();
    make_dirs("a b a/in");
    tmpfs_at("a");
    set_type("a", MS_SHARED);
    make_dirs("a/x");
    bind_to("a", "b", 0);
    set_type("b", MS_PRIVATE);
    SYS(syscall(SYS_move_mount, AT_FDCWD, "a", AT_FDCWD, "b", MOVE_MOUNT_SET_GROUP));
    CHECK_EQ(field_of("a", "shared:"), field_of("b", "shared:"));
    tmpfs_at("a/x");
    CHECK(is_mounted("b/x"));
    CHECK_ERR(syscall(SYS_move_mount, AT_FDCWD, "a", AT_FDCWD, "b", MOVE_MOUNT_SET_GROUP), EINVAL);
    CHECK_ERR(syscall(SYS_move_mount, AT_FDCWD, "a/x", AT_FDCWD, ".", MOVE_MOUNT_SET_GROUP), EINVAL);
}

TEST(without_the_right)
{
    setup();
    make_dirs("a");
    tmpfs_at("a");
    SYS(setresuid(1000, 1000, 1000));
    CHECK_ERR(fs_open("tmpfs"), EPERM);
    CHECK_ERR(open_tree_at("a", OPEN_TREE_CLONE), EPERM);
    int tree = SYS(open_tree_at("a", 0)); // merely a path
    CHECK_ERR(move_to(tree, "a"), EPERM);
    CHECK_ERR(set_attr(AT_FDCWD, "a", 0, MOUNT_ATTR_RDONLY, 0, 0), EPERM);
    CHECK_ERR(mount("x", "a", "tmpfs", 0, NULL), EPERM);
    CHECK_ERR(umount("a"), EPERM);
}
