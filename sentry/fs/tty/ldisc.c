// SPDX-License-Identifier: Apache-2.0
// The line discipline: what termios(3) says of input, editing, echo and output. It touches nothing but
// struct tty, and sends signals by job.h.
#include <ctype.h>
#include <signal.h>
#include <string.h>

#include "sentry/fs/tty/tty_impl.h"

#define NO_CHAR 0 // a control character of this value is disabled

static bool has_iflag(const struct tty *t, u32 f)
{
    return t->t.c_iflag & f;
}

static bool has_oflag(const struct tty *t, u32 f)
{
    return t->t.c_oflag & f;
}

static bool has_lflag(const struct tty *t, u32 f)
{
    return t->t.c_lflag & f;
}

static bool is_cc(const struct tty *t, u8 c, u32 which)
{
    return c == t->t.c_cc[which] && c != NO_CHAR;
}

static bool is_control(u8 c)
{
    return c < 32 || c == 127;
}

// A byte of a multi-byte character other than its first.
static bool is_continuation(const struct tty *t, u8 c)
{
    return has_iflag(t, IUTF8) && (c & 0xc0) == 0x80;
}

// ---- rings ----------------------------------------------------------------------------------------

static u8 in_at(const struct tty *t, u32 i)
{
    return t->in[i & (TTY_IN_SIZE - 1)];
}

static bool mark_at(const struct tty *t, u32 i)
{
    i &= TTY_IN_SIZE - 1;
    return t->in_marks[i / 64] >> i % 64 & 1;
}

static void set_mark(struct tty *t, u32 i, bool on)
{
    i &= TTY_IN_SIZE - 1;
    u64 bit = 1ull << i % 64;
    t->in_marks[i / 64] = on ? t->in_marks[i / 64] | bit : t->in_marks[i / 64] & ~bit;
}

static void in_put(struct tty *t, u8 c, bool ends_line)
{
    t->in[t->in_head & (TTY_IN_SIZE - 1)] = c;
    set_mark(t, t->in_head, ends_line);
    tty_store(&t->in_head, t->in_head + 1);
    if (ends_line)
        tty_store(&t->in_canon, t->in_head);
}

static u32 in_used(const struct tty *t)
{
    return tty_load(&t->in_head) - tty_load(&t->in_tail);
}

static void out_raw(struct tty *t, u8 c)
{
    if (!tty_out_room(t))
        return;
    t->out[t->out_head & (TTY_OUT_SIZE - 1)] = c;
    tty_store(&t->out_head, t->out_head + 1);
}

// ---- output ---------------------------------------------------------------------------------------

static void out_newline(struct tty *t)
{
    if (has_oflag(t, ONLRET))
        t->column = 0;
    if (has_oflag(t, ONLCR)) {
        out_raw(t, '\r');
        t->column = 0;
    }
    t->canon_column = t->column;
    out_raw(t, '\n');
}

static void out_return(struct tty *t)
{
    if (has_oflag(t, ONOCR) && t->column == 0)
        return;
    if (has_oflag(t, OCRNL)) {
        if (has_oflag(t, ONLRET))
            t->column = t->canon_column = 0;
        out_raw(t, '\n');
        return;
    }
    t->column = t->canon_column = 0;
    out_raw(t, '\r');
}

static void out_tab(struct tty *t)
{
    u32 spaces = 8 - (t->column & 7);
    t->column += spaces;
    if ((t->t.c_oflag & TABDLY) != XTABS) {
        out_raw(t, '\t');
        return;
    }
    while (spaces--)
        out_raw(t, ' ');
}

// One character through OPOST.
static void out_char(struct tty *t, u8 c)
{
    if (!has_oflag(t, OPOST)) {
        out_raw(t, c);
        return;
    }
    switch (c) {
    case '\n':
        out_newline(t);
        return;
    case '\r':
        out_return(t);
        return;
    case '\t':
        out_tab(t);
        return;
    case '\b':
        if (t->column)
            t->column--;
        break;
    default:
        if (is_control(c))
            break;
        if (has_oflag(t, OLCUC))
            c = (u8)toupper(c);
        if (!is_continuation(t, c))
            t->column++;
    }
    out_raw(t, c);
}

