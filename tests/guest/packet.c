// SPDX-License-Identifier: Apache-2.0
// AF_PACKET sockets (packet(7)): sending and receiving on the loopback interface, filters, rings, who may.
#include "t.h"

#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#define PROTOCOL 0x88b5 // for local experiments
#define MARK 0x6b61     // where a frame says for whom it is
#define FRAME_SIZE 64

static int lo;
static uint32_t own; // told apart from what other tests send on the same interface

static int packet_socket(int type)
{
    int s = socket(AF_PACKET, type | SOCK_CLOEXEC, 0);
    if (s < 0 && errno == EPERM)
        t_skip("not allowed here");
    CHECK(s >= 0);
    if (!lo) {
        lo = (int)if_nametoindex("lo");
        own = (uint32_t)getpid() << 12 ^ (uint32_t)t_now();
    }
    if (!lo)
        t_skip("no loopback interface");
    struct sockaddr_ll at = {.sll_family = AF_PACKET, .sll_protocol = htons(PROTOCOL), .sll_ifindex = lo};
    SYS(bind(s, (struct sockaddr *)&at, sizeof at));
    return s;
}

static void send_frame(int s, char kind)
{
    unsigned char frame[FRAME_SIZE] = {0};
    struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_ifindex = lo, .sll_halen = 6};
    frame[12] = PROTOCOL >> 8;
    frame[13] = PROTOCOL & 0xff;
    memcpy(frame + 14, &own, sizeof own);
    frame[18] = (unsigned char)kind;
    if (sendto(s, frame, sizeof frame, 0, (struct sockaddr *)&to, sizeof to) < 0 && errno == ENETDOWN)
        t_skip("the loopback interface is down");
}

// The next frame of ours that came in (not the copy that goes out): its kind.
static char next_frame(int s, unsigned char *frame, struct sockaddr_ll *from)
{
    for (;;) {
        socklen_t size = sizeof *from;
        CHECK_EQ(SYS(recvfrom(s, frame, FRAME_SIZE, 0, (struct sockaddr *)from, &size)), FRAME_SIZE);
        if (!memcmp(frame + 14, &own, sizeof own) && from->sll_pkttype != PACKET_OUTGOING)
            return (char)frame[18];
    }
}

TEST(frames)
{
    int s = packet_socket(SOCK_RAW);
    unsigned char frame[FRAME_SIZE];
    struct sockaddr_ll from;
    send_frame(s, 'a');
    CHECK_EQ(next_frame(s, frame, &from), 'a');
    CHECK_EQ(from.sll_family, AF_PACKET);
    CHECK_EQ(from.sll_ifindex, lo);
    CHECK_EQ(ntohs(from.sll_protocol), PROTOCOL);
    CHECK_EQ(from.sll_hatype, 772); // ARPHRD_LOOPBACK
    CHECK_EQ(frame[12], PROTOCOL >> 8);
    struct sockaddr_ll at;
    socklen_t size = sizeof at;
    SYS(getsockname(s, (struct sockaddr *)&at, &size));
    CHECK_EQ(at.sll_ifindex, lo);
    struct ifreq ifr = {.ifr_name = "lo"};
    SYS(ioctl(s, SIOCGIFINDEX, &ifr));
    CHECK_EQ(ifr.ifr_ifindex, lo);
}

TEST(payloads)
{
    int s = packet_socket(SOCK_DGRAM), raw = packet_socket(SOCK_RAW);
    unsigned char data[FRAME_SIZE];
    send_frame(raw, 'b');
    long n;
    do
        n = SYS(recv(s, data, sizeof data, 0));
    while (memcmp(data, &own, sizeof own) != 0);
    CHECK_EQ(n, FRAME_SIZE - ETH_HLEN);
    CHECK_EQ(data[4], 'b');
}

TEST(who_may)
{
    struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct none[2] = {{0}};
    int s = packet_socket(SOCK_RAW);
    struct sockaddr_in wrong = {.sin_family = AF_INET};
    CHECK_ERR(bind(s, (struct sockaddr *)&wrong, sizeof wrong), EINVAL);
    CHECK_ERR(listen(s, 1), EOPNOTSUPP);
    CHECK_ERR(socket(AF_PACKET, SOCK_STREAM, 0), ESOCKTNOSUPPORT);
    SYS(syscall(SYS_capset, &h, none));
    CHECK_ERR(socket(AF_PACKET, SOCK_RAW, 0), EPERM);
}

