// SPDX-License-Identifier: Apache-2.0
#include "sentry/loader/loader.h"

#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#include "abi/errno.h"
#include "base/log.h"
#include "host/host.h"
#include "sentry/arena/arena.h"
#include "sentry/loader/image.h"
#include "sentry/mm/exec.h"
#include "sentry/mm/mm.h"
#include "sentry/mm/usercopy.h"
#include "sentry/vfs/file.h"

#define SCRIPT_LINE 256               // what of a script's first line counts
#define PIE_BASE 0x555555554000ull    // two thirds of the address space, as Linux
#define RANDOM_PIE_BITS 28            // pages
#define RANDOM_MMAP_BITS 28
#define RANDOM_STACK_BITS 22
#define RANDOM_BRK_PAGES 0x2000
#define STACK_SLACK (132ull << 10)    // of stack below what exec(2) puts there
#define STACK_GAP_MIN (128ull << 20)  // room for the stack to grow between it and mappings
#define STACK_MARGIN (512ull << 12)   // ... and besides

struct load {
    const struct loader_request *req;
    struct file *file;           // the image, after scripts; a reference
    struct loader_strings argv;  // owned if owns_argv
    bool owns_argv;
    struct mm *mm;
    u32 thread;
    u64 stack_top;
    u64 random[4];
    u64 entry, base; // where to start; where the interpreter is
    u64 sp;
    struct elf_image elf;
    u64 bias;
    struct mm_layout layout;
    u32 ids[4]; // uid euid gid egid
    bool secure;
};

static long read_file(void *arg, void *buf, u64 size, u64 off)
{
    struct file *f = arg;
    u64 done = 0;
    if (!file_ops(f) || !file_ops(f)->read)
        return -ENOEXEC;
    while (done < size) {
        struct uio u;
        s64 pos = (s64)(off + done);
        uio_init_kernel(&u, (u8 *)buf + done, size - done);
        long n = file_ops(f)->read(f, &u, &pos);
        if (n < 0)
            return n;
        if (n == 0)
            break;
        done += (u64)n;
    }
    return (long)done;
}

// --- Scripts -----------------------------------------------------------------------------------

static bool blank(char c)
{
    return c == ' ' || c == '\t';
}

// Splits "#! interpreter argument" (NUL-terminated line of `size` bytes read); the results point into it.
// *ret_arg is NULL without one. -ENOEXEC.
static int split_script(char *line, u64 size, char **ret_path, char **ret_arg)
{
    char *end = memchr(line, '\n', size);
    if (!end) {
        // The line goes on past what we look at: the interpreter's name, at least, must be whole.
        end = line + size;
        char *p = line + 2;
        while (p < end && blank(*p))
            p++;
        while (p < end && !blank(*p) && *p)
            p++;
        if (p == end && size == SCRIPT_LINE)
            return -ENOEXEC;
    }
    while (end > line + 2 && blank(end[-1]))
        end--;
    *end = 0;
    char *p = line + 2;
    while (blank(*p))
        p++;
    if (!*p)
        return -ENOEXEC;
    *ret_path = p;
    while (*p && !blank(*p))
        p++;
    if (*p)
        *p++ = 0;
    while (blank(*p))
        p++;
    *ret_arg = *p ? p : NULL;
    return 0;
}

// argv becomes: path, arg, script name, argv[1...].
static int script_argv(struct load *l, const char *path, const char *arg, const char *name)
{
    const struct loader_strings *old = &l->argv;
    u64 skip = old->count ? strlen(old->data) + 1 : 0;
    u64 sizes[3] = {strlen(path) + 1, arg ? strlen(arg) + 1 : 0, strlen(name) + 1};
    struct loader_strings s = {.size = sizes[0] + sizes[1] + sizes[2] + old->size - skip};
    s.count = (old->count ? old->count - 1 : 0) + 2 + (arg ? 1 : 0);
    s.data = arena_alloc(s.size);
    if (!s.data)
        return -ENOMEM;
    char *p = s.data;
    memcpy(p, path, sizes[0]);
    p += sizes[0];
    if (arg)
        memcpy(p, arg, sizes[1]);
    p += sizes[1];
    memcpy(p, name, sizes[2]);
    p += sizes[2];
    if (old->size > skip)
        memcpy(p, old->data + skip, old->size - skip);
    if (l->owns_argv)
        arena_free(l->argv.data);
    l->argv = s;
    l->owns_argv = true;
    return 0;
}

