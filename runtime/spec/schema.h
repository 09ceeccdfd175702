// SPDX-License-Identifier: Apache-2.0
// Checks JSON against the schemas of the OCI runtime specification, as tables that
// tools/gen-schema.py makes of the schemas themselves at build time.
#ifndef BAILEY_RUNTIME_SPEC_SCHEMA_H
#define BAILEY_RUNTIME_SPEC_SCHEMA_H

#include <json-c/json.h>

#include "runtime/error.h"

enum schema_kind {
    SCHEMA_ANY,
    SCHEMA_OBJECT,
    SCHEMA_ARRAY,
    SCHEMA_STRING,
    SCHEMA_INTEGER,
    SCHEMA_BOOLEAN,
};

struct schema;

struct schema_field {
    const char *name;
    const struct schema *schema;
    bool required;
};

struct schema {
    enum schema_kind kind;
    s64 least;                  // INTEGER
    u64 most;                   // INTEGER
    const char *pattern;        // STRING: an extended regular expression, or NULL
    const char *const *choices; // STRING: the values allowed, ended by NULL; or NULL
    u32 min_items;              // ARRAY
    const struct schema *items; // ARRAY
    const struct schema_field *fields; // OBJECT: sorted by name
    u32 field_count;
    const struct schema *others; // OBJECT: of values with other names; NULL: anything
};

extern const struct schema schema_config, schema_state, schema_features;

// Checks `value` against `s`. Returns 0, or -EINVAL with a message that names the field by its path
// ("process.rlimits[0].type"), what is wanted and what was found.
int schema_check(const struct schema *s, json_object *value, struct error *e);

// What a value is, for messages: `string "abc"`, `number 12`, `null` ... in a buffer of the function's.
const char *schema_describe(json_object *value);

#endif
