// SPDX-License-Identifier: Apache-2.0
// System V IPC: shared memory and semaphores, their limits, permissions and /proc/sysvipc.
#include "sysv.h"

#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>

union semun {
    int val;
    struct semid_ds *buf;
    unsigned short *array;
    struct seminfo *info;
};

static int new_shm(size_t size)
{
    return keep(SHM, SYS(shmget(IPC_PRIVATE, size, 0600)));
}

static int new_sem(int count)
{
    return keep(SEM, SYS(semget(IPC_PRIVATE, count, 0600)));
}

static struct shmid_ds shm_stat(int id)
{
    struct shmid_ds ds;
    SYS(shmctl(id, IPC_STAT, &ds));
    return ds;
}

// ---- shared memory ------------------------------------------------------------------------------

TEST(shm_is_shared_between_processes)
{
    int id = new_shm(10000);
    char *p = shmat(id, NULL, 0);
    CHECK(p != (void *)-1);
    CHECK_EQ(p[9999], 0);
    p[0] = 1;
    pid_t pid = fork();
    if (pid == 0) {
        CHECK_EQ(p[0], 1);
        char *q = shmat(id, NULL, 0);
        q[1] = 2;
        CHECK_EQ(shm_stat(id).shm_nattch, 3);
        _exit(0);
    }
    t_join(pid);
    CHECK_EQ(p[1], 2);
    struct shmid_ds ds = shm_stat(id);
    CHECK_EQ(ds.shm_nattch, 1);
    CHECK_EQ(ds.shm_segsz, 10000);
    CHECK_EQ(ds.shm_cpid, getpid());
    CHECK_EQ(ds.shm_perm.mode, 0600);
    CHECK(ds.shm_atime > 0 && ds.shm_ctime > 0);
    SYS(shmdt(p));
    CHECK_EQ(shm_stat(id).shm_nattch, 0);
    CHECK(shm_stat(id).shm_dtime > 0);
    CHECK_ERR(shmdt(p), EINVAL);
    p = shmat(id, NULL, 0);
    CHECK_EQ(p[1], 2);
}

TEST(shm_by_key)
{
    key_t key = some_key();
    CHECK_ERR(shmget(key, 100, 0600), ENOENT);
    int id = keep(SHM, SYS(shmget(key, 100, IPC_CREAT | IPC_EXCL | 0600)));
    CHECK_EQ(shmget(key, 100, 0600), id);
    CHECK_EQ(shmget(key, 0, 0), id);
    CHECK_EQ(shmget(key, 10, IPC_CREAT | 0600), id);
    CHECK_ERR(shmget(key, 100, IPC_CREAT | IPC_EXCL | 0600), EEXIST);
    CHECK_ERR(shmget(key, 100000, 0600), EINVAL);
    SYS(shmctl(id, IPC_RMID, NULL));
    CHECK_ERR(shmget(key, 100, 0600), ENOENT);
    struct shmid_ds ds;
    CHECK_ERR(shmctl(id, IPC_STAT, &ds), EINVAL);
    int next = keep(SHM, SYS(shmget(key, 100, IPC_CREAT | 0600)));
    CHECK(next != id);
}

TEST(shm_bad_calls)
{
    int id = new_shm(4096);
    struct shmid_ds ds;
    CHECK_ERR(shmget(IPC_PRIVATE, 0, 0600), EINVAL);
    CHECK_ERR(shmctl(id, 12345, &ds), EINVAL);
    CHECK_ERR(shmctl(id, IPC_STAT, (void *)8), EFAULT);
    CHECK_ERR(shmctl(-1, IPC_STAT, &ds), EINVAL);
    CHECK_ERR((long)shmat(id, (void *)0x10000001, 0), EINVAL);
    CHECK_ERR((long)shmat(id, NULL, SHM_REMAP), EINVAL);
    CHECK_ERR((long)shmat(-1, NULL, 0), EINVAL);
    CHECK_ERR(shmdt((void *)4096), EINVAL);
    CHECK_ERR(shmdt((void *)1), EINVAL);
}

