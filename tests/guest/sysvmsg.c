// SPDX-License-Identifier: Apache-2.0
// System V IPC: message queues.
#include "sysv.h"

static int new_msg(void)
{
    return keep(MSG, SYS(msgget(IPC_PRIVATE, 0600)));
}

static void on_alarm(int sig)
{
}

struct message {
    long type;
    char text[128];
};

static int send_msg(int id, long type, const char *text, int flags)
{
    struct message m = {.type = type};
    strcpy(m.text, text);
    return msgsnd(id, &m, strlen(text), flags);
}

static const char *receive(int id, long type, int flags)
{
    static struct message m;
    ssize_t n = msgrcv(id, &m, sizeof(m.text) - 1, type, flags);
    CHECK(n >= 0);
    m.text[n] = 0;
    return m.text;
}

TEST(msg_order_and_types)
{
    int id = new_msg();
    SYS(send_msg(id, 3, "three", 0));
    SYS(send_msg(id, 1, "one", 0));
    SYS(send_msg(id, 2, "two", 0));
    SYS(send_msg(id, 1, "one again", 0));
    CHECK_STR(receive(id, 2, 0), "two");
    CHECK_STR(receive(id, -2, 0), "one");
    CHECK_STR(receive(id, 3, MSG_EXCEPT), "one again");
    CHECK_STR(receive(id, 0, 0), "three");
    CHECK_ERR(msgrcv(id, &(struct message){0}, 100, 0, IPC_NOWAIT), ENOMSG);
    SYS(send_msg(id, 1, "", 0));
    CHECK_STR(receive(id, 0, 0), "");
}

TEST(msg_too_long)
{
    int id = new_msg();
    struct message m;
    SYS(send_msg(id, 1, "0123456789", 0));
    CHECK_ERR(msgrcv(id, &m, 5, 0, 0), E2BIG);
    CHECK_EQ(msgrcv(id, &m, 5, 0, MSG_NOERROR), 5);
    CHECK_ERR(msgrcv(id, &m, 5, 0, IPC_NOWAIT), ENOMSG);
    CHECK_ERR(msgsnd(id, &m, 1 << 20, 0), EINVAL);
    m.type = 0;
    CHECK_ERR(msgsnd(id, &m, 1, 0), EINVAL);
    CHECK_ERR(msgsnd(id, (void *)8, 1, 0), EFAULT);
    CHECK_ERR(msgsnd(-1, &m, 1, 0), EINVAL);
}

static void fill_queue(int id, int *ret_count)
{
    char text[101];
    memset(text, 'x', 100);
    text[100] = 0;
    *ret_count = 0;
    while (send_msg(id, 1, text, IPC_NOWAIT) == 0)
        ++*ret_count;
    CHECK_EQ(errno, EAGAIN);
}

#define LONG_TEXT "more than fits, by far: the queue is full of messages of one hundred bytes each, is it not"

static void send_one_more(void *arg)
{
    SYS(send_msg(*(int *)arg, 2, LONG_TEXT, 0));
}

TEST(msg_full_queue)
{
    int id = new_msg(), count;
    struct msqid_ds ds;
    SYS(msgctl(id, IPC_STAT, &ds));
    ds.msg_qbytes = 1000;
    SYS(msgctl(id, IPC_SET, &ds));
    fill_queue(id, &count);
    CHECK_EQ(count, 10);
    SYS(msgctl(id, IPC_STAT, &ds));
    CHECK_EQ(ds.msg_qnum, 10);
    CHECK_EQ(ds.msg_cbytes, 1000);
    CHECK_EQ(ds.msg_lspid, getpid());
    pid_t pid = t_fork(send_one_more, &id);
    t_wait_state(pid, 'S');
    receive(id, 0, 0);
    t_join(pid);
    CHECK_STR(receive(id, 2, 0) + 0, LONG_TEXT);
}

static void receive_later(void *arg)
{
    CHECK_STR(receive(*(int *)arg, 5, 0), "for you");
}

static void receive_removed(void *arg)
{
    struct message m;
    CHECK_ERR(msgrcv(*(int *)arg, &m, 10, 0, 0), EIDRM);
}

