// SPDX-License-Identifier: Apache-2.0
// setsid(2), setpgid(2), pty(7), termios(3), tty_ioctl(4): line discipline, job control, hang-up.
#include "t.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>

static int master, slave;

static void open_pty(void)
{
    int unlock = 0, n = -1;
    char path[64];
    master = SYS(open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC));
    SYS(ioctl(master, TIOCSPTLCK, &unlock));
    SYS(ioctl(master, TIOCGPTN, &n));
    snprintf(path, sizeof path, "/dev/pts/%d", n);
    slave = SYS(open(path, O_RDWR | O_NOCTTY | O_CLOEXEC));
}

static void type(const char *text)
{
    CHECK_EQ(write(master, text, strlen(text)), strlen(text));
}

// Reads what is there from fd (waiting for the first byte) as a string.
static const char *get(int fd)
{
    static char buf[4096];
    ssize_t n = SYS(read(fd, buf, sizeof buf - 1));
    buf[n] = 0;
    return buf;
}

static bool readable(int fd, int ms)
{
    struct pollfd p = {fd, POLLIN, 0};
    return poll(&p, 1, ms) == 1 && (p.revents & POLLIN);
}

static void set_flags(tcflag_t on, tcflag_t off)
{
    struct termios t;
    SYS(tcgetattr(slave, &t));
    t.c_lflag = (t.c_lflag | on) & ~off;
    SYS(tcsetattr(slave, TCSANOW, &t));
}

// Runs fn in a child that leads a new session with the slave as its terminal.
static pid_t in_session(void (*fn)(void))
{
    pid_t pid = fork();
    if (pid == 0) {
        SYS(setsid());
        SYS(ioctl(slave, TIOCSCTTY, 0));
        fn();
        _exit(0);
    }
    return pid;
}

TEST(setsid_rules)
{
    pid_t pid = fork();
    if (pid == 0) {
        CHECK_EQ(setsid(), getpid());
        CHECK_EQ(getsid(0), getpid());
        CHECK_EQ(getpgrp(), getpid());
        CHECK_ERR(setsid(), EPERM); // already a leader
        CHECK_ERR(setpgid(0, 0), EPERM);
        int fd = open("/dev/tty", O_RDWR);
        CHECK(fd == -1 && errno == ENXIO);
        _exit(0);
    }
    t_join(pid);
    CHECK_ERR(getsid(0x3ffffffe), ESRCH);
}

TEST(setpgid_rules)
{
    struct t_event ready;
    t_event_init(&ready);
    pid_t a = fork();
    if (a == 0) {
        pause();
        _exit(0);
    }
    SYS(setpgid(a, a));
    CHECK_EQ(getpgid(a), a);
    CHECK_ERR(setpgid(a, 0x3ffffffe), EPERM);
    CHECK_ERR(setpgid(0x3ffffffe, 0), ESRCH);
    CHECK_ERR(setpgid(a, -1), EINVAL);
    SYS(setpgid(a, getpgrp()));
    CHECK_EQ(getpgid(a), getpgrp());
    kill(a, SIGKILL);
    t_wait(a);
    pid_t b = fork();
    if (b == 0) {
        SYS(setsid());
        t_event_set(&ready);
        pause();
        _exit(0);
    }
    t_event_wait(&ready);
    CHECK_ERR(setpgid(b, b), EPERM); // another session
    kill(b, SIGKILL);
    t_wait(b);
}

TEST(pty_names_and_isatty)
{
    struct stat st;
    char link[64] = "", path[64];
    open_pty();
    CHECK(isatty(master) && isatty(slave));
    SYS(fstat(slave, &st));
    CHECK(S_ISCHR(st.st_mode));
    snprintf(path, sizeof path, "/proc/self/fd/%d", slave);
    SYS(readlink(path, link, sizeof link - 1));
    CHECK(strncmp(link, "/dev/pts/", 9) == 0);
    int p[2];
    SYS(pipe(p));
    CHECK(!isatty(p[0]));
    CHECK_EQ(errno, ENOTTY);
}

TEST(locked_until_unlocked)
{
    int n = -1;
    char path[64];
    int m = SYS(open("/dev/ptmx", O_RDWR | O_NOCTTY));
    SYS(ioctl(m, TIOCGPTN, &n));
    snprintf(path, sizeof path, "/dev/pts/%d", n);
    CHECK_ERR(open(path, O_RDWR | O_NOCTTY), EIO);
}

