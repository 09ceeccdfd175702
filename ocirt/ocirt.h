// SPDX-License-Identifier: Apache-2.0
// libocirt: drives the command of an OCI runtime (bailey, runc, crun, runsc, ...) from C.
//
// A `struct ocirt` says which runtime and how it is called; each operation runs the runtime's
// command once and waits for it. Everything is an opaque object with a `_new` and a `_free`;
// `_free` takes NULL.
//
// Return values: 0 (or what is said) on success, else a negative errno:
//   -EREMOTEIO  the runtime ended with a status other than 0, or by a signal
//   -EBADMSG    the runtime answered what cannot be understood
//   -EFBIG      the runtime printed more than the client's limit, and was killed
//   -ETIMEDOUT  the deadline passed; the runtime was killed
//   -ECANCELED  the cancellation descriptor became readable; the runtime was killed
//   -ENOENT, -EACCES, ...  the runtime could not be started
//   -EINVAL     an argument or an option that the operation does not have
//   -ENOMEM     out of memory
// Every operation takes a `struct ocirt_error *` (or NULL), which it clears at first and fills when
// it fails. `ret_` arguments are set on success only.
//
// Threads: a client may be used by many threads at once once it is set up; the other objects belong
// to one thread at a time. The library has no state of its own, installs no signal handler and
// prints nothing.
//
// Children: the default monitor starts processes with a pidfd and waits for that one alone. A
// program that ignores SIGCHLD, or that reaps every child with wait(-1), supplies a monitor
// (ocirt_set_monitor).
//
// Needs Linux 5.4 or later (waitid P_PIDFD).
#ifndef OCIRT_H
#define OCIRT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ocirt;         // a client: which runtime, with which global options
struct ocirt_options; // what one call is told besides its arguments
struct ocirt_error;   // why a call failed
struct ocirt_doc;     // a JSON document, read only
struct ocirt_io;      // the three standard streams of a command
struct ocirt_socket;  // a listening socket that receives one descriptor
struct ocirt_events;  // a running `events` command
struct ocirt_command; // a command about to be started, as a monitor sees it

// ---- Errors ----

// Returns NULL when out of memory.
struct ocirt_error *ocirt_error_new(void);
void ocirt_error_free(struct ocirt_error *e);

// The negative errno of the last failure, 0 if there was none.
int ocirt_error_code(const struct ocirt_error *e);

// One line that says what failed and why; "" if nothing did. These texts live as long as `e` is not
// used again.
const char *ocirt_error_message(const struct ocirt_error *e);

// The runtime's exit status, 128+N when signal N ended it, -1 when it did not run to its end.
int ocirt_error_exit_status(const struct ocirt_error *e);

// What the runtime printed on its standard output and error, as far as this library read them (at
// most the last 64 KiB); "" when they were given to somebody else (ocirt_options_set_io).
const char *ocirt_error_output(const struct ocirt_error *e);

// The message of the last line of level "error" that the runtime added to its JSON log
// (ocirt_set_log, OCIRT_LOG_FILE) or, without a log file, printed; "" if there is none.
const char *ocirt_error_log(const struct ocirt_error *e);

// ---- The client ----

enum ocirt_log_format { OCIRT_LOG_NONE = 0,
                        OCIRT_LOG_JSON = 1,
                        OCIRT_LOG_TEXT = 2 };
enum ocirt_rootless { OCIRT_ROOTLESS_AUTO = 0,
                      OCIRT_ROOTLESS_TRUE = 1,
                      OCIRT_ROOTLESS_FALSE = 2 };

// A client of `command`, a path or a name that is looked for in PATH at each call. NULL when out of
// memory.
struct ocirt *ocirt_new(const char *command);
void ocirt_free(struct ocirt *rt);

