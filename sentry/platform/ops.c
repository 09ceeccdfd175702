// SPDX-License-Identifier: Apache-2.0
// Operations on a stub's descriptors and mappings: queued here, carried out by the stub on its way into
// the guest. Descriptors go by a socket of the address space's own, which its stub is given at first need
// (notify.c); each address space can only ever take what was sent to itself.
#include <stdlib.h>
#include <string.h>

#include "host/host.h"
#include "host/fs.h"
#include "host/socket.h"
#include "sentry/platform/internal.h"

#define OPS_QUEUED_MAX (1u << 20)
#define OPS_KEPT 256 // queues longer than this are given back when they are empty

static bool range_ok(u64 addr, u64 size)
{
    return !((addr | size) & ~PAGE_MASK) && size && addr < PLATFORM_GUEST_TOP &&
           size <= PLATFORM_GUEST_TOP - addr;
}

// Joins an operation to the last one if the two are one.
static bool op_merge(struct stub_op *last, const struct stub_op *op)
{
    if (last->kind == OP_FDS && op->kind == OP_FDS) {
        last->size += op->size;
        return true;
    }
    if (last->kind != op->kind || last->addr + last->size != op->addr || last->prot != op->prot)
        return false;
    switch (op->kind) {
    case OP_MAP:
        if (last->slot != op->slot || last->flags != op->flags || last->off + last->size != op->off)
            return false;
        break;
    case OP_UNMAP:
    case OP_PROTECT:
        break;
    default:
        return false;
    }
    last->size += op->size;
    return true;
}

static int op_reserve(struct pt_space *s)
{
    if (s->op_count < s->op_capacity)
        return 0;
    u32 capacity = max(16u, s->op_capacity * 2);
    struct stub_op *ops = capacity > OPS_QUEUED_MAX ? NULL : realloc(s->ops, capacity * sizeof(*ops));
    if (!ops)
        return -ENOMEM;
    s->ops = ops;
    s->op_capacity = capacity;
    return 0;
}

static int op_append(struct pt_space *s, const struct stub_op *op)
{
    if (s->op_count && op_merge(&s->ops[s->op_count - 1], op))
        return 0;
    int r = op_reserve(s);
    if (r < 0)
        return r;
    s->ops[s->op_count] = *op;
    __atomic_store_n(&s->op_count, s->op_count + 1, __ATOMIC_RELEASE);
    return 0;
}

static int op_queue(u32 as, const struct stub_op *op)
{
    struct pt_space *s = pt_space_get(as);
    if (!s)
        return -ESRCH;
    mutex_lock_nested(&s->lock, RANK_LEAF);
    int r = op_append(s, op);
    mutex_unlock(&s->lock);
    return r;
}

// The pair of sockets; the stub gets its end with the next list of operations.
static int socket_make(struct pt_space *s)
{
    int pair[2];
    int r = host_socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair);
    if (r < 0)
        return r;
    s->socket = pair[0];
    s->stub_socket = pair[1];
    return 0;
}