TEST(canonical_line_and_echo)
{
    open_pty();
    type("hel");
    CHECK(!readable(slave, 20));   // no line yet
    CHECK_STR(get(master), "hel"); // echoed
    type("lo\n");
    CHECK_STR(get(slave), "hello\n");
    CHECK_STR(get(master), "lo\r\n"); // ONLCR on the echo
    CHECK_EQ(write(slave, "out\n", 4), 4);
    CHECK_STR(get(master), "out\r\n");
}

TEST(editing_characters)
{
    open_pty();
    set_flags(0, ECHO);
    type("abX\177c\n"); // erase
    CHECK_STR(get(slave), "abc\n");
    type("junk\025good\n"); // ^U kill
    CHECK_STR(get(slave), "good\n");
    type("one two \027three\n"); // ^W erases a word
    CHECK_STR(get(slave), "one three\n");
    type("a\026\003b\n"); // ^V takes the next literally
    CHECK_STR(get(slave), "a\003b\n");
    type("cr\r"); // ICRNL
    CHECK_STR(get(slave), "cr\n");
}

TEST(erase_echo)
{
    open_pty();
    type("ab\177");
    char buf[64] = "";
    size_t n = 0;
    while (n < 5)
        n += SYS(read(master, buf + n, sizeof buf - n));
    CHECK_STR(buf, "ab\b \b");
    type("\003\n");
}

TEST(eof_character)
{
    char buf[8];
    open_pty();
    set_flags(0, ECHO);
    type("\004");
    CHECK_EQ(read(slave, buf, sizeof buf), 0);
    type("part\004"); // ends the line without a newline
    CHECK_STR(get(slave), "part");
}

TEST(partial_reads_of_a_line)
{
    char buf[8] = "";
    open_pty();
    set_flags(0, ECHO);
    type("abcdef\nnext\n");
    CHECK_EQ(read(slave, buf, 4), 4);
    CHECK_EQ(read(slave, buf, 8), 3); // the rest of this line only
    CHECK(memcmp(buf, "ef\n", 3) == 0);
    CHECK_EQ(read(slave, buf, 8), 5);
}

TEST(raw_mode_min_time)
{
    char buf[16];
    struct termios t;
    open_pty();
    SYS(tcgetattr(slave, &t));
    cfmakeraw(&t);
    t.c_cc[VMIN] = 1;
    t.c_cc[VTIME] = 0;
    SYS(tcsetattr(slave, TCSANOW, &t));
    type("\003x\r");
    CHECK_STR(get(slave), "\003x\r");
    CHECK_EQ(write(slave, "\n", 1), 1);
    CHECK_STR(get(master), "\n"); // no OPOST
    t.c_cc[VMIN] = 0;
    t.c_cc[VTIME] = 0;
    SYS(tcsetattr(slave, TCSANOW, &t));
    CHECK_EQ(read(slave, buf, sizeof buf), 0);
    t.c_cc[VTIME] = 1;
    SYS(tcsetattr(slave, TCSANOW, &t));
    uint64_t at = t_now();
    CHECK_EQ(read(slave, buf, sizeof buf), 0);
    CHECK(t_now() - at >= 80000000);
    t.c_cc[VMIN] = 3;
    t.c_cc[VTIME] = 0;
    SYS(tcsetattr(slave, TCSANOW, &t));
    type("12");
    CHECK(!readable(slave, 20));
    type("3");
    CHECK_EQ(read(slave, buf, sizeof buf), 3);
}

// Where errors are marked by a byte, that byte itself comes twice.
TEST(marked_errors)
{
    unsigned char buf[16];
    struct termios t;
    open_pty();
    SYS(tcgetattr(slave, &t));
    cfmakeraw(&t);
    SYS(tcsetattr(slave, TCSANOW, &t));
    type("\377a");
    CHECK_EQ(read(slave, buf, sizeof buf), 2);
    t.c_iflag |= PARMRK;
    SYS(tcsetattr(slave, TCSANOW, &t));
    type("\377a");
    CHECK_EQ(read(slave, buf, sizeof buf), 3);
    CHECK(buf[0] == 0xff && buf[1] == 0xff && buf[2] == 'a');
    t.c_iflag |= ISTRIP;
    SYS(tcsetattr(slave, TCSANOW, &t));
    type("\377");
    CHECK_EQ(read(slave, buf, sizeof buf), 1);
    CHECK_EQ(buf[0], 0x7f);
}

