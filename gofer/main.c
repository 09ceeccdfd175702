// SPDX-License-Identifier: Apache-2.0
// bailey-gofer FD: serves the mounts that the boot message in FD names (wire/boot.h) until the sentry
// has closed the channel of every one.
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/log.h"
#include "gofer/jail.h"
#include "gofer/server.h"
#include "host/fs.h"
#include "host/host.h"
#include "wire/boot.h"

#define STACK_SIZE (64u * 1024)

struct export {
    struct server server;
    int channel;
    pthread_t thread;
};

static void *export_main(void *arg)
{
    struct export *e = arg;
    server_run(&e->server, e->channel);
    return NULL;
}

// Maps the boot message; -errno.
static int read_message(int fd, struct boot_gofer *ret)
{
    struct statx st;
    int r = host_fstatx(fd, &st);
    if (r < 0)
        return r;
    if (st.stx_size == 0 || st.stx_size > BOOT_SIZE_MAX)
        return -EBADMSG;
    void *p = host_mmap(NULL, st.stx_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (host_is_error(p))
        return (int)(intptr_t)p;
    r = boot_decode_gofer(p, st.stx_size, ret);
    host_close(fd);
    return r;
}

// The first mount is served by the main thread, so that the usual gofer has no other.
static int serve(struct export *exports, u32 count)
{
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_SIZE);
    for (u32 i = 1; i < count; i++) {
        int r = pthread_create(&exports[i].thread, &attr, export_main, &exports[i]);
        if (r) {
            log_error("no thread for mount %u: error %d", i, r);
            return 1;
        }
    }
    export_main(&exports[0]);
    for (u32 i = 1; i < count; i++)
        pthread_join(exports[i].thread, NULL);
    return 0;
}

// Gives back the pages of code that starting has brought in: serving needs a fraction of them, and an idle
// gofer is to be small. They are the file's own, so what is needed again comes again.
static void drop_start_code(void)
{
    extern const char __executable_start[], etext[];
    u64 from = page_down((uintptr_t)__executable_start), to = page_down((uintptr_t)etext);
    host_madvise((void *)from, to - from, MADV_DONTNEED);
}

int main(int argc, char **argv)
{
    char *end = NULL;
    long fd = argc >= 2 ? strtol(argv[1], &end, 10) : -1;
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        host_write(1, "bailey-gofer " BAILEY_VERSION "\n", sizeof("bailey-gofer " BAILEY_VERSION));
        return 0;
    }
    struct boot_gofer boot;
    int r = fd < 0 || *end ? -EINVAL : read_message((int)fd, &boot);
    if (r < 0) {
        static const char usage[] = "bailey-gofer: started by bailey, with the number of a descriptor\n";
        host_write(2, usage, sizeof(usage) - 1);
        return 1;
    }
    log_init(boot.log_fd, (enum log_level)boot.log_level, "gofer");
    struct export *exports = calloc(boot.export_count, sizeof(*exports));
    r = exports ? server_prepare() : -ENOMEM;
    for (u32 i = 0; r == 0 && i < boot.export_count; i++) {
        const struct boot_export *b = &boot.exports[i];
        exports[i].channel = b->channel_fd;
        r = server_init(&exports[i].server, b->root_fd, b->write_fd, b->traits & BOOT_TRAIT_FILE,
                        b->readonly);
    }
    if (r == 0)
        r = gofer_jail(&boot);
    if (r < 0) {
        log_error("cannot start: error %d", -r);
        free(exports);
        return 1;
    }
    log_debug("serving %u mounts", boot.export_count);
    drop_start_code();
    if (boot.export_count)
        return serve(exports, boot.export_count);
    free(exports);
    return 0;
}
