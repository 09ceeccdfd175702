// SPDX-License-Identifier: Apache-2.0
// `-info`: containerd 2 asks what the runtime is and can. Options come on standard input; a RuntimeInfo goes out.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ocirt/ocirt.h"
#include "shim.pb-c.h"
#include "shim/options.h"
#include "shim/start.h"

#define FEATURES_MS 10000

// The runtime's own document; for ocirt_doc_free, NULL when it has none.
static struct ocirt_doc *read_features(const struct options *o)
{
    struct ocirt *rt = ocirt_new(o->binary);
    struct ocirt_doc *doc = NULL;
    if (rt) {
        ocirt_set_timeout(rt, FEATURES_MS);
        if (ocirt_features(rt, NULL, &doc, NULL) < 0)
            doc = NULL;
    }
    ocirt_free(rt);
    return doc;
}

static int print_info(const struct options *o, Pb__Any *options)
{
    Pb__RuntimeInfo info = PB__RUNTIME_INFO__INIT;
    Pb__RuntimeVersion version = PB__RUNTIME_VERSION__INIT;
    Pb__Any features = PB__ANY__INIT;
    struct ocirt_doc *doc = read_features(o);

    info.name = (char *)"io.containerd.bailey.v1";
    version.version = (char *)BAILEY_VERSION;
    info.version = &version;
    info.options = options;
    if (doc) {
        features.type_url =
            (char *)"types.containerd.io/opencontainers/runtime-spec/1/features/Features";
        features.value.data = (uint8_t *)ocirt_doc_text(doc);
        features.value.len = strlen(ocirt_doc_text(doc));
        info.features = &features;
    }
    size_t size = pb__runtime_info__get_packed_size(&info);
    uint8_t *packed = malloc(size + 1);
    bool good = packed && pb__runtime_info__pack(&info, packed) == size &&
                write(1, packed, size) == (ssize_t)size;
    free(packed);
    ocirt_doc_free(doc);
    return good ? 0 : 1;
}

int print_runtime_info(void)
{
    struct bytes input = {0};
    struct options o;
    int r = 1;

    start_read_input(&input);
    Pb__Any *any = input.size ? pb__any__unpack(NULL, input.size, input.data) : NULL;
    options_init(&o);
    if (options_read_default(&o) < 0 || options_read_any(&o, any) < 0 || options_complete(&o) < 0)
        fprintf(stderr, "containerd-shim-bailey-v1: %s\n", o.error);
    else
        r = print_info(&o, any);
    options_fini(&o);
    if (any)
        pb__any__free_unpacked(any, NULL);
    bytes_fini(&input);
    return r;
}
