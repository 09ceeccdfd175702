// SPDX-License-Identifier: Apache-2.0
// sendmsg(2), recvmsg(2) and their kin, with control messages (cmsg(3), unix(7)).
#include <fcntl.h>
#include <linux/capability.h>
#include <string.h>

#include "sentry/arena/arena.h"
#include "sentry/fs/tty/job.h"
#include "sentry/mm/usercopy.h"
#include "sentry/socket/socket.h"
#include "sentry/syscalls/sys_socket.h"
#include "sentry/vfs/fdtable.h"

#define CONTROL_MAX 20480 // net.core.optmem_max
#define MMSG_MAX 1024     // UIO_MAXIOV
#define SCM_CRED 2        // SCM_CREDENTIALS
#define WAITFORONE 0x10000
#define RAW_ROOM 1024 // for control messages that the host gives

// As the guest has it.
struct guest_msghdr {
    u64 name;
    u32 name_size, pad;
    u64 iov, iov_count;
    u64 control, control_size;
    u32 flags, pad2;
};
_Static_assert(sizeof(struct guest_msghdr) == 56, "msghdr");

struct guest_cmsg {
    u64 size; // with this header
    s32 level, type;
};

// ---- control messages in ------------------------------------------------------------------------------

static int take_rights(struct socket_control *c, const u8 *data, u64 size)
{
    u64 count = size / sizeof(s32);
    if (!c->files) {
        c->files = arena_alloc(SOCKET_FDS_MAX * sizeof(*c->files));
        if (!c->files)
            return -ENOMEM;
    }
    if (c->file_count + count > SOCKET_FDS_MAX)
        return -EINVAL;
    for (u64 i = 0; i < count; i++) {
        s32 fd;
        memcpy(&fd, data + i * sizeof(fd), sizeof(fd));
        struct file *f = fd < 0 ? NULL : fdtable_get(fdtable_current(), fd);
        if (!f)
            return -EBADF;
        c->files[c->file_count++] = f;
    }
    return 0;
}

// Who one may claim to be.
static int take_cred(struct socket_control *ret, const u8 *data, u64 size)
{
    const struct cred *c = cred_current();
    struct socket_cred s;
    if (size != sizeof(s))
        return -EINVAL;
    memcpy(&s, data, sizeof(s));
    s.pid = job_pid_from_guest(s.pid);
    s.uid = cred_uid_from_guest(s.uid);
    s.gid = cred_gid_from_guest(s.gid);
    if (s.uid == ID_NONE || s.gid == ID_NONE)
        return -EINVAL;
    if (s.pid != job_current_pid() && !job_may_claim_pids())
        return -EPERM;
    if (s.uid != c->uid && s.uid != c->euid && s.uid != c->suid && !cred_capable_own(c, CAP_SETUID))
        return -EPERM;
    if (s.gid != c->gid && s.gid != c->egid && s.gid != c->sgid && !cred_capable_own(c, CAP_SETGID))
        return -EPERM;
    if (!s.pid)
        return -ESRCH;
    ret->cred = s;
    ret->has_cred = true;
    return 0;
}

static int parse_control(struct socket_control *c, const u8 *buf, u64 size)
{
    u64 off = 0;
    while (size - off >= sizeof(struct guest_cmsg)) {
        struct guest_cmsg h;
        memcpy(&h, buf + off, sizeof(h));
        if (h.size < sizeof(h) || h.size > size - off)
            return -EINVAL;
        const u8 *data = buf + off + sizeof(h);
        u64 data_size = h.size - sizeof(h);
        int r = 0;
        if (h.level == SOL_SOCKET) {
            if (h.type == SCM_RIGHTS)
                r = take_rights(c, data, data_size);
            else
                r = h.type == SCM_CRED ? take_cred(c, data, data_size) : -EINVAL;
        }
        if (r)
            return r;
        off += min(align_up(h.size, 8), size - off);
    }
    return 0;
}