TEST(termios_round_trip)
{
    struct termios a, b;
    open_pty();
    SYS(tcgetattr(slave, &a));
    CHECK(a.c_lflag & ICANON);
    CHECK(a.c_lflag & ISIG);
    CHECK(a.c_iflag & ICRNL);
    CHECK(a.c_oflag & OPOST);
    CHECK_EQ(a.c_cc[VINTR], 3);
    CHECK_EQ(a.c_cc[VEOF], 4);
    a.c_cc[VINTR] = 7;
    a.c_lflag &= ~ECHO;
    SYS(tcsetattr(slave, TCSADRAIN, &a));
    SYS(tcgetattr(master, &b)); // one terminal, seen from both ends
    CHECK_EQ(b.c_cc[VINTR], 7);
    CHECK(!(b.c_lflag & ECHO));
    int f = SYS(open("f", O_CREAT | O_RDWR, 0600));
    CHECK_ERR(tcgetattr(f, &b), ENOTTY);
}

// The older form of the settings, which some programs still use.
TEST(termio)
{
    struct {
        unsigned short iflag, oflag, cflag, lflag;
        unsigned char line, cc[8];
    } old;
    struct termios t;
    open_pty();
    SYS(ioctl(slave, TCGETA, &old));
    CHECK(old.lflag & ICANON);
    CHECK_EQ(old.cc[VINTR], 3);
    old.lflag &= (unsigned short)~ICANON;
    old.cc[VINTR] = 9;
    SYS(ioctl(slave, TCSETAW, &old));
    SYS(tcgetattr(slave, &t));
    CHECK(!(t.c_lflag & ICANON));
    CHECK(t.c_lflag & IEXTEN);
    CHECK_EQ(t.c_cc[VINTR], 9);
    CHECK_EQ(t.c_cc[VEOF], 4);
    CHECK_ERR(ioctl(slave, TCGETA, (void *)8), EFAULT);
    CHECK_ERR(ioctl(slave, TCSETA, (void *)8), EFAULT);
}

static volatile sig_atomic_t got_sig;

static void on_sig(int sig)
{
    got_sig = sig;
}

static void winch_child(void)
{
    t_handle(SIGWINCH, on_sig, 0);
    CHECK_EQ(write(slave, "r", 1), 1);
    while (!got_sig)
        pause();
    struct winsize w;
    SYS(ioctl(slave, TIOCGWINSZ, &w));
    CHECK_EQ(w.ws_row, 50);
    CHECK_EQ(w.ws_col, 132);
}

TEST(window_size)
{
    struct winsize w = {50, 132, 0, 0};
    open_pty();
    pid_t pid = in_session(winch_child);
    CHECK_STR(get(master), "r");
    SYS(ioctl(master, TIOCSWINSZ, &w));
    t_join(pid);
}

static void intr_child(void)
{
    CHECK_EQ(write(slave, "r", 1), 1);
    for (;;)
        pause();
}

TEST(interrupt_quit_and_susp_characters)
{
    const char *keys[] = {"\003", "\034"};
    int sigs[] = {SIGINT, SIGQUIT};
    for (int i = 0; i < 2; i++) {
        open_pty();
        pid_t pid = in_session(intr_child);
        CHECK_STR(get(master), "r");
        type(keys[i]);
        CHECK_EQ(WTERMSIG(t_wait(pid)), sigs[i]);
        const char *echo = get(master);
        CHECK_STR(echo, i ? "^\\" : "^C");
        close(master);
        close(slave);
    }
}

TEST(isig_off)
{
    open_pty();
    set_flags(0, ISIG | ECHO);
    type("\003\n");
    CHECK_STR(get(slave), "\003\n");
}