TEST(shm_at_an_address)
{
    int id = new_shm(8192);
    char *room = mmap(NULL, 65536, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK_ERR((long)shmat(id, room, 0), EINVAL); // taken
    CHECK_EQ((long)shmat(id, room, SHM_REMAP), (long)room);
    room[8191] = 1;
    SYS(munmap(room + 16384, 8192));
    CHECK_EQ((long)shmat(id, room + 16384 + 5, SHM_RND), (long)room + 16384);
    CHECK_EQ(room[16384 + 8191], 1);
    CHECK_EQ(shm_stat(id).shm_nattch, 2);
    SYS(shmdt(room + 16384));
    SYS(shmdt(room));
    CHECK_EQ(shm_stat(id).shm_nattch, 0);
}

// A part that is gone does not keep the rest.
TEST(shm_detach_of_parts)
{
    int id = new_shm(5 * 4096);
    char *p = shmat(id, NULL, 0);
    SYS(munmap(p + 4096, 4096));
    CHECK_EQ(shm_stat(id).shm_nattch, 2);
    SYS(mprotect(p + 3 * 4096, 4096, PROT_READ));
    SYS(shmdt(p));
    CHECK_EQ(shm_stat(id).shm_nattch, 0);
    for (int i = 0; i < 5; i++)
        CHECK_ERR(msync(p + i * 4096, 4096, MS_ASYNC), ENOMEM);
}

static sig_atomic_t caught;

static void on_segv(int sig)
{
    caught = sig;
    _exit(sig == SIGSEGV ? 7 : 8);
}

static void write_read_only(void *p)
{
    t_handle(SIGSEGV, on_segv, 0);
    *(volatile char *)p = 1;
    _exit(0);
}

TEST(shm_read_only)
{
    int id = new_shm(4096);
    char *p = shmat(id, NULL, SHM_RDONLY);
    CHECK(p != (void *)-1);
    CHECK_EQ(p[0], 0);
    CHECK_ERR(mprotect(p, 4096, PROT_READ | PROT_WRITE), EACCES);
    int status = t_wait(t_fork(write_read_only, p));
    CHECK_EQ(WEXITSTATUS(status), 7);
    CHECK_EQ(shm_stat(id).shm_nattch, 1);
}

TEST(shm_lives_until_the_last_detach)
{
    key_t key = some_key();
    int id = keep(SHM, SYS(shmget(key, 4096, IPC_CREAT | 0600)));
    char *p = shmat(id, NULL, 0);
    p[0] = 5;
    SYS(shmctl(id, IPC_RMID, NULL));
    CHECK_ERR(shmget(key, 1, 0600), ENOENT);
    struct shmid_ds ds = shm_stat(id);
    CHECK_EQ(ds.shm_perm.mode & 01000, 01000); // SHM_DEST
    CHECK_EQ(ds.shm_nattch, 1);
    pid_t pid = fork();
    if (pid == 0) {
        CHECK_EQ(p[0], 5);
        char *q = shmat(id, NULL, 0); // Linux allows it
        CHECK(q != (void *)-1);
        CHECK_EQ(q[0], 5);
        _exit(0);
    }
    t_join(pid);
    CHECK_EQ(shm_stat(id).shm_nattch, 1);
    SYS(shmdt(p));
    CHECK_ERR(shmctl(id, IPC_STAT, &ds), EINVAL);
}

TEST(shm_exec_detaches)
{
    int id = new_shm(4096);
    CHECK(shmat(id, NULL, 0) != (void *)-1);
    pid_t pid = fork();
    if (pid == 0) {
        execl("/proc/self/exe", "sysvipc", "no-such-case", NULL);
        _exit(99);
    }
    t_wait(pid);
    CHECK_EQ(shm_stat(id).shm_nattch, 1);
}

static void not_permitted(void *arg)
{
    int id = *(int *)arg;
    struct shmid_ds ds;
    SYS(setuid(1000));
    CHECK_ERR(shmctl(id, IPC_STAT, &ds), EACCES);
    CHECK_ERR(shmctl(id, IPC_RMID, NULL), EPERM);
    CHECK_ERR(shmctl(id, IPC_SET, &ds), EPERM);
    CHECK_ERR((long)shmat(id, NULL, 0), EACCES);
}

static void may_read(void *arg)
{
    int id = *(int *)arg;
    SYS(setuid(1000));
    CHECK((long)shmat(id, NULL, SHM_RDONLY) != -1);
    CHECK_ERR((long)shmat(id, NULL, 0), EACCES);
}

static void owns(void *arg)
{
    int id = *(int *)arg;
    SYS(setuid(1000));
    CHECK((long)shmat(id, NULL, 0) != -1);
    SYS(shmctl(id, IPC_RMID, NULL));
}

TEST(shm_permissions)
{
    int id = new_shm(4096);
    struct shmid_ds ds = shm_stat(id);
    t_join(t_fork(not_permitted, &id));
    ds.shm_perm.mode = 0644;
    SYS(shmctl(id, IPC_SET, &ds));
    t_join(t_fork(may_read, &id));
    ds.shm_perm.mode = 0600;
    ds.shm_perm.uid = 1000;
    SYS(shmctl(id, IPC_SET, &ds));
    CHECK_EQ(shm_stat(id).shm_perm.uid, 1000);
    CHECK_EQ(shm_stat(id).shm_perm.cuid, 0);
    t_join(t_fork(owns, &id));
}

TEST(shm_information)
{
    struct shminfo limits;
    struct shm_info info;
    int id = new_shm(4096 * 3), highest, found = 0;
    SYS(shmctl(0, IPC_INFO, (struct shmid_ds *)&limits));
    CHECK_EQ(limits.shmmin, 1);
    CHECK(limits.shmmni >= 4096);
    highest = (int)SYS(shmctl(0, SHM_INFO, (struct shmid_ds *)&info));
    CHECK(info.used_ids >= 1);
    CHECK(info.shm_tot >= 3);
    for (int i = 0; i <= highest; i++) {
        struct shmid_ds ds;
        found += shmctl(i, SHM_STAT, &ds) == id;
    }
    CHECK_EQ(found, 1);
    SYS(shmctl(id, SHM_LOCK, NULL));
    CHECK_EQ(shm_stat(id).shm_perm.mode & 02000, 02000);
    SYS(shmctl(id, SHM_UNLOCK, NULL));
    CHECK_EQ(shm_stat(id).shm_perm.mode & 02000, 0);
}

TEST(shm_in_proc)
{
    char text[65536], want[64];
    int id = new_shm(12345);
    char *p = shmat(id, NULL, 0);
    t_read_file("/proc/sysvipc/shm", text, sizeof(text));
    snprintf(want, sizeof(want), " %10d   600 %21d", id, 12345);
    CHECK(strstr(text, want) != NULL);
    t_read_file("/proc/self/maps", text, sizeof(text));
    CHECK(strstr(text, "/SYSV00000000 (deleted)") != NULL);
    CHECK(p != NULL);
}

// Futexes in a segment are the same word in every process.
TEST(shm_process_shared_mutex)
{
    int id = new_shm(4096);
    struct shared {
        pthread_mutex_t mutex;
        int count;
    } *s = shmat(id, NULL, 0);
    pthread_mutexattr_t attr;
    pid_t pids[4];
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
    pthread_mutex_init(&s->mutex, &attr);
    for (int i = 0; i < 4; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            struct shared *mine = shmat(id, NULL, 0);
            for (int j = 0; j < 2000; j++) {
                pthread_mutex_lock(&mine->mutex);
                mine->count++;
                pthread_mutex_unlock(&mine->mutex);
            }
            _exit(0);
        }
    }
    for (int i = 0; i < 4; i++)
        t_join(pids[i]);
    CHECK_EQ(s->count, 8000);
}