// Sets m->raw instead for a family that takes them as they are; its memory is the caller's to free.
static int control_in(struct socket_msg *m, bool raw, u64 addr, u64 size)
{
    if (size > CONTROL_MAX)
        return -ENOBUFS;
    if (size < sizeof(struct guest_cmsg))
        return 0;
    u8 *buf = arena_alloc(size);
    if (!buf)
        return -ENOMEM;
    int r = copy_in(buf, uaddr(addr), size);
    if (!r && raw) {
        m->raw = buf;
        m->raw_size = (u32)size;
        return 0;
    }
    if (!r)
        r = parse_control(&m->control, buf, size);
    arena_free(buf);
    return r;
}

// ---- control messages out -----------------------------------------------------------------------------

struct control_out {
    u64 addr, room, used;
    u32 flags; // MSG_CTRUNC
};

static int put_header(struct control_out *o, s32 type, u64 data_size)
{
    struct guest_cmsg h = {sizeof(h) + data_size, SOL_SOCKET, type};
    return copy_out(uaddr(o->addr + o->used), &h, sizeof(h));
}

static int put_cred(struct control_out *o, const struct socket_cred *c)
{
    u64 room = o->room - o->used;
    if (room < sizeof(struct guest_cmsg)) {
        o->flags |= MSG_CTRUNC;
        return 0;
    }
    u64 size = min((u64)sizeof(*c), room - sizeof(struct guest_cmsg));
    if (size < sizeof(*c))
        o->flags |= MSG_CTRUNC;
    struct socket_cred seen = *c;
    seen.pid = job_pid_to_guest(c->pid);
    seen.uid = cred_uid_to_guest(c->uid);
    seen.gid = cred_gid_to_guest(c->gid);
    int r = put_header(o, SCM_CRED, size);
    if (!r)
        r = copy_out(uaddr(o->addr + o->used + sizeof(struct guest_cmsg)), &seen, size);
    o->used += min(align_up(sizeof(struct guest_cmsg) + size, 8), room);
    return r;
}

// Installs as many files as there is room for; the others are dropped with the control part.
static int put_rights(struct control_out *o, struct socket_control *c, bool cloexec)
{
    u64 room = o->room - o->used, data = o->addr + o->used + sizeof(struct guest_cmsg);
    u32 fit = room < sizeof(struct guest_cmsg) + sizeof(s32)
                  ? 0
                  : (u32)min((room - sizeof(struct guest_cmsg)) / sizeof(s32), (u64)c->file_count);
    u32 done = 0;
    int r = 0;

    while (done < fit && !r) {
        s32 fd = fd_install(file_ref(c->files[done]), cloexec ? O_CLOEXEC : 0);
        if (fd < 0)
            break;
        r = copy_out(uaddr(data + done * sizeof(fd)), &fd, sizeof(fd));
        done++;
    }
    if (done < c->file_count)
        o->flags |= MSG_CTRUNC;
    if (!done)
        return r;
    if (!r)
        r = put_header(o, SCM_RIGHTS, done * sizeof(s32));
    o->used += min(align_up(sizeof(struct guest_cmsg) + done * sizeof(s32), 8), room);
    return r;
}

// ---- one message ----------------------------------------------------------------------------------------

struct call {
    struct fdref ref;
    const struct socket_ops *ops;
};

static int call_begin(struct call *c, int fd)
{
    c->ref = fd_get(fd);
    if (!c->ref.file)
        return -EBADF;
    c->ops = socket_ops(c->ref.file);
    if (c->ops)
        return 0;
    fd_put(c->ref);
    return -ENOTSOCK;
}

static long do_send(struct call *c, struct socket_msg *m)
{
    return c->ops->sendmsg ? c->ops->sendmsg(c->ref.file, m) : -EOPNOTSUPP;
}

