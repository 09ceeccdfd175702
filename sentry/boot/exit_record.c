// SPDX-License-Identifier: Apache-2.0
#include "sentry/boot/exit_record.h"

#include <sys/mman.h>

#include "host/host.h"
#include "wire/exit_record.h"

static struct exit_record *record; // of this process; NULL: none

int exit_record_open(int fd)
{
    if (fd < 0)
        return 0;
    void *p = host_mmap(NULL, EXIT_RECORD_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    host_close(fd);
    if (host_is_error(p))
        return (int)(intptr_t)p;
    record = p;
    return 0;
}

void exit_record_set(int wait_status)
{
    if (!record)
        return;
    record->status = (u32)wait_status & 0xffff;
    __atomic_store_n(&record->magic, EXIT_RECORD_MAGIC, __ATOMIC_RELEASE);
}
