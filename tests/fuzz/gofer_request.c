// SPDX-License-Identifier: Apache-2.0
// Fuzzes the gofer's server: the input is a sequence of u16 sizes, each followed by a request of that many
// bytes. Fids are handed out in the same order every time, so a corpus can name them. Checks what must hold
// whatever is sent: replies are well-formed, and nothing outside the served directory changes.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bug.h"
#include "gofer/server.h"
#include "tests/fuzz/fuzz.h"

static char base[64];
static int base_fd = -1;

static void clean_up(void)
{
    char cmd[128];
    snprintf(cmd, sizeof(cmd), "rm -rf %s", base);
    if (system(cmd) != 0)
        perror(base);
}

static void prepare(void)
{
    strcpy(base, "/tmp/fuzz-gofer-XXXXXX");
    bug_on(!mkdtemp(base));
    atexit(clean_up);
    base_fd = open(base, O_PATH | O_DIRECTORY);
    bug_on(mkdirat(base_fd, "served", 0755) != 0);
    bug_on(mkdirat(base_fd, "canary", 0755) != 0);
    bug_on(server_prepare() != 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static u8 out[FMSG_DATA_MAX];
    static u32 runs;
    if (base_fd < 0)
        prepare();
    if (runs++ % 500 == 0) { // begin anew now and then: files pile up
        char cmd[128];
        snprintf(cmd, sizeof(cmd), "rm -rf %s/served && mkdir %s/served", base, base);
        bug_on(system(cmd) != 0);
    }
    struct server s;
    int root = openat(base_fd, "served", O_PATH | O_DIRECTORY);
    bug_on(server_init(&s, root, -1, false, size && data[0] & 1) != 0);
    s.no_donate = size > 1 && data[0] & 2;
    if (size)
        data++, size--;
    while (size >= 2) {
        u16 n;
        memcpy(&n, data, 2);
        data += 2;
        size -= 2;
        if (n > size)
            n = (u16)size;
        struct fmsg_request head = {0};
        memcpy(&head, data, min((size_t)n, sizeof(head)));
        struct fmsg_reply reply;
        int fd = -1;
        if (head.op != FMSG_CHANNEL) { // threads would outlive the run
            server_answer(&s, data, n, &reply, out, &fd);
            bug_on(reply.size != sizeof(reply) + reply.data_size);
            bug_on(reply.data_size > FMSG_DATA_MAX || reply.result < -4095);
            bug_on(reply.result < 0 && (fd >= 0 || reply.data_size));
        }
        if (fd >= 0)
            close(fd);
        data += n;
        size -= n;
    }
    server_fini(&s);
    struct stat st;
    bug_on(fstatat(base_fd, "canary", &st, 0) != 0 || st.st_nlink != 2);
    return 0;
}
