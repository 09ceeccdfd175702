// SPDX-License-Identifier: Apache-2.0
// Files in flight: those that lie in messages not yet received. A socket in flight whose every reference is in
// flight too is a candidate. Candidates that no queue of a non-candidate holds, directly or through others,
// can never be received: their queues are emptied, which releases them.
//
// While the flight lock is held no file enters or leaves flight, and nobody receives from a candidate, since
// nobody has a descriptor for it. What is sent to one by name meanwhile counts as reachable: a later run finds it.
#include <asm/resource.h>
#include <linux/capability.h>

#include "sentry/arena/arena.h"
#include "sentry/socket/unix.h"

#define RANK_FLIGHT (RANK_FILE - 2)
#define FLIGHT_MAX 65536     // for the privileged too
#define FLIGHT_COLLECT 1024 // from here on every sender looks for garbage

static struct unix_sock *sock_of(struct file *f)
{
    return f->kind == FILE_UNIX ? unix_of(f) : NULL;
}

int unix_flight_enter(struct file **files, u32 count)
{
    struct unix_root *root = unix_root();
    const struct cred *c = cred_current();
    int r = 0;

    if (unix_load(&root->flight_total) > FLIGHT_COLLECT)
        unix_collect();
    mutex_lock(&root->flight, RANK_FLIGHT);
    if (root->flight_total > kernel_rlimit(RLIMIT_NOFILE) &&
        !cred_capable(c, CAP_SYS_RESOURCE) && !cred_capable(c, CAP_SYS_ADMIN)) {
        r = -ETOOMANYREFS;
    } else if (root->flight_total + count > FLIGHT_MAX) {
        r = -ETOOMANYREFS;
    } else {
        root->flight_total += count;
        for (u32 i = 0; i < count; i++) {
            struct unix_sock *s = sock_of(files[i]);
            if (s && s->in_flight++ == 0) {
                list_push(&root->in_flight, &s->flight_node);
                root->sockets_in_flight++;
            }
        }
    }
    mutex_unlock(&root->flight);
    return r;
}

void unix_flight_leave(struct file **files, u32 count)
{
    struct unix_root *root = unix_root();
    if (!count)
        return;
    mutex_lock(&root->flight, RANK_FLIGHT);
    root->flight_total -= count;
    for (u32 i = 0; i < count; i++) {
        struct unix_sock *s = sock_of(files[i]);
        if (s && --s->in_flight == 0) {
            list_remove(&s->flight_node);
            root->sockets_in_flight--;
        }
    }
    mutex_unlock(&root->flight);
}

// ---- collection: flight lock held ---------------------------------------------------------------------

enum visit { VISIT_COUNT_DOWN, VISIT_REACH };

// A candidate found in a queue: one of its references is explained, or it is reachable.
static void visit_socket(struct unix_sock *s, enum visit how, struct list *reached)
{
    if (!s->candidate)
        return;
    if (how == VISIT_COUNT_DOWN) {
        s->mark--;
        return;
    }
    s->candidate = false;
    list_remove(&s->flight_node);
    list_push(reached, &s->flight_node);
}

static void visit_queue(struct unix_sock *s, enum visit how, struct list *reached)
{
    struct unix_msg *m;
    mutex_lock_nested(&s->lock, RANK_FILE);
    list_for_each(m, &s->receive, node) {
        for (u32 i = 0; i < m->file_count; i++) {
            struct unix_sock *inner = sock_of(m->files[i]);
            if (inner)
                visit_socket(inner, how, reached);
        }
    }
    mutex_unlock(&s->lock);
}

// The queues through which a socket keeps others alive: its own, and those of connections not yet accepted
// (whose locks nobody takes before the listener's).
static void visit_children(struct unix_sock *s, enum visit how, struct list *reached)
{
    struct unix_sock *e;
    visit_queue(s, how, reached);
    mutex_lock(&s->lock, RANK_FILE);
    list_for_each(e, &s->pending, embryo_node)
        visit_queue(e, how, reached);
    mutex_unlock(&s->lock);
}

static void mark_candidates(struct unix_root *root)
{
    struct unix_sock *s;
    list_for_each(s, &root->in_flight, flight_node) {
        s->candidate = s->file && ref_read(&s->file->ref) == s->in_flight;
        s->mark = s->in_flight;
    }
}

// Moves what can be reached from outside of the candidates to `reached`; garbage stays marked.
static void find_reachable(struct unix_root *root, struct list *reached)
{
    struct unix_sock *s, *tmp;
    list_for_each(s, &root->in_flight, flight_node) {
        if (s->candidate)
            visit_children(s, VISIT_COUNT_DOWN, NULL);
    }
    list_for_each_safe(s, tmp, &root->in_flight, flight_node) {
        if (s->candidate && s->mark)
            visit_socket(s, VISIT_REACH, reached);
    }
    struct list *n = reached->next;
    while (n != reached) { // grows at its end
        s = list_entry(n, struct unix_sock, flight_node);
        visit_children(s, VISIT_REACH, reached);
        n = n->next;
    }
}

static void empty_queue(struct unix_sock *s, struct list *msgs)
{
    mutex_lock_nested(&s->lock, RANK_FILE);
    list_splice(msgs, &s->receive);
    __atomic_store_n(&s->receive_count, 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&s->receive_bytes, 0, __ATOMIC_SEQ_CST);
    mutex_unlock(&s->lock);
}

void unix_collect(void)
{
    struct unix_root *root = unix_root();
    struct list reached, msgs;
    struct unix_sock *s, *e;

    if (!__atomic_load_n(&root->sockets_in_flight, __ATOMIC_RELAXED))
        return;
    list_init(&reached);
    list_init(&msgs);
    mutex_lock(&root->flight, RANK_FLIGHT);
    // A collection looks at all that is in flight: seldom enough that it costs each caller little.
    if (++root->skipped * 16 >= root->survivors) {
        root->skipped = 0;
        mark_candidates(root);
        find_reachable(root, &reached);
        list_for_each(s, &root->in_flight, flight_node) {
            if (!s->candidate)
                continue;
            empty_queue(s, &msgs);
            mutex_lock(&s->lock, RANK_FILE);
            list_for_each(e, &s->pending, embryo_node)
                empty_queue(e, &msgs);
            mutex_unlock(&s->lock);
            s->candidate = false;
        }
        list_splice(&root->in_flight, &reached);
        root->survivors = root->sockets_in_flight;
    }
    mutex_unlock(&root->flight);
    unix_free_messages(&msgs);
}
