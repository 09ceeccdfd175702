// SPDX-License-Identifier: Apache-2.0
// The boot message: all that the sentry or the gofer is told when it starts. bailey parses JSON and
// paths; the others get this bounded binary message and open file descriptors.
//
// Passing: bailey writes the message to a memory file and starts `bailey-sentry FD` (`bailey-gofer
// FD`), FD being its number. The descriptors that the message names are inherited under those
// numbers, everything else is closed. Numbers below 3 are always open (/dev/null when not used).
//
// Later messages go to a running sentry by its control connection (wire/control.h), which has no inherited
// descriptors: there a number is a place in the list of descriptors that came along, and
// boot_take_fds puts the sentry's own numbers in. A message of role BOOT_CONTAINER describes one more container; one of
// BOOT_EXEC a process in a container, and of it only `id`, `process`, `features`, `stdio` and `passed` are transmitted.
//
// Decoding validates in full: sizes, counts, that strings hold no NUL, that numbers are in range, that
// every absolute path is absolute and clean, that the first mount is the root. What a decoded message says is
// consistent; whether the descriptors are what it says is for the user of each to find out.
#ifndef BAILEY_WIRE_BOOT_H
#define BAILEY_WIRE_BOOT_H

#include "wire/codec.h"

#define BOOT_MAGIC 0x746f6f62u // "boot"
#define BOOT_VERSION 8
#define BOOT_SIZE_MAX (1u << 20)

enum boot_role {
    BOOT_SENTRY = 1,    // a sandbox with its first container
    BOOT_GOFER = 2,     // struct boot_gofer
    BOOT_CONTAINER = 3, // one more container for a sandbox
    BOOT_EXEC = 4,      // a process in a container
};

#define BOOT_STR_MAX 4095   // paths, names, options
#define BOOT_ARG_MAX 131071 // one argument or environment string, as Linux's MAX_ARG_STRLEN
#define BOOT_ARGS_MAX 65536
#define BOOT_MOUNTS_MAX 1024
#define BOOT_GIDS_MAX 65536
#define BOOT_ENTRIES_MAX 4096 // devices, masked and read-only paths, sysctls
#define BOOT_RLIMITS_MAX 16
#define BOOT_FILTER_MAX 4096
#define BOOT_PASSED_MAX 1024

struct boot_rlimit {
    u32 resource; // RLIMIT_* of Linux, below 16
    u64 soft, hard;
};

// What is mounted. The sentry implements each kind itself.
enum boot_mount_kind {
    BOOT_MOUNT_HOST,   // files of the host: a bind mount, or the root
    BOOT_MOUNT_TMPFS,
    BOOT_MOUNT_PROC,
    BOOT_MOUNT_SYSFS,
    BOOT_MOUNT_DEVTMPFS,
    BOOT_MOUNT_DEVPTS,
    BOOT_MOUNT_MQUEUE,
    BOOT_MOUNT_CGROUP, // an empty, read-only cgroup2 hierarchy
    BOOT_MOUNT_KINDS
};

// Bits of boot_mount.traits.
#define BOOT_TRAIT_EXCLUSIVE 1u // nobody outside the sandbox changes these files: cache freely
#define BOOT_TRAIT_OVERLAY 2u   // writes stay in memory: an overlay with a tmpfs above
#define BOOT_TRAIT_FILE 4u      // the source is not a directory: the mount point is a file
#define BOOT_TRAIT_MAKE_POINT 8u // the mount point may have to be made first (always harmless)
#define BOOT_TRAIT_COPY_UP 16u   // a tmpfs that begins with what the directory below it holds
#define BOOT_TRAIT_FOLLOWS 32u   // what the host mounts below it later appears: not detached, but attached in the
                                 // namespace of the sentry or gofer, as a slave
#define BOOT_TRAIT_READONLY_TOP 64u // read-only itself, as the host's kernel enforces; mounts below it may be writable
#define BOOT_TRAITS_ALL 127u

