// SPDX-License-Identifier: Apache-2.0
// bailey spec: writes a config.json to begin with.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "runtime/cmd/cmd.h"
#include "runtime/spec/spec.h"

struct spec_options {
    const char *bundle;
    bool rootless;
};

static const struct option options[] = {
    {"bundle", "b", OPTION_STRING, offsetof(struct spec_options, bundle), "DIR",
     "where config.json goes (default: here)", NULL},
    {"rootless", NULL, OPTION_FLAG, offsetof(struct spec_options, rootless), NULL,
     "for a container of an ordinary user", NULL},
};

static int write_all(int fd, const char *text, size_t size)
{
    while (size) {
        ssize_t n = write(fd, text, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        text += n;
        size -= (size_t)n;
    }
    return 0;
}

static int spec_run(const struct globals *g, char **argv, struct error *e)
{
    struct spec_options o = {.bundle = "."};
    char path[4200];
    int r = command_parse(&command_spec, argv, &o, 0, 0, e);
    if (r < 0)
        return r;
    snprintf(path, sizeof(path), "%.4095s/" SPEC_FILE, o.bundle);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0 && errno == EEXIST)
        return error_set(e, -EEXIST, "spec: file %s exists already", path);
    if (fd < 0)
        return error_errno(e, -errno, "spec: create %s", path);
    json_object *config = spec_template(o.rootless);
    const char *text = json_object_to_json_string_ext(
        config, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE | JSON_C_TO_STRING_SPACED);
    r = write_all(fd, text, strlen(text));
    if (!r)
        r = write_all(fd, "\n", 1);
    json_object_put(config);
    if (close(fd) < 0 && !r)
        r = -errno;
    if (r < 0) {
        unlink(path);
        return error_errno(e, r, "spec: write %s", path);
    }
    return 0;
}

const struct command command_spec = {
    "spec", "[options]", "write a config.json to begin with", options, array_size(options),
    spec_run,
};
