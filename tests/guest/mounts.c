// SPDX-License-Identifier: Apache-2.0
// Mounts, propagation and mount namespaces: mount(2), umount2(2), pivot_root(2), mount_namespaces(7).
#include <poll.h>

#include "mounts.h"

TEST(types_in_mountinfo)
{
    setup();
    make_dirs("a");
    tmpfs_at("a");
    CHECK_EQ(field_of("a", "shared:"), 0);
    set_type("a", MS_SHARED);
    CHECK(field_of("a", "shared:") > 0);
    set_type("a", MS_SLAVE); // without peers: private
    CHECK_EQ(field_of("a", "shared:"), 0);
    CHECK_EQ(field_of("a", "master:"), 0);
    set_type("a", MS_UNBINDABLE);
    CHECK(has_word("a", "unbindable"));
    set_type("a", MS_PRIVATE);
    CHECK(!has_word("a", "unbindable"));
}

TEST(type_errors)
{
    setup();
    make_dirs("a a/b");
    CHECK_ERR(mount(NULL, "a/b", NULL, MS_SHARED, NULL), EINVAL); // no mount
    tmpfs_at("a");
    CHECK_ERR(mount(NULL, "a", NULL, MS_SHARED | MS_PRIVATE, NULL), EINVAL);
    CHECK_ERR(mount(NULL, "nothing", NULL, MS_SHARED, NULL), ENOENT);
}

TEST(shared_bind_propagates)
{
    setup();
    make_dirs("a b");
    tmpfs_at("a");
    set_type("a", MS_SHARED);
    make_dirs("a/x a/y");
    bind_to("a", "b", 0);
    CHECK_EQ(field_of("a", "shared:"), field_of("b", "shared:"));
    tmpfs_at("a/x");
    CHECK(is_mounted("b/x"));
    CHECK(field_of("a/x", "shared:") > 0);
    CHECK_EQ(field_of("a/x", "shared:"), field_of("b/x", "shared:"));
    t_write_file("a/x/file", "text");
    CHECK(exists("b/x/file"));
    tmpfs_at("b/y"); // the other way round
    CHECK(is_mounted("a/y"));
    SYS(umount("b/x"));
    CHECK(!is_mounted("a/x"));
    SYS(umount("a/y"));
    CHECK(!is_mounted("b/y"));
}

TEST(slave_gets_and_does_not_give)
{
    setup();
    make_dirs("a b");
    tmpfs_at("a");
    set_type("a", MS_SHARED);
    make_dirs("a/x a/y");
    bind_to("a", "b", 0);
    set_type("b", MS_SLAVE);
    CHECK_EQ(field_of("b", "master:"), field_of("a", "shared:"));
    CHECK_EQ(field_of("b", "shared:"), 0);
    tmpfs_at("a/x");
    CHECK(is_mounted("b/x"));
    CHECK_EQ(field_of("b/x", "master:"), field_of("a/x", "shared:"));
    tmpfs_at("b/y");
    CHECK(!is_mounted("a/y"));
    SYS(umount("b/x")); // stays where it came from
    CHECK(is_mounted("a/x"));
    SYS(umount("a/x"));
    CHECK(!is_mounted("b/x"));
}

TEST(slave_and_shared_passes_on)
{
    setup();
    make_dirs("a b c");
    tmpfs_at("a");
    set_type("a", MS_SHARED);
    make_dirs("a/x a/y");
    bind_to("a", "b", 0);
    set_type("b", MS_SLAVE);
    set_type("b", MS_SHARED);
    bind_to("b", "c", 0);
    int group = field_of("b", "shared:");
    CHECK(group > 0 && group != field_of("a", "shared:"));
    CHECK_EQ(field_of("c", "shared:"), group);
    CHECK_EQ(field_of("c", "master:"), field_of("a", "shared:"));
    tmpfs_at("a/x");
    CHECK(is_mounted("b/x") && is_mounted("c/x"));
    CHECK_EQ(field_of("b/x", "shared:"), field_of("c/x", "shared:"));
    CHECK_EQ(field_of("b/x", "master:"), field_of("a/x", "shared:"));
    CHECK_EQ(field_of("c/x", "master:"), field_of("a/x", "shared:"));
    tmpfs_at("b/y");
    CHECK(is_mounted("c/y"));
    CHECK(!is_mounted("a/y"));
    SYS(umount("a/x"));
    CHECK(!is_mounted("b/x") && !is_mounted("c/x"));
}