// Follows `#!` until l->file is something else.
static int follow_scripts(struct load *l)
{
    char line[SCRIPT_LINE + 1], name[ELF_INTERP_MAX];
    const char *script = l->req->filename;
    for (u32 depth = 0;; depth++) {
        memset(line, 0, sizeof(line));
        long n = read_file(l->file, line, SCRIPT_LINE, 0);
        if (n < 0)
            return (int)n;
        if (n < 2 || line[0] != '#' || line[1] != '!')
            return 0;
        if (depth >= LOADER_SCRIPT_DEPTH)
            return -ELOOP;
        if (l->req->close_on_exec_fd && depth == 0)
            return -ENOENT;
        char *path, *arg;
        int err = split_script(line, (u64)n, &path, &arg);
        if (!err)
            err = script_argv(l, path, arg, script);
        if (err)
            return err;
        struct file *next;
        err = l->req->open(l->req->arg, path, &next);
        if (err)
            return err;
        file_unref(l->file);
        l->file = next;
        memcpy(name, path, strlen(path) + 1);
        script = name;
    }
}

// --- Segments ----------------------------------------------------------------------------------

static u32 prot_of(u32 flags)
{
    return (flags & PF_R ? PROT_READ : 0) | (flags & PF_W ? PROT_WRITE : 0) |
           (flags & PF_X ? PROT_EXEC : 0);
}

static int map_fixed(struct load *l, u64 start, u64 end, u32 prot, struct file *file, u64 off)
{
    if (start >= end)
        return 0;
    u32 flags = MAP_PRIVATE | MAP_FIXED | (file ? 0 : MAP_ANONYMOUS);
    s64 at = mm_mmap(l->mm, start, end - start, prot, flags, file, off);
    return at < 0 ? (int)at : 0;
}

// What of the last page of the file part is not of the file is zero, up to the end of that page: dynamic linkers
// allocate from what is left of it.
static int zero_tail(struct load *l, u64 start, u64 end)
{
    static const u8 zeros[PAGE_SIZE];
    u64 size = end - start;
    return copy_out_mm(l->mm, uaddr(start), zeros, size, false) == size ? 0 : -ENOEXEC;
}

static int map_segment(struct load *l, struct file *file, const Elf64_Phdr *p, u64 bias)
{
    u64 start = p->p_vaddr + bias, file_end = start + p->p_filesz, end = start + p->p_memsz;
    u64 split = p->p_filesz ? page_up(file_end) : page_down(start);
    u32 prot = prot_of(p->p_flags);
    int err = 0;
    if (p->p_filesz)
        err = map_fixed(l, page_down(start), split, prot, file, page_down(p->p_offset));
    if (!err && p->p_filesz && end > file_end && prot & PROT_WRITE && split > file_end)
        err = zero_tail(l, file_end, split);
    if (!err)
        err = map_fixed(l, split, page_up(end), prot, NULL, 0);
    return err;
}

static int map_image(struct load *l, struct file *file, const struct elf_image *e, u64 bias)
{
    if (bias + e->high > MM_TOP || bias + e->low < MM_MIN_ADDR)
        return -EINVAL;
    for (u32 i = 0; i < e->header.e_phnum; i++) {
        if (e->phdrs[i].p_type != PT_LOAD)
            continue;
        int err = map_segment(l, file, &e->phdrs[i], bias);
        if (err)
            return err;
    }
    return 0;
}