// What goes on in one network namespace is not seen in another.
TEST(other_namespaces)
{
    struct t_event ready, sent;
    int out = packet_socket(SOCK_RAW);
    t_event_init(&ready);
    t_event_init(&sent);
    pid_t pid = fork();
    if (pid == 0) {
        bool apart = unshare(CLONE_NEWNET) == 0;
        int s = apart ? socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL)) : -1;
        t_event_set(&ready);
        t_event_wait(&sent);
        unsigned char frame[FRAME_SIZE];
        if (s >= 0) // or there are none at all
            CHECK_ERR(recv(s, frame, sizeof frame, MSG_DONTWAIT), EAGAIN);
        _exit(0);
    }
    t_event_wait(&ready);
    send_frame(out, 'z');
    t_event_set(&sent);
    t_join(pid);
}

// Only frames of ours whose kind is `kind`, and of them 32 bytes.
static void attach(int s, char kind)
{
    uint32_t id = ntohl(own);
    struct sock_filter f[] = {
        BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 12),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PROTOCOL, 0, 7),
        BPF_STMT(BPF_LDX | BPF_W | BPF_IMM, 10),
        BPF_STMT(BPF_LD | BPF_W | BPF_IND, 4),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, id, 0, 4),
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, (uint32_t)SKF_NET_OFF + 4),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)kind, 0, 2),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_PKTTYPE)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PACKET_OUTGOING, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0),
        BPF_STMT(BPF_RET | BPF_K, 32),
    };
    struct sock_fprog prog = {sizeof f / sizeof f[0], f};
    SYS(setsockopt(s, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof prog));
}

TEST(filters)
{
    int s = packet_socket(SOCK_RAW), out = packet_socket(SOCK_RAW);
    unsigned char frame[FRAME_SIZE];
    attach(s, 'y');
    while (recv(s, frame, sizeof frame, MSG_DONTWAIT) >= 0)
        ;
    send_frame(out, 'n');
    struct pollfd p = {.fd = s, .events = POLLIN};
    CHECK_EQ(poll(&p, 1, 0), 0);
    CHECK_ERR(recv(s, frame, sizeof frame, MSG_DONTWAIT), EAGAIN);
    send_frame(out, 'n');
    send_frame(out, 'y');
    CHECK_EQ(SYS(poll(&p, 1, -1)), 1);
    CHECK_EQ(recv(s, frame, sizeof frame, MSG_PEEK), 32);
    memset(frame, 0, sizeof frame);
    CHECK_EQ(recv(s, frame, sizeof frame, 0), 32);
    CHECK_EQ(frame[18], 'y');
    CHECK_ERR(recv(s, frame, sizeof frame, MSG_DONTWAIT), EAGAIN);
    SYS(setsockopt(s, SOL_SOCKET, SO_DETACH_FILTER, &lo, sizeof lo));
    CHECK_ERR(setsockopt(s, SOL_SOCKET, SO_DETACH_FILTER, &lo, sizeof lo), ENOENT);
    send_frame(out, 'n');
    struct sockaddr_ll from;
    CHECK_EQ(next_frame(s, frame, &from), 'n');
}

static int attach_one(int s, struct sock_filter i)
{
    struct sock_fprog prog = {1, &i};
    return setsockopt(s, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof prog);
}

TEST(filters_that_are_none)
{
    int s = packet_socket(SOCK_RAW), one = 1;
    struct sock_fprog prog = {1, (void *)16};
    CHECK_ERR(setsockopt(s, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof prog), EFAULT);
    CHECK_ERR(setsockopt(s, SOL_SOCKET, SO_ATTACH_FILTER, &prog, 4), EINVAL);
    CHECK_ERR(attach_one(s, (struct sock_filter)BPF_STMT(BPF_LD | BPF_IMM, 1)), EINVAL);
    CHECK_ERR(attach_one(s, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JA, 1, 0, 0)), EINVAL);
    struct sock_filter div[] = {BPF_STMT(BPF_ALU | BPF_DIV | BPF_K, 0), BPF_STMT(BPF_RET | BPF_A, 0)};
    prog = (struct sock_fprog){2, div};
    CHECK_ERR(setsockopt(s, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof prog), EINVAL);
    SYS(attach_one(s, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, 0)));
    SYS(setsockopt(s, SOL_SOCKET, SO_LOCK_FILTER, &one, sizeof one));
    CHECK_ERR(setsockopt(s, SOL_SOCKET, SO_DETACH_FILTER, &lo, sizeof lo), EPERM);
}

// ---- rings ---------------------------------------------------------------------------------------

enum { FRAMES = 16, RING_FRAME = 2048, RING_BLOCK = 8192 };

