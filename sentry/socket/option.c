// SPDX-License-Identifier: Apache-2.0
#include <string.h>
#include <sys/time.h>

#include "sentry/arena/arena.h"
#include "sentry/socket/socket.h"
#include "sentry/vfs/inode.h"

#include <linux/capability.h>

#define SNDBUF_MIN 4608
#define RCVBUF_MIN 2304

void socket_control_fini(struct socket_control *c)
{
    for (u32 i = 0; i < c->file_count; i++)
        file_unref(c->files[i]);
    arena_free(c->files);
    c->files = NULL;
    c->file_count = 0;
}

void socket_options_init(struct socket_options *o)
{
    *o = (struct socket_options){
        .sndbuf = SOCKET_BUF_DEFAULT, .rcvbuf = SOCKET_BUF_DEFAULT, .rcvlowat = 1};
}

s64 socket_deadline(s64 timeout)
{
    s64 r;
    if (!timeout)
        return TIME_NEVER;
    return __builtin_add_overflow(sched_now(), timeout, &r) ? TIME_NEVER : r;
}

int socket_wait_error(int r, s64 timeout)
{
    if (r == -ETIMEDOUT)
        return -EAGAIN;
    return r == -ERESTARTSYS && timeout ? -EINTR : r;
}

int socket_option_int(void *value, u32 *size, s32 v)
{
    *size = min(*size, (u32)sizeof(v));
    memcpy(value, &v, *size);
    return 0;
}

static int set_timeout(s64 *ret, const void *value, u32 size)
{
    struct timeval tv;
    if (size < sizeof(tv))
        return -EINVAL;
    memcpy(&tv, value, sizeof(tv));
    if (tv.tv_usec < 0 || tv.tv_usec >= 1000000)
        return -EDOM;
    if (tv.tv_sec < 0 || tv.tv_sec > INT32_MAX)
        *ret = tv.tv_sec < 0 ? 1 : 0;
    else
        *ret = tv.tv_sec * NSEC_PER_SEC + tv.tv_usec * 1000;
    return 0;
}

static int get_timeout(s64 timeout, void *value, u32 *size)
{
    struct timeval tv = {timeout / NSEC_PER_SEC, timeout % NSEC_PER_SEC / 1000};
    *size = min(*size, (u32)sizeof(tv));
    memcpy(value, &tv, *size);
    return 0;
}

static u32 buffer_size(s32 v, u32 lowest, bool force)
{
    u32 n = v < 0 && !force ? SOCKET_BUF_MAX : (u32)v;
    n = min(n, force ? 1u << 30 : (u32)SOCKET_BUF_MAX);
    return max(n * 2, lowest);
}

static bool *flag_of(struct socket_options *o, int name)
{
    switch (name) {
    case SO_PASSCRED:
        return &o->passcred;
    case SO_REUSEADDR:
        return &o->reuseaddr;
    case SO_REUSEPORT:
        return &o->reuseport;
    case SO_KEEPALIVE:
        return &o->keepalive;
    case SO_BROADCAST:
        return &o->broadcast;
    case SO_OOBINLINE:
        return &o->oobinline;
    case SO_TIMESTAMP:
        return &o->timestamp;
    default:
        return NULL;
    }
}

static int set_linger(struct socket_options *o, const void *value, u32 size)
{
    struct linger l;
    if (size < sizeof(l))
        return -EINVAL;
    memcpy(&l, value, sizeof(l));
    o->linger_on = l.l_onoff != 0;
    o->linger_seconds = l.l_linger;
    return 0;
}

int socket_option_set(struct socket_options *o, int name, const void *value, u32 size)
{
    bool *flag = flag_of(o, name);
    s32 v;

    if (name == SO_LINGER)
        return set_linger(o, value, size);
    if (name == SO_RCVTIMEO || name == SO_SNDTIMEO)
        return set_timeout(name == SO_RCVTIMEO ? &o->rcvtimeo : &o->sndtimeo, value, size);
    if (size < sizeof(v))
        return -EINVAL;
    memcpy(&v, value, sizeof(v));
    if (flag) {
        *flag = v != 0;
        return 0;
    }
    switch (name) {
    case SO_SNDBUFFORCE:
    case SO_RCVBUFFORCE:
        if (!cred_capable(cred_current(), CAP_NET_ADMIN))
            return -EPERM;
        if (name == SO_SNDBUFFORCE)
            o->sndbuf = buffer_size(max(v, 0), SNDBUF_MIN, true);
        else
            o->rcvbuf = buffer_size(max(v, 0), RCVBUF_MIN, true);
        return 0;
    case SO_SNDBUF:
        o->sndbuf = buffer_size(v, SNDBUF_MIN, false);
        return 0;
    case SO_RCVBUF:
        o->rcvbuf = buffer_size(v, RCVBUF_MIN, false);
        return 0;
    case SO_PRIORITY:
        o->priority = v;
        return 0;
    case SO_RCVLOWAT:
        o->rcvlowat = v < 0 ? INT32_MAX : max(v, 1);
        return 0;
    case SO_MARK:
        if (!cred_capable(cred_current(), CAP_NET_ADMIN))
            return -EPERM;
        o->mark = v;
        return 0;
    case SO_DEBUG:
    case SO_DONTROUTE:
    case SO_NO_CHECK:
    case SO_PASSSEC:
        return 0;
    case SO_TYPE:
    case SO_PROTOCOL:
    case SO_DOMAIN:
    case SO_ERROR:
    case SO_SNDLOWAT:
    default:
        return -ENOPROTOOPT;
    }
}

int socket_option_get(const struct socket_options *o, int name, void *value, u32 *size)
{
    bool *flag = flag_of((struct socket_options *)o, name);
    if (flag)
        return socket_option_int(value, size, *flag);
    switch (name) {
    case SO_LINGER: {
        struct linger l = {o->linger_on, o->linger_seconds};
        *size = min(*size, (u32)sizeof(l));
        memcpy(value, &l, *size);
        return 0;
    }
    case SO_RCVTIMEO:
        return get_timeout(o->rcvtimeo, value, size);
    case SO_SNDTIMEO:
        return get_timeout(o->sndtimeo, value, size);
    case SO_SNDBUF:
        return socket_option_int(value, size, (s32)o->sndbuf);
    case SO_RCVBUF:
        return socket_option_int(value, size, (s32)o->rcvbuf);
    case SO_PRIORITY:
        return socket_option_int(value, size, o->priority);
    case SO_RCVLOWAT:
        return socket_option_int(value, size, o->rcvlowat);
    case SO_SNDLOWAT:
        return socket_option_int(value, size, 1);
    case SO_MARK:
        return socket_option_int(value, size, o->mark);
    case SO_DEBUG:
    case SO_DONTROUTE:
    case SO_NO_CHECK:
    case SO_PASSSEC:
        return socket_option_int(value, size, 0);
    default:
        return -ENOPROTOOPT;
    }
}