// A shared mount, a, with a directory x, and its twin, b.
static void setup_twins(void)
{
    setup();
    make_dirs("a b");
    tmpfs_at("a");
    set_type("a", MS_SHARED);
    make_dirs("a/x");
    bind_to("a", "b", 0);
}

TEST(private_gets_nothing)
{
    setup_twins();
    set_type("b", MS_PRIVATE);
    tmpfs_at("a/x");
    CHECK(!is_mounted("b/x"));
    CHECK(field_of("a", "shared:") > 0); // alone, but shared
}

TEST(part_of_a_peer)
{
    setup();
    make_dirs("a b");
    tmpfs_at("a");
    set_type("a", MS_SHARED);
    make_dirs("a/in a/in/x a/out");
    bind_to("a/in", "b", 0);
    tmpfs_at("a/in/x");
    CHECK(is_mounted("b/x"));
    tmpfs_at("a/out"); // not within what b shows
    CHECK(is_mounted("a/out"));
    tmpfs_at("b/x");
    CHECK(is_mounted("a/in/x"));
}

TEST(tree_propagates)
{
    setup();
    make_dirs("a b t");
    tmpfs_at("a");
    set_type("a", MS_SHARED);
    make_dirs("a/x");
    bind_to("a", "b", 0);
    tmpfs_at("t");
    make_dirs("t/u");
    tmpfs_at("t/u");
    make_dirs("t/u/v");
    tmpfs_at("t/u/v");
    bind_to("t", "a/x", MS_REC);
    CHECK(is_mounted("b/x/u/v"));
    CHECK_EQ(field_of("a/x/u", "shared:"), field_of("b/x/u", "shared:"));
    CHECK_EQ(field_of("t/u", "shared:"), 0);
    SYS(umount2("b/x", MNT_DETACH));
    CHECK(!is_mounted("a/x") && !is_mounted("a/x/u") && !is_mounted("b/x/u/v"));
    CHECK(is_mounted("t/u/v"));
}

TEST(recursive_types)
{
    setup();
    make_dirs("a");
    tmpfs_at("a");
    make_dirs("a/b");
    tmpfs_at("a/b");
    set_type("a", MS_SHARED | MS_REC);
    CHECK(field_of("a", "shared:") > 0 && field_of("a/b", "shared:") > 0);
    CHECK(field_of("a", "shared:") != field_of("a/b", "shared:"));
    set_type("a", MS_PRIVATE);
    CHECK_EQ(field_of("a", "shared:"), 0);
    CHECK(field_of("a/b", "shared:") > 0);
    set_type("a", MS_PRIVATE | MS_REC);
    CHECK_EQ(field_of("a/b", "shared:"), 0);
}

TEST(unbindable)
{
    setup();
    make_dirs("a b c");
    tmpfs_at("a");
    make_dirs("a/u");
    tmpfs_at("a/u");
    set_type("a/u", MS_UNBINDABLE);
    CHECK_ERR(mount("a/u", "b", NULL, MS_BIND, NULL), EINVAL);
    bind_to("a", "b", MS_REC);
    CHECK(is_mounted("b") && !is_mounted("b/u"));
    // Onto a shared mount it cannot be moved either.
    tmpfs_at("c");
    set_type("c", MS_SHARED);
    make_dirs("c/to");
    CHECK_ERR(mount("a", "c/to", NULL, MS_MOVE, NULL), EINVAL);
}

