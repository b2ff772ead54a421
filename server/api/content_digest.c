/* Content-Digest: one algorithm of the list is ours, SHA-256; the rest is ignored, as the RFC asks. */
#include "server/api/content_digest.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

enum { SHA256_BYTES = 32, BASE64_LENGTH = 44 };

static int base64_digit(char c) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c == '\0' ? NULL : strchr(digits, c);

    return at == NULL ? -1 : (int)(at - digits);
}

/* 44 characters with one '=' at the end to 32 bytes. */
static bool decode(const char *text, uint8_t out[SHA256_BYTES]) {
    uint32_t bits = 0;
    size_t held = 0, written = 0;

    for (size_t i = 0; i < BASE64_LENGTH - 1; i++) {
        int digit = base64_digit(text[i]);
        if (digit < 0) {
            return false;
        }
        bits = (bits << 6 | (uint32_t)digit) & 0xffffffU;
        held += 6;
        if (held >= 8 && written < SHA256_BYTES) {
            held -= 8;
            out[written++] = (uint8_t)(bits >> held);
        }
    }
    return text[BASE64_LENGTH - 1] == '=' && written == SHA256_BYTES;
}

enum status content_digest_read(const char *header, char out[DIGEST_HEX_SIZE], struct error *error) {
    static const char name[] = "sha-256=";
    static const char hex[] = "0123456789abcdef";
    const char *at = header;
    uint8_t bytes[SHA256_BYTES];

    out[0] = '\0';
    while (*at != '\0' && strncasecmp(at, name, sizeof(name) - 1) != 0) {
        at += strcspn(at, ",");
        at += strspn(at, ", \t");
    }
    if (*at == '\0') {
        return STATUS_OK;
    }
    at += sizeof(name) - 1;
    if (strlen(at) < BASE64_LENGTH + 2 || at[0] != ':' || at[BASE64_LENGTH + 1] != ':' || !decode(at + 1, bytes)) {
        return error_set(error, STATUS_INVALID, NULL,
                         "failed to read Content-Digest: expected sha-256=:<base64 of 32 bytes>:");
    }
    for (size_t i = 0; i < SHA256_BYTES; i++) {
        out[2 * i] = hex[bytes[i] >> 4];
        out[2 * i + 1] = hex[bytes[i] & 15];
    }
    out[DIGEST_HEX_SIZE - 1] = '\0';
    return STATUS_OK;
}
