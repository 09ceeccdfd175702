// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/mm_driver.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>
#include <sys/syscall.h>

#include "host/host.h"
#include "sentry/arena/arena.h"
#include "sentry/mm/exec.h"
#include "sentry/mm/usercopy.h"
#include "sentry/vfs/cred.h"

u64 toy_rlimits[16];

u32 mm_seed(void)
{
    return 0;
}

u64 mm_rlimit(u32 resource)
{
    return toy_rlimits[resource];
}

struct account *toy_account;

struct account *account_now(void)
{
    return toy_account;
}

void account_grows(void)
{
}

void mm_kick(struct mm *mm)
{
    (void)mm;
}

static char *memdir_path;

static void remove_memdir(void)
{
    rmdir(memdir_path);
}

void mm_driver_init(void)
{
    static bool done;
    memset(toy_rlimits, 0xff, sizeof(toy_rlimits));
    toy_rlimits[3] = 8 << 20;
    if (done)
        return;
    done = true;
    struct platform_config config = {.use_rewriting = true};
    driver_init(&config);
    assert_int_equal(arena_init(1ull << 30), 0);
    char dir[] = "/dev/shm/mmtest-XXXXXX";
    assert_non_null(mkdtemp(dir));
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    memdir_path = strdup(dir);
    atexit(remove_memdir);
    assert_true(fd >= 0);
    assert_int_equal(mm_init(fd, 0), 0);
}

void toy_new(struct toy *t, void *fn, u64 arg)
{
    *t = (struct toy){.flags = PLATFORM_REGS_ALL};
    assert_int_equal(mm_new(&t->mm, &t->thread), 0);
    mm_set_mmap_base(t->mm, 0x7ff000000000ull);
    assert_int_equal(mm_mmap(t->mm, MM_TEXT, GUEST_TEXT_SIZE, PROT_READ | PROT_EXEC,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, NULL, 0), MM_TEXT);
    // The same pages that platform_driver's guests see, from this program's own text.
    u64 base = guest_address(NULL) - GUEST_TEXT, text = 0 - base;
    for (u64 off = 0; off < GUEST_TEXT_SIZE; off += PAGE_SIZE) {
        u8 page[PAGE_SIZE];
        int fds[2];
        assert_int_equal(pipe(fds), 0);
        // Without libc, whose sanitized versions object to reading past this program's objects.
        if (host_write(fds[1], (void *)(text + off), PAGE_SIZE) == PAGE_SIZE &&
            host_read(fds[0], page, PAGE_SIZE) == PAGE_SIZE)
            assert_int_equal(copy_out_mm(t->mm, uaddr(MM_TEXT + off), page, PAGE_SIZE, true),
                             PAGE_SIZE);
        close(fds[0]);
        close(fds[1]);
    }
    assert_int_equal(mm_map_stack(t->mm, MM_STACK_TOP - 0x20000, MM_STACK_TOP, false), 0);
    struct mm_layout layout = {.start_brk = 0x30000000, .brk = 0x30000000};
    mm_set_layout(t->mm, &layout);
    t->regs.rip = (u64)fn - text + MM_TEXT;
    t->regs.rdi = arg;
    t->regs.rsp = MM_STACK_TOP - 4096 - 8;
    t->regs.eflags = USER_EFLAGS_INIT;
    t->regs.cs = USER_CS;
    t->regs.ss = USER_SS;
}

void toy_free(struct toy *t)
{
    if (t->mm)
        mm_unref(t->mm);
    t->mm = NULL;
}

static long toy_fork(struct toy *t)
{
    struct toy child = *t;
    int err = mm_fork(t->mm, t->thread, &child.mm, &child.thread);
    if (err)
        return err;
    child.regs.rax = 0;
    child.flags = PLATFORM_REGS_ALL;
    mm_check(t->mm);
    mm_check(child.mm);
    long status = toy_run(&child);
    mm_check(child.mm);
    toy_free(&child);
    mm_set_current(t->mm, t->thread);
    return status;
}

static long sum(u64 addr, u64 size)
{
    long total = 0;
    u8 buf[300];
    for (u64 done = 0; done < size; done += sizeof(buf)) {
        u64 n = min(sizeof(buf), size - done);
        if (copy_in(buf, uaddr(addr + done), n))
            return -EFAULT;
        for (u64 i = 0; i < n; i++)
            total += buf[i];
    }
    return total;
}

