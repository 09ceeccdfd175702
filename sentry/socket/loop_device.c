// SPDX-License-Identifier: Apache-2.0
// The loopback interface of a namespace of a guest's, as netdevice(7) and /proc/net tell of it.
#include <linux/capability.h>
#include <linux/if.h>
#include <linux/if_arp.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <string.h>

#include "sentry/mm/usercopy.h"
#include "sentry/socket/loop.h"

#define LO_INDEX 1
#define LO_MTU 65536

static bool is_up(const struct net_ns *n)
{
    return __atomic_load_n(&n->up, __ATOMIC_RELAXED);
}

static void put_ip(struct sockaddr *to, u32 ip)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(ip)};
    memcpy(to, &in, sizeof(in));
}

int loop_ask(struct net_ns *n, u32 cmd, struct ifreq *q)
{
    bool up = is_up(n);
    if (cmd == SIOCGIFNAME) {
        if (q->ifr_ifindex != LO_INDEX)
            return -ENODEV;
        strcpy(q->ifr_name, "lo");
        return 0;
    }
    q->ifr_name[sizeof(q->ifr_name) - 1] = 0;
    if (strcmp(q->ifr_name, "lo"))
        return -ENODEV;
    switch (cmd) {
    case SIOCGIFINDEX:
        q->ifr_ifindex = LO_INDEX;
        return 0;
    case SIOCGIFFLAGS:
        q->ifr_flags = (short)(IFF_LOOPBACK | (up ? IFF_UP | IFF_RUNNING : 0));
        return 0;
    case SIOCGIFMTU:
        q->ifr_mtu = LO_MTU;
        return 0;
    case SIOCGIFMETRIC:
        q->ifr_metric = 0;
        return 0;
    case SIOCGIFTXQLEN:
        q->ifr_qlen = 1000;
        return 0;
    case SIOCGIFMAP:
        memset(&q->ifr_map, 0, sizeof(q->ifr_map));
        return 0;
    case SIOCGIFHWADDR:
        memset(&q->ifr_hwaddr, 0, sizeof(q->ifr_hwaddr));
        q->ifr_hwaddr.sa_family = ARPHRD_LOOPBACK;
        return 0;
    case SIOCGIFADDR:
    case SIOCGIFDSTADDR:
    case SIOCGIFBRDADDR:
        put_ip(&q->ifr_addr, cmd == SIOCGIFBRDADDR ? 0 : INADDR_LOOPBACK);
        return up ? 0 : -EADDRNOTAVAIL;
    case SIOCGIFNETMASK:
        put_ip(&q->ifr_addr, 0xff000000u);
        return up ? 0 : -EADDRNOTAVAIL;
    default:
        return -EOPNOTSUPP;
    }
}

static long interface_list(struct net_ns *n, u64 arg)
{
    struct ifconf c;
    struct ifreq q = {.ifr_name = "lo"};
    int r = copy_in(&c, uaddr(arg), sizeof(c));
    if (r)
        return r;
    bool any = !loop_ask(n, SIOCGIFADDR, &q);
    struct uaddr out = uaddr((u64)c.ifc_buf);
    int size = any ? (int)sizeof(q) : 0;
    if (!uaddr_is_null(out)) {
        size = c.ifc_len < size ? 0 : size;
        r = size ? copy_out(out, &q, sizeof(q)) : 0;
    }
    c.ifc_len = size;
    return r ? r : copy_out(uaddr(arg), &c, sizeof(c));
}

long loop_interface_ioctl(struct net_ns *n, u32 cmd, u64 arg)
{
    struct ifreq q;
    if ((cmd & ~0xffu) != 0x8900)
        return -ENOTTY;
    if (cmd == SIOCGIFCONF)
        return interface_list(n, arg);
    if (cmd == SIOCBRADDBR || cmd == SIOCBRDELBR)
        return -ENOPKG; // as of a kernel without bridges
    if (copy_in(&q, uaddr(arg), sizeof(q)))
        return -EFAULT;
    if (cmd == SIOCSIFFLAGS) {
        if (!cred_capable_in(cred_current(), n->head.owner, CAP_NET_ADMIN))
            return -EPERM;
        short flags = q.ifr_flags;
        int r = loop_ask(n, SIOCGIFINDEX, &q);
        if (!r)
            __atomic_store_n(&n->up, flags & IFF_UP ? 1u : 0u, __ATOMIC_RELAXED);
        return r;
    }
    int r = loop_ask(n, cmd, &q);
    return r ? r : copy_out(uaddr(arg), &q, sizeof(q));
}

// ---- /proc/net -------------------------------------------------------------------------------------

#define SOCKETS                                                                                    \
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
#define SOCKETS6                                                                                   \
    "  sl  local_address                         remote_address                        st tx_queue " \
    "rx_queue tr tm->when retrnsmt   uid  timeout inode\n"

const char *loop_proc_text(const struct net_ns *n, const char *name)
{
    static const struct {
        const char *name, *text;
    } files[] = {
        {"dev", "Inter-|   Receive                                                |  Transmit\n"
                " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets "
                "errs drop fifo colls carrier compressed\n"
                "    lo:       0       0    0    0    0     0          0         0        0       0    "
                "0    0    0     0       0          0\n"},
        {"route", "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"},
        {"arp", "IP address       HW type     Flags       HW address            Mask     Device\n"},
        {"tcp", SOCKETS},
        {"udp", SOCKETS},
        {"raw", SOCKETS},
        {"tcp6", SOCKETS6},
        {"udp6", SOCKETS6},
        {"raw6", SOCKETS6},
    };
    if (!strcmp(name, "if_inet6"))
        return is_up(n) ? "00000000000000000000000000000001 01 80 10 80       lo\n" : "";
    for (u32 i = 0; i < array_size(files); i++)
        if (!strcmp(files[i].name, name))
            return files[i].text;
    return "";
}
