// SPDX-License-Identifier: Apache-2.0
#include "sentry/socket/loop.h"

#include <linux/capability.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <string.h>

#include "sentry/arena/arena.h"
#include "sentry/socket/unix.h"

#define PORT_FIRST 32768u // net.ipv4.ip_local_port_range
#define PORT_LAST 60999u
#define PRIVILEGED_PORTS 1024

// Names of these sockets among those of unix ones: no address of a guest's has family 0.
struct key {
    u16 family;
    u8 zero, v6;
    u16 protocol, port;
};

static struct loop_sock *loop_of(const struct file *f)
{
    return unix_of(f)->loop;
}

static const u8 mapped[12] = {[10] = 0xff, [11] = 0xff};
static const u8 any[16];

static bool is_v4(const u8 ip[16])
{
    return !memcmp(ip, mapped, sizeof(mapped));
}

static bool is_any(const u8 ip[16])
{
    return !memcmp(ip, any, sizeof(any)) || (is_v4(ip) && !memcmp(ip + 12, any, 4));
}

static bool is_loopback(const u8 ip[16])
{
    static const u8 one[16] = {[15] = 1};
    return is_v4(ip) ? ip[12] == 127 : !memcmp(ip, one, sizeof(one));
}

// ---- names -----------------------------------------------------------------------------------------

// -EINVAL, -EAFNOSUPPORT.
static int name_in(const struct loop_sock *s, const struct socket_name *name, struct loop_end *ret)
{
    struct sockaddr_in6 in = {0};
    memcpy(&in, name->data, min(name->size, (u32)sizeof(in)));
    *ret = (struct loop_end){.port = ntohs(in.sin6_port)}; // in the same place for both families
    if (name->size < sizeof(struct sockaddr_in))
        return -EINVAL;
    if (in.sin6_family == AF_INET) {
        struct sockaddr_in in4;
        memcpy(&in4, name->data, sizeof(in4));
        memcpy(ret->ip, mapped, sizeof(mapped));
        memcpy(ret->ip + 12, &in4.sin_addr, 4);
        return s->domain == AF_INET ? 0 : -EAFNOSUPPORT;
    }
    if (in.sin6_family != AF_INET6 || s->domain != AF_INET6)
        return -EAFNOSUPPORT;
    if (name->size < 24) // SIN6_LEN_RFC2133
        return -EINVAL;
    memcpy(ret->ip, &in.sin6_addr, 16);
    return s->v6only && is_v4(ret->ip) ? -ENETUNREACH : 0;
}

static void name_out(const struct loop_sock *s, const struct loop_end *e, struct socket_name *ret)
{
    if (s->domain == AF_INET) {
        struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(e->port)};
        memcpy(&in.sin_addr, e->ip + 12, 4);
        ret->size = sizeof(in);
        memcpy(ret->data, &in, sizeof(in));
        return;
    }
    struct sockaddr_in6 in = {.sin6_family = AF_INET6, .sin6_port = htons(e->port)};
    memcpy(&in.sin6_addr, e->ip, 16);
    ret->size = sizeof(in);
    memcpy(ret->data, &in, sizeof(in));
}

static void key_of(const struct loop_sock *s, u16 port, bool v6, struct socket_name *ret)
{
    struct key k = {.v6 = v6, .protocol = s->protocol, .port = port};
    ret->size = sizeof(k);
    memcpy(ret->data, &k, sizeof(k));
}

// The loopback address that a socket has which is bound to any.
static void own_address(bool v6, u8 ip[16])
{
    memset(ip, 0, 16);
    ip[15] = 1;
    if (v6)
        return;
    memcpy(ip, mapped, sizeof(mapped));
    ip[12] = 127;
}

// ---- binding ---------------------------------------------------------------------------------------

static int bind_port(struct unix_sock *s, u16 port, bool v6)
{
    struct socket_name key;
    key_of(s->loop, port, v6, &key);
    int r = unix_bind_name(s, key.data, key.size);
    if (!r)
        s->loop->local.port = port;
    return r;
}

static int bind_any_port(struct unix_sock *s, bool v6)
{
    static u32 next; // of this run of the sentry: where to look first
    for (u32 i = PORT_FIRST; i <= PORT_LAST; i++) {
        u32 n = __atomic_fetch_add(&next, 1, __ATOMIC_RELAXED) % (PORT_LAST - PORT_FIRST + 1);
        int r = bind_port(s, (u16)(PORT_FIRST + n), v6);
        if (r != -EADDRINUSE)
            return r;
    }
    return -EADDRINUSE;
}

static bool is_v6_key(const struct loop_sock *s, const u8 ip[16])
{
    return s->domain == AF_INET6 && !is_v4(ip);
}

