// SPDX-License-Identifier: Apache-2.0
// Intrusive ordered tree with parent pointers (a red-black tree). The caller walks to the place of
// a new node itself, so that keys need no comparison callback (the arena stores no code pointers):
//
//     struct rbnode **link = &t->root, *parent = NULL;
//     while (*link) { parent = *link; link = key < KEY(parent) ? &parent->left : &parent->right; }
//     rb_insert(t, node, parent, link);
//
// Not thread-safe.
#ifndef BAILEY_BASE_RBTREE_H
#define BAILEY_BASE_RBTREE_H

#include "base/types.h"

struct rbnode {
    struct rbnode *parent, *left, *right;
    u32 red;
};

struct rbtree {
    struct rbnode *root;
};

#define rb_entry(node, type, member) container_of(node, type, member)

// Links `n` at *link under `parent` (both as found by the walk above) and rebalances.
void rb_insert(struct rbtree *t, struct rbnode *n, struct rbnode *parent, struct rbnode **link);

// Unlinks `n`, which must be in the tree.
void rb_remove(struct rbtree *t, struct rbnode *n);

// In-order neighbours; NULL past the end.
struct rbnode *rb_first(const struct rbtree *t);
struct rbnode *rb_last(const struct rbtree *t);
struct rbnode *rb_next(const struct rbnode *n);
struct rbnode *rb_prev(const struct rbnode *n);

#endif