// ---- semaphores ---------------------------------------------------------------------------------

static int op(int id, int number, int change, int flags)
{
    struct sembuf b = {(unsigned short)number, (short)change, (short)flags};
    return semop(id, &b, 1);
}

static int value(int id, int number)
{
    return (int)SYS(semctl(id, number, GETVAL));
}

TEST(sem_values)
{
    int id = new_sem(3);
    unsigned short v[3] = {4, 5, 6};
    CHECK_EQ(value(id, 0), 0);
    SYS(semctl(id, 1, SETVAL, (union semun){.val = 7}));
    CHECK_EQ(value(id, 1), 7);
    CHECK_EQ(semctl(id, 1, GETPID), getpid());
    SYS(semctl(id, 0, SETALL, (union semun){.array = v}));
    memset(v, 0, sizeof(v));
    SYS(semctl(id, 0, GETALL, (union semun){.array = v}));
    CHECK_EQ(v[2], 6);
    SYS(op(id, 2, -6, 0));
    CHECK_EQ(value(id, 2), 0);
    SYS(op(id, 2, 0, 0));
    CHECK_ERR(op(id, 2, -1, IPC_NOWAIT), EAGAIN);
    CHECK_ERR(op(id, 0, 0, IPC_NOWAIT), EAGAIN);
    CHECK_ERR(semctl(id, 3, GETVAL), EINVAL);
    CHECK_ERR(semctl(id, 0, SETVAL, (union semun){.val = 32768}), ERANGE);
    CHECK_ERR(semctl(id, 0, SETVAL, (union semun){.val = -1}), ERANGE);
    CHECK_ERR(op(id, 3, 1, 0), EFBIG);
    SYS(semctl(id, 0, SETVAL, (union semun){.val = 32767}));
    CHECK_ERR(op(id, 0, 1, 0), ERANGE);
    CHECK_ERR(semop(id, NULL, 0), EINVAL);
    CHECK_ERR(semop(id, (void *)8, 1), EFAULT);
    CHECK_ERR(semop(id, (void *)8, 100000), E2BIG);
    CHECK_ERR(semget(IPC_PRIVATE, 0, 0600), EINVAL);
    CHECK_ERR(semget(IPC_PRIVATE, -1, 0600), EINVAL);
}

