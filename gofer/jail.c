// SPDX-License-Identifier: Apache-2.0
#include "gofer/jail.h"

#include <sys/prctl.h>

#include "host/syscall.h"

int gofer_jail(const struct boot_gofer *boot)
{
    int r = (int)host_sys(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (r == 0)
        r = (int)host_sys(SYS_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);
    return r;
}
