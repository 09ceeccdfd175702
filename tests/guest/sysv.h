// SPDX-License-Identifier: Apache-2.0
// What the tests of System V IPC share.
#ifndef BAILEY_TESTS_GUEST_SYSV_H
#define BAILEY_TESTS_GUEST_SYSV_H

#include "t.h"

#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>

enum { SHM, SEM, MSG };
struct object {
    int kind, id;
};

// Objects outlive the case that makes them. Where they would stay on the host, a process beside the case removes them
// when the case has ended: it is told of each by a pipe.
static inline void remove_at_end(int fd)
{
    struct object objects[64];
    int count = 0;
    while (count < 64 && read(fd, &objects[count], sizeof(objects[0])) == sizeof(objects[0]))
        count++;
    for (int i = 0; i < count; i++) {
        if (objects[i].kind == SHM)
            shmctl(objects[i].id, IPC_RMID, NULL);
        else if (objects[i].kind == SEM)
            semctl(objects[i].id, 0, IPC_RMID);
        else
            msgctl(objects[i].id, IPC_RMID, NULL);
    }
    _exit(0);
}

static inline int keep(int kind, long id)
{
    static int fd = -1;
    struct object o = {kind, (int)id};
    CHECK(id >= 0);
    if (getenv("T_IN_BAILEY"))
        return (int)id;
    if (fd < 0) {
        int pipe_fd[2];
        SYS(pipe2(pipe_fd, O_CLOEXEC));
        if (SYS(fork()) == 0) {
            close(pipe_fd[1]);
            setsid();
            if (fork() == 0)
                remove_at_end(pipe_fd[0]);
            _exit(0);
        }
        wait(NULL);
        close(pipe_fd[0]);
        fd = pipe_fd[1];
    }
    CHECK_EQ(write(fd, &o, sizeof(o)), sizeof(o));
    return (int)id;
}

static inline key_t some_key(void)
{
    return 0x62610000 | (getpid() & 0xffff);
}


#endif