static void controlling(void)
{
    pid_t sid = 0;
    CHECK_EQ(tcgetpgrp(slave), getpid());
    SYS(ioctl(slave, TIOCGSID, &sid));
    CHECK_EQ(sid, getpid());
    int t = SYS(open("/dev/tty", O_RDWR | O_CLOEXEC));
    CHECK_EQ(write(t, "via tty", 7), 7);
    CHECK_EQ(tcgetpgrp(t), getpid());
    pid_t pid = fork();
    if (pid == 0) {
        SYS(setsid());
        CHECK_ERR(open("/dev/tty", O_RDWR), ENXIO);
        CHECK_ERR(ioctl(slave, TIOCSCTTY, 0), EPERM); // another session's
        CHECK_ERR(tcgetpgrp(slave), ENOTTY);
        _exit(0);
    }
    t_join(pid);
    CHECK_ERR(tcsetpgrp(slave, 0x3ffffffe), ESRCH);
    signal(SIGHUP, SIG_IGN);
    SYS(ioctl(slave, TIOCNOTTY));
    CHECK_ERR(open("/dev/tty", O_RDWR), ENXIO);
}

TEST(controlling_terminal)
{
    open_pty();
    pid_t pid = in_session(controlling);
    CHECK_STR(get(master), "via tty");
    t_join(pid);
}

static void open_makes_controlling(void)
{
    char path[64];
    int n;
    SYS(setsid());
    SYS(ioctl(master, TIOCGPTN, &n));
    snprintf(path, sizeof path, "/dev/pts/%d", n);
    int t = SYS(open(path, O_RDWR)); // without O_NOCTTY
    CHECK_EQ(tcgetpgrp(t), getpid());
}

TEST(open_without_noctty)
{
    open_pty();
    pid_t pid = fork();
    if (pid == 0) {
        open_makes_controlling();
        _exit(0);
    }
    t_join(pid);
}

static void background(void)
{
    char c;
    int st;
    pid_t job = fork();
    if (job == 0) {
        setpgid(0, 0);
        read(slave, &c, 1); // in the background: SIGTTIN
        _exit(5);
    }
    setpgid(job, job);
    CHECK_EQ(waitpid(job, &st, WUNTRACED), job);
    CHECK(WIFSTOPPED(st));
    CHECK_EQ(WSTOPSIG(st), SIGTTIN);
    SYS(tcsetpgrp(slave, job));
    SYS(kill(-job, SIGCONT));
    CHECK_EQ(waitpid(job, &st, 0), job); // it got its byte now
    CHECK_EQ(WEXITSTATUS(st), 5);
    signal(SIGTTOU, SIG_IGN);
    SYS(tcsetpgrp(slave, getpgrp()));
    CHECK_EQ(write(slave, "done", 4), 4);
}

TEST(background_read_stops)
{
    open_pty();
    set_flags(0, ECHO);
    pid_t pid = in_session(background);
    type("x\n");
    CHECK_STR(get(master), "done");
    t_join(pid);
}

static void tostop(void)
{
    int st;
    for (int on = 0; on < 2; on++) {
        set_flags(on ? TOSTOP : 0, on ? 0 : TOSTOP);
        pid_t job = fork();
        if (job == 0) {
            setpgid(0, 0);
            write(slave, "w", 1);
            _exit(0);
        }
        setpgid(job, job);
        CHECK_EQ(waitpid(job, &st, WUNTRACED), job);
        CHECK_EQ(WIFSTOPPED(st), on);
        if (on) {
            CHECK_EQ(WSTOPSIG(st), SIGTTOU);
            kill(job, SIGKILL);
            t_wait(job);
        }
    }
    // Changing the terminal from the background always stops.
    pid_t job = fork();
    if (job == 0) {
        struct termios t;
        setpgid(0, 0);
        tcgetattr(slave, &t);
        tcsetattr(slave, TCSANOW, &t);
        _exit(0);
    }
    setpgid(job, job);
    CHECK_EQ(waitpid(job, &st, WUNTRACED), job);
    CHECK(WIFSTOPPED(st));
    kill(job, SIGKILL);
    t_wait(job);
}

TEST(background_write_and_tostop)
{
    open_pty();
    t_join(in_session(tostop));
}