u32 ldisc_write(struct tty *t, const u8 *buf, u32 size)
{
    u32 done = 0;
    if (t->stopped)
        return 0;
    if (!has_oflag(t, OPOST)) {
        done = min(size, tty_out_room(t));
        for (u32 i = 0; i < done; i++)
            t->out[(t->out_head + i) & (TTY_OUT_SIZE - 1)] = buf[i];
        tty_store(&t->out_head, t->out_head + done);
        return done;
    }
    while (done < size && tty_out_room(t) >= TTY_OUT_RESERVE)
        out_char(t, buf[done++]);
    return done;
}

// ---- echo -----------------------------------------------------------------------------------------

static void echo_char(struct tty *t, u8 c)
{
    if (tty_out_room(t) < TTY_OUT_RESERVE)
        return;
    if (has_lflag(t, ECHOCTL) && is_control(c) && c != '\t') {
        out_raw(t, '^');
        out_raw(t, c ^ 0100);
        t->column += 2;
    } else {
        out_char(t, c);
    }
}

static void echo_newline(struct tty *t)
{
    if (tty_out_room(t) >= TTY_OUT_RESERVE)
        out_char(t, '\n');
}

static void finish_erasing(struct tty *t)
{
    if (!t->erasing)
        return;
    out_char(t, '/');
    t->erasing = false;
}

static void rub_out_column(struct tty *t)
{
    out_raw(t, '\b');
    out_raw(t, ' ');
    out_raw(t, '\b');
    if (t->column)
        t->column--;
}

// Moves the cursor back over a tab that was erased: to where the text before it ends.
static void rub_out_tab(struct tty *t)
{
    u32 columns = 0;
    bool after_tab = false;
    for (u32 i = t->in_head; i != t->in_canon && !after_tab;) {
        u8 c = in_at(t, --i);
        if (c == '\t')
            after_tab = true;
        else if (is_control(c))
            columns += has_lflag(t, ECHOCTL) ? 2 : 0;
        else if (!is_continuation(t, c))
            columns++;
    }
    if (!after_tab)
        columns += t->canon_column;
    for (u32 back = 8 - (columns & 7); back; back--) {
        out_raw(t, '\b');
        if (t->column)
            t->column--;
    }
}

// Shows that character c, now gone from the buffer, was erased.
static void echo_erased(struct tty *t, u8 c, u32 from, u32 bytes, bool single)
{
    if (tty_out_room(t) < TTY_OUT_RESERVE)
        return;
    if (has_lflag(t, ECHOPRT)) {
        if (!t->erasing) {
            out_char(t, '\\');
            t->erasing = true;
        }
        echo_char(t, c);
        for (u32 i = 1; i < bytes; i++)
            out_raw(t, in_at(t, from + i));
    } else if (single && !has_lflag(t, ECHOE)) {
        echo_char(t, t->t.c_cc[VERASE]);
    } else if (c == '\t') {
        rub_out_tab(t);
    } else {
        if (is_control(c) && has_lflag(t, ECHOCTL))
            rub_out_column(t);
        if (!is_control(c) || has_lflag(t, ECHOCTL))
            rub_out_column(t);
    }
}

// ---- editing --------------------------------------------------------------------------------------

static void kill_without_rubbing(struct tty *t)
{
    tty_store(&t->in_head, t->in_canon);
    if (!has_lflag(t, ECHO))
        return;
    finish_erasing(t);
    echo_char(t, t->t.c_cc[VKILL]);
    if (has_lflag(t, ECHOK))
        echo_newline(t);
}