TEST(sem_by_key)
{
    key_t key = some_key();
    CHECK_ERR(semget(key, 1, 0600), ENOENT);
    int id = keep(SEM, SYS(semget(key, 2, IPC_CREAT | 0600)));
    CHECK_EQ(semget(key, 2, 0600), id);
    CHECK_EQ(semget(key, 0, 0600), id);
    CHECK_ERR(semget(key, 3, 0600), EINVAL);
    CHECK_ERR(semget(key, 2, IPC_CREAT | IPC_EXCL | 0600), EEXIST);
}

TEST(sem_all_or_nothing)
{
    int id = new_sem(2);
    struct sembuf ops[3] = {{0, 3, 0}, {0, -2, 0}, {1, -1, IPC_NOWAIT}};
    CHECK_ERR(semop(id, ops, 3), EAGAIN);
    CHECK_EQ(value(id, 0), 0);
    SYS(op(id, 1, 1, 0));
    SYS(semop(id, ops, 3));
    CHECK_EQ(value(id, 0), 1);
    CHECK_EQ(value(id, 1), 0);
    struct semid_ds ds;
    SYS(semctl(id, 0, IPC_STAT, (union semun){.buf = &ds}));
    CHECK_EQ(ds.sem_nsems, 2);
    CHECK(ds.sem_otime > 0);
}

static void *take_one(void *arg)
{
    SYS(op(*(int *)arg, 0, -1, 0));
    return NULL;
}

static void wait_count(int id, int command, int want)
{
    while (SYS(semctl(id, 0, command)) != want)
        sched_yield();
}

TEST(sem_waiting_and_waking)
{
    int id = new_sem(1);
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, take_one, &id), 0);
    wait_count(id, GETNCNT, 3);
    SYS(op(id, 0, 2, 0));
    wait_count(id, GETNCNT, 1);
    CHECK_EQ(value(id, 0), 0);
    SYS(op(id, 0, 1, 0));
    for (int i = 0; i < 3; i++)
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    CHECK_EQ(semctl(id, 0, GETNCNT), 0);
}

static void wait_for_zero(void *arg)
{
    SYS(op(*(int *)arg, 0, 0, 0));
}

TEST(sem_waiting_for_zero)
{
    int id = new_sem(1);
    SYS(semctl(id, 0, SETVAL, (union semun){.val = 2}));
    pid_t pid = t_fork(wait_for_zero, &id);
    wait_count(id, GETZCNT, 1);
    SYS(op(id, 0, -1, 0));
    CHECK_EQ(semctl(id, 0, GETZCNT), 1);
    SYS(semctl(id, 0, SETVAL, (union semun){.val = 0}));
    t_join(pid);
}

static void wait_removed(void *arg)
{
    CHECK_ERR(op(*(int *)arg, 0, -1, 0), EIDRM);
}

TEST(sem_removal_wakes)
{
    int id = new_sem(1);
    pid_t pid = t_fork(wait_removed, &id);
    wait_count(id, GETNCNT, 1);
    SYS(semctl(id, 0, IPC_RMID));
    t_join(pid);
    CHECK_ERR(op(id, 0, 1, 0), EINVAL);
}

TEST(sem_timeout)
{
    int id = new_sem(1);
    struct sembuf b = {0, -1, 0};
    struct timespec short_time = {0, 20000000}, bad = {0, 1000000000};
    uint64_t begin = t_now();
    CHECK_ERR(semtimedop(id, &b, 1, &short_time), EAGAIN);
    CHECK(t_now() - begin >= 20000000);
    CHECK_ERR(semtimedop(id, &b, 1, &bad), EINVAL);
    CHECK_EQ(semctl(id, 0, GETNCNT), 0);
}