// The global options. A text is copied; NULL or "" takes the option away. Each returns 0, -EINVAL
// or -ENOMEM.
int ocirt_set_command(struct ocirt *rt, const char *command);
int ocirt_set_root(struct ocirt *rt, const char *directory);              // --root
int ocirt_set_log(struct ocirt *rt, const char *path);                    // --log
int ocirt_set_log_format(struct ocirt *rt, enum ocirt_log_format format); // --log-format
int ocirt_set_debug(struct ocirt *rt, bool on);                           // --debug
int ocirt_set_systemd_cgroup(struct ocirt *rt, bool on);                  // --systemd-cgroup
int ocirt_set_rootless(struct ocirt *rt, enum ocirt_rootless rootless);   // --rootless=
int ocirt_add_arg(struct ocirt *rt, const char *arg);                     // after the others, in order

// The directory that the runtime starts in (default: the caller's), and variables added to its
// environment as "NAME=value" (which is the caller's without NOTIFY_SOCKET).
int ocirt_set_work_dir(struct ocirt *rt, const char *directory);
int ocirt_add_env(struct ocirt *rt, const char *name_value);

// The signal that the runtime gets when the thread that called dies (0: none, the default);
// prctl(2), PR_SET_PDEATHSIG.
int ocirt_set_death_signal(struct ocirt *rt, int signal_number);

// Whether the runtime gets a process group of its own; a deadline then kills the whole group.
int ocirt_set_process_group(struct ocirt *rt, bool on);

// The time limit of each call that sets none itself, in milliseconds; -1 (the default): none.
int ocirt_set_timeout(struct ocirt *rt, int milliseconds);

// How much a command may print, in bytes (default 16 MiB).
int ocirt_set_output_limit(struct ocirt *rt, size_t bytes);

// ---- Monitors ----

struct ocirt_exit {
    struct timespec time; // CLOCK_REALTIME
    pid_t pid;
    int status; // exit status, or 128+N
    int signal; // N when signal N ended it, else 0
};

struct ocirt_child {
    pid_t pid;
    int fd;       // readable when the process has ended; belongs to the monitor
    void *handle; // the monitor's own
};

// Starts, watches and reaps the runtime's processes. Its functions are called from every thread
// that uses the client.
struct ocirt_monitor {
    size_t size; // sizeof(struct ocirt_monitor)
    void *data;  // first argument of each

    // Starts the command, usually by ocirt_command_spawn; fills *child. Returns 0 or a negative
    // errno.
    int (*start)(void *data, const struct ocirt_command *command, struct ocirt_child *child);

    // Waits until the child has ended, gives up child->fd and handle. Called exactly once for each
    // start.
    int (*wait)(void *data, struct ocirt_child *child, struct ocirt_exit *ret_exit);

    // Sends a signal to the child, or to its process group when `group`. The child may have ended.
    int (*kill)(void *data, struct ocirt_child *child, int signal_number, bool group);
};

// NULL: the default again. *monitor is copied.
int ocirt_set_monitor(struct ocirt *rt, const struct ocirt_monitor *monitor);

// Starts the command's process. *ret_pidfd is a new descriptor that the caller closes; NULL: not
// wanted.
int ocirt_command_spawn(const struct ocirt_command *command, pid_t *ret_pid, int *ret_pidfd);

// The command's arguments, ended by NULL.
char *const *ocirt_command_argv(const struct ocirt_command *command);

// ---- Options of a call ----

// The numbers are part of the ABI. In brackets: the operations that have it.
enum ocirt_option {
    // flags (ocirt_options_set_flag)
    OCIRT_DETACH = 1,          // [create run exec restore]
    OCIRT_NO_PIVOT = 2,        // [create run restore]
    OCIRT_NO_NEW_KEYRING = 3,  // [create run]
    OCIRT_NO_SUBREAPER = 4,    // [run restore]
    OCIRT_FORCE = 5,           // [delete]
    OCIRT_ALL = 6,             // [kill]
    OCIRT_TCP_ESTABLISHED = 7, // [checkpoint restore], and so are the next four
    OCIRT_EXT_UNIX_SK = 8,
    OCIRT_SHELL_JOB = 9,
    OCIRT_FILE_LOCKS = 10,
    OCIRT_LAZY_PAGES = 11,
    OCIRT_LEAVE_RUNNING = 12, // [checkpoint]
    OCIRT_PRE_DUMP = 13,      // [checkpoint]

