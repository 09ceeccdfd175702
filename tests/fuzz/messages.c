// SPDX-License-Identifier: Apache-2.0
// Fuzzes the decoders of the boot messages and of the control protocol: the first byte picks one. What
// decodes must encode again, to the same bytes.
#include <stdlib.h>
#include <string.h>

#include "base/bug.h"
#include "tests/fuzz/fuzz.h"
#include "wire/boot.h"
#include "wire/control.h"

static void check_same(const void *got, size_t got_size, const uint8_t *data, size_t size)
{
    bug_on(got_size != size || memcmp(got, data, size) != 0);
}

static void try_boot(const uint8_t *data, size_t size)
{
    struct boot_message m;
    void *buf;
    size_t n;
    if (boot_decode(data, size, &m) < 0)
        return;
    bug_on(boot_encode(&m, &buf, &n) < 0);
    check_same(buf, n, data, size);
    free(buf);
    boot_free(&m);
}

static void try_gofer(const uint8_t *data, size_t size)
{
    struct boot_gofer m;
    void *buf;
    size_t n;
    if (boot_decode_gofer(data, size, &m) < 0)
        return;
    bug_on(boot_encode_gofer(&m, &buf, &n) < 0);
    check_same(buf, n, data, size);
    free(buf);
    boot_free_gofer(&m);
}

static void try_control(const uint8_t *data, size_t size)
{
    static u8 buf[CONTROL_SIZE_MAX];
    struct control_message m;
    if (size > sizeof(buf) || control_decode(data, size, &m) < 0)
        return;
    int n = control_encode(&m, buf, sizeof(buf));
    bug_on(n < 0);
    check_same(buf, (size_t)n, data, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size)
        return 0;
    if (data[0] == 'b')
        try_boot(data + 1, size - 1);
    else if (data[0] == 'g')
        try_gofer(data + 1, size - 1);
    else
        try_control(data + 1, size - 1);
    return 0;
}
