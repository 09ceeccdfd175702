// SPDX-License-Identifier: Apache-2.0
#include "base/rbtree.h"

static bool is_red(const struct rbnode *n)
{
    return n && n->red;
}

// Puts `to` in the place of `from` under from's parent.
static void replace_child(struct rbtree *t, struct rbnode *from, struct rbnode *to)
{
    struct rbnode *p = from->parent;
    if (!p)
        t->root = to;
    else if (p->left == from)
        p->left = to;
    else
        p->right = to;
    if (to)
        to->parent = p;
}

static void rotate_left(struct rbtree *t, struct rbnode *x)
{
    struct rbnode *y = x->right;
    replace_child(t, x, y);
    x->right = y->left;
    if (x->right)
        x->right->parent = x;
    y->left = x;
    x->parent = y;
}

static void rotate_right(struct rbtree *t, struct rbnode *x)
{
    struct rbnode *y = x->left;
    replace_child(t, x, y);
    x->left = y->right;
    if (x->left)
        x->left->parent = x;
    y->right = x;
    x->parent = y;
}

void rb_insert(struct rbtree *t, struct rbnode *n, struct rbnode *parent, struct rbnode **link)
{
    n->parent = parent;
    n->left = n->right = NULL;
    n->red = 1;
    *link = n;
    while (is_red(n->parent)) {
        struct rbnode *p = n->parent, *g = p->parent;
        bool left = p == g->left;
        struct rbnode *uncle = left ? g->right : g->left;
        if (is_red(uncle)) {
            p->red = uncle->red = 0;
            g->red = 1;
            n = g;
            continue;
        }
        if (n == (left ? p->right : p->left)) {
            if (left)
                rotate_left(t, p);
            else
                rotate_right(t, p);
            p = n;
        }
        p->red = 0;
        g->red = 1;
        if (left)
            rotate_right(t, g);
        else
            rotate_left(t, g);
        break;
    }
    t->root->red = 0;
}

// Restores the black height after a black node was unlinked; `n` (may be NULL) took its place.
static void remove_fixup(struct rbtree *t, struct rbnode *n, struct rbnode *parent)
{
    while (n != t->root && !is_red(n)) {
        bool left = n == parent->left;
        struct rbnode *s = left ? parent->right : parent->left;
        if (is_red(s)) {
            s->red = 0;
            parent->red = 1;
            if (left)
                rotate_left(t, parent);
            else
                rotate_right(t, parent);
            s = left ? parent->right : parent->left;
        }
        if (!is_red(s->left) && !is_red(s->right)) {
            s->red = 1;
            n = parent;
            parent = n->parent;
            continue;
        }
        if (!is_red(left ? s->right : s->left)) {
            (left ? s->left : s->right)->red = 0;
            s->red = 1;
            if (left)
                rotate_right(t, s);
            else
                rotate_left(t, s);
            s = left ? parent->right : parent->left;
        }
        s->red = parent->red;
        parent->red = 0;
        (left ? s->right : s->left)->red = 0;
        if (left)
            rotate_left(t, parent);
        else
            rotate_right(t, parent);
        n = t->root;
        break;
    }
    if (n)
        n->red = 0;
}

void rb_remove(struct rbtree *t, struct rbnode *n)
{
    struct rbnode *child, *parent;
    bool was_red = n->red;
    if (n->left && n->right) {
        struct rbnode *s = n->right;
        while (s->left)
            s = s->left;
        was_red = s->red;
        child = s->right;
        parent = s->parent;
        if (parent == n) {
            parent = s;
        } else {
            replace_child(t, s, child);
            s->right = n->right;
            s->right->parent = s;
        }
        replace_child(t, n, s);
        s->left = n->left;
        s->left->parent = s;
        s->red = n->red;
    } else {
        child = n->left ? n->left : n->right;
        parent = n->parent;
        replace_child(t, n, child);
    }
    if (!was_red)
        remove_fixup(t, child, parent);
    n->parent = n->left = n->right = NULL;
}

struct rbnode *rb_first(const struct rbtree *t)
{
    struct rbnode *n = t->root;
    while (n && n->left)
        n = n->left;
    return n;
}

struct rbnode *rb_last(const struct rbtree *t)
{
    struct rbnode *n = t->root;
    while (n && n->right)
        n = n->right;
    return n;
}

struct rbnode *rb_next(const struct rbnode *n)
{
    if (n->right) {
        n = n->right;
        while (n->left)
            n = n->left;
        return (struct rbnode *)n;
    }
    while (n->parent && n == n->parent->right)
        n = n->parent;
    return n->parent;
}

struct rbnode *rb_prev(const struct rbnode *n)
{
    if (n->left) {
        n = n->left;
        while (n->right)
            n = n->right;
        return (struct rbnode *)n;
    }
    while (n->parent && n == n->parent->left)
        n = n->parent;
    return n->parent;
}