static int header_in(struct guest_msghdr *h, struct uaddr addr, struct uio *u)
{
    int r = copy_in(h, addr, sizeof(*h));
    if (r)
        return r;
    if ((s32)h->name_size < 0)
        return -EINVAL;
    if (h->iov_count > UIO_MAX)
        return -EMSGSIZE;
    return uio_init_iovec(u, uaddr(h->iov), h->iov_count);
}

static long send_one(struct call *c, struct uaddr addr, u32 flags)
{
    struct guest_msghdr h;
    struct uio u;
    struct socket_msg m = {.u = &u, .flags = flags};

    long r = header_in(&h, addr, &u);
    if (r)
        return r;
    if (h.name && h.name_size)
        r = sockname_in(&m.name, uaddr(h.name), min(h.name_size, (u32)SOCKET_NAME_MAX));
    if (!r && h.control)
        r = control_in(&m, c->ops->raw_control, h.control, h.control_size);
    if (!r)
        r = do_send(c, &m);
    socket_control_fini(&m.control);
    arena_free(m.raw);
    uio_fini(&u);
    return r;
}

// After a message was received: name, control part and flags go to the guest.
static int header_out(const struct guest_msghdr *h, struct uaddr addr, struct socket_msg *m)
{
    struct control_out o = {.addr = h->control, .room = h->control ? h->control_size : 0};
    int r = 0;

    if (h->name) {
        r = copy_out(uaddr(h->name), m->name.data, min(h->name_size, m->name.size));
        if (!r)
            r = put_u32(uaddr_add(addr, offsetof(struct guest_msghdr, name_size)), m->name.size);
    }
    if (!r && m->raw_size) {
        r = copy_out(uaddr(o.addr), m->raw, m->raw_size);
        o.used = m->raw_size;
    }
    if (!r && m->control.has_cred)
        r = put_cred(&o, &m->control.cred);
    if (!r && m->control.file_count)
        r = put_rights(&o, &m->control, m->flags & MSG_CMSG_CLOEXEC);
    if (!r)
        r = put_u32(uaddr_add(addr, offsetof(struct guest_msghdr, flags)),
                    m->ret_flags | o.flags | (m->flags & MSG_CMSG_CLOEXEC));
    if (!r)
        r = put_u64(uaddr_add(addr, offsetof(struct guest_msghdr, control_size)), o.used);
    return r;
}

static long receive_one(struct call *c, struct uaddr addr, u32 flags)
{
    struct guest_msghdr h;
    struct uio u;
    struct socket_msg m = {.u = &u, .flags = flags};
    u8 raw[RAW_ROOM];

    long r = header_in(&h, addr, &u);
    if (r)
        return r;
    if (c->ops->raw_control && h.control) {
        m.raw = raw;
        m.raw_size = (u32)min(h.control_size, (u64)RAW_ROOM);
    }
    r = c->ops->recvmsg ? c->ops->recvmsg(c->ref.file, &m) : -EOPNOTSUPP;
    if (r >= 0) {
        int err = header_out(&h, addr, &m);
        if (err)
            r = err;
    }
    socket_control_fini(&m.control);
    uio_fini(&u);
    return r;
}

// ---- the calls ------------------------------------------------------------------------------------------

long sys_sendto(struct task *t, const u64 a[6])
{
    struct uio u;
    struct socket_msg m = {.u = &u, .flags = (u32)a[3]};
    struct call c;

    long r = call_begin(&c, (int)a[0]);
    if (r)
        return r;
    if (a[4])
        r = sockname_in(&m.name, uaddr(a[4]), a[5]);
    if (!r) {
        uio_init_user(&u, uaddr(a[1]), min(a[2], 0x7ffff000ull));
        r = do_send(&c, &m);
    }
    fd_put(c.ref);
    return r;
}