static void receive_interrupted(void *arg)
{
    struct message m;
    t_handle(SIGUSR1, on_alarm, SA_RESTART);
    CHECK_ERR(msgrcv(*(int *)arg, &m, 10, 9, 0), EINTR);
}

TEST(msg_waiting)
{
    int id = new_msg();
    pid_t a = t_fork(receive_later, &id);
    t_wait_state(a, 'S');
    SYS(send_msg(id, 4, "not for you", 0));
    SYS(send_msg(id, 5, "for you", 0));
    t_join(a);
    a = t_fork(receive_interrupted, &id);
    t_wait_state(a, 'S');
    SYS(kill(a, SIGUSR1));
    t_join(a);
    receive(id, 4, 0);
    a = t_fork(receive_removed, &id);
    t_wait_state(a, 'S');
    SYS(msgctl(id, IPC_RMID, NULL));
    t_join(a);
}

TEST(msg_copy)
{
    int id = new_msg();
    struct message m;
    SYS(send_msg(id, 1, "a", 0));
    SYS(send_msg(id, 2, "b", 0));
    ssize_t n = msgrcv(id, &m, 100, 1, MSG_COPY | IPC_NOWAIT);
    if (n < 0 && errno == ENOSYS)
        t_skip("no MSG_COPY");
    CHECK_EQ(n, 1);
    CHECK_EQ(m.type, 2);
    CHECK_ERR(msgrcv(id, &m, 100, 2, MSG_COPY | IPC_NOWAIT), ENOMSG);
    CHECK_ERR(msgrcv(id, &m, 100, 0, MSG_COPY), EINVAL);
    CHECK_STR(receive(id, 0, 0), "a");
}

TEST(msg_by_key_and_information)
{
    key_t key = some_key();
    struct msginfo info;
    char text[65536], want[64];
    CHECK_ERR(msgget(key, 0600), ENOENT);
    int id = keep(MSG, SYS(msgget(key, IPC_CREAT | 0640)));
    CHECK_EQ(msgget(key, 0600), id);
    CHECK_ERR(msgget(key, IPC_CREAT | IPC_EXCL | 0600), EEXIST);
    SYS(send_msg(id, 1, "12345", 0));
    SYS(msgctl(0, IPC_INFO, (struct msqid_ds *)&info));
    CHECK(info.msgmax >= 8192);
    int highest = (int)SYS(msgctl(0, MSG_INFO, (struct msqid_ds *)&info)), found = 0;
    CHECK(info.msgpool >= 1 && info.msgmap >= 1 && info.msgtql >= 5);
    for (int i = 0; i <= highest; i++) {
        struct msqid_ds ds;
        found += msgctl(i, MSG_STAT, &ds) == id;
    }
    CHECK_EQ(found, 1);
    t_read_file("/proc/sysvipc/msg", text, sizeof(text));
    snprintf(want, sizeof(want), "%10d %10d   640           5          1", key, id);
    CHECK(strstr(text, want) != NULL);
}

static void msg_not_permitted(void *arg)
{
    int id = *(int *)arg;
    struct message m = {.type = 1};
    struct msqid_ds ds;
    SYS(setuid(1000));
    CHECK_ERR(msgsnd(id, &m, 1, 0), EACCES);
    CHECK_ERR(msgrcv(id, &m, 1, 0, IPC_NOWAIT), EACCES);
    CHECK_ERR(msgctl(id, IPC_STAT, &ds), EACCES);
    CHECK_ERR(msgctl(id, IPC_RMID, NULL), EPERM);
    int mine = keep(MSG, SYS(msgget(IPC_PRIVATE, 0600)));
    SYS(msgctl(mine, IPC_STAT, &ds));
    ds.msg_qbytes = 1 << 30;
    CHECK_ERR(msgctl(mine, IPC_SET, &ds), EPERM);
    SYS(msgctl(mine, IPC_RMID, NULL));
}

TEST(msg_permissions)
{
    int id = new_msg();
    t_join(t_fork(msg_not_permitted, &id));
}