static unsigned char *make_ring(int s)
{
    int version = TPACKET_V2, length = TPACKET_V2;
    socklen_t size = sizeof length;
    SYS(getsockopt(s, SOL_PACKET, PACKET_HDRLEN, &length, &size));
    CHECK_EQ(length, sizeof(struct tpacket2_hdr));
    length = 77;
    CHECK_ERR(getsockopt(s, SOL_PACKET, PACKET_HDRLEN, &length, &size), EINVAL);
    SYS(setsockopt(s, SOL_PACKET, PACKET_VERSION, &version, sizeof version));
    struct tpacket_req q = {RING_BLOCK, FRAMES * RING_FRAME / RING_BLOCK, RING_FRAME, FRAMES + 1};
    CHECK_ERR(setsockopt(s, SOL_PACKET, PACKET_RX_RING, &q, sizeof q), EINVAL);
    q.tp_frame_nr = FRAMES;
    q.tp_frame_size = 24;
    CHECK_ERR(setsockopt(s, SOL_PACKET, PACKET_RX_RING, &q, sizeof q), EINVAL);
    q.tp_frame_size = RING_FRAME;
    SYS(setsockopt(s, SOL_PACKET, PACKET_RX_RING, &q, sizeof q));
    CHECK_ERR(setsockopt(s, SOL_PACKET, PACKET_RX_RING, &q, sizeof q), EBUSY);
    unsigned char *ring = mmap(NULL, FRAMES * RING_FRAME, PROT_READ | PROT_WRITE, MAP_SHARED, s, 0);
    CHECK(ring != MAP_FAILED);
    return ring;
}

// Reads `count` frames of kind 'r' from the ring, waiting as programs do; the frame that comes next.
static int read_ring(int s, unsigned char *ring, int at, int count)
{
    while (count) {
        struct tpacket2_hdr *h = (void *)(ring + at * RING_FRAME);
        struct pollfd p = {.fd = s, .events = POLLIN};
        if (!(__atomic_load_n(&h->tp_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER)) {
            SYS(poll(&p, 1, -1));
            continue;
        }
        unsigned char *frame = (unsigned char *)h + h->tp_mac;
        struct sockaddr_ll *from = (void *)((unsigned char *)h + TPACKET_ALIGN(sizeof *h));
        CHECK_EQ(h->tp_len, FRAME_SIZE);
        CHECK_EQ(h->tp_snaplen, 32);
        CHECK_EQ(h->tp_net - h->tp_mac, ETH_HLEN);
        CHECK_EQ(from->sll_ifindex, lo);
        CHECK_EQ(frame[18], 'r');
        CHECK(h->tp_sec > 1000000000);
        __atomic_store_n(&h->tp_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
        at = (at + 1) % FRAMES;
        count--;
    }
    return at;
}

TEST(rings)
{
    int s = packet_socket(SOCK_RAW), out = packet_socket(SOCK_RAW), at = 0;
    attach(s, 'r');
    unsigned char *ring = make_ring(s);
    struct pollfd p = {.fd = s, .events = POLLIN};
    CHECK_EQ(poll(&p, 1, 0), 0);
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < 10; i++) {
            send_frame(out, 'n');
            send_frame(out, 'r');
        }
        at = read_ring(s, ring, at, 10);
    }
    CHECK_EQ(poll(&p, 1, 0), 0);
    struct tpacket_req none = {0};
    munmap(ring, FRAMES * RING_FRAME);
    SYS(setsockopt(s, SOL_PACKET, PACKET_RX_RING, &none, sizeof none));
}

// A reader that sleeps is woken by what comes, by poll(2) and by epoll.
TEST(ring_wakes)
{
    int s = packet_socket(SOCK_RAW), ep = SYS(epoll_create1(0));
    attach(s, 'r');
    unsigned char *ring = make_ring(s);
    pid_t parent = getpid(), pid = fork();
    if (pid == 0) {
        int out = packet_socket(SOCK_RAW);
        for (int i = 0; i < 2; i++) {
            t_wait_state(parent, 'S');
            send_frame(out, 'n');
            send_frame(out, 'r');
        }
        _exit(0);
    }
    int at = read_ring(s, ring, 0, 1);
    struct epoll_event ev = {.events = EPOLLIN};
    SYS(epoll_ctl(ep, EPOLL_CTL_ADD, s, &ev));
    CHECK_EQ(SYS(epoll_wait(ep, &ev, 1, -1)), 1);
    read_ring(s, ring, at, 1);
    t_join(pid);
}