    // texts (ocirt_options_set_text)
    OCIRT_PID_FILE = 100,       // [create run exec restore]; made absolute
    OCIRT_CONSOLE_SOCKET = 101, // [create run exec restore]; a path
    OCIRT_PIDFD_SOCKET = 102,   // [create run exec]; a path
    OCIRT_LOG_FILE = 103,       // [any]; in place of the client's log
    OCIRT_IMAGE_PATH = 104,     // [checkpoint restore], and so are the next five
    OCIRT_WORK_PATH = 105,
    OCIRT_PARENT_PATH = 106,
    OCIRT_PAGE_SERVER = 107,  // "address:port"
    OCIRT_CGROUPS_MODE = 108, // "soft", "full" or "strict"
    OCIRT_EMPTY_NS = 109,     // may be set several times
    OCIRT_ARG = 110,          // [any]; an argument more, before the ID; may be set several times

    // descriptors (ocirt_options_set_fd); they stay the caller's
    OCIRT_EXTRA_FD = 200,  // [create run]; passed as 3, 4, ... with --preserve-fds; several times
    OCIRT_STATUS_FD = 201, // [checkpoint]
    OCIRT_CANCEL_FD = 202, // [any]; the call is given up when it becomes readable
};

struct ocirt_options *ocirt_options_new(void);
void ocirt_options_free(struct ocirt_options *o);

// Each returns 0, -EINVAL (an option of another kind) or -ENOMEM. Texts are copied. NULL takes a
// text away.
int ocirt_options_set_flag(struct ocirt_options *o, enum ocirt_option option, bool on);
int ocirt_options_set_text(struct ocirt_options *o, enum ocirt_option option, const char *text);
int ocirt_options_set_fd(struct ocirt_options *o, enum ocirt_option option, int fd);

// The time limit of the call, in milliseconds; -1: none.
int ocirt_options_set_timeout(struct ocirt_options *o, int milliseconds);

// The standard streams [create run exec restore], for one call. `io` is lent until the call has
// returned.
int ocirt_options_set_io(struct ocirt_options *o, struct ocirt_io *io);

// Called with the pid of the runtime's process as soon as it has started, from the calling thread.
int ocirt_options_set_started(struct ocirt_options *o, void (*started)(void *data, pid_t pid),
                              void *data);

// ---- Operations. `o` and `e` may be NULL everywhere. ----

// create --bundle: the container waits to be started. Give streams (ocirt_options_set_io) or a
// console socket: without them the container holds the ends of pipes that nobody reads when the
// call has returned.
int ocirt_create(const struct ocirt *rt, const char *id, const char *bundle,
                 const struct ocirt_options *o, struct ocirt_error *e);
int ocirt_start(const struct ocirt *rt, const char *id, const struct ocirt_options *o,
                struct ocirt_error *e);

// run, exec, restore: a status other than 0 (the container's own, or the runtime's for a failure of
// its) is an error when ret_status is NULL. Otherwise it is given there and the call succeeds; `e`
// still tells of it.
int ocirt_run(const struct ocirt *rt, const char *id, const char *bundle,
              const struct ocirt_options *o, int *ret_status, struct ocirt_error *e);

// `process` is the text of an OCI process document.
int ocirt_exec(const struct ocirt *rt, const char *id, const char *process,
               const struct ocirt_options *o, int *ret_status, struct ocirt_error *e);
int ocirt_checkpoint(const struct ocirt *rt, const char *id, const struct ocirt_options *o,
                     struct ocirt_error *e);
int ocirt_restore(const struct ocirt *rt, const char *id, const char *bundle,
                  const struct ocirt_options *o, int *ret_status, struct ocirt_error *e);
