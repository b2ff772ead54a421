/* Base64 by libsodium. */
#include "common/base64.h"

#include <sodium.h>

#include "common/mem.h"

char *base64_encode(const void *bytes, size_t count) {
    const size_t size = sodium_base64_ENCODED_LEN(count, sodium_base64_VARIANT_ORIGINAL);
    char *text = mem_alloc(size, 1);
    if (text != NULL) {
        (void)sodium_bin2base64(text, size, bytes, count, sodium_base64_VARIANT_ORIGINAL);
    }
    return text;
}
