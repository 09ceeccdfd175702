// SPDX-License-Identifier: Apache-2.0
// gen-seccomp NAME INPUT OUTPUT: compiles an allow-list of system calls (host/*.allow) to seccomp BPF, at
// build time, as two C arrays: NAME_kill (anything else kills the process) and NAME_trap (anything
// else raises SIGSYS, so that debug builds can say what it was).
//
// One call a line: its name, then conditions on arguments, all of which must hold; several lines for one
// call are alternatives; `#` begins a comment.
//     aN=VALUE    the argument is VALUE
//     aN&BITS     all of BITS are set in it
//     aN!BITS     none of BITS is set in it
// The word ENOSYS instead of conditions lets the call fail with that errno: for calls that libc tries before older
// ones. VALUE and BITS are numbers or names of the table below, joined by `|`.
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/netlink.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef F_ADD_SEALS
#define F_ADD_SEALS 1033
#define F_GET_SEALS 1034
#endif

static const struct {
    const char *name;
    uint64_t value;
} names[] = {
#define N(x) {#x, (uint64_t)(x)}
    N(O_NOFOLLOW), N(O_PATH), N(O_CREAT), N(AT_SYMLINK_NOFOLLOW), N(AT_EMPTY_PATH),
    N(AT_SYMLINK_FOLLOW), N(AT_SYMLINK_NOFOLLOW),
    N(F_DUPFD_CLOEXEC), N(F_GETFL), N(F_SETFL), N(F_GETFD), N(F_SETFD), N(F_ADD_SEALS),
    N(F_GET_SEALS), N(F_GETPIPE_SZ), N(F_SETPIPE_SZ), N(F_OFD_SETLK), N(F_OFD_GETLK), N(F_SETLK),
    N(PROT_READ), N(PROT_WRITE), N(PROT_EXEC), N(MAP_SHARED), N(MAP_PRIVATE),
    N(PR_SET_NAME), N(PR_SET_VMA), N(PR_SET_PDEATHSIG), N(PR_SET_DUMPABLE),
    N(TCGETS), N(TIOCGWINSZ), N(TIOCSWINSZ), N(FIONREAD), N(FIONBIO), N(TIOCOUTQ),
    N(SECCOMP_IOCTL_NOTIF_RECV), N(SECCOMP_IOCTL_NOTIF_SEND), N(SECCOMP_IOCTL_NOTIF_ID_VALID),
    N(SECCOMP_IOCTL_NOTIF_ADDFD),
    N(SIGKILL), N(SIGSYS), N(SIGABRT),
    N(CLONE_VM), N(CLONE_FS), N(CLONE_FILES), N(CLONE_SIGHAND), N(CLONE_THREAD), N(CLONE_SYSVSEM),
    N(CLONE_SETTLS), N(CLONE_PARENT_SETTID), N(CLONE_CHILD_CLEARTID), N(CLONE_NEWUSER), N(CLONE_NEWNS), N(CLONE_NEWPID),
    N(CLONE_NEWNET), N(CLONE_NEWIPC), N(CLONE_NEWUTS), N(CLONE_NEWCGROUP),
    N(AF_UNIX), N(AF_INET), N(AF_INET6), N(AF_NETLINK), N(AF_PACKET), N(SOCK_SEQPACKET), N(SOCK_STREAM), N(SOCK_DGRAM),
    N(SOCK_RAW), N(SOCK_CLOEXEC), N(SOCK_NONBLOCK), N(SOL_SOCKET), N(SOL_NETLINK), N(SOL_PACKET), N(IPPROTO_IP),
    N(IPPROTO_TCP), N(IPPROTO_UDP), N(IPPROTO_ICMP), N(IPPROTO_IPV6), N(IPPROTO_ICMPV6), N(IPPROTO_RAW),
    N(NETLINK_ROUTE), N(NETLINK_SOCK_DIAG),
    N(SIOCATMARK), N(SIOCOUTQNSD), N(SIOCGIFCONF), N(SIOCGIFNAME), N(SIOCGIFFLAGS), N(SIOCGIFADDR),
    N(SIOCGIFDSTADDR), N(SIOCGIFBRDADDR), N(SIOCGIFNETMASK), N(SIOCGIFMETRIC), N(SIOCGIFMTU),
    N(SIOCGIFHWADDR), N(SIOCGIFINDEX), N(SIOCGIFTXQLEN), N(SIOCGIFMAP), N(SIOCSIFFLAGS),
    N(SIOCSIFADDR), N(SIOCSIFDSTADDR), N(SIOCSIFBRDADDR), N(SIOCSIFNETMASK), N(SIOCSIFMTU),
    N(SIOCSIFHWADDR), N(SIOCSIFTXQLEN), N(SIOCSIFNAME), N(SIOCADDRT), N(SIOCDELRT), N(SIOCBRADDBR),
    N(SIOCBRDELBR), N(SIOCGARP),
    N(SIOCSARP), N(SIOCDARP),
#undef N
};