// ERASE, WERASE or KILL (`which`: VERASE ...).
static void erase(struct tty *t, u32 which)
{
    bool seen_word = false;

    if (which == VKILL &&
        (!has_lflag(t, ECHO) || !has_lflag(t, ECHOK) || !has_lflag(t, ECHOKE) ||
         !has_lflag(t, ECHOE))) {
        kill_without_rubbing(t);
        return;
    }
    while (t->in_head != t->in_canon) {
        u32 from = t->in_head;
        u8 c;
        do {
            c = in_at(t, --from);
        } while (is_continuation(t, c) && from != t->in_canon);
        if (is_continuation(t, c))
            break; // the rest of a character whose beginning is not there
        if (which == VWERASE) {
            if (isalnum(c) || c == '_' || c >= 0x80)
                seen_word = true;
            else if (seen_word)
                break;
        }
        u32 bytes = t->in_head - from;
        tty_store(&t->in_head, from);
        if (has_lflag(t, ECHO))
            echo_erased(t, c, from, bytes, which == VERASE);
        if (which == VERASE)
            break;
    }
    if (t->in_head == t->in_canon && has_lflag(t, ECHO))
        finish_erasing(t);
}

static void reprint(struct tty *t, u8 c)
{
    finish_erasing(t);
    echo_char(t, c);
    echo_newline(t);
    for (u32 i = t->in_canon; i != t->in_head; i++)
        echo_char(t, in_at(t, i));
}

static void end_line(struct tty *t, u8 c)
{
    in_put(t, c, true);
}

// Room for so many more characters that end no line. In canonical mode one place is kept for the end of the line.
static bool char_room(const struct tty *t, u32 count)
{
    return in_used(t) + count < TTY_IN_SIZE;
}

// An ordinary character, echoed.
static void store(struct tty *t, u8 c)
{
    // With PARMRK 0xff announces a byte that came with an error (which none does here), so that it stands for itself
    // only twice.
    bool twice = c == 0xff && has_iflag(t, PARMRK);
    if (!char_room(t, 1 + twice)) {
        if (has_iflag(t, IMAXBEL))
            out_raw(t, '\a');
        return;
    }
    if (has_lflag(t, ECHO)) {
        finish_erasing(t);
        if (t->in_head == t->in_canon)
            t->canon_column = t->column;
        if (c == '\n')
            echo_newline(t);
        else
            echo_char(t, c);
    }
    if (twice)
        in_put(t, c, false);
    in_put(t, c, false);
}

// Canonical mode: true when c was a character of editing or ended the line.
static bool edit(struct tty *t, u8 c)
{
    bool extended = has_lflag(t, IEXTEN);
    if (is_cc(t, c, VERASE)) {
        erase(t, VERASE);
    } else if (is_cc(t, c, VKILL)) {
        erase(t, VKILL);
    } else if (extended && is_cc(t, c, VWERASE)) {
        erase(t, VWERASE);
    } else if (extended && is_cc(t, c, VLNEXT)) {
        t->literal_next = true;
        if (has_lflag(t, ECHO)) {
            finish_erasing(t);
            if (has_lflag(t, ECHOCTL) && tty_out_room(t) >= TTY_OUT_RESERVE) {
                out_raw(t, '^');
                out_raw(t, '\b');
            }
        }
    } else if (extended && has_lflag(t, ECHO) && is_cc(t, c, VREPRINT)) {
        reprint(t, c);
    } else if (c == '\n') {
        if (has_lflag(t, ECHO) || has_lflag(t, ECHONL))
            echo_newline(t);
        end_line(t, c);
    } else if (is_cc(t, c, VEOF)) {
        end_line(t, NO_CHAR);
    } else if (is_cc(t, c, VEOL) || (extended && is_cc(t, c, VEOL2))) {
        if (has_lflag(t, ECHO)) {
            if (t->in_head == t->in_canon)
                t->canon_column = t->column;
            echo_char(t, c);
        }
        end_line(t, c);
    } else {
        return false;
    }
    return true;
}

// ---- signals and flow -------------------------------------------------------------------------------

