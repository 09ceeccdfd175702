// SPDX-License-Identifier: Apache-2.0
// Makes the system calls of these numbers, without arguments, and prints what each returns. For
// tests/integration/lifecycle.test.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        printf("%ld\n", syscall(atol(argv[i]), 0, 0, 0, 0, 0, 0) < 0 ? -(long)errno : 0l);
    return 0;
}
