// SPDX-License-Identifier: Apache-2.0
// What the sources of libocirt share. Nothing of it is exported (ocirt.map); names start with
// `oi_`.
//
// A call (struct oi_call) is one command of the runtime: oi_call_init builds the arguments that
// every command has, oi_call_run starts it, gathers what it prints, keeps the deadline and turns
// its end into an error. Events keep a call open by oi_call_start and oi_call_end.
#ifndef OCIRT_INTERNAL_H
#define OCIRT_INTERNAL_H

#include "ocirt/ocirt.h"

#define OI_FDS_MAX 64               // descriptors that a command can be given
#define OI_TAIL (64 * 1024)         // what an error keeps of the output
#define OI_LOG_TAIL (256 * 1024)    // how much of the log is looked at
#define OI_OUTPUT_LIMIT (16u << 20) // default of ocirt_set_output_limit

// ---- A list of strings, ended by NULL once it holds any ----
struct oi_strv {
    char **v;
    size_t count;
};
int oi_strv_add(struct oi_strv *s, const char *text);
int oi_strv_addf(struct oi_strv *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int oi_strv_add_all(struct oi_strv *s, const struct oi_strv *more);
void oi_strv_fini(struct oi_strv *s);

// ---- Bytes gathered; data is always ended by a 0 that does not count ----
struct oi_buf {
    char *data;
    size_t size, capacity;
};
int oi_buf_add(struct oi_buf *b, const char *data, size_t size);
// As oi_buf_add, and forgets the oldest bytes beyond OI_TAIL.
int oi_buf_add_tail(struct oi_buf *b, const char *data, size_t size);
void oi_buf_cut(struct oi_buf *b, size_t size); // forgets the first `size` bytes
void oi_buf_fini(struct oi_buf *b);

// Replaces *slot by a copy of `text` (NULL or "": none). 0 or -ENOMEM.
int oi_text_set(char **slot, const char *text);

// ---- The objects ----
struct ocirt {
    char *command, *root, *log, *work_dir;
    enum ocirt_log_format log_format;
    enum ocirt_rootless rootless;
    bool debug, systemd_cgroup, group;
    int death_signal, timeout;
    size_t output_limit;
    struct oi_strv args, env;
    struct ocirt_monitor monitor;
};

#define OI_TEXTS 9 // OCIRT_PID_FILE ... OCIRT_CGROUPS_MODE

struct ocirt_options {
    uint32_t flags; // 1 << option
    char *texts[OI_TEXTS];
    struct oi_strv empty_ns, args;
    int extra_fds[OI_FDS_MAX - 3];
    size_t extra_count;
    int status_fd, cancel_fd;
    int timeout;
    bool has_timeout;
    struct ocirt_io *io;
    void (*started)(void *data, pid_t pid);
    void *started_data;
};

struct ocirt_error {
    int code, exit_status;
    char *message, *output, *log;
};

struct ocirt_command {
    const char *path;
    char *const *argv;
    char *const *envp;
    const char *work_dir; // NULL: the caller's
    const int *fds;       // become 0, 1, 2, ...
    size_t fd_count;
    int death_signal;
    bool group;
};

// ---- Errors ----
// Keeps `code` (a negative errno) and the message; returns code. `e` may be NULL.
int oi_error_set(struct ocirt_error *e, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void oi_error_clear(struct ocirt_error *e);
// Takes texts over into the error (may be NULL).
void oi_error_take(struct ocirt_error *e, int exit_status, struct oi_buf *output, char *log);

// ---- The runtime's log ----
// The size of the log file now, -1 when there is none yet or it is no file.
int64_t oi_log_size(const char *path);
// The message of the last line of level "error" after `from`; for free(3), or NULL.
char *oi_log_last_error(const char *path, int64_t from);
char *oi_log_last_error_in(const char *text, size_t size);

// ---- Options ----
enum oi_verb {
    OI_CREATE,
    OI_START,
    OI_RUN,
    OI_EXEC,
    OI_CHECKPOINT,
    OI_RESTORE,
    OI_KILL,
    OI_DELETE,
    OI_PAUSE,
    OI_RESUME,
    OI_UPDATE,
    OI_LIST,
    OI_STATE,
    OI_PS,
    OI_EVENTS,
    OI_VERSION,
    OI_FEATURES,
    OI_VERB_COUNT,
};
extern const char *const oi_verb_names[OI_VERB_COUNT];
// Refuses options that the verb does not have.
int oi_options_check(const struct ocirt_options *o, enum oi_verb verb, struct ocirt_error *e);
// Adds the options' arguments, in go-runc's order.
int oi_options_args(const struct ocirt_options *o, enum oi_verb verb, struct oi_strv *argv);
const char *oi_options_text(const struct ocirt_options *o, enum ocirt_option option);
int oi_client_args(const struct ocirt *rt, const char *log_file, struct oi_strv *argv);

// ---- Deadlines ----
struct oi_deadline {
    int64_t end; // CLOCK_MONOTONIC, ns; -1: none
    int cancel_fd;
};
struct oi_deadline oi_deadline_of(const struct ocirt *rt, const struct ocirt_options *o);
struct pollfd;
// poll(2) on at most 6 descriptors. Returns how many are ready, -ETIMEDOUT, -ECANCELED or another
// error.
int oi_poll(struct pollfd *fds, size_t count, const struct oi_deadline *d);

// ---- Calls ----
struct oi_call {
    const struct ocirt *rt;
    const struct ocirt_options *o;
    enum oi_verb verb;
    const char *id; // for messages; may be NULL
    struct oi_strv argv;
    int stdin_fd; // -1: /dev/null; not the call's
    const char *log_path;
    int64_t log_from;
    struct ocirt_child child;
    bool running;
    int out_fd, err_fd; // read ends, or -1
    struct oi_buf out;  // standard output
    struct oi_buf tail; // the end of both
    bool by_piece;      // read a piece at a time: the reader uses it up in between
    size_t printed;
    struct ocirt_exit exit;
};
// Checks id and options, clears `e`, sets up argv with everything up to and including the options
// of the verb.
int oi_call_init(struct oi_call *c, const struct ocirt *rt, enum oi_verb verb, const char *id,
                 const struct ocirt_options *o, struct ocirt_error *e);
int oi_call_start(struct oi_call *c, struct ocirt_error *e);
// Reads what is there now from one of the pipes; closes it at its end. 0 or -errno.
int oi_call_read(struct oi_call *c, int *fd, struct oi_buf *out);
// Waits for the process, after a signal if signal_number is not 0.
int oi_call_end(struct oi_call *c, int signal_number);
// Fills the error for the exit of the process; 0 for status 0.
int oi_call_result(struct oi_call *c, struct ocirt_error *e);
// All of it: start, gather, end. ret_status as in ocirt_run, or NULL.
int oi_call_run(struct oi_call *c, int *ret_status, struct ocirt_error *e);
void oi_call_fini(struct oi_call *c);

// ---- Others ----
extern const struct ocirt_monitor oi_default_monitor;
const int *oi_io_child_fds(const struct ocirt_io *io);
int oi_doc_new(void *object, struct ocirt_doc **ret_doc); // takes a json_object over
void *oi_doc_object(struct ocirt_doc *doc);
// As ocirt_doc_parse, with the call's message in `e`.
int oi_call_doc(struct oi_call *c, struct ocirt_doc **ret_doc, struct ocirt_error *e);
void oi_close(int *fd); // and sets it to -1

#endif