void ldisc_stop(struct tty *t, bool stop)
{
    if (t->stopped == stop)
        return;
    t->stopped = stop;
    if (stop)
        ptmx_set_packet(t, 4 /* TIOCPKT_STOP */, 8);
    else
        ptmx_set_packet(t, 8 /* TIOCPKT_START */, 4);
}

static int signal_of(const struct tty *t, u8 c)
{
    if (is_cc(t, c, VINTR))
        return SIGINT;
    if (is_cc(t, c, VQUIT))
        return SIGQUIT;
    if (is_cc(t, c, VSUSP))
        return SIGTSTP;
    return 0;
}

static void send_signal(struct tty *t, int sig, u8 c)
{
    if (!has_lflag(t, NOFLSH)) {
        ldisc_flush_input(t);
        ldisc_flush_output(t);
    }
    if (has_iflag(t, IXON))
        ldisc_stop(t, false);
    if (has_lflag(t, ECHO))
        echo_char(t, c);
    if (t->pgrp)
        job_signal_pgrp(t->pgrp, t->session, sig);
}

// True when c was used up by flow control.
static bool flow(struct tty *t, u8 c)
{
    if (!has_iflag(t, IXON))
        return false;
    if (is_cc(t, c, VSTART)) {
        ldisc_stop(t, false);
        return true;
    }
    if (is_cc(t, c, VSTOP)) {
        ldisc_stop(t, true);
        return true;
    }
    return false;
}

static void receive_char(struct tty *t, u8 c)
{
    if (has_iflag(t, ISTRIP))
        c &= 0x7f;
    if (has_iflag(t, IUCLC) && has_lflag(t, IEXTEN))
        c = (u8)tolower(c);
    if (t->literal_next) {
        t->literal_next = false;
        store(t, c);
        return;
    }
    if (flow(t, c))
        return;
    int sig = has_lflag(t, ISIG) ? signal_of(t, c) : 0;
    if (sig) {
        send_signal(t, sig, c);
        return;
    }
    if (t->stopped && has_iflag(t, IXON) && has_iflag(t, IXANY))
        ldisc_stop(t, false);
    if (c == '\r') {
        if (has_iflag(t, IGNCR))
            return;
        if (has_iflag(t, ICRNL))
            c = '\n';
    } else if (c == '\n' && has_iflag(t, INLCR)) {
        c = '\r';
    }
    if (has_lflag(t, ICANON) && edit(t, c))
        return;
    store(t, c);
}

u32 ldisc_receive(struct tty *t, const u8 *buf, u32 size)
{
    u32 done = 0;
    while (done < size && ldisc_has_room(t))
        receive_char(t, buf[done++]);
    return done;
}

bool ldisc_has_room(const struct tty *t)
{
    // While no line is complete, nobody can make room by reading: what does not fit is dropped.
    if (tty_is_canonical(t) && tty_load(&t->in_canon) == tty_load(&t->in_tail))
        return true;
    return char_room(t, tty_marks_errors(t) ? 2 : 1);
}

// ---- readers ----------------------------------------------------------------------------------------

bool ldisc_input_ready(const struct tty *t, bool poll)
{
    u32 wanted = 1;
    if (tty_is_canonical(t))
        return tty_load(&t->in_canon) != tty_load(&t->in_tail);
    if (poll && !tty_vtime(t) && tty_vmin(t))
        wanted = tty_vmin(t);
    return in_used(t) >= wanted;
}

u32 ldisc_input_count(const struct tty *t)
{
    if (!has_lflag(t, ICANON))
        return in_used(t);
    u32 n = 0;
    for (u32 i = t->in_tail; i != t->in_canon; i++)
        n += !(mark_at(t, i) && in_at(t, i) == NO_CHAR);
    return n;
}

