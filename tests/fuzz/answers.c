// SPDX-License-Identifier: Apache-2.0
// Fuzzes what bailey reads of a sandbox: the first byte picks what is asked, the rest is what the sandbox says, packets
// of a u16 for the size each. Checks that what would be shown on a terminal is harmless.
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bug.h"
#include "runtime/client.h"
#include "runtime/processes.h"
#include "runtime/sandbox.h"
#include "tests/fuzz/fuzz.h"

static void check_harmless(const char *text)
{
    for (; *text; text++)
        bug_on(((u8)*text < ' ' && *text != '\n' && *text != '\t') || *text == 0x7f);
}

// All that fits is said before it is asked; then the sandbox ends.
static int say_all(const uint8_t *data, size_t size)
{
    int pair[2];
    bug_on(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0);
    while (size >= 2) {
        u16 n;
        memcpy(&n, data, 2);
        data += 2;
        size -= 2;
        n = (u16)min((size_t)n, size);
        send(pair[1], data, n, MSG_NOSIGNAL | MSG_DONTWAIT);
        data += n;
        size -= n;
    }
    shutdown(pair[1], SHUT_WR); // asking goes on to work
    return pair[0] | pair[1] << 16;
}

static void ask(struct client *k)
{
    struct control_message answer, m = {.type = CONTROL_STATE};
    struct error e = {0};
    while (client_ask(k, &m, NULL, 0, &answer, &e) != -EPIPE || answer.type)
        check_harmless(answer.text);
}

static void ask_processes(struct client *k)
{
    struct control_message m = {.type = CONTROL_PS};
    struct guest_processes ps = {0};
    struct error e = {0};
    char *text = NULL;
    if (client_ask_text(k, "ps", &m, NULL, 0, &text, &e) < 0) {
        check_harmless(e.text);
        return;
    }
    check_harmless(text);
    if (processes_parse(&ps, text) == 0) {
        for (u32 i = 0; i < ps.count; i++) {
            const struct guest_process *p = &ps.items[i];
            bug_on((u8)p->state < ' ');
            check_harmless(p->terminal);
            check_harmless(p->name);
            check_harmless(p->arguments);
        }
    }
    processes_free(&ps);
    free(text);
}

static void listen_to(int fd)
{
    struct sandbox s = {.control_fd = fd};
    while (sandbox_read(&s) > 0)
        check_harmless(s.last_words);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size)
        return 0;
    int pair = say_all(data + 1, size - 1);
    struct client k = {.fd = pair & 0xffff, .id = "", .seconds = 1};
    if (data[0] == 'p')
        ask_processes(&k);
    else if (data[0] == 's')
        listen_to(k.fd);
    else
        ask(&k);
    close(k.fd);
    close(pair >> 16);
    return 0;
}
