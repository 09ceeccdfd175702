// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/platform_driver.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "abi/errno.h"
#include "host/host.h"


static u64 text_base;
static struct guest *guests;
u32 driver_patches;
bool driver_threaded;

// Marks where the section is: all guest code is within GUEST_TEXT_SIZE of it.
guest_code void guest_anchor(void);
void guest_anchor(void)
{
    __asm__ volatile("nop");
}

void driver_init(const struct platform_config *config)
{
    static bool done;
    if (done)
        return;
    done = true;
    assert_int_equal(platform_init(config), 0);
    text_base = page_down((u64)guest_anchor) - GUEST_TEXT_SIZE / 2;
}

// A copy of the program's text around the guest functions; what is not mapped there stays zero.
static void text_copy(struct guest *g)
{
    g->text_fd = host_memfd_create("text", MFD_CLOEXEC);
    assert_int_equal(host_ftruncate(g->text_fd, GUEST_TEXT_SIZE + PAGE_SIZE), 0);
    g->text = host_mmap(NULL, GUEST_TEXT_SIZE + PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
                        g->text_fd, 0);
    assert_false(host_is_error(g->text));
    for (u64 off = 0; off < GUEST_TEXT_SIZE; off += PAGE_SIZE)
        host_pwrite(g->text_fd, (void *)(text_base + off), PAGE_SIZE, (s64)off);
}

static struct guest *guest_find(u32 as)
{
    struct guest *g = guests;
    while (g && g->as != as)
        g = g->next;
    return g;
}

// Where guest text is for us, and how much there is from there on.
static u8 *text_at(struct guest *g, u64 addr, u64 *ret_size)
{
    if (g && addr >= GUEST_TEXT && addr < GUEST_TEXT + GUEST_TEXT_SIZE) {
        *ret_size = GUEST_TEXT + GUEST_TEXT_SIZE - addr;
        return (u8 *)g->text + (addr - GUEST_TEXT);
    }
    if (g && addr >= GUEST_TRAMPOLINE && addr < GUEST_TRAMPOLINE + PAGE_SIZE) {
        *ret_size = GUEST_TRAMPOLINE + PAGE_SIZE - addr;
        return (u8 *)g->text + GUEST_TEXT_SIZE + (addr - GUEST_TRAMPOLINE);
    }
    return NULL;
}

long platform_hook_read_text(u32 as, u64 addr, void *buf, u32 size)
{
    u64 n;
    u8 *p = text_at(guest_find(as), addr, &n);
    if (!p)
        return -EFAULT;
    n = min((u64)size, n);
    memcpy(buf, p, n);
    return (long)n;
}

int platform_hook_trampoline(u32 as, u64 near, u64 *ret_addr, void **ret_write)
{
    struct guest *g = guest_find(as);
    if (!g)
        return -ENOMEM;
    *ret_addr = GUEST_TRAMPOLINE;
    *ret_write = g->text + GUEST_TEXT_SIZE;
    return platform_as_map(as, GUEST_TRAMPOLINE, PAGE_SIZE, PROT_READ | PROT_EXEC, SLOT_TEXT,
                           GUEST_TEXT_SIZE, false);
}

int platform_hook_patch(u32 as, const struct platform_patch *patch)
{
    u64 n;
    u8 *p = text_at(guest_find(as), patch->addr, &n);
    if (!p || memcmp(p, patch->old, patch->size))
        return -EAGAIN;
    memcpy(p, patch->new, patch->size);
    driver_patches += patch->addr < GUEST_TRAMPOLINE || patch->addr >= GUEST_TRAMPOLINE + PAGE_SIZE;
    return 0;
}

bool platform_hook_single_threaded(u32 as)
{
    return !driver_threaded;
}

u64 guest_address(const void *p)
{
    return (u64)p - text_base + GUEST_TEXT;
}

u32 driver_seed;

void guest_new(struct guest *g, void *fn, u64 arg)
{
    *g = (struct guest){.flags = PLATFORM_REGS_ALL};
    assert_int_equal(platform_as_new(driver_seed, &g->as, &g->thread), 0);
    g->data_fd = host_memfd_create("data", MFD_CLOEXEC);
    assert_int_equal(host_ftruncate(g->data_fd, GUEST_DATA_SIZE), 0);
    g->data = host_mmap(NULL, GUEST_DATA_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, g->data_fd, 0);
    assert_false(host_is_error(g->data));
    text_copy(g);
    g->next = guests;
    guests = g;
    assert_int_equal(platform_as_set_fd(g->as, SLOT_TEXT, g->text_fd), 0);
    assert_int_equal(platform_as_set_fd(g->as, SLOT_DATA, g->data_fd), 0);
    assert_int_equal(platform_as_map(g->as, GUEST_TEXT, GUEST_TEXT_SIZE, PROT_READ | PROT_EXEC,
                                     SLOT_TEXT, 0, false), 0);
    assert_int_equal(platform_as_map(g->as, GUEST_DATA, GUEST_DATA_SIZE, PROT_READ | PROT_WRITE,
                                     SLOT_DATA, 0, false), 0);
    g->regs.rip = guest_address(fn);
    g->regs.rdi = arg;
    g->regs.rsp = GUEST_STACK_TOP - 4096 - 8;
}

int guest_run(struct guest *g)
{
    int r = platform_switch(g->thread, &g->regs, g->flags, &g->event);
    assert_int_equal(r, 0);
    g->flags = PLATFORM_REGS_RAX;
    return (int)g->event.kind;
}

u64 guest_syscall(struct guest *g)
{
    int kind = guest_run(g);
    if (kind != PLATFORM_SYSCALL)
        print_error("event %d signo %d code %d addr %#lx error %d rip %#lx\n", kind, g->event.signo,
                    g->event.code, g->event.addr, g->event.error, g->regs.rip);
    assert_int_equal(kind, PLATFORM_SYSCALL);
    return g->regs.orig_rax;
}

void guest_return(struct guest *g, u64 value)
{
    g->regs.rax = value;
}

void guest_free(struct guest *g)
{
    struct guest **p = &guests;
    while (*p && *p != g)
        p = &(*p)->next;
    if (*p)
        *p = g->next;
    platform_as_destroy(g->as);
    host_munmap(g->text, GUEST_TEXT_SIZE + PAGE_SIZE);
    host_close(g->text_fd);
    host_munmap(g->data, GUEST_DATA_SIZE);
    host_close(g->data_fd);
}