static void note_layout(struct load *l)
{
    struct mm_layout *m = &l->layout;
    m->start_code = ~0ull;
    for (u32 i = 0; i < l->elf.header.e_phnum; i++) {
        const Elf64_Phdr *p = &l->elf.phdrs[i];
        if (p->p_type != PT_LOAD)
            continue;
        u64 start = p->p_vaddr + l->bias;
        if (p->p_flags & PF_X) {
            m->start_code = min(m->start_code, start);
            m->end_code = max(m->end_code, start + p->p_filesz);
        } else {
            m->start_data = max(m->start_data, start);
        }
        m->end_data = max(m->end_data, start + p->p_filesz);
        m->brk = max(m->brk, start + p->p_memsz);
    }
    if (m->start_code == ~0ull)
        m->start_code = 0;
    u64 brk = page_up(m->brk);
    if (!l->req->no_randomize)
        brk += l->random[2] % RANDOM_BRK_PAGES * PAGE_SIZE;
    m->start_brk = m->brk = min(brk, MM_TOP - PAGE_SIZE);
}

static int load_interpreter(struct load *l)
{
    char path[ELF_INTERP_MAX];
    const Elf64_Phdr *p = &l->elf.phdrs[l->elf.interp];
    long n = read_file(l->file, path, p->p_filesz, p->p_offset);
    if (n != (long)p->p_filesz)
        return n < 0 ? (int)n : -EIO;
    if (path[p->p_filesz - 1] != 0)
        return -ENOEXEC;
    struct file *file;
    int err = l->req->open(l->req->arg, path, &file);
    if (err)
        return err;
    struct elf_image e;
    err = elf_parse(read_file, file, &e);
    if (err) {
        file_unref(file);
        return err == -ENOEXEC ? -ELIBBAD : err;
    }
    u64 bias = 0;
    if (e.header.e_type == ET_DYN) {
        u64 room = mm_find_room(l->mm, e.high - e.low + e.align);
        bias = align_up(room, e.align) - e.low;
        if (!room)
            err = -ENOMEM;
    }
    if (!err)
        err = map_image(l, file, &e, bias);
    l->entry = bias + e.header.e_entry;
    l->base = bias + e.low;
    elf_fini(&e);
    file_unref(file);
    return err;
}

static int load_segments(struct load *l)
{
    l->bias = 0;
    if (l->elf.header.e_type == ET_DYN) {
        u64 at = PIE_BASE;
        if (!l->req->no_randomize)
            at += (l->random[0] & ((1ull << RANDOM_PIE_BITS) - 1)) << PAGE_SHIFT;
        l->bias = align_down(at, l->elf.align) - align_down(l->elf.low, l->elf.align);
        if (l->elf.high - l->elf.low > MM_TOP / 4)
            return -ENOMEM;
    }
    int err = map_image(l, l->file, &l->elf, l->bias);
    if (err)
        return err;
    note_layout(l);
    l->entry = l->bias + l->elf.header.e_entry;
    if (l->elf.interp >= 0)
        err = load_interpreter(l);
    return err;
}

// --- The stack -----------------------------------------------------------------------------------

static void choose_layout(struct load *l)
{
    u64 top = MM_TOP - PAGE_SIZE, limit = l->req->stack_limit;
    u64 gap = page_up(min(limit, MM_TOP));
    gap = min(gap, MM_TOP / 6 * 5);
    gap = max(gap, STACK_GAP_MIN) + STACK_MARGIN;
    u64 mmap_base = top - gap;
    l->stack_top = top;
    if (!l->req->no_randomize) {
        u64 shift = (l->random[1] & ((1ull << RANDOM_STACK_BITS) - 1)) << PAGE_SHIFT;
        l->stack_top -= shift;
        mmap_base -= (1ull << (RANDOM_STACK_BITS + PAGE_SHIFT));
        mmap_base -= (l->random[3] & ((1ull << RANDOM_MMAP_BITS) - 1)) << PAGE_SHIFT;
    }
    mm_set_mmap_base(l->mm, mmap_base);
}