// Mounts come in the order of mounting; the first has the destination "/" and is BOOT_MOUNT_HOST.
struct boot_mount {
    const char *destination; // absolute, clean; symlinks in it are resolved inside the root by the sentry
    u32 kind;                // enum boot_mount_kind
    u32 traits;              // BOOT_TRAIT_*
    u64 flags;               // MS_* of mount(2): RDONLY NOSUID NODEV NOEXEC SYNCHRONOUS NOATIME
                             // NODIRATIME RELATIME STRICTATIME DIRSYNC NOSYMFOLLOW, and of propagation SHARED SLAVE
                             // PRIVATE UNBINDABLE with REC
    const char *source;      // for /proc/mounts
    const char *fstype;      // for /proc/mounts
    const char *data;        // the file system's own options, comma-separated ("mode=755,size=65536k")
    // BOOT_MOUNT_HOST. With directfs: `root_fd` is an O_PATH descriptor of the mounted directory, the
    // root of a detached mount tree: nothing above it can be reached and host-side flags such as
    // read-only hold whatever the sentry does. If the source is a file (BOOT_TRAIT_FILE),
    // `root_fd` is open O_RDONLY (regular files) or O_PATH (others) and `write_fd` O_RDWR, or
    // -1 for a read-only mount. Without directfs both are -1 and `gofer_fd` is this mount's channel to the
    // gofer (wire/file.h); with directfs there is no gofer and it is -1.
    s32 root_fd;
    s32 write_fd;
    s32 gofer_fd;
};

// A device node to be made in the container's /dev (linux.devices).
struct boot_device {
    const char *path; // absolute, clean
    u8 type;          // 'c', 'b' or 'p'
    u32 major, minor;
    u32 mode; // permission bits
    u32 uid, gid;
};

struct boot_sysctl {
    const char *name;  // dotted: kernel.shm_rmid_forced
    const char *value;
};

// One line of an id map (linux.uidMappings).
struct boot_idmap {
    u32 container, host, size;
};

struct boot_process {
    const char **args; // ends by NULL; at least one
    u32 arg_count;
    const char **env; // ends by NULL
    u32 env_count;
    const char *cwd; // absolute, clean
    u32 uid, gid;
    u32 *gids; // additional groups
    u32 gid_count;
    u32 umask;
    struct boot_rlimit *rlimits;
    u32 rlimit_count;
    u64 cap_effective, cap_permitted, cap_inheritable, cap_bounding, cap_ambient;
    bool no_new_privs;
    bool terminal;         // stdio is a terminal of the guest's own, backed by the descriptors
    u16 console_rows;      // 0: not told
    u16 console_columns;
    s32 oom_score_adj;
    u64 *filter; // linux.seccomp as a BPF program, each a struct sock_filter; verified by the sentry
    u32 filter_count; // 0: none
};

enum boot_strace { BOOT_STRACE_OFF, BOOT_STRACE_TEXT, BOOT_STRACE_JSON, BOOT_STRACE_MODES };

// Bits of boot_message.features.
#define BOOT_DIRECTFS 1u        // host mounts come as directory descriptors
#define BOOT_DIE_WITH_PARENT 2u // end when bailey ends (foreground run)
#define BOOT_AUTOSTART 4u       // start the container without waiting for CONTROL_START
#define BOOT_TRAP_VIOLATION 8u  // a system call outside the jail is reported before the sentry dies
#define BOOT_NO_REWRITE 16u     // platform: never rewrite system-call sites
#define BOOT_LISTEN_PID 32u     // the environment gets LISTEN_PID=, the process's pid in the container
#define BOOT_NOTIFY 64u         // make the socket below: CONTROL_NOTIFY tells of what is said there
#define BOOT_HOST_KILLS 128u    // the host has the container's memory limit, and stubs are whom it ends first
#define BOOT_FEATURES_ALL 255u

// Of sd_notify(3), in the container; the directory is one of the mounts.
#define BOOT_NOTIFY_DIR "/run/notify"
#define BOOT_NOTIFY_NAME "notify.sock"