TEST(move_onto_shared)
{
    setup();
    make_dirs("a b t");
    tmpfs_at("a");
    set_type("a", MS_SHARED);
    make_dirs("a/x");
    bind_to("a", "b", 0);
    tmpfs_at("t");
    t_write_file("t/f", "text");
    SYS(mount("t", "a/x", NULL, MS_MOVE, NULL));
    CHECK(!is_mounted("t") && exists("b/x/f"));
    CHECK(field_of("a/x", "shared:") > 0);
    // From a shared parent nothing can be moved.
    CHECK_ERR(mount("a/x", "t", NULL, MS_MOVE, NULL), EINVAL);
}

TEST(move_errors)
{
    setup();
    make_dirs("a");
    tmpfs_at("a");
    make_dirs("a/b a/c");
    tmpfs_at("a/b");
    make_dirs("a/b/in");
    CHECK_ERR(mount("a/c", "a/b", NULL, MS_MOVE, NULL), EINVAL); // no mount
    CHECK_ERR(mount("a", "a/b/in", NULL, MS_MOVE, NULL), ELOOP);
    t_write_file("a/file", "x");
    CHECK_ERR(mount("a/b", "a/file", NULL, MS_MOVE, NULL), EINVAL);
    CHECK_ERR(mount("a/b", "a/file", NULL, MS_BIND, NULL), ENOTDIR);
}

TEST(tucked_beneath)
{
    setup_twins();
    set_type("b", MS_SLAVE);
    tmpfs_at("b/x");
    t_write_file("b/x/mine", "");
    tmpfs_at("a/x");
    t_write_file("a/x/other", "");
    CHECK(exists("b/x/mine") && !exists("b/x/other")); // what was there stays on top
    SYS(umount("b/x"));
    CHECK(exists("b/x/other"));
    SYS(umount("a/x"));
    CHECK(!is_mounted("b/x"));
}

TEST(tucked_one_goes_first)
{
    setup_twins();
    set_type("b", MS_SLAVE);
    tmpfs_at("b/x");
    t_write_file("b/x/mine", "");
    tmpfs_at("a/x");
    SYS(umount("a/x"));
    CHECK(exists("b/x/mine"));
    SYS(umount("b/x"));
    CHECK(!is_mounted("b/x"));
}

TEST(busy_elsewhere)
{
    setup_twins();
    tmpfs_at("a/x");
    int fd = SYS(open("b/x", O_RDONLY));
    CHECK_ERR(umount("a/x"), EBUSY);
    close(fd);
    SYS(umount("a/x"));
    CHECK(!is_mounted("b/x"));
}

TEST(child_of_a_twin_keeps_it)
{
    setup_twins();
    set_type("b", MS_SLAVE);
    tmpfs_at("a/x");
    make_dirs("a/x/sub");
    tmpfs_at("b/x/sub"); // the slave's own
    SYS(umount("a/x"));
    CHECK(is_mounted("b/x") && is_mounted("b/x/sub"));
}

TEST(umount_errors)
{
    setup();
    make_dirs("a");
    CHECK_ERR(umount("a"), EINVAL);
    tmpfs_at("a");
    make_dirs("a/b");
    tmpfs_at("a/b");
    CHECK_ERR(umount("a"), EBUSY);
    CHECK_ERR(umount2("a", MNT_EXPIRE | MNT_DETACH), EINVAL);
    CHECK_ERR(umount2("a/b", MNT_EXPIRE), EAGAIN);
    SYS(umount2("a/b", MNT_EXPIRE));
    SYS(umount2("a", MNT_DETACH));
    CHECK_ERR(umount2("a", MNT_DETACH), EINVAL);
    CHECK_ERR(rmdir("nothing"), ENOENT);
    SYS(rmdir("a"));
}

