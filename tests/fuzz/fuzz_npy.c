/* The headers of npy arrays, without the zip around them, whose checksums keep a fuzzer out. */
#include "server/data/npy.h"

#include <string.h>

#include "common/mem.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    unsigned char prefix[NPY_PREFIX_V2] = {0};
    struct npy array = {.name = "x"};
    struct error error = {0};
    size_t before = 0, text_length = 0;
    if (length < sizeof prefix) {
        return 0;
    }
    memcpy(prefix, bytes, sizeof prefix);
    if (npy_prefix(prefix, "x.npy", &before, &text_length, &error) != STATUS_OK || before > length ||
        text_length > length - before) {
        return 0;
    }
    char *text = mem_dup(bytes + before, text_length);
    if (text != NULL) {
        (void)npy_header(text, text_length, "x.npy", &array, &error);
    }
    mem_free(text);
    return 0;
}
