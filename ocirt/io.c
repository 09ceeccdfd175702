// SPDX-License-Identifier: Apache-2.0
// The kinds of standard streams.
#include "ocirt/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct ocirt_io {
    int child[3]; // what the command gets; one descriptor may stand at several places
    int own[3];   // pipes: the caller's ends; FIFOs: what keeps the other side open
    bool inherit, fifos;
};

static int io_new(struct ocirt_io **ret_io)
{
    struct ocirt_io *io = calloc(1, sizeof(*io));
    if (!io)
        return -ENOMEM;
    for (int i = 0; i < 3; i++)
        io->child[i] = io->own[i] = -1;
    *ret_io = io;
    return 0;
}

static int finish(struct ocirt_io *io, int r, struct ocirt_io **ret_io)
{
    if (r < 0)
        ocirt_io_free(io);
    else
        *ret_io = io;
    return r;
}

static int open_path(const char *path, int flags, int *ret_fd)
{
    *ret_fd = open(path, flags | O_CLOEXEC | O_NOCTTY, 0644);
    return *ret_fd < 0 ? -errno : 0;
}

static int open_null(struct ocirt_io *io, int i)
{
    return open_path("/dev/null", i == 0 ? O_RDONLY : O_WRONLY, &io->child[i]);
}

static int open_pipe(struct ocirt_io *io, int i, uid_t uid, gid_t gid)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    io->child[i] = ends[i != 0];
    io->own[i] = ends[i == 0];
    if ((uid != (uid_t)-1 || gid != (gid_t)-1) && fchown(io->child[i], uid, gid) < 0)
        return -errno;
    return 0;
}

int ocirt_io_new_pipes(unsigned streams, uid_t uid, gid_t gid, struct ocirt_io **ret_io)
{
    struct ocirt_io *io;
    int r = streams & ~7u ? -EINVAL : io_new(&io);
    if (r < 0)
        return r;
    for (int i = 0; i < 3 && r == 0; i++)
        r = streams & 1u << i ? open_pipe(io, i, uid, gid) : open_null(io, i);
    return finish(io, r, ret_io);
}

int ocirt_io_new_null(struct ocirt_io **ret_io)
{
    return ocirt_io_new_pipes(0, (uid_t)-1, (gid_t)-1, ret_io);
}

int ocirt_io_new_inherit(struct ocirt_io **ret_io)
{
    struct ocirt_io *io;
    int r = io_new(&io);
    if (r < 0)
        return r;
    io->inherit = true;
    for (int i = 0; i < 3; i++)
        io->child[i] = i;
    *ret_io = io;
    return 0;
}

int ocirt_io_new_files(const char *in, const char *out, const char *err, struct ocirt_io **ret_io)
{
    const char *paths[3] = {in, out, err};
    struct ocirt_io *io;
    int r = io_new(&io);
    if (r < 0)
        return r;
    for (int i = 0; i < 3 && r == 0; i++) {
        if (!paths[i])
            r = open_null(io, i);
        else if (i == 2 && out && strcmp(out, err) == 0)
            io->child[2] = io->child[1];
        else
            r = open_path(paths[i], i == 0 ? O_RDONLY : O_WRONLY | O_CREAT | O_APPEND,
                          &io->child[i]);
    }
    return finish(io, r, ret_io);
}

// A FIFO opened for both sides waits for nobody; held open, it lets the command's side be opened at
// once.
static int open_fifo(struct ocirt_io *io, int i, const char *path)
{
    struct stat st;
    if (mkfifo(path, 0600) < 0 && errno != EEXIST)
        return -errno;
    int r = open_path(path, O_RDWR | O_NONBLOCK, &io->own[i]);
    if (r == 0 && (fstat(io->own[i], &st) < 0 || !S_ISFIFO(st.st_mode)))
        r = -EINVAL;
    return r ? r : open_path(path, i == 0 ? O_RDONLY : O_WRONLY, &io->child[i]);
}

int ocirt_io_new_fifos(const char *in, const char *out, const char *err, struct ocirt_io **ret_io)
{
    const char *paths[3] = {in, out, err};
    struct ocirt_io *io;
    int r = io_new(&io);
    if (r < 0)
        return r;
    io->fifos = true;
    for (int i = 0; i < 3 && r == 0; i++)
        r = paths[i] ? open_fifo(io, i, paths[i]) : open_null(io, i);
    return finish(io, r, ret_io);
}

static int index_of(enum ocirt_stream stream)
{
    return stream == OCIRT_STDIN ? 0 : stream == OCIRT_STDOUT ? 1
                                                              : 2;
}

int ocirt_io_fd(const struct ocirt_io *io, enum ocirt_stream stream)
{
    return io->fifos ? -1 : io->own[index_of(stream)];
}

int ocirt_io_take_fd(struct ocirt_io *io, enum ocirt_stream stream)
{
    int fd = ocirt_io_fd(io, stream);
    if (fd >= 0)
        io->own[index_of(stream)] = -1;
    return fd;
}

void ocirt_io_close(struct ocirt_io *io, enum ocirt_stream stream)
{
    oi_close(&io->own[index_of(stream)]);
}

void ocirt_io_close_child(struct ocirt_io *io)
{
    if (io->inherit)
        return;
    if (io->child[2] == io->child[1])
        io->child[2] = -1;
    for (int i = 0; i < 3; i++)
        oi_close(&io->child[i]);
}

void ocirt_io_free(struct ocirt_io *io)
{
    if (!io)
        return;
    ocirt_io_close_child(io);
    for (int i = 0; i < 3; i++)
        oi_close(&io->own[i]);
    free(io);
}

const int *oi_io_child_fds(const struct ocirt_io *io)
{
    return io->child;
}