TEST(detached_is_an_island)
{
    char buf[PATH_MAX];
    setup();
    make_dirs("a");
    tmpfs_at("a");
    make_dirs("a/d");
    SYS(chdir("a/d"));
    SYS(umount2(work, MNT_DETACH)); // all of it
    CHECK(getcwd(buf, sizeof(buf)) == NULL || strstr(buf, "unreachable") || !strcmp(buf, "/d"));
    SYS(chdir(".."));
    struct stat here, up;
    SYS(stat(".", &here));
    SYS(stat("..", &up));
    CHECK_EQ(here.st_ino, up.st_ino);
    CHECK(exists("d"));
    CHECK(mount("x", "d", "tmpfs", 0, NULL) < 0 && (errno == EINVAL || errno == ENOENT));
}

TEST(namespace_copy)
{
    setup();
    make_dirs("a");
    tmpfs_at("a");
    make_dirs("a/b a/b/c");
    tmpfs_at("a/b");
    make_dirs("a/b/deep");
    SYS(chdir("a/b/deep"));
    pid_t pid = fork();
    if (pid == 0) {
        char buf[PATH_MAX], want[PATH_MAX];
        SYS(unshare(CLONE_NEWNS));
        snprintf(want, sizeof(want), "%s/a/b/deep", work);
        CHECK(getcwd(buf, sizeof(buf)));
        CHECK_STR(buf, want);
        SYS(chdir(work));
        SYS(umount("a/b")); // what the parent holds does not keep this one busy
        CHECK(exists("a/b/c"));
        tmpfs_at("a/b/c");
        _exit(0);
    }
    t_join(pid);
    SYS(chdir(work));
    CHECK(is_mounted("a/b"));
    CHECK(!is_mounted("a/b/c"));
}

TEST(namespaces_propagate)
{
    struct t_event go, back;
    setup();
    t_event_init(&go);
    t_event_init(&back);
    make_dirs("a");
    tmpfs_at("a");
    set_type("a", MS_SHARED);
    make_dirs("a/x a/y");
    pid_t pid = fork();
    if (pid == 0) {
        SYS(unshare(CLONE_NEWNS));
        t_event_set(&back);
        t_event_wait(&go);
        CHECK(is_mounted("a/x"));
        tmpfs_at("a/y");
        set_type("a", MS_SLAVE);
        t_event_set(&back);
        t_event_wait(&go);
        CHECK(!is_mounted("a/x"));
        SYS(umount("a/y")); // no longer told of
        _exit(0);
    }
    t_event_wait(&back);
    tmpfs_at("a/x");
    t_event_set(&go);
    t_event_wait(&back);
    CHECK(is_mounted("a/y"));
    SYS(umount("a/x"));
    t_event_set(&go);
    t_join(pid);
    CHECK(is_mounted("a/y"));
}

TEST(other_namespaces_mounts)
{
    struct t_event made, done;
    setup();
    t_event_init(&made);
    t_event_init(&done);
    make_dirs("a");
    pid_t pid = fork();
    if (pid == 0) {
        SYS(unshare(CLONE_NEWNS));
        tmpfs_at("a");
        make_dirs("a/b");
        t_event_set(&made);
        t_event_wait(&done);
        _exit(0);
    }
    t_event_wait(&made);
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "/proc/%d/root%s/a", (int)pid, work);
    CHECK_ERR(mount("x", path, "tmpfs", 0, NULL), EINVAL);
    CHECK_ERR(umount(path), EINVAL);
    CHECK_ERR(mount(path, work, NULL, MS_BIND, NULL), EINVAL);
    CHECK_ERR(mount(NULL, path, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL), EINVAL);
    strcat(path, "/b/c");
    SYS(mkdir(path, 0755)); // its files are files like any other
    t_event_set(&done);
    t_join(pid);
}