static int loop_bind(struct file *f, const struct socket_name *name)
{
    struct unix_sock *s = unix_of(f);
    struct loop_sock *l = s->loop;
    struct loop_end e;
    int r = name_in(l, name, &e);
    if (r)
        return r;
    if (l->local.port)
        return -EINVAL;
    if (!is_any(e.ip) && !(is_loopback(e.ip) && __atomic_load_n(&s->net->up, __ATOMIC_RELAXED)))
        return -EADDRNOTAVAIL;
    if (e.port && e.port < PRIVILEGED_PORTS &&
        !cred_capable_in(cred_current(), s->net->head.owner, CAP_NET_BIND_SERVICE))
        return -EACCES;
    bool v6 = is_v6_key(l, e.ip);
    r = e.port ? bind_port(s, e.port, v6) : bind_any_port(s, v6);
    if (!r)
        memcpy(l->local.ip, e.ip, sizeof(e.ip));
    return r;
}

static int autobind(struct unix_sock *s, bool v6)
{
    int r = s->loop->local.port ? 0 : bind_any_port(s, v6);
    return r == -EINVAL && s->loop->local.port ? 0 : r; // by another thread meanwhile
}

static int loop_listen(struct file *f, int backlog)
{
    struct unix_sock *s = unix_of(f);
    int r = s->type == SOCK_STREAM ? autobind(s, s->loop->domain == AF_INET6) : -EOPNOTSUPP;
    return r ? r : unix_socket_ops.listen(f, backlog);
}

// ---- connecting ------------------------------------------------------------------------------------

// What is bound to a port: a socket of IPv6 has that of IPv4 too, unless it says otherwise.
static int key_for(struct unix_sock *s, const struct loop_end *to, struct socket_name *ret)
{
    struct unix_sock *found;
    bool v6 = !is_v4(to->ip);
    key_of(s->loop, to->port, v6, ret);
    if (v6)
        return 0;
    int r = unix_find_name(s, ret, &found);
    if (r == -ECONNREFUSED) {
        struct socket_name other;
        key_of(s->loop, to->port, true, &other);
        r = unix_find_name(s, &other, &found);
        if (r)
            return 0; // nobody: the caller finds out by itself
        if (!found->loop->v6only && is_any(found->loop->local.ip))
            *ret = other;
    }
    if (!r)
        unix_sock_unref(found);
    return 0;
}

static int check_route(const struct unix_sock *s, struct loop_end *to)
{
    if (is_any(to->ip)) // this host
        own_address(!is_v4(to->ip) && s->loop->domain == AF_INET6, to->ip);
    return is_loopback(to->ip) && __atomic_load_n(&s->net->up, __ATOMIC_RELAXED) ? 0 : -ENETUNREACH;
}

// The local address of a socket that goes there.
static int set_local(struct unix_sock *s, const struct loop_end *to)
{
    int r = autobind(s, !is_v4(to->ip));
    if (!r && is_any(s->loop->local.ip))
        own_address(!is_v4(to->ip), s->loop->local.ip);
    return r;
}

static int connect_dgram(struct unix_sock *s, const struct loop_end *to)
{
    int r = set_local(s, to);
    if (r)
        return r;
    s->loop->peer = *to;
    s->loop->connected = true;
    return 0;
}

static int loop_connect(struct file *f, const struct socket_name *name)
{
    struct unix_sock *s = unix_of(f);
    struct loop_end to;
    sa_family_t family = 0;
    memcpy(&family, name->data, min(name->size, (u32)sizeof(family)));
    if (name->size >= sizeof(family) && family == AF_UNSPEC) {
        s->loop->connected = false;
        return 0;
    }
    int r = name_in(s->loop, name, &to);
    if (!r)
        r = check_route(s, &to);
    if (r)
        return r;
    if (s->type == SOCK_DGRAM)
        return connect_dgram(s, &to);
    if (__atomic_load_n(&s->state, __ATOMIC_SEQ_CST) == UNIX_CONNECTED)
        return -EISCONN;
    struct socket_name key;
    r = key_for(s, &to, &key);
    if (!r)
        r = set_local(s, &to);
    if (r)
        return r;
    s->loop->peer = to;
    return unix_socket_ops.connect(f, &key);
}

int loop_make_embryo(struct unix_sock *e, const struct unix_sock *s, const struct unix_sock *l)
{
    e->loop = arena_memdup(l->loop, sizeof(*l->loop));
    if (!e->loop)
        return -ENOMEM;
    e->loop->local = s->loop->peer;
    e->loop->peer = s->loop->local;
    return 0;
}

