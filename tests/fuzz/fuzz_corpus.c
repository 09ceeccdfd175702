// SPDX-License-Identifier: Apache-2.0
// fuzz_corpus DIR: runs a fuzzing target over each file of DIR, and over mutations of each that are
// the same in every run (a fixed seed). An input at which the target crashes is left in /tmp.
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"

#define INPUT_MAX 65536
#define MUTATIONS 2000

static uint8_t input[INPUT_MAX], mutated[INPUT_MAX];
static size_t mutated_size;
static uint64_t state = 0x9e3779b97f4a7c15u;

static uint32_t next_random(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 16);
}

static void keep_input(int sig)
{
    int fd = open("/tmp/fuzz-crash", O_CREAT | O_WRONLY | O_TRUNC, 0600);
    if (fd < 0 || write(fd, mutated, mutated_size) < 0)
        _exit(2);
    _exit(128 + sig);
}

static void mutate(size_t size)
{
    static const uint8_t special[] = {0, 1, 2, 0x7f, 0x80, 0xff, '/', '.'};
    memcpy(mutated, input, size);
    mutated_size = size;
    for (uint32_t n = next_random() % 4 + 1; n && mutated_size; n--) {
        size_t at = next_random() % mutated_size;
        switch (next_random() % 4) {
        case 0:
            mutated[at] ^= (uint8_t)(1u << next_random() % 8);
            break;
        case 1:
            mutated[at] = special[next_random() % sizeof(special)];
            break;
        case 2:
            mutated[at] = (uint8_t)next_random();
            break;
        default:
            mutated_size = at;
        }
    }
}

int main(int argc, char **argv)
{
    DIR *dir = argc == 2 ? opendir(argv[1]) : NULL;
    if (!dir) {
        fprintf(stderr, "usage: %s DIR\n", argv[0]);
        return 2;
    }
    signal(SIGSEGV, keep_input);
    signal(SIGABRT, keep_input);
    int files = 0;
    for (struct dirent *e; (e = readdir(dir));) {
        int fd = openat(dirfd(dir), e->d_name, O_RDONLY);
        ssize_t size = fd < 0 ? -1 : read(fd, input, sizeof(input));
        if (fd >= 0)
            close(fd);
        if (e->d_name[0] == '.' || size < 0)
            continue;
        files++;
        memcpy(mutated, input, (size_t)size);
        mutated_size = (size_t)size;
        LLVMFuzzerTestOneInput(mutated, mutated_size);
        for (int i = 0; i < MUTATIONS; i++) {
            mutate((size_t)size);
            LLVMFuzzerTestOneInput(mutated, mutated_size);
        }
    }
    closedir(dir);
    printf("%d inputs, %d mutations of each\n", files, MUTATIONS);
    return files ? 0 : 1;
}