int ocirt_kill(const struct ocirt *rt, const char *id, int signal_number,
               const struct ocirt_options *o, struct ocirt_error *e);
int ocirt_delete(const struct ocirt *rt, const char *id, const struct ocirt_options *o,
                 struct ocirt_error *e);
int ocirt_pause(const struct ocirt *rt, const char *id, const struct ocirt_options *o,
                struct ocirt_error *e);
int ocirt_resume(const struct ocirt *rt, const char *id, const struct ocirt_options *o,
                 struct ocirt_error *e);

// update --resources=-: `resources` is the text of an OCI linux.resources document.
int ocirt_update(const struct ocirt *rt, const char *id, const char *resources,
                 const struct ocirt_options *o, struct ocirt_error *e);

// An array of states (below).
int ocirt_list(const struct ocirt *rt, const struct ocirt_options *o, struct ocirt_doc **ret_list,
               struct ocirt_error *e);

// /id /pid /status /bundle /rootfs /created /annotations (OCI runtime specification, "State")
int ocirt_state(const struct ocirt *rt, const char *id, const struct ocirt_options *o,
                struct ocirt_doc **ret_state, struct ocirt_error *e);

// The host's pids of the container's processes; *ret_pids is for free(3).
int ocirt_ps(const struct ocirt *rt, const char *id, const struct ocirt_options *o,
             pid_t **ret_pids, size_t *ret_count, struct ocirt_error *e);

// The table that ps(1) prints with `ps_options` (NULL: the runtime's default): /Headers is an array
// of names, /Processes one of rows.
int ocirt_top(const struct ocirt *rt, const char *id, const char *ps_options,
              const struct ocirt_options *o, struct ocirt_doc **ret_table, struct ocirt_error *e);

// events --stats: /cpu /memory /pids /blkio /hugetlb /network_interfaces
int ocirt_stats(const struct ocirt *rt, const char *id, const struct ocirt_options *o,
                struct ocirt_doc **ret_stats, struct ocirt_error *e);

// /name /version /commit /spec; what the runtime does not say is missing.
int ocirt_version(const struct ocirt *rt, const struct ocirt_options *o,
                  struct ocirt_doc **ret_version, struct ocirt_error *e);

// OCI runtime specification, "Features"
int ocirt_features(const struct ocirt *rt, const struct ocirt_options *o,
                   struct ocirt_doc **ret_features, struct ocirt_error *e);

// ---- The stream of events ----

// Starts `events --interval=Ns`. The options' time limit is not that of the stream; the client's is
// not either.
int ocirt_events_open(const struct ocirt *rt, const char *id, unsigned interval_seconds,
                      const struct ocirt_options *o, struct ocirt_events **ret_events,
                      struct ocirt_error *e);

// The next event: /type ("stats", "oom"), /id, /data. Waits for it, as long as `o` allows.
// Returns 1, 0 when the runtime has ended, or a negative errno; after -EBADMSG (a line that is no
// event), -ETIMEDOUT and -ECANCELED the stream can be read on.
int ocirt_events_next(struct ocirt_events *events, const struct ocirt_options *o,
                      struct ocirt_doc **ret_event, struct ocirt_error *e);

// Becomes readable when ocirt_events_next may have something. Belongs to the stream.
int ocirt_events_fd(const struct ocirt_events *events);

// Ends the runtime's process and frees the stream.
void ocirt_events_close(struct ocirt_events *events);

// ---- JSON documents ----
// A value is named by a JSON pointer (RFC 6901): "/memory/usage/limit", "/0/id", "" for the whole.

// Parses `text`. Returns 0, -EBADMSG or -ENOMEM.
int ocirt_doc_parse(const char *text, size_t size, struct ocirt_doc **ret_doc);
void ocirt_doc_free(struct ocirt_doc *doc);

// The text of a string, a number or a boolean; NULL when there is no such value. Lives as long as
// the document.
const char *ocirt_doc_string(const struct ocirt_doc *doc, const char *pointer);