static void add_auxv(struct mm_layout *m, u64 type, u64 value)
{
    m->auxv[m->auxv_count++] = type;
    m->auxv[m->auxv_count++] = value;
}

static u32 cpu_features(void)
{
    u32 a = 1, b, c, d;
    __asm__("cpuid" : "+a"(a), "=b"(b), "=c"(c), "=d"(d));
    return d;
}

static void fill_auxv(struct load *l, u64 random_addr, u64 platform, u64 execfn)
{
    struct mm_layout *m = &l->layout;
    const Elf64_Ehdr *h = &l->elf.header;
    if (m->vdso)
        add_auxv(m, AT_SYSINFO_EHDR, m->vdso);
    add_auxv(m, 51 /* AT_MINSIGSTKSZ */, getauxval(51) ? getauxval(51) : 2048);
    add_auxv(m, AT_HWCAP, cpu_features());
    add_auxv(m, AT_PAGESZ, PAGE_SIZE);
    add_auxv(m, AT_CLKTCK, 100);
    add_auxv(m, AT_PHDR, l->elf.phdr_addr ? l->bias + l->elf.phdr_addr : 0);
    add_auxv(m, AT_PHENT, sizeof(Elf64_Phdr));
    add_auxv(m, AT_PHNUM, h->e_phnum);
    add_auxv(m, AT_BASE, l->base);
    add_auxv(m, AT_FLAGS, 0);
    add_auxv(m, AT_ENTRY, l->bias + h->e_entry);
    add_auxv(m, AT_UID, l->ids[0]);
    add_auxv(m, AT_EUID, l->ids[1]);
    add_auxv(m, AT_GID, l->ids[2]);
    add_auxv(m, AT_EGID, l->ids[3]);
    add_auxv(m, AT_SECURE, l->secure);
    add_auxv(m, AT_RANDOM, random_addr);
    add_auxv(m, AT_HWCAP2, 0); // no FSGSBASE: the stub has a use for GS
    add_auxv(m, AT_EXECFN, execfn);
    add_auxv(m, 27 /* AT_RSEQ_FEATURE_SIZE */, 20);
    add_auxv(m, 28 /* AT_RSEQ_ALIGN */, 32);
    add_auxv(m, AT_PLATFORM, platform);
    add_auxv(m, AT_NULL, 0);
}

// Addresses of the strings of a list that begins at `at`, and a NULL.
static u64 *add_pointers(u64 *p, const struct loader_strings *s, u64 at)
{
    const char *string = s->data;
    for (u32 i = 0; i < s->count; i++) {
        u64 n = strlen(string) + 1;
        *p++ = at;
        at += n;
        string += n;
    }
    *p++ = 0;
    return p;
}

static int put(struct load *l, u64 addr, const void *src, u64 size)
{
    return copy_out_mm(l->mm, uaddr(addr), src, size, true) == size ? 0 : -EFAULT;
}