static int loop_getname(struct file *f, bool peer, struct socket_name *ret)
{
    const struct unix_sock *s = unix_of(f);
    struct loop_end e = peer ? s->loop->peer : s->loop->local;
    bool connected = s->type == SOCK_DGRAM
                         ? s->loop->connected
                         : __atomic_load_n(&s->state, __ATOMIC_SEQ_CST) == UNIX_CONNECTED;
    if (peer && !connected)
        return -ENOTCONN;
    name_out(s->loop, &e, ret);
    return 0;
}

// ---- data ------------------------------------------------------------------------------------------

// A datagram to nobody, or to one with no room, is lost; a connected socket hears of the former later.
static long lost(struct unix_sock *s, long r, u64 size)
{
    if (r == -ECONNREFUSED && s->loop->connected)
        __atomic_store_n(&s->error, ECONNREFUSED, __ATOMIC_SEQ_CST);
    return r == -ECONNREFUSED || r == -EAGAIN || r == -EPERM ? (long)size : r;
}

static long send_dgram(struct file *f, struct unix_sock *s, struct socket_msg *m)
{
    struct loop_end to = s->loop->peer;
    u64 size = m->u->resid;
    u32 error = __atomic_exchange_n(&s->error, 0, __ATOMIC_SEQ_CST);
    if (error)
        return -(long)error;
    int r = m->name.size ? name_in(s->loop, &m->name, &to) : s->loop->connected ? 0 : -EDESTADDRREQ;
    if (!r)
        r = check_route(s, &to);
    if (!r && !to.port)
        r = -EINVAL;
    if (!r && size > 65507)
        r = -EMSGSIZE;
    if (!r)
        r = set_local(s, &to);
    if (!r)
        r = key_for(s, &to, &m->name);
    if (r)
        return r;
    m->flags |= MSG_DONTWAIT;
    return lost(s, unix_sendmsg(f, m), size);
}

static long loop_sendmsg(struct file *f, struct socket_msg *m)
{
    struct unix_sock *s = unix_of(f);
    if (m->control.file_count || m->control.has_cred)
        return -EINVAL;
    if (s->type == SOCK_DGRAM)
        return send_dgram(f, s, m);
    m->name.size = 0;
    return unix_sendmsg(f, m);
}

static long loop_recvmsg(struct file *f, struct socket_msg *m)
{
    struct unix_sock *s = unix_of(f);
    struct key k;
    long n = unix_recvmsg(f, m);
    m->control.has_cred = false;
    if (s->type == SOCK_STREAM || m->name.size != sizeof(k)) {
        m->name.size = 0;
        return n;
    }
    memcpy(&k, m->name.data, sizeof(k));
    struct loop_end from = {.port = k.port};
    own_address(k.v6 && s->loop->domain == AF_INET6, from.ip);
    name_out(s->loop, &from, &m->name);
    return n;
}

static long loop_write(struct file *f, struct uio *u, s64 *pos)
{
    struct socket_msg m = {.u = u};
    return unix_of(f)->type == SOCK_DGRAM ? loop_sendmsg(f, &m) : unix_write(f, u, pos);
}

// ---- options ---------------------------------------------------------------------------------------

// What programs set and ask of the protocols: taken, and answered by what is usual.
static const struct {
    s32 level, name, usual;
} options[] = {
    {IPPROTO_TCP, TCP_MAXSEG, 65483},    {IPPROTO_TCP, TCP_CORK, 0},
    {IPPROTO_TCP, TCP_KEEPIDLE, 7200},   {IPPROTO_TCP, TCP_KEEPINTVL, 75},
    {IPPROTO_TCP, TCP_KEEPCNT, 9},       {IPPROTO_TCP, TCP_SYNCNT, 6},
    {IPPROTO_TCP, TCP_LINGER2, 60},      {IPPROTO_TCP, TCP_DEFER_ACCEPT, 0},
    {IPPROTO_TCP, TCP_QUICKACK, 1},      {IPPROTO_TCP, TCP_USER_TIMEOUT, 0},
    {IPPROTO_TCP, TCP_FASTOPEN, 0},      {IPPROTO_TCP, TCP_NOTSENT_LOWAT, -1},
    {IPPROTO_IP, IP_TOS, 0},             {IPPROTO_IP, IP_TTL, 64},
    {IPPROTO_IP, IP_RECVERR, 0},         {IPPROTO_IP, IP_MTU_DISCOVER, 1},
    {IPPROTO_IP, IP_FREEBIND, 0},        {IPPROTO_IP, IP_PKTINFO, 0},
    {IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 0},
    {IPPROTO_IPV6, IPV6_RECVERR, 0},     {IPPROTO_IPV6, IPV6_TCLASS, 0},
    {IPPROTO_IPV6, IPV6_UNICAST_HOPS, 64}, {IPPROTO_IPV6, IPV6_RECVPKTINFO, 0},
};