long sys_recvfrom(struct task *t, const u64 a[6])
{
    struct uio u;
    struct socket_msg m = {.u = &u, .flags = (u32)a[3]};
    struct call c;

    long r = call_begin(&c, (int)a[0]);
    if (r)
        return r;
    uio_init_user(&u, uaddr(a[1]), min(a[2], 0x7ffff000ull));
    r = c.ops->recvmsg ? c.ops->recvmsg(c.ref.file, &m) : -EOPNOTSUPP;
    fd_put(c.ref);
    socket_control_fini(&m.control);
    if (r >= 0 && a[4]) {
        int err = sockname_out(&m.name, uaddr(a[4]), uaddr(a[5]));
        if (err)
            r = err;
    }
    return r;
}

long sys_sendmsg(struct task *t, const u64 a[6])
{
    struct call c;
    long r = call_begin(&c, (int)a[0]);
    if (r)
        return r;
    r = send_one(&c, uaddr(a[1]), (u32)a[2]);
    fd_put(c.ref);
    return r;
}

long sys_recvmsg(struct task *t, const u64 a[6])
{
    struct call c;
    long r = call_begin(&c, (int)a[0]);
    if (r)
        return r;
    r = receive_one(&c, uaddr(a[1]), (u32)a[2]);
    fd_put(c.ref);
    return r;
}

static struct uaddr vector_at(struct uaddr vec, u32 i)
{
    return uaddr_add(vec, i * (sizeof(struct guest_msghdr) + 8));
}

// Writes msg_len of entry i.
static int put_length(struct uaddr vec, u32 i, long n)
{
    return put_u32(uaddr_add(vector_at(vec, i), sizeof(struct guest_msghdr)), (u32)n);
}

long sys_sendmmsg(struct task *t, const u64 a[6])
{
    u32 count = min((u32)a[2], (u32)MMSG_MAX), i;
    struct call c;
    long r = call_begin(&c, (int)a[0]);
    if (r)
        return r;
    for (i = 0; i < count; i++) {
        r = send_one(&c, vector_at(uaddr(a[1]), i), (u32)a[3]);
        if (r >= 0)
            r = put_length(uaddr(a[1]), i, r);
        if (r < 0)
            break;
    }
    fd_put(c.ref);
    return i ? (long)i : r < 0 ? r : 0;
}

static int deadline_in(u64 addr, s64 *ret)
{
    s64 ts[2];
    *ret = TIME_NEVER;
    if (!addr)
        return 0;
    if (copy_in(ts, uaddr(addr), sizeof(ts)))
        return -EFAULT;
    if (ts[0] < 0 || ts[1] < 0 || ts[1] >= NSEC_PER_SEC)
        return -EINVAL;
    if (ts[0] < TIME_NEVER / NSEC_PER_SEC / 2)
        *ret = sched_now() + ts[0] * NSEC_PER_SEC + ts[1];
    return 0;
}

static int time_left_out(u64 addr, s64 deadline)
{
    if (!addr || deadline == TIME_NEVER)
        return 0;
    s64 left = max(deadline - sched_now(), (s64)0);
    s64 ts[2] = {left / NSEC_PER_SEC, left % NSEC_PER_SEC};
    return copy_out(uaddr(addr), ts, sizeof(ts));
}

// The timeout is looked at after each message only, as the man page regrets.
long sys_recvmmsg(struct task *t, const u64 a[6])
{
    u32 count = min((u32)a[2], (u32)MMSG_MAX), flags = (u32)a[3], i;
    s64 deadline;
    struct call c;
    long r = deadline_in(a[4], &deadline);
    if (!r)
        r = call_begin(&c, (int)a[0]);
    if (r)
        return r;
    for (i = 0; i < count;) {
        r = receive_one(&c, vector_at(uaddr(a[1]), i), flags & ~(u32)WAITFORONE);
        if (r >= 0)
            r = put_length(uaddr(a[1]), i, r);
        if (r < 0)
            break;
        i++;
        if (flags & WAITFORONE)
            flags |= MSG_DONTWAIT;
        if (deadline != TIME_NEVER && sched_now() >= deadline)
            break;
    }
    fd_put(c.ref);
    if (i && time_left_out(a[4], deadline))
        return -EFAULT;
    return i ? (long)i : r < 0 ? r : 0;
}
