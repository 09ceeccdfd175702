// SPDX-License-Identifier: Apache-2.0
// What the sanitizers' run-time libraries are told, in builds with -Db_sanitize only: the programs are started without
// an environment. Reports go to files, since descriptor 2 may be the container's; `make check-sanitize`
// looks for them.
#include <stdio.h>

#define REPORT_FILE "/var/tmp/bailey-sanitizer"
#define REPORTS "log_path=" REPORT_FILE

void __sanitizer_set_report_path(const char *path);

// Every sentry is process 1 of its namespace: the number alone, which is added, would not tell them apart.
__attribute__((constructor)) static void choose_report(void)
{
    char path[64];
    snprintf(path, sizeof(path), REPORT_FILE ".%llx", __builtin_ia32_rdtsc());
    __sanitizer_set_report_path(path);
}

const char *__tsan_default_suppressions(void);

const char *__tsan_default_suppressions(void)
{
    // A child of vfork(2) has descriptors of its own, which the sanitizer takes for ours.
    return "race:set_up_child\n"
           // Who holds a stale handle meets an object that is being set up anew, at most: it is always one of this
           // kind, and an interrupt that was meant for another does no harm (platform/internal.h).
           "race_top:pt_thread_alloc\n";
}

const char *__asan_default_options(void);
const char *__ubsan_default_options(void);
const char *__tsan_default_options(void);

// Faults are the sentry's own business (safecopy, crash reports), and so are its threads' stacks for them.
const char *__asan_default_options(void)
{
    return REPORTS ":detect_leaks=0:abort_on_error=1:handle_segv=0:handle_sigbus=0:use_sigaltstack=0";
}

const char *__ubsan_default_options(void)
{
    return REPORTS ":print_stacktrace=1:halt_on_error=1:exitcode=86";
}

const char *__tsan_default_options(void)
{
    return REPORTS ":handle_segv=0:handle_sigbus=0:use_sigaltstack=0:report_signal_unsafe=0:"
                   "report_thread_leaks=0:report_destroy_locked=0:exitcode=0:history_size=4";
}
