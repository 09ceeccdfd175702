// SPDX-License-Identifier: Apache-2.0
// Fuzzes the reading of config.json: whatever the text, it is either refused with a message that names the
// document, or yields a configuration whose paths are clean and that can be sent.
#include <string.h>

#include "base/bug.h"
#include "runtime/spec/spec.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct error e;
    struct spec s;
    e.text[0] = 0;
    if (spec_parse(&s, "fuzz", (const char *)data, size, &e) < 0) {
        bug_on(strncmp(e.text, "fuzz: ", 6) != 0);
        return 0;
    }
    for (u32 i = 0; i < s.mount_count; i++)
        bug_on(s.mounts[i].destination[0] != '/' || strstr(s.mounts[i].destination, "/../"));
    bug_on(s.has_process && s.process.cwd[0] != '/');
    spec_free(&s);
    return 0;
}