static u32 take_line(struct tty *t, u8 *buf, u32 size, bool *ret_line_end)
{
    u32 n = 0, i = t->in_tail;
    *ret_line_end = false;
    while (i != t->in_canon && !*ret_line_end) {
        u8 c = in_at(t, i);
        bool end = mark_at(t, i);
        if (end && c == NO_CHAR) { // end of file: ends what was read, even when the buffer is full
            i++;
            *ret_line_end = true;
            break;
        }
        if (n == size)
            break;
        buf[n++] = c;
        i++;
        *ret_line_end = end;
    }
    tty_store(&t->in_tail, i);
    return n;
}

u32 ldisc_take(struct tty *t, u8 *buf, u32 size, bool *ret_line_end)
{
    u32 n;
    if (has_lflag(t, ICANON))
        return take_line(t, buf, size, ret_line_end);
    *ret_line_end = false;
    for (n = 0; n < size && t->in_tail + n != t->in_head; n++)
        buf[n] = in_at(t, t->in_tail + n);
    tty_store(&t->in_tail, t->in_tail + n);
    return n;
}

// ---- settings ---------------------------------------------------------------------------------------

void ldisc_flush_input(struct tty *t)
{
    tty_store(&t->in_canon, t->in_head);
    tty_store(&t->in_tail, t->in_head);
    t->erasing = false;
    t->literal_next = false;
    ptmx_set_packet(t, 1 /* TIOCPKT_FLUSHREAD */, 0);
}

void ldisc_flush_output(struct tty *t)
{
    tty_store(&t->out_tail, t->out_head);
    ptmx_set_packet(t, 2 /* TIOCPKT_FLUSHWRITE */, 0);
}

static void publish_mode(struct tty *t)
{
    _Static_assert(!(ICANON & PARMRK), "places of their own");
    tty_store(&t->mode, (t->t.c_lflag & ICANON) | (t->t.c_iflag & PARMRK) |
                            (u32)t->t.c_cc[VMIN] << 16 | (u32)t->t.c_cc[VTIME] << 24);
}

void ldisc_settings_changed(struct tty *t, const struct termios2 *old)
{
    publish_mode(t);
    if ((old->c_lflag ^ t->t.c_lflag) & ICANON) {
        memset(t->in_marks, 0, TTY_IN_SIZE / 8);
        if (has_lflag(t, ICANON) && in_used(t)) {
            set_mark(t, t->in_head - 1, true); // what was typed so far counts as a line
            tty_store(&t->in_canon, t->in_head);
        } else {
            tty_store(&t->in_canon, t->in_tail);
        }
        t->erasing = false;
        t->literal_next = false;
    }
    if (!has_iflag(t, IXON) && (old->c_iflag & IXON))
        ldisc_stop(t, false);
    bool was = (old->c_iflag & IXON) && old->c_cc[VSTOP] == 023 && old->c_cc[VSTART] == 021;
    bool is = has_iflag(t, IXON) && t->t.c_cc[VSTOP] == 023 && t->t.c_cc[VSTART] == 021;
    if (was != is)
        ptmx_set_packet(t, is ? 32 : 16 /* TIOCPKT_DOSTOP, NOSTOP */, is ? 16 : 32);
}

void ldisc_reset(struct tty *t)
{
    static const u8 chars[] = {
        [VINTR] = 3,   [VQUIT] = 034,  [VERASE] = 0177,  [VKILL] = 025,    [VEOF] = 4,
        [VMIN] = 1,    [VSTART] = 021, [VSTOP] = 023,    [VSUSP] = 032,    [VREPRINT] = 022,
        [VDISCARD] = 017, [VWERASE] = 027, [VLNEXT] = 026,
    };
    memset(&t->t, 0, sizeof(t->t));
    t->t.c_iflag = ICRNL | IXON;
    t->t.c_oflag = OPOST | ONLCR;
    t->t.c_cflag = B38400 | CS8 | CREAD;
    t->t.c_lflag = ISIG | ICANON | ECHO | ECHOE | ECHOK | ECHOCTL | ECHOKE | IEXTEN;
    t->t.c_ispeed = t->t.c_ospeed = 38400;
    memcpy(t->t.c_cc, chars, sizeof(chars));
    publish_mode(t);
}