static const char *input;
static unsigned line_number;

static _Noreturn void fail(const char *what, const char *detail)
{
    fprintf(stderr, "%s:%u: %s: %s\n", input, line_number, what, detail);
    exit(1);
}

static uint64_t value_of(char *text)
{
    uint64_t value = 0;
    for (char *word = strtok(text, "|"); word; word = strtok(NULL, "|")) {
        char *end;
        uint64_t v = strtoull(word, &end, 0);
        size_t i = 0;
        if (*end || end == word) {
            while (i < sizeof(names) / sizeof(names[0]) && strcmp(names[i].name, word))
                i++;
            if (i == sizeof(names) / sizeof(names[0]))
                fail("unknown name", word);
            v = names[i].value;
        }
        value |= v;
    }
    return value;
}

// "a2&O_NOFOLLOW"
static struct scmp_arg_cmp condition_of(char *text)
{
    if (text[0] != 'a' || text[1] < '0' || text[1] > '5' || !text[2] || !strchr("=&!", text[2]))
        fail("not a condition", text);
    unsigned arg = (unsigned)(text[1] - '0');
    char op = text[2];
    uint64_t v = value_of(text + 3);
    if (op == '=')
        return SCMP_CMP(arg, SCMP_CMP_EQ, v);
    return SCMP_CMP(arg, SCMP_CMP_MASKED_EQ, v, op == '&' ? v : 0);
}

static void add_line(scmp_filter_ctx ctx, char *line)
{
    struct scmp_arg_cmp conditions[6];
    unsigned count = 0;
    uint32_t action = SCMP_ACT_ALLOW;
    char *save = NULL, *name, *word;
    line[strcspn(line, "#\n")] = 0;
    name = strtok_r(line, " \t", &save);
    if (!name)
        return;
    int nr = seccomp_syscall_resolve_name_arch(SCMP_ARCH_X86_64, name);
    if (nr == __NR_SCMP_ERROR) {
        // Newer than libseccomp's tables: `451:cachestat`.
        char *colon = strchr(name, ':');
        if (!colon || (nr = atoi(name)) <= 0)
            fail("unknown system call", name);
    }
    while ((word = strtok_r(NULL, " \t", &save))) {
        if (count == 6)
            fail("too many conditions", name);
        if (!strcmp(word, "ENOSYS")) {
            action = SCMP_ACT_ERRNO(ENOSYS);
            continue;
        }
        conditions[count++] = condition_of(word);
    }
    int r = seccomp_rule_add_array(ctx, action, nr, count, conditions);
    if (r < 0 && r != -EEXIST)
        fail(name, strerror(-r));
}

static void write_array(FILE *out, const char *name, const char *suffix, uint32_t action)
{
    char line[1024];
    FILE *in = fopen(input, "r"), *bpf = tmpfile();
    scmp_filter_ctx ctx = seccomp_init(action);
    if (!in || !bpf || !ctx)
        fail("cannot open", strerror(errno));
    seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    for (line_number = 1; fgets(line, sizeof(line), in); line_number++)
        add_line(ctx, line);
    int r = seccomp_export_bpf(ctx, fileno(bpf));
    if (r < 0)
        fail("export", strerror(-r));
    struct {
        uint16_t code;
        uint8_t jt, jf;
        uint32_t k;
    } instruction;
    rewind(bpf);
    fprintf(out, "static const struct sock_filter %s_%s[] = {\n", name, suffix);
    while (fread(&instruction, sizeof(instruction), 1, bpf) == 1)
        fprintf(out, "    {0x%04x, %u, %u, 0x%08x},\n", instruction.code, instruction.jt,
                instruction.jf, instruction.k);
    fprintf(out, "};\n");
    seccomp_release(ctx);
    fclose(bpf);
    fclose(in);
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: gen-seccomp NAME INPUT OUTPUT\n");
        return 2;
    }
    input = argv[2];
    FILE *out = fopen(argv[3], "w");
    if (!out) {
        perror(argv[3]);
        return 1;
    }
    fprintf(out, "// Generated by tools/gen-seccomp from %s. Do not edit.\n#include <linux/filter.h>\n\n",
            strrchr(input, '/') ? strrchr(input, '/') + 1 : input);
    write_array(out, argv[1], "kill", SCMP_ACT_KILL_PROCESS);
    write_array(out, argv[1], "trap", SCMP_ACT_TRAP);
    return fclose(out) ? 1 : 0;
}
