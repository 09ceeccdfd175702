// SPDX-License-Identifier: Apache-2.0
// The file protocol between the sentry (client) and its gofer (server): one request, one reply,
// each a datagram of a SOCK_SEQPACKET unix socket (a channel). A channel carries one request at a
// time; a sentry with several threads at work asks for more channels (FMSG_CHANNEL), which share
// the handles. There is one first channel for each mount that is served. Both ends are of the same build on the same
// machine, so integers are native.
//
// A message is a fixed header followed by its variable parts, back to back, in the order in which
// the header gives their lengths. Nothing may be missing or left over. Which fields an operation
// uses is said at enum fmsg_op; the others must be zero, which the server checks for handles,
// names and data by fmsg_op_shapes.
//
// A fid is the server's handle of a file (FID of a node) or of an open file (FID of an opening).
// Zero is never a valid fid. Names are single components: 1 to 255 bytes, no '/', no NUL,
// neither "." nor "..". The receiver of a message validates all of it before use.
#ifndef BAILEY_WIRE_FILE_H
#define BAILEY_WIRE_FILE_H

#include <sys/stat.h>

#include "base/types.h"

#define FMSG_NAME_MAX 255
#define FMSG_TARGET_MAX 4095       // of a symbolic link
#define FMSG_DATA_MAX (64u * 1024) // of a read, a write, a directory page, an xattr value
#define FMSG_FDS_MAX 1             // descriptors with a message
#define FMSG_CHANNELS_MAX 8        // per mount

// `->` says what the reply carries; all replies carry a result (0 or a negative errno, or a count).
enum fmsg_op {
    FMSG_NOP = 0,     // nothing
    FMSG_CHANNEL,     // -> fd: the client's end of a new channel
    FMSG_ATTACH,      // -> fid of the root of what this channel serves, attr, flags
    FMSG_WALK,        // fid of a directory, name -> fid, attr
    FMSG_CLOSE,       // data: u32 fids[] of either kind
    FMSG_GETATTR,     // fid -> attr
    FMSG_SETATTR,     // fid, data: struct fmsg_setattr -> attr
    FMSG_OPEN,        // fid, flags: O_ACCMODE -> fd, or fid of an opening
    FMSG_CREATE,      // fid of a directory, name, flags: O_ACCMODE, mode, uid, gid -> fid, attr and fd, or fid2
    FMSG_TMPFILE,     // as FMSG_CREATE, without a name
    FMSG_MKDIR,       // fid, name, mode, uid, gid -> fid, attr
    FMSG_MKNOD,       // fid, name, mode with type, uid, gid, arg: rdev -> fid, attr
    FMSG_SYMLINK,     // fid, name, data: target, uid, gid -> fid, attr
    FMSG_LINK,        // fid of the directory, name, fid2 of the file -> attr of the file
    FMSG_UNLINK,      // fid of the directory, name, flags: 0 or AT_REMOVEDIR
    FMSG_RENAME,      // fid, name, fid2, name2, flags: RENAME_NOREPLACE or RENAME_EXCHANGE
    FMSG_READLINK,    // fid -> data
    FMSG_READDIR,     // opening of a directory, off: cookie (0: start), size -> data: linux_dirent64[]
    FMSG_READ,        // opening, off, size -> data
    FMSG_WRITE,       // opening, off, data -> count
    FMSG_FSYNC,       // opening, flags: 1 for data only
    FMSG_FALLOCATE,   // opening, off, size, flags: FALLOC_FL_*
    FMSG_SEEK,        // opening, off, flags: SEEK_DATA or SEEK_HOLE -> arg: offset
    FMSG_STATFS,      // fid -> data: struct statfs
    FMSG_GETXATTR,    // fid, name (an attribute's), size -> data
    FMSG_SETXATTR,    // fid, name, data, flags: XATTR_CREATE, XATTR_REPLACE
    FMSG_LISTXATTR,   // fid, size -> data: names, each ended by NUL
    FMSG_REMOVEXATTR, // fid, name
    FMSG_CONNECT,     // fid of a socket, arg: SOCK_STREAM, _DGRAM or _SEQPACKET -> fd, connected
    FMSG_OP_COUNT,
};

struct fmsg_request {
    u32 size; // of the message
    u32 id;   // comes back with the reply
    u16 op;
    u16 name_size, name2_size; // bytes, no NUL
    u16 pad;
    u32 data_size;
    u32 fid, fid2;
    u32 flags, mode, uid, gid; // uid, gid: ~0u leaves the owner to the host
    u32 count;                 // bytes wanted ("size" above)
    u64 off, arg;
};