static s32 usual_value(int level, int name)
{
    for (u32 i = 0; i < array_size(options); i++)
        if (options[i].level == level && options[i].name == name)
            return (s32)i;
    return -1;
}

static int loop_setsockopt(struct file *f, int level, int name, const void *value, u32 size)
{
    struct loop_sock *l = loop_of(f);
    s32 v = 0;
    if (level == SOL_SOCKET)
        return unix_socket_ops.setsockopt(f, level, name, value, size);
    if (size < 1)
        return -EINVAL;
    memcpy(&v, value, min(size, (u32)sizeof(v)));
    if (level == IPPROTO_TCP && name == TCP_NODELAY && l->protocol == IPPROTO_TCP)
        l->no_delay = v != 0;
    else if (level == IPPROTO_IPV6 && name == IPV6_V6ONLY && l->domain == AF_INET6)
        l->v6only = v != 0;
    else if (usual_value(level, name) < 0)
        return -ENOPROTOOPT;
    return 0;
}

static int loop_getsockopt(struct file *f, int level, int name, void *value, u32 *size)
{
    const struct loop_sock *l = loop_of(f);
    if (level == SOL_SOCKET && name == SO_DOMAIN)
        return socket_option_int(value, size, l->domain);
    if (level == SOL_SOCKET && name == SO_PROTOCOL)
        return socket_option_int(value, size, l->protocol);
    if (level == SOL_SOCKET && name == SO_PEERCRED)
        return -EOPNOTSUPP;
    if (level == SOL_SOCKET)
        return unix_socket_ops.getsockopt(f, level, name, value, size);
    if (level == IPPROTO_TCP && name == TCP_NODELAY)
        return socket_option_int(value, size, l->no_delay);
    if (level == IPPROTO_IPV6 && name == IPV6_V6ONLY)
        return socket_option_int(value, size, l->v6only);
    s32 i = usual_value(level, name);
    return i < 0 ? -ENOPROTOOPT : socket_option_int(value, size, options[i].usual);
}

// ---- making ----------------------------------------------------------------------------------------

int loop_socket_new(int domain, int type, int protocol, u32 flags, struct file **ret)
{
    u16 own = type == SOCK_STREAM ? IPPROTO_TCP : IPPROTO_UDP;
    if (type != SOCK_STREAM && type != SOCK_DGRAM)
        return type == SOCK_RAW ? -EPROTONOSUPPORT : -ESOCKTNOSUPPORT;
    if (protocol && protocol != own)
        return -EPROTONOSUPPORT;
    int r = unix_socket_new(type, 0, flags, ret);
    if (r)
        return r;
    struct loop_sock *l = arena_alloc(sizeof(*l));
    if (!l) {
        file_unref(*ret);
        return -ENOMEM;
    }
    l->domain = (u16)domain;
    l->protocol = own;
    if (domain == AF_INET) {
        memcpy(l->local.ip, mapped, sizeof(mapped));
        memcpy(l->peer.ip, mapped, sizeof(mapped));
    }
    unix_of(*ret)->loop = l;
    (*ret)->kind = FILE_LOOP;
    return 0;
}

static int loop_accept(struct file *f, u32 flags, struct file **ret)
{
    return unix_socket_ops.accept(f, flags, ret);
}

static int loop_shutdown(struct file *f, int how)
{
    const struct unix_sock *s = unix_of(f);
    bool connected = s->type == SOCK_DGRAM ? s->loop->connected : s->state != UNIX_OPEN;
    return connected ? unix_socket_ops.shutdown(f, how) : -ENOTCONN;
}

static void loop_release(struct file *f)
{
    unix_file_ops.release(f);
}

static u32 loop_ready(struct file *f)
{
    return unix_file_ops.ready(f);
}

static struct waitq *loop_queue(struct file *f)
{
    return unix_file_ops.queue(f);
}

static long loop_ioctl(struct file *f, u32 cmd, u64 arg)
{
    return unix_file_ops.ioctl(f, cmd, arg);
}

const struct socket_ops loop_socket_ops = {
    .domain = AF_INET,
    .bind = loop_bind,
    .listen = loop_listen,
    .connect = loop_connect,
    .accept = loop_accept,
    .getname = loop_getname,
    .sendmsg = loop_sendmsg,
    .recvmsg = loop_recvmsg,
    .shutdown = loop_shutdown,
    .setsockopt = loop_setsockopt,
    .getsockopt = loop_getsockopt,
};

const struct file_ops loop_file_ops = {
    .name = "socket",
    .release = loop_release,
    .read = unix_read,
    .write = loop_write,
    .ready = loop_ready,
    .queue = loop_queue,
    .ioctl = loop_ioctl,
};
