// SPDX-License-Identifier: Apache-2.0
// A path walk in progress. Internal to sentry/vfs. It runs under the tree lock for reading, with `cur`
// unreferenced, as long as all it needs is cached; to ask a filesystem it pins `cur`, drops the lock and takes
// it again after. References gathered on the way are given back at the end, outside the lock.
#ifndef BAILEY_SENTRY_VFS_WALK_H
#define BAILEY_SENTRY_VFS_WALK_H

#include "sentry/vfs/fdtable.h"
#include "sentry/vfs/path.h"

#define WALK_LINKS_MAX 40

struct walk {
    u32 flags; // LOOKUP_*
    const struct cred *cred;
    bool locked;    // tree lock held
    bool root_held; // root is referenced
    bool trailing;  // the last component was followed by a slash
    u32 link_count, frame_count;
    const char *s; // what is left of the innermost text
    struct path root, cur;
    struct path pinned; // referenced; cur when unlocked
    struct last_name last;
    struct fdref start;
    struct inode *links[WALK_LINKS_MAX]; // referenced: their text is in use
    char *owned[WALK_LINKS_MAX];
    const char *frames[WALK_LINKS_MAX]; // what is left of outer texts
};

// Begins at base, or (NULL) at dirfd. On failure nothing is to be finished.
int walk_begin(struct walk *w, const struct path *base, int dirfd, const char *name, u32 flags)
    must_check;

// Walks on to the last component: `parent`: stops before it and sets w->last; else through it.
int walk_run(struct walk *w, bool parent) must_check;

// After walk_run(parent): the last component turned out to be the symlink `link`: goes on where it leads.
// The walk is unlocked. Then walk_run again.
int walk_follow_last(struct walk *w, struct inode *link) must_check;

// Drops the tree lock, with cur pinned. Harmless when unlocked.
void walk_unlock(struct walk *w);

// Ends it; ret (if not NULL) gets cur, referenced. Any state.
void walk_end(struct walk *w, struct path *ret);

#endif
