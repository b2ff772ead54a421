/* What each fuzz target offers: libFuzzer's entry point, which tests/fuzz/replay.c calls as well. */
#ifndef ONP_TESTS_FUZZ_FUZZ_H
#define ONP_TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

#endif
