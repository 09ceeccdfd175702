// SPDX-License-Identifier: Apache-2.0
// One request being answered: what the operations (node_ops.c, data_ops.c) are given.
#ifndef BAILEY_GOFER_CALL_H
#define BAILEY_GOFER_CALL_H

#include "gofer/server.h"

struct call {
    struct server *server;
    const struct fmsg_parsed *req;
    struct handle *h, *h2; // of req->head.fid and fid2, checked; NULL where the operation has none
    struct fmsg_reply *reply;
    u8 *data;   // FMSG_DATA_MAX bytes for the reply's; its size goes to reply->data_size
    int ret_fd; // descriptor to send, owned; -1
};

// "17" for descriptor 17, relative to the working directory (server.h).
struct fd_name {
    char text[12];
};
struct fd_name call_fd_name(int fd);

// Each returns the reply's result: 0, a count, or a negative errno.
int call_attach(struct call *c);
int call_walk(struct call *c);
int call_close(struct call *c);
int call_getattr(struct call *c);
int call_setattr(struct call *c);
int call_open(struct call *c);
int call_create(struct call *c);
int call_tmpfile(struct call *c);
int call_mkdir(struct call *c);
int call_mknod(struct call *c);
int call_symlink(struct call *c);
int call_link(struct call *c);
int call_unlink(struct call *c);
int call_rename(struct call *c);
int call_readlink(struct call *c);
int call_connect(struct call *c);

int call_readdir(struct call *c);
int call_read(struct call *c);
int call_write(struct call *c);
int call_fsync(struct call *c);
int call_fallocate(struct call *c);
int call_seek(struct call *c);
int call_statfs(struct call *c);
int call_getxattr(struct call *c);
int call_setxattr(struct call *c);
int call_listxattr(struct call *c);
int call_removexattr(struct call *c);

#endif