enum { FMSG_REPLY_ATTR = 1, FMSG_REPLY_READONLY = 2 };

struct fmsg_reply {
    u32 size;
    u32 id;
    s32 result;
    u32 flags; // FMSG_REPLY_ATTR: `attr` is set; FMSG_REPLY_READONLY: of FMSG_ATTACH
    u32 fid, fid2;
    u32 data_size;
    u32 pad;
    u64 arg;
    struct statx attr;
};

enum {
    FMSG_SET_MODE = 1,
    FMSG_SET_UID = 2,
    FMSG_SET_GID = 4,
    FMSG_SET_SIZE = 8,
    FMSG_SET_ATIME = 16,
    FMSG_SET_MTIME = 32,
    FMSG_SET_ATIME_NOW = 64,
    FMSG_SET_MTIME_NOW = 128,
    FMSG_SET_ALL = 255,
};

struct fmsg_setattr {
    u32 valid; // FMSG_SET_*
    u32 mode, uid, gid;
    u64 size;
    s64 atime_sec, mtime_sec;
    u32 atime_nsec, mtime_nsec;
};

_Static_assert(sizeof(struct fmsg_request) == 64, "layout");
_Static_assert(sizeof(struct statx) == 256, "layout");
_Static_assert(sizeof(struct fmsg_reply) == 40 + 256, "layout");
_Static_assert(sizeof(struct fmsg_setattr) == 48, "layout");

#define FMSG_REQUEST_MAX (sizeof(struct fmsg_request) + 2 * FMSG_NAME_MAX + FMSG_DATA_MAX)
#define FMSG_REPLY_MAX (sizeof(struct fmsg_reply) + FMSG_DATA_MAX)

// What an operation's request consists of, and whether it changes the file system.
enum {
    FMSG_SHAPE_FID = 1,
    FMSG_SHAPE_FID2 = 2,
    FMSG_SHAPE_NAME = 4,
    FMSG_SHAPE_NAME2 = 8,
    FMSG_SHAPE_DATA = 16,
    FMSG_SHAPE_XATTR_NAME = 32, // the name is an attribute's: '/' and "." are allowed
    FMSG_SHAPE_CHANGES = 64,    // refused on a read-only mount
};
extern const u8 fmsg_op_shapes[FMSG_OP_COUNT];

// A request taken apart. Names are ended by NUL and are the parser's own copies.
struct fmsg_parsed {
    struct fmsg_request head;
    char name[FMSG_NAME_MAX + 1];
    char name2[FMSG_NAME_MAX + 1];
    const u8 *data; // into the buffer that was parsed; head.data_size bytes
};

// Whether `size` bytes are a name of one component, as said above.
bool fmsg_name_valid(const char *name, u64 size);

// Whether a guest may see and set the extended attribute: user.* and security.capability. The others mean
// something to the host itself (trusted.overlay.*, security labels, ACLs that nobody here checks).
bool fmsg_xattr_allowed(const char *name);

// Takes apart the request of `size` bytes at `buf` (nobody else may write there meanwhile).
// -EBADMSG: malformed framing, -ENOSYS: unknown operation, -EINVAL: parts the operation lacks or
// must not have, or a bad name; -ENAMETOOLONG. head.id is set whenever the header is whole.
must_check int fmsg_request_parse(const void *buf, u64 size, struct fmsg_parsed *ret);

// Builds a request in `buf` (FMSG_REQUEST_MAX bytes): sizes in *head are set from the parts, each of
// which may be NULL. Returns the size of the message, or -ENAMETOOLONG, -E2BIG.
must_check int fmsg_request_build(void *buf, struct fmsg_request *head, const char *name,
                                  const char *name2, const void *data, u64 data_size);

// Checks a reply of `size` bytes at `buf`: framing alone. *ret_data points into `buf`. -EBADMSG.
must_check int fmsg_reply_parse(const void *buf, u64 size, struct fmsg_reply *ret,
                                const u8 **ret_data);

// Sends one message with at most one descriptor (-1: none). -errno.
must_check int fmsg_send(int sock, const void *head, u64 head_size, const void *data, u64 data_size,
                         int fd);

// Receives one message into buf; *ret_fd is the descriptor that came with it, or -1. More than one,
// or a message larger than `size`, is -EBADMSG (what came is closed). Returns its size, 0 at the
// end of the stream, or -errno.
must_check int fmsg_recv(int sock, void *buf, u64 size, int *ret_fd);

#endif