struct boot_message {
    u32 role;       // enum boot_role; 0 is encoded as BOOT_SENTRY
    const char *id; // of the container
    const char *hostname;
    const char *domainname;
    struct boot_process process;
    struct boot_mount *mounts;
    u32 mount_count;
    struct boot_device *devices;
    u32 device_count;
    const char **masked_paths;
    u32 masked_count;
    const char **readonly_paths;
    u32 readonly_count;
    struct boot_sysctl *sysctls;
    u32 sysctl_count;
    struct boot_idmap *uid_maps; // for /proc/self/uid_map; empty: the identity
    u32 uid_map_count;
    struct boot_idmap *gid_maps;
    u32 gid_map_count;
    u32 log_level; // enum log_level
    u32 strace;    // enum boot_strace
    u32 features;  // BOOT_*
    // BOOT_CONTAINER: ids of the containers whose namespaces it shares; "": a new one of its own.
    const char *pid_ns_of, *uts_ns_of, *ipc_ns_of;
    const char *cgroup_path; // for /proc/self/cgroup: "/" unless told
    // Limits, 0: none.
    u64 memory_limit; // bytes
    u64 pids_limit;   // tasks
    u64 fds_limit;    // host descriptors that the sentry may keep open
    u32 cpu_count;    // CPUs that the guest sees
    u64 cpu_quota;    // what the guest is shown of its CPU limit: us in each cpu_period
    u64 cpu_period;   // us
    u64 cpu_weight;   // as cpu.weight has it; 0: not told
    // Descriptors (-1: none).
    s32 oom_fd;     // pipe for a byte a process killed for want of memory, if the host has not counted it. Not of
                    // BOOT_EXEC
    s32 stdio[3];   // the container's stdin, stdout, stderr (terminal: the raw terminal)
    // Descriptors of the host that the process gets as its 3, 4, ...: files, pipes, sockets (unix, inet), devices, and
    // of the anonymous ones eventfd and timerfd. Never a directory: what lies beside it could be reached from it.
    s32 *passed;
    u32 passed_count;
    // Instead of BOOT_NOTIFY, a socket of that kind which a client has mounted: a connection to it, by which READY=1 is
    // passed on to it, and its path in the container. Not of BOOT_EXEC.
    s32 notify_fd;
    const char *notify_path;
    // BOOT_SENTRY only, as is what follows.
    s32 log_fd;     // log lines
    s32 strace_fd;  // --strace lines
    s32 user_log_fd; // what the user is to hear of (--user-log)
    s32 control_fd; // SOCK_SEQPACKET, to the bailey that started the sandbox (wire/control.h)
    s32 listen_fd;  // listening SOCK_SEQPACKET socket in the state directory
    // Directories of the host's /proc about the sandbox's network namespace, mounts of their own: /proc/self/net and
    // /proc/sys/net. What they are is only tried: without them guests see defaults.
    s32 proc_net_fd;
    s32 sys_net_fd;
    s32 exit_fd;     // file for the record of the end (wire/exit_record.h)
    s32 snapshot_fd; // a snapshot to go on from, instead of starting the process; -1
    // Not transmitted: the sentry's main fills it in. The directory of the sandbox's private tmpfs (its
    // whole root), where memory files with names are made.
    s32 memdir_fd;
};

// For the gofer: the files that it serves.
struct boot_export {
    s32 root_fd;    // as in boot_mount
    s32 write_fd;
    s32 channel_fd; // the sentry's socket for this mount
    u32 traits;     // BOOT_TRAIT_FILE, BOOT_TRAIT_EXCLUSIVE
    bool readonly;
};

struct boot_gofer {
    u32 log_level;
    u32 features; // BOOT_TRAP_VIOLATION
    s32 log_fd;
    struct boot_export *exports;
    u32 export_count;
};

// Encodes a message into *ret_buf (freed by the caller). -EMSGSIZE when it would exceed
// BOOT_SIZE_MAX or one of the limits above, -EINVAL when boot_decode would refuse it, -ENOMEM.
int must_check boot_encode(const struct boot_message *m, void **ret_buf, size_t *ret_size);
int must_check boot_encode_gofer(const struct boot_gofer *m, void **ret_buf, size_t *ret_size);

// Decodes and validates. Strings point into `buf`, which must stay; the lists are released by
// boot_free. -EBADMSG when anything is wrong (*ret is then empty), -ENOMEM.
int must_check boot_decode(const void *buf, size_t size, struct boot_message *ret);
int must_check boot_decode_gofer(const void *buf, size_t size, struct boot_gofer *ret);

// Puts fds[n] in the place of every n in a decoded message of role BOOT_CONTAINER or BOOT_EXEC; those used are -1 in
// `fds` afterwards and belong to the message. -EBADMSG when a number is out of range or used twice: the
// message is then not to be used, and those already taken are closed by the caller's closing of both.
int must_check boot_take_fds(struct boot_message *m, s32 *fds, u32 count);

// Calls `visit` for every descriptor of a message of role BOOT_CONTAINER or BOOT_EXEC.
void boot_each_fd(struct boot_message *m, void (*visit)(void *arg, s32 *fd), void *arg);

void boot_free(struct boot_message *m);
void boot_free_gofer(struct boot_gofer *m);

#endif
