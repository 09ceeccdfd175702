// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/list.h"
#include "base/rbtree.h"
#include "base/types.h"

struct item {
    struct rbnode node;
    u32 key;
    bool in;
};

static void tree_add(struct rbtree *t, struct item *it)
{
    struct rbnode **link = &t->root, *parent = NULL;
    while (*link) {
        parent = *link;
        link = it->key < rb_entry(parent, struct item, node)->key ? &parent->left : &parent->right;
    }
    rb_insert(t, &it->node, parent, link);
}

// Black height of the subtree, or -1 if a rule of red-black trees is broken.
static int check_subtree(const struct rbnode *n)
{
    if (!n)
        return 1;
    if ((n->left && n->left->parent != n) || (n->right && n->right->parent != n))
        return -1;
    if (n->red && ((n->left && n->left->red) || (n->right && n->right->red)))
        return -1;
    int l = check_subtree(n->left), r = check_subtree(n->right);
    if (l < 0 || l != r)
        return -1;
    return l + !n->red;
}

static void test_rbtree_random(void **state)
{
    static struct item items[500];
    struct rbtree t = {NULL};
    u32 seed = 7, count = 0;
    for (u32 i = 0; i < array_size(items); i++)
        items[i].key = i * 7919 % 500;
    for (u32 step = 0; step < 20000; step++) {
        seed = seed * 1664525 + 1013904223;
        struct item *it = &items[(seed >> 8) % array_size(items)];
        if (it->in)
            rb_remove(&t, &it->node);
        else
            tree_add(&t, it);
        it->in = !it->in;
        count += it->in ? 1 : -1;
        if (step % 50)
            continue;
        assert_true(check_subtree(t.root) > 0);
        u32 seen = 0, last = 0;
        for (struct rbnode *n = rb_first(&t); n; n = rb_next(n)) {
            u32 key = rb_entry(n, struct item, node)->key;
            assert_true(!seen || key > last);
            last = key;
            seen++;
        }
        assert_int_equal(seen, count);
        for (struct rbnode *n = rb_last(&t); n; n = rb_prev(n))
            seen--;
        assert_int_equal(seen, 0);
    }
}

static void test_list(void **state)
{
    struct list a = LIST_INIT(a), b = LIST_INIT(b), n[3];
    for (int i = 0; i < 3; i++)
        list_push(&a, &n[i]);
    assert_ptr_equal(list_pop(&a), &n[0]);
    list_push_front(&b, &n[0]);
    list_splice(&b, &a);
    assert_true(list_empty(&a));
    assert_ptr_equal(b.next, &n[0]);
    assert_ptr_equal(b.prev, &n[2]);
    list_remove(&n[1]);
    list_remove(&n[1]);
    assert_ptr_equal(n[0].next, &n[2]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rbtree_random),
        cmocka_unit_test(test_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
