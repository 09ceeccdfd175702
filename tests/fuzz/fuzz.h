// SPDX-License-Identifier: Apache-2.0
// What a fuzzing target provides. Linked with -fsanitize=fuzzer it is fuzzed; linked with fuzz_corpus.c
// it runs over its checked-in corpus and mutations of it, as an ordinary test.
#ifndef BAILEY_TESTS_FUZZ_FUZZ_H
#define BAILEY_TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