static void job_control(void)
{
    // What a shell does: a job in the foreground, ^Z, and fg again.
    int st;
    pid_t job = fork();
    if (job == 0) {
        setpgid(0, 0);
        signal(SIGTTOU, SIG_IGN);
        tcsetpgrp(slave, getpid());
        signal(SIGTTOU, SIG_DFL);
        CHECK_EQ(write(slave, "R", 1), 1);
        char c;
        while (read(slave, &c, 1) != 1)
            ;
        _exit(c);
    }
    setpgid(job, job);
    signal(SIGTTOU, SIG_IGN);
    CHECK_EQ(waitpid(job, &st, WUNTRACED), job);
    CHECK(WIFSTOPPED(st));
    CHECK_EQ(WSTOPSIG(st), SIGTSTP);
    SYS(tcsetpgrp(slave, getpgrp()));
    CHECK_EQ(write(slave, "S", 1), 1);
    SYS(tcsetpgrp(slave, job));
    SYS(kill(-job, SIGCONT));
    CHECK_EQ(waitpid(job, &st, 0), job);
    CHECK_EQ(WEXITSTATUS(st), 'k');
}

TEST(shell_job_control)
{
    open_pty();
    set_flags(0, ECHO);
    pid_t pid = in_session(job_control);
    CHECK_STR(get(master), "R");
    type("\032");
    CHECK_STR(get(master), "S");
    type("k\n");
    t_join(pid);
}

static void hup_child(void)
{
    close(master); // inherited: the hang-up comes with the last close
    t_handle(SIGHUP, on_sig, 0);
    CHECK_EQ(write(slave, "r", 1), 1);
    while (!got_sig)
        pause();
    CHECK_EQ(got_sig, SIGHUP);
    char c;
    CHECK_EQ(read(slave, &c, 1), 0);
    CHECK_ERR(write(slave, "x", 1), EIO);
    struct pollfd p = {slave, POLLIN, 0};
    CHECK_EQ(poll(&p, 1, 0), 1);
    CHECK(p.revents & POLLHUP);
}

TEST(hangup_by_closing_master)
{
    open_pty();
    pid_t pid = in_session(hup_child);
    CHECK_STR(get(master), "r");
    close(master);
    t_join(pid);
}

static void leader_exits(void)
{
    pid_t kid = fork();
    if (kid == 0) {
        setpgid(0, 0);
        signal(SIGTTOU, SIG_IGN);
        tcsetpgrp(slave, getpid());
        CHECK_EQ(write(slave, "r", 1), 1);
        for (;;)
            pause(); // dies by SIGHUP when the leader is gone
    }
    t_wait_state(kid, 'S');
    while (tcgetpgrp(slave) != kid)
        usleep(1000);
    _exit(0);
}

TEST(leader_exit_hangs_up_foreground)
{
    char buf[8];
    open_pty();
    pid_t pid = in_session(leader_exits);
    close(slave);
    CHECK_STR(get(master), "r");
    t_join(pid);
    CHECK_ERR(read(master, buf, sizeof buf), EIO); // the last user of the slave is gone
}

TEST(master_eio_after_slave_close)
{
    char buf[8];
    open_pty();
    CHECK_EQ(write(slave, "last", 4), 4);
    close(slave);
    CHECK_EQ(read(master, buf, sizeof buf), 4);
    CHECK_ERR(read(master, buf, sizeof buf), EIO);
}

TEST(fionread_flush_outq)
{
    int n = 0;
    open_pty();
    set_flags(0, ECHO);
    type("abc\n");
    CHECK(readable(slave, 1000));
    SYS(ioctl(slave, FIONREAD, &n));
    CHECK_EQ(n, 4);
    SYS(tcflush(slave, TCIFLUSH));
    CHECK(!readable(slave, 0));
    CHECK_ERR(ioctl(slave, 0x54ff, &n), ENOTTY);
}

TEST(stdin_like_background_orphan_read_eio)
{
    // An orphaned background group that reads the terminal gets EIO, not SIGTTIN.
    open_pty();
    int *done = t_shared(4096);
    pid_t pid = fork();
    if (pid == 0) {
        SYS(setsid());
        SYS(ioctl(slave, TIOCSCTTY, 0));
        struct t_event go;
        t_event_init(&go);
        pid_t mid = fork();
        if (mid == 0) {
            if (fork() == 0) {
                char c;
                setpgid(0, 0);
                t_event_wait(&go);
                CHECK_ERR(read(slave, &c, 1), EIO);
                *done = 1;
                _exit(0);
            }
            _exit(0);
        }
        t_join(mid);
        t_event_set(&go);
        while (!__atomic_load_n(done, __ATOMIC_SEQ_CST))
            usleep(1000);
        _exit(0);
    }
    t_join(pid);
}