TEST(removed_mount_point)
{
    struct t_event made, done;
    setup();
    t_event_init(&made);
    t_event_init(&done);
    make_dirs("a b");
    pid_t pid = fork();
    if (pid == 0) {
        SYS(unshare(CLONE_NEWNS));
        tmpfs_at("a");
        tmpfs_at("b");
        t_event_set(&made);
        t_event_wait(&done);
        CHECK(!is_mounted("a") && !exists("a"));
        CHECK(is_mounted("c")); // renamed
        _exit(0);
    }
    t_event_wait(&made);
    SYS(rmdir("a")); // a mount point only elsewhere
    SYS(rename("b", "c"));
    t_event_set(&done);
    t_join(pid);
    tmpfs_at("c");
    CHECK_ERR(rmdir("c"), EBUSY);
    CHECK_ERR(rename("c", "d"), EBUSY);
}

TEST(pivot)
{
    setup();
    make_dirs("new");
    tmpfs_at("new");
    make_dirs("new/old new/sub");
    pid_t pid = fork();
    if (pid == 0) {
        struct stat root, dot;
        SYS(unshare(CLONE_NEWNS));
        CHECK_ERR(syscall(SYS_pivot_root, "new/sub", "new/old"), EINVAL); // no mount
        SYS(chdir("new"));
        SYS(syscall(SYS_pivot_root, ".", "old"));
        SYS(chdir("/"));
        CHECK(exists("/sub") && exists("/old/proc"));
        SYS(umount2("/old", MNT_DETACH));
        CHECK(!exists("/old/proc"));
        SYS(stat("/..", &dot));
        SYS(stat("/", &root));
        CHECK_EQ(root.st_ino, dot.st_ino);
        _exit(0);
    }
    t_join(pid);
}

TEST(pivot_onto_itself)
{
    setup();
    make_dirs("new");
    tmpfs_at("new");
    make_dirs("new/sub");
    pid_t pid = fork();
    if (pid == 0) {
        SYS(unshare(CLONE_NEWNS));
        int old = SYS(open("/", O_RDONLY | O_DIRECTORY));
        SYS(chdir("new"));
        SYS(syscall(SYS_pivot_root, ".", "."));
        SYS(fchdir(old));
        SYS(umount2(".", MNT_DETACH));
        SYS(chdir("/"));
        CHECK(exists("/sub") && !exists("/proc"));
        _exit(0);
    }
    t_join(pid);
}

TEST(pivot_and_shared)
{
    setup();
    make_dirs("p");
    tmpfs_at("p");
    make_dirs("p/new");
    tmpfs_at("p/new");
    make_dirs("p/new/old");
    set_type("p", MS_SHARED); // the new root's parent
    CHECK_ERR(syscall(SYS_pivot_root, "p/new", "p/new/old"), EINVAL);
    set_type("p", MS_PRIVATE);
    set_type("p/new", MS_SHARED); // where the old one would go
    CHECK_ERR(syscall(SYS_pivot_root, "p/new", "p/new/old"), EINVAL);
}

TEST(nosymfollow)
{
    setup();
    make_dirs("a");
    SYS(mount("x", "a", "tmpfs", 256 /* MS_NOSYMFOLLOW */, NULL));
    t_write_file("a/f", "x");
    SYS(symlink("f", "a/l"));
    CHECK_ERR(open("a/l", O_RDONLY), ELOOP);
    char buf[10];
    CHECK_EQ(readlink("a/l", buf, sizeof(buf)), 1);
    CHECK(has_word("a", "nosymfollow"));
    SYS(mount(NULL, "a", NULL, MS_REMOUNT | MS_BIND, NULL));
    close(SYS(open("a/l", O_RDONLY)));
}

TEST(poll_of_mounts)
{
    setup();
    make_dirs("a");
    int fd = SYS(open("/proc/self/mounts", O_RDONLY));
    char buf[4096];
    while (SYS(read(fd, buf, sizeof(buf))) > 0)
        ;
    struct pollfd p = {fd, POLLPRI, 0};
    CHECK_EQ(poll(&p, 1, 0), 0);
    tmpfs_at("a");
    CHECK_EQ(poll(&p, 1, 10000), 1);
    CHECK(p.revents & POLLPRI);
    close(fd);
}