// Sends one descriptor and its slot; the stub takes them from the socket in order.
static int fd_send(struct pt_space *s, int slot, int host_fd)
{
    struct iovec iov = {&slot, sizeof(slot)};
    union {
        struct cmsghdr head;
        u8 room[CMSG_SPACE(sizeof(int))];
    } control = {.head = {.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
    struct msghdr msg = {
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = &control,
        .msg_controllen = sizeof(control),
    };
    __builtin_memcpy(CMSG_DATA(&control.head), &host_fd, sizeof(host_fd));
    int r = s->socket < 0 ? socket_make(s) : 0;
    if (r < 0)
        return r;
    long sent = host_sendmsg(s->socket, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
    return sent == -EAGAIN || sent == -ETOOMANYREFS ? -ENOMEM : sent < 0 ? (int)sent : 0;
}

int platform_as_set_fd(u32 as, int slot, int host_fd)
{
    struct pt_space *s = pt_space_get(as);
    if (slot < PLATFORM_SLOT_FIRST || slot >= PLATFORM_SLOT_MAX)
        return -EBADF;
    if (!s)
        return -ESRCH;
    mutex_lock_nested(&s->lock, RANK_LEAF);
    int r = op_reserve(s);
    if (r == 0)
        r = fd_send(s, slot, host_fd);
    if (r == 0)
        r = op_append(s, &(struct stub_op){.kind = OP_FDS, .size = 1});
    mutex_unlock(&s->lock);
    return r;
}

int platform_as_clear_fd(u32 as, int slot)
{
    if (slot < PLATFORM_SLOT_FIRST || slot >= PLATFORM_SLOT_MAX)
        return -EBADF;
    return op_queue(as, &(struct stub_op){.kind = OP_CLOSE, .slot = slot});
}

int platform_as_set_name(u32 as, const char *name)
{
    struct stub_op op = {.kind = OP_NAME};
    u64 words[2] = {0};
    memcpy(words, name, strnlen(name, sizeof(words) - 1));
    op.addr = words[0];
    op.size = words[1];
    return op_queue(as, &op);
}

int platform_as_map(u32 as, u64 addr, u64 size, u32 prot, int slot, u64 off, bool is_private)
{
    if (!range_ok(addr, size) || off & ~PAGE_MASK)
        return -EINVAL;
    if (slot < PLATFORM_SLOT_FIRST || slot >= PLATFORM_SLOT_MAX)
        return -EBADF;
    return op_queue(as, &(struct stub_op){
                            .kind = OP_MAP,
                            .slot = slot,
                            .addr = addr,
                            .size = size,
                            .off = off,
                            .prot = prot & (PROT_READ | PROT_WRITE | PROT_EXEC),
                            .flags = is_private ? MAP_PRIVATE : MAP_SHARED,
                        });
}

int platform_as_fill(u32 as, u64 addr, u64 size, int slot)
{
    if (!range_ok(addr, size))
        return -EINVAL;
    if (slot < PLATFORM_SLOT_FIRST || slot >= PLATFORM_SLOT_MAX)
        return -EBADF;
    return op_queue(as, &(struct stub_op){.kind = OP_MAP, .slot = slot, .addr = addr, .size = size,
                                          .prot = PROT_READ | PROT_WRITE,
                                          .flags = MAP_PRIVATE | MAP_POPULATE});
}

int platform_as_unmap(u32 as, u64 addr, u64 size)
{
    if (!range_ok(addr, size))
        return -EINVAL;
    return op_queue(as, &(struct stub_op){.kind = OP_UNMAP, .addr = addr, .size = size});
}

int platform_as_protect(u32 as, u64 addr, u64 size, u32 prot)
{
    if (!range_ok(addr, size))
        return -EINVAL;
    return op_queue(as, &(struct stub_op){.kind = OP_PROTECT,
                                          .addr = addr,
                                          .size = size,
                                          .prot = prot & (PROT_READ | PROT_WRITE | PROT_EXEC)});
}

int platform_as_move(u32 as, u64 addr, u64 size, u64 new_addr)
{
    if (!range_ok(addr, size) || !range_ok(new_addr, size))
        return -EINVAL;
    return op_queue(as, &(struct stub_op){
                            .kind = OP_MOVE, .addr = addr, .size = size, .off = new_addr});
}

u32 platform_as_pending(u32 as)
{
    struct pt_space *s = pt_space_get(as);
    return s ? __atomic_load_n(&s->op_count, __ATOMIC_ACQUIRE) : 0;
}

void pt_ops_drop(struct pt_space *s)
{
    __atomic_store_n(&s->op_count, 0, __ATOMIC_RELEASE);
    // Descriptors on their way would be taken for later ones.
    if (s->socket >= 0)
        host_close(s->socket);
    if (s->stub_socket >= 0)
        host_close(s->stub_socket);
    s->socket = s->stub_socket = -1;
}

int pt_ops_load(struct pt_thread *t, struct pt_expect *e)
{
    struct pt_space *s = t->space;
    struct stub_op *ops = (struct stub_op *)((u8 *)t->ctx + CTX_OPS);
    u32 at = 0;

    *e = (struct pt_expect){.kind = 0};
    mutex_lock_nested(&s->lock, RANK_LEAF);
    if (s->stub_socket >= 0) {
        ops[at++] = (struct stub_op){.kind = OP_SOCKET};
        *e = (struct pt_expect){.kind = STUB_ANNOUNCE_SOCKET, .tid = t->tid, .fd = s->stub_socket};
        s->stub_socket = -1;
    }
    u32 n = min(s->op_count, STUB_OPS_MAX - at), left = s->op_count - n;
    if (n) { // s->ops may be NULL otherwise
        __builtin_memcpy(ops + at, s->ops, n * sizeof(*ops));
        __builtin_memmove(s->ops, s->ops + n, left * sizeof(*s->ops));
    }
    __atomic_store_n(&s->op_count, left, __ATOMIC_RELEASE);
    if (!left && s->op_capacity > OPS_KEPT) {
        free(s->ops);
        s->ops = NULL;
        s->op_capacity = 0;
    }
    mutex_unlock(&s->lock);
    t->ctx->op_count = at + n;
    if (e->kind)
        pt_expect_add(e);
    return (int)left;
}

void pt_ops_unload(struct pt_expect *e)
{
    if (!e->kind)
        return;
    pt_expect_remove(e);
    host_close(e->fd);
    e->kind = 0;
}

// What failed, as far as the stub can be believed: the index is checked, the operation comes from the
// context, so that its address is bounded by the caller's own checks alone.
static void op_failure(struct pt_thread *t, struct platform_event *ret)
{
    const struct stub_op *ops = (const struct stub_op *)((u8 *)t->ctx + CTX_OPS);
    u32 i = __atomic_load_n(&t->ctx->op_done, __ATOMIC_RELAXED);
    s32 r = __atomic_load_n(&t->ctx->result, __ATOMIC_RELAXED);

    *ret = (struct platform_event){.kind = PLATFORM_OPS_FAILED, .error = r < 0 && r > -4096 ? r : -EIO};
    if (i < STUB_OPS_MAX) {
        ret->addr = __atomic_load_n(&ops[i].addr, __ATOMIC_RELAXED);
        ret->size = __atomic_load_n(&ops[i].size, __ATOMIC_RELAXED);
    }
}

int pt_ops_result(struct pt_thread *t, u32 event, struct platform_event *ret)
{
    if (event == EVENT_DONE)
        return 0;
    if (event == EVENT_OPS_FAILED) {
        op_failure(t, ret);
        mutex_lock_nested(&t->space->lock, RANK_LEAF);
        pt_ops_drop(t->space);
        mutex_unlock(&t->space->lock);
        return ret->error;
    }
    pt_kill(t->space);
    *ret = (struct platform_event){.kind = PLATFORM_DEAD};
    return -ESRCH;
}

static int flush(struct pt_thread *t, bool all, struct platform_event *ret)
{
    while (__atomic_load_n(&t->space->op_count, __ATOMIC_ACQUIRE) > (all ? 0 : STUB_OPS_MAX - 1)) {
        struct pt_expect expect;
        int r = pt_ops_load(t, &expect);
        if (r < 0) {
            *ret = (struct platform_event){.kind = PLATFORM_OPS_FAILED, .error = r};
            return r;
        }
        u32 event = pt_order(t, ORDER_COMMIT, 0, true, expect.kind ? &expect : NULL);
        pt_ops_unload(&expect);
        r = pt_ops_result(t, event, ret);
        if (r < 0)
            return r;
    }
    return 0;
}

bool pt_ops_ordered(const struct pt_space *s)
{
    return __atomic_load_n(&s->thread_count, __ATOMIC_RELAXED) > 1;
}

int pt_ops_flush(struct pt_thread *t, bool all, struct platform_event *ret)
{
    if (!pt_ops_ordered(t->space))
        return flush(t, all, ret);
    // A list may use descriptors that the one before it installs: no thread may overtake another.
    mutex_lock_nested(&t->space->order_lock, RANK_LEAF);
    int r = flush(t, true, ret);
    mutex_unlock(&t->space->order_lock);
    return r;
}

int platform_as_commit(u32 as, u32 thread)
{
    struct pt_space *s = pt_space_get(as);
    struct pt_thread *t = pt_thread_get(thread);
    struct platform_event event;
    if (!s || !t || t->space != s)
        return -ESRCH;
    return pt_ops_flush(t, true, &event);
}