// A number or a boolean. Return 0, or -ENOENT (no such value, or of another type).
int ocirt_doc_number(const struct ocirt_doc *doc, const char *pointer, uint64_t *ret_number);
int ocirt_doc_double(const struct ocirt_doc *doc, const char *pointer, double *ret_number);

// An RFC 3339 time.
int ocirt_doc_time(const struct ocirt_doc *doc, const char *pointer, struct timespec *ret_time);

// How many members an object or an array has; 0 when there is none.
size_t ocirt_doc_count(const struct ocirt_doc *doc, const char *pointer);

// The name of an object's member number `index`, NULL when there is none.
const char *ocirt_doc_key(const struct ocirt_doc *doc, const char *pointer, size_t index);

// The whole document, as text.
const char *ocirt_doc_text(const struct ocirt_doc *doc);

// ---- Standard streams ----

enum ocirt_stream { OCIRT_STDIN = 1,
                    OCIRT_STDOUT = 2,
                    OCIRT_STDERR = 4 };

// Pipes for the streams in `streams` (a sum), their child's ends owned by uid and gid (-1: leave);
// /dev/null for the others.
int ocirt_io_new_pipes(unsigned streams, uid_t uid, gid_t gid, struct ocirt_io **ret_io);

// /dev/null for all three.
int ocirt_io_new_null(struct ocirt_io **ret_io);

// The caller's own streams 0, 1 and 2.
int ocirt_io_new_inherit(struct ocirt_io **ret_io);

// Files: the input is read, the outputs are created as needed and appended to. The same path for
// both outputs is opened once. NULL: /dev/null.
int ocirt_io_new_files(const char *in, const char *out, const char *err, struct ocirt_io **ret_io);

// FIFOs, made (mode 0600) if they are not there. Nothing waits for another side to open them. The
// command sees no end of its input before ocirt_io_close(io, OCIRT_STDIN). NULL: /dev/null.
int ocirt_io_new_fifos(const char *in, const char *out, const char *err, struct ocirt_io **ret_io);

// The caller's end of a pipe: written for OCIRT_STDIN, read for the others. -1 when there is none.
int ocirt_io_fd(const struct ocirt_io *io, enum ocirt_stream stream);

// As ocirt_io_fd; the descriptor is the caller's from then on.
int ocirt_io_take_fd(struct ocirt_io *io, enum ocirt_stream stream);

// Closes the caller's end.
void ocirt_io_close(struct ocirt_io *io, enum ocirt_stream stream);

// Closes what the command was given. The operations do it once the command has started.
void ocirt_io_close_child(struct ocirt_io *io);
void ocirt_io_free(struct ocirt_io *io);

// ---- Consoles and pidfds over sockets ----

// Listens at `path`, which must not exist; _new_temp in a new directory below XDG_RUNTIME_DIR or
// /tmp.
int ocirt_socket_new(const char *path, struct ocirt_socket **ret_socket);
int ocirt_socket_new_temp(struct ocirt_socket **ret_socket);

// For OCIRT_CONSOLE_SOCKET and OCIRT_PIDFD_SOCKET.
const char *ocirt_socket_path(const struct ocirt_socket *s);

// Becomes readable when a runtime has connected.
int ocirt_socket_fd(const struct ocirt_socket *s);

// Waits for the descriptor (the terminal's master side, a pidfd), as long as `o` allows. It is the
// caller's.
int ocirt_socket_receive(struct ocirt_socket *s, const struct ocirt_options *o, int *ret_fd);

// Closes the socket and removes it (and its directory).
void ocirt_socket_free(struct ocirt_socket *s);

// ---- Others ----

// The pid in a file that the runtime wrote. Returns 0, -EBADMSG, or why it could not be read.
int ocirt_read_pid_file(const char *path, pid_t *ret_pid);

#ifdef __cplusplus
}
#endif
#endif
