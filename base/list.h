// SPDX-License-Identifier: Apache-2.0
// Intrusive doubly linked list. A head and a node are the same type; an empty head and a detached
// node point at themselves. Not thread-safe.
#ifndef BAILEY_BASE_LIST_H
#define BAILEY_BASE_LIST_H

#include "base/types.h"

struct list {
    struct list *next, *prev;
};

#define LIST_INIT(name) {&(name), &(name)}

static inline void list_init(struct list *l)
{
    l->next = l->prev = l;
}

static inline bool list_empty(const struct list *l)
{
    return l->next == l;
}

// A list's `next` is stored in one piece: some look at it without the list's lock to see whether there is anything at
// all.
static inline void list_set_next(struct list *l, struct list *next)
{
    __atomic_store_n(&l->next, next, __ATOMIC_RELAXED);
}

static inline void list_insert_between(struct list *n, struct list *prev, struct list *next)
{
    n->prev = prev;
    n->next = next;
    list_set_next(prev, n);
    next->prev = n;
}

// Adds a detached node as the first (list_push_front) or last (list_push) of the list.
static inline void list_push_front(struct list *head, struct list *n)
{
    list_insert_between(n, head, head->next);
}

static inline void list_push(struct list *head, struct list *n)
{
    list_insert_between(n, head->prev, head);
}

// Detaches a node (harmless on a detached one) and leaves it pointing at itself.
static inline void list_remove(struct list *n)
{
    list_set_next(n->prev, n->next);
    n->next->prev = n->prev;
    list_init(n);
}

// The first node, detached, or NULL.
static inline struct list *list_pop(struct list *head)
{
    struct list *n = head->next;
    if (n == head)
        return NULL;
    list_remove(n);
    return n;
}

// Moves all nodes of `from` to the end of `to`.
static inline void list_splice(struct list *to, struct list *from)
{
    if (list_empty(from))
        return;
    struct list *first = from->next, *last = from->prev;
    first->prev = to->prev;
    to->prev->next = first;
    last->next = to;
    to->prev = last;
    list_init(from);
}

#define list_entry(node, type, member) container_of(node, type, member)
#define list_first(head, type, member) list_entry((head)->next, type, member)
#define list_last(head, type, member) list_entry((head)->prev, type, member)

#define list_for_each(pos, head, member)                                                           \
    for (pos = list_entry((head)->next, __typeof__(*pos), member); &pos->member != (head);         \
         pos = list_entry(pos->member.next, __typeof__(*pos), member))

// As list_for_each; `pos` may be removed (and freed) in the body.
#define list_for_each_safe(pos, tmp, head, member)                                                 \
    for (pos = list_entry((head)->next, __typeof__(*pos), member),                                 \
        tmp = list_entry(pos->member.next, __typeof__(*pos), member);                              \
         &pos->member != (head);                                                                   \
         pos = tmp, tmp = list_entry(tmp->member.next, __typeof__(*tmp), member))

#endif