static void on_alarm(int sig)
{
}

static void interrupted_sem(void *arg)
{
    t_handle(SIGUSR1, on_alarm, SA_RESTART);
    CHECK_ERR(op(*(int *)arg, 0, -1, 0), EINTR);
}

TEST(sem_interrupted)
{
    int id = new_sem(1);
    pid_t pid = t_fork(interrupted_sem, &id);
    wait_count(id, GETNCNT, 1);
    SYS(kill(pid, SIGUSR1));
    t_join(pid);
    CHECK_EQ(semctl(id, 0, GETNCNT), 0);
}

static void undo_and_exit(void *arg)
{
    int id = *(int *)arg;
    SYS(op(id, 0, 5, SEM_UNDO));
    SYS(op(id, 0, -2, SEM_UNDO));
    SYS(op(id, 1, -1, SEM_UNDO));
    CHECK_EQ(value(id, 0), 13);
    CHECK_EQ(value(id, 1), 0);
}

TEST(sem_undo)
{
    int id = new_sem(2);
    SYS(semctl(id, 0, SETVAL, (union semun){.val = 10}));
    SYS(semctl(id, 1, SETVAL, (union semun){.val = 1}));
    t_join(t_fork(undo_and_exit, &id));
    CHECK_EQ(value(id, 0), 10);
    CHECK_EQ(value(id, 1), 1);
    // Death by a signal counts as well.
    pid_t pid = fork();
    if (pid == 0) {
        SYS(op(id, 1, -1, SEM_UNDO));
        raise(SIGKILL);
    }
    t_wait(pid);
    CHECK_EQ(value(id, 1), 1);
}

static void undo_overridden(void *arg)
{
    int id = *(int *)arg;
    SYS(op(id, 0, 5, SEM_UNDO));
    SYS(semctl(id, 0, SETVAL, (union semun){.val = 3}));
}

TEST(sem_set_value_forgets_undo)
{
    int id = new_sem(1);
    t_join(t_fork(undo_overridden, &id));
    CHECK_EQ(value(id, 0), 3);
}

static void *thread_undo(void *arg)
{
    SYS(op(*(int *)arg, 0, 1, SEM_UNDO));
    return NULL;
}

static void threads_share_undo(void *arg)
{
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, thread_undo, arg), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(value(*(int *)arg, 0), 1); // the process has not ended
}

TEST(sem_undo_is_the_process)
{
    int id = new_sem(1);
    t_join(t_fork(threads_share_undo, &id));
    CHECK_EQ(value(id, 0), 0);
}

TEST(sem_undo_of_a_removed_set)
{
    int id = (int)SYS(semget(IPC_PRIVATE, 1, 0600));
    SYS(op(id, 0, 1, SEM_UNDO));
    SYS(semctl(id, 0, IPC_RMID));
    id = new_sem(1);
    SYS(op(id, 0, 1, SEM_UNDO));
}

TEST(sem_information)
{
    struct seminfo info;
    char text[65536], want[64];
    int id = new_sem(4);
    SYS(semctl(0, 0, IPC_INFO, (union semun){.info = &info}));
    CHECK_EQ(info.semvmx, 32767);
    int highest = (int)SYS(semctl(0, 0, SEM_INFO, (union semun){.info = &info})), found = 0;
    CHECK(info.semusz >= 1 && info.semaem >= 4);
    for (int i = 0; i <= highest; i++) {
        struct semid_ds ds;
        found += semctl(i, 0, SEM_STAT, (union semun){.buf = &ds}) == id;
    }
    CHECK_EQ(found, 1);
    t_read_file("/proc/sysvipc/sem", text, sizeof(text));
    snprintf(want, sizeof(want), " %10d   600          4", id);
    CHECK(strstr(text, want) != NULL);
}

// Two processes hand a turn to and fro.
TEST(sem_ping_pong)
{
    int id = new_sem(2);
    pid_t pid = fork();
    if (pid == 0) {
        for (int i = 0; i < 500; i++) {
            SYS(op(id, 0, -1, 0));
            SYS(op(id, 1, 1, 0));
        }
        _exit(0);
    }
    for (int i = 0; i < 500; i++) {
        SYS(op(id, 0, 1, 0));
        SYS(op(id, 1, -1, 0));
    }
    t_join(pid);
}
