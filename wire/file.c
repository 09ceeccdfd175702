// SPDX-License-Identifier: Apache-2.0
// What a hostile peer may try here: lengths that overlap or overflow, names that climb, a message cut
// short, descriptors nobody asked for.
#include "wire/file.h"

#include <errno.h>
#include <string.h>

#include "host/fs.h"
#include "host/host.h"

enum {
    F = FMSG_SHAPE_FID,
    F2 = FMSG_SHAPE_FID2,
    N = FMSG_SHAPE_NAME,
    N2 = FMSG_SHAPE_NAME2,
    D = FMSG_SHAPE_DATA,
    X = FMSG_SHAPE_XATTR_NAME,
    W = FMSG_SHAPE_CHANGES,
};

const u8 fmsg_op_shapes[FMSG_OP_COUNT] = {
    [FMSG_NOP] = 0,
    [FMSG_CHANNEL] = 0,
    [FMSG_ATTACH] = 0,
    [FMSG_WALK] = F | N,
    [FMSG_CLOSE] = D,
    [FMSG_GETATTR] = F,
    [FMSG_SETATTR] = F | D | W,
    [FMSG_OPEN] = F,
    [FMSG_CREATE] = F | N | W,
    [FMSG_TMPFILE] = F | W,
    [FMSG_MKDIR] = F | N | W,
    [FMSG_MKNOD] = F | N | W,
    [FMSG_SYMLINK] = F | N | D | W,
    [FMSG_LINK] = F | F2 | N | W,
    [FMSG_UNLINK] = F | N | W,
    [FMSG_RENAME] = F | F2 | N | N2 | W,
    [FMSG_READLINK] = F,
    [FMSG_READDIR] = F,
    [FMSG_READ] = F,
    [FMSG_WRITE] = F | D | W,
    [FMSG_FSYNC] = F,
    [FMSG_FALLOCATE] = F | W,
    [FMSG_SEEK] = F,
    [FMSG_STATFS] = F,
    [FMSG_GETXATTR] = F | N | X,
    [FMSG_SETXATTR] = F | N | X | D | W,
    [FMSG_LISTXATTR] = F,
    [FMSG_REMOVEXATTR] = F | N | X | W,
    [FMSG_CONNECT] = F,
};

bool fmsg_name_valid(const char *name, u64 size)
{
    if (size == 0 || size > FMSG_NAME_MAX || memchr(name, 0, size) || memchr(name, '/', size))
        return false;
    return !(name[0] == '.' && (size == 1 || (size == 2 && name[1] == '.')));
}

bool fmsg_xattr_allowed(const char *name)
{
    return strncmp(name, "user.", 5) == 0 || strcmp(name, "security.capability") == 0;
}

static int take_name(const u8 *p, u32 size, bool wanted, bool xattr, char *ret)
{
    if (!wanted)
        return size ? -EINVAL : 0;
    if (size > FMSG_NAME_MAX)
        return -ENAMETOOLONG;
    memcpy(ret, p, size);
    ret[size] = 0;
    if (xattr)
        return size && !memchr(ret, 0, size) ? 0 : -EINVAL;
    return fmsg_name_valid(ret, size) ? 0 : -EINVAL;
}

int fmsg_request_parse(const void *buf, u64 size, struct fmsg_parsed *ret)
{
    struct fmsg_request *h = &ret->head;
    ret->name[0] = ret->name2[0] = 0;
    ret->data = NULL;
    if (size < sizeof(*h)) {
        memset(h, 0, sizeof(*h));
        return -EBADMSG;
    }
    memcpy(h, buf, sizeof(*h));
    u64 sum = sizeof(*h) + (u64)h->name_size + h->name2_size + h->data_size;
    if (h->size != size || sum != size || h->data_size > FMSG_DATA_MAX)
        return -EBADMSG;
    if (h->op >= FMSG_OP_COUNT)
        return -ENOSYS;
    u8 shape = fmsg_op_shapes[h->op];
    if (!(shape & F) != !h->fid || !(shape & F2) != !h->fid2)
        return h->fid || h->fid2 ? -EINVAL : -EBADF;
    if (!(shape & D) && h->data_size)
        return -EINVAL;
    const u8 *p = (const u8 *)buf + sizeof(*h);
    int r = take_name(p, h->name_size, shape & N, shape & X, ret->name);
    if (r == 0)
        r = take_name(p + h->name_size, h->name2_size, shape & N2, false, ret->name2);
    ret->data = p + h->name_size + h->name2_size;
    return r;
}

int fmsg_request_build(void *buf, struct fmsg_request *head, const char *name, const char *name2,
                       const void *data, u64 data_size)
{
    u64 n1 = name ? strlen(name) : 0, n2 = name2 ? strlen(name2) : 0;
    if (n1 > FMSG_NAME_MAX || n2 > FMSG_NAME_MAX)
        return -ENAMETOOLONG;
    if (data_size > FMSG_DATA_MAX)
        return -E2BIG;
    head->name_size = (u16)n1;
    head->name2_size = (u16)n2;
    head->data_size = (u32)data_size;
    head->size = (u32)(sizeof(*head) + n1 + n2 + data_size);
    u8 *p = buf;
    memcpy(p, head, sizeof(*head));
    p += sizeof(*head);
    // Names go without their NUL.
    if (n1)
        memcpy(p, name, n1); // NOLINT(bugprone-not-null-terminated-result)
    if (n2)
        memcpy(p + n1, name2, n2); // NOLINT(bugprone-not-null-terminated-result)
    if (data_size)
        memcpy(p + n1 + n2, data, data_size);
    return (int)head->size;
}

int fmsg_reply_parse(const void *buf, u64 size, struct fmsg_reply *ret, const u8 **ret_data)
{
    if (size < sizeof(*ret))
        return -EBADMSG;
    memcpy(ret, buf, sizeof(*ret));
    if (ret->size != size || ret->data_size > FMSG_DATA_MAX ||
        sizeof(*ret) + ret->data_size != size || ret->result < -4095)
        return -EBADMSG;
    *ret_data = (const u8 *)buf + sizeof(*ret);
    return 0;
}

union fd_control {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int))];
};

int fmsg_send(int sock, const void *head, u64 head_size, const void *data, u64 data_size, int fd)
{
    union fd_control control = {0};
    struct iovec iov[2] = {{(void *)head, head_size}, {(void *)data, data_size}};
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = data_size ? 2 : 1};
    if (fd >= 0) {
        msg.msg_control = control.bytes;
        msg.msg_controllen = sizeof(control.bytes);
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &fd, sizeof(int));
    }
    long n;
    do {
        n = host_sendmsg(sock, &msg, 0);
    } while (n == -EINTR);
    return n < 0 ? (int)n : 0;
}

int fmsg_recv(int sock, void *buf, u64 size, int *ret_fd)
{
    union fd_control control;
    struct iovec iov = {buf, size};
    struct msghdr msg = {
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = CMSG_LEN(sizeof(int)), // room for one: a second is truncated away
    };
    int fd = -1;
    long n;
    do {
        n = host_recvmsg(sock, &msg, 0);
    } while (n == -EINTR);
    if (n < 0)
        return (int)n;
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS &&
        c->cmsg_len == CMSG_LEN(sizeof(int)))
        memcpy(&fd, CMSG_DATA(c), sizeof(int));
    if (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
        if (fd >= 0)
            host_close(fd);
        return -EBADMSG;
    }
    *ret_fd = fd;
    return (int)n;
}
