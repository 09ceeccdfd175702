// SPDX-License-Identifier: Apache-2.0
// Always-on assertions. They state what no input can make false: guest input that reaches one is a
// bug of its own.
#ifndef BAILEY_BASE_BUG_H
#define BAILEY_BASE_BUG_H

#include "base/types.h"

// Reports the broken invariant and ends the process by SIGABRT.
_Noreturn void bug_report(const char *file, int line, const char *expr);

#define bug_on(cond)                                                                               \
    do {                                                                                           \
        if (unlikely(cond))                                                                        \
            bug_report(__FILE__, __LINE__, #cond);                                                 \
    } while (0)

#define unreachable_bug() bug_report(__FILE__, __LINE__, "unreachable")

#endif
