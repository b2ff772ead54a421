/* 256 random bits are beyond guessing, so a plain SHA-256 of them may be stored: slow hashes are for what people make up. */
#include "common/secret.h"

#include <sodium.h>
#include <string.h>

enum { SECRET_BYTES = 32, PREFIX_LENGTH = 4 };

void secret_make(char out[SECRET_SIZE]) {
    unsigned char bytes[SECRET_BYTES];

    randombytes_buf(bytes, sizeof bytes);
    memcpy(out, "onp_", PREFIX_LENGTH);
    (void)sodium_bin2base64(out + PREFIX_LENGTH, SECRET_SIZE - PREFIX_LENGTH, bytes, sizeof bytes,
                            sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    sodium_memzero(bytes, sizeof bytes);
}