// From the top: 8 zero bytes, the file name, the environment's strings, the arguments', "x86_64", 16 random
// bytes; aligned to 16: argc, argv, NULL, envp, NULL, the auxiliary vector.
static int build_stack(struct load *l)
{
    const struct loader_strings *argv = &l->argv, *envp = &l->req->envp;
    struct mm_layout *m = &l->layout;
    u64 name_size = strlen(l->req->filename) + 1;
    u64 pointers = (argv->count + envp->count + 3 + array_size(m->auxv)) * 8ull;
    u64 total = 8 + name_size + envp->size + argv->size + 8192 + 64 + pointers;
    if (total > max(page_up(l->req->stack_limit / 4 * 3), 64 * PAGE_SIZE))
        return -E2BIG;
    u64 start = page_down(l->stack_top - total - STACK_SLACK);
    int err = mm_map_stack(l->mm, start, l->stack_top, l->elf.executable_stack);
    if (err)
        return err;

    u64 p = l->stack_top - 8 - name_size, execfn = p;
    err = put(l, p, l->req->filename, name_size);
    m->env_end = p;
    m->env_start = m->arg_end = p -= envp->size;
    if (!err)
        err = put(l, p, envp->data, envp->size);
    m->arg_start = p -= argv->size;
    if (!err)
        err = put(l, p, argv->data, argv->size);
    if (!l->req->no_randomize)
        p -= l->random[1] >> 32 & 0x1fff;
    p = align_down(p, 16);
    u64 platform = p -= 16, random_addr = p -= 16;
    if (!err)
        err = put(l, platform, "x86_64", 7);
    u64 bytes[2];
    if (!err)
        err = host_random(bytes, sizeof(bytes));
    if (!err)
        err = put(l, random_addr, bytes, sizeof(bytes));
    if (err)
        return err;

    fill_auxv(l, random_addr, platform, execfn);
    u64 words = 1 + argv->count + 1 + envp->count + 1 + m->auxv_count;
    u64 *table = arena_alloc(words * 8), *w = table;
    if (!table)
        return -ENOMEM;
    *w++ = argv->count;
    w = add_pointers(w, argv, m->arg_start);
    w = add_pointers(w, envp, m->env_start);
    memcpy(w, m->auxv, m->auxv_count * 8);
    l->sp = m->start_stack = align_down(p - words * 8, 16);
    err = put(l, l->sp, table, words * 8);
    arena_free(table);
    return err;
}

// --- All together --------------------------------------------------------------------------------

static int build(struct load *l)
{
    int err = host_random(l->random, sizeof(l->random));
    if (!err && l->req->credentials)
        err = l->req->credentials(l->req->arg, l->file, &l->ids[0], &l->ids[1], &l->ids[2],
                                  &l->ids[3], &l->secure);
    if (!err)
        err = mm_new(&l->mm, &l->thread);
    if (err)
        return err;
    choose_layout(l);
    err = load_segments(l);
    if (!err)
        err = mm_map_vdso(l->mm, &l->layout.vdso);
    if (!err)
        err = build_stack(l);
    if (err) {
        mm_unref(l->mm);
        return err;
    }
    mm_set_layout(l->mm, &l->layout);
    mm_set_exe(l->mm, l->file);
    return 0;
}

static void fill_image(struct load *l, struct loader_image *ret)
{
    const char *name = strrchr(l->req->filename, '/');
    name = name ? name + 1 : l->req->filename;
    *ret = (struct loader_image){.mm = l->mm, .thread = l->thread};
    memcpy(ret->comm, name, strnlen(name, sizeof(ret->comm) - 1));
    ret->image = file_ref(l->file);
    ret->regs = (struct user_regs){.rip = l->entry, .rsp = l->sp, .cs = USER_CS, .ss = USER_SS,
                                   .eflags = USER_EFLAGS_INIT, .orig_rax = ~0ull};
}

int loader_exec(const struct loader_request *req, struct loader_image *ret)
{
    static char empty[1];
    struct load *l = arena_alloc(sizeof(*l));
    if (!l)
        return -ENOMEM;
    l->req = req;
    l->file = file_ref(req->file);
    l->argv = req->argv;
    if (!l->argv.count)
        l->argv = (struct loader_strings){.data = empty, .size = 1, .count = 1};
    int err = follow_scripts(l);
    if (!err)
        err = elf_parse(read_file, l->file, &l->elf);
    if (!err) {
        err = build(l);
        elf_fini(&l->elf);
    }
    if (!err)
        fill_image(l, ret);
    if (l->owns_argv)
        arena_free(l->argv.data);
    file_unref(l->file);
    arena_free(l);
    return err;
}