static long fill(u64 addr, u64 size, u8 value)
{
    u8 buf[300];
    memset(buf, value, sizeof(buf));
    for (u64 done = 0; done < size; done += sizeof(buf))
        if (copy_out(uaddr(addr + done), buf, min(sizeof(buf), size - done)))
            return -EFAULT;
    return 0;
}

static long dispatch(struct toy *t)
{
    const struct user_regs *r = &t->regs;
    switch (r->orig_rax) {
    case SYS_mmap:
        return mm_mmap(t->mm, r->rdi, r->rsi, (u32)r->rdx, (u32)r->r10, NULL, r->r9);
    case SYS_munmap:
        return mm_munmap(t->mm, r->rdi, r->rsi);
    case SYS_mprotect:
        return mm_mprotect(t->mm, r->rdi, r->rsi, (u32)r->rdx);
    case SYS_mremap:
        return mm_mremap(t->mm, r->rdi, r->rsi, r->rdx, (u32)r->r10, r->r8);
    case SYS_madvise:
        return mm_madvise(t->mm, r->rdi, r->rsi, (int)r->rdx);
    case SYS_brk:
        return (long)mm_brk(t->mm, r->rdi);
    case CALL_FORK_RUN:
        return toy_fork(t);
    case CALL_COPY_OUT:
        return fill(r->rdi, r->rsi, (u8)r->rdx);
    case CALL_SUM:
        return sum(r->rdi, r->rsi);
    default:
        return -ENOSYS;
    }
}

long toy_run(struct toy *t)
{
    mm_set_current(t->mm, t->thread);
    for (;;) {
        struct platform_event ev;
        assert_int_equal(platform_switch(t->thread, &t->regs, t->flags, &ev), 0);
        t->flags = PLATFORM_REGS_RAX;
        switch (ev.kind) {
        case PLATFORM_SYSCALL:
            if (t->regs.orig_rax == CALL_EXIT)
                return (long)t->regs.rdi;
            t->regs.rax = (u64)dispatch(t);
            break;
        case PLATFORM_FAULT:
            t->faults++;
            if (mm_fault(t->mm, &ev, &t->died))
                return -t->died.signo;
            break;
        case PLATFORM_INTERRUPT:
            break;
        case PLATFORM_OPS_FAILED:
            print_error("op failed: %d at %#lx size %#lx\n", ev.error, ev.addr, ev.size);
            fail();
            break;
        case PLATFORM_DEAD:
        default:
            fail();
        }
    }
}

void mm_check(struct mm *mm)
{
    struct vma *prev = NULL;
    u64 size = 0;
    u32 count = 0;
    mm_lock(mm);
    for (struct vma *v = vma_find(mm, 0); v; prev = v, v = vma_next(v)) {
        assert_true(v->start < v->end && v->end <= MM_TOP);
        assert_true(!prev || prev->end <= v->start);
        size += v->end - v->start;
        count++;
        if (v->flags & MM_VMA_SHARED || v->backing)
            continue;
        for (u64 a = v->start; a < v->end;) {
            struct extent *e = extent_find(mm, a);
            assert_non_null(e);
            assert_true(e->start <= a);
            a = e->end;
        }
    }
    assert_int_equal(size, mm->size);
    assert_int_equal(count, mm->vma_count);
    struct extent *last = NULL;
    count = 0;
    for (struct extent *e = extent_find(mm, 0); e; last = e, e = extent_next(e)) {
        assert_true(e->start < e->end);
        assert_true(!last || last->end <= e->start);
        count++;
        for (u64 a = e->start; a < e->end;) {
            struct vma *v = vma_at(mm, a);
            assert_non_null(v);
            assert_false(v->flags & MM_VMA_SHARED);
            a = v->end;
        }
        // No two extents share a range of a file.
        for (struct extent *o = extent_next(e); o; o = extent_next(o))
            if (o->backing == e->backing)
                assert_false(o->off < e->off + (e->end - e->start) &&
                             e->off < o->off + (o->end - o->start));
    }
    assert_int_equal(count, mm->extent_count);
    mm_unlock(mm);
}
