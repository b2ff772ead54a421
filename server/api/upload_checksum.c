/* Nettle hashes and decodes here: the protocol of resumable uploads asks for SHA-1, too, which nothing else of ours should use. */
#include "server/api/upload_checksum.h"

#include <nettle/base64.h>
#include <nettle/sha1.h>
#include <nettle/sha2.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "common/mem.h"

enum { BASE64_MAX = 2048 };

struct upload_checksum {
    bool is_sha1;
    union {
        struct sha1_ctx sha1;
        struct sha256_ctx sha256;
    } state;
    uint8_t expected[SHA256_DIGEST_SIZE];
};

/* Decodes `length` characters; false unless they are base64 of at most `size` bytes. */
static bool decode(const char *text, size_t length, uint8_t *out, size_t size, size_t *written) {
    uint8_t bytes[BASE64_DECODE_LENGTH(BASE64_MAX)];
    struct base64_decode_ctx context;
    size_t count = sizeof(bytes);

    base64_decode_init(&context);
    if (length > BASE64_MAX || base64_decode_update(&context, &count, bytes, length, text) != 1 ||
        base64_decode_final(&context) != 1 || count > size) {
        return false;
    }
    memcpy(out, bytes, count);
    *written = count;
    return true;
}

enum status upload_checksum_new(const char *header, struct upload_checksum **out, struct error *error) {
    struct upload_checksum *made = mem_calloc(1, sizeof(*made));
    const char *base64 = header + strcspn(header, " ");
    size_t size = 0;

    if (made == NULL) {
        return error_no_memory(error, "a checksum");
    }
    made->is_sha1 = strncmp(header, "sha1 ", 5) == 0;
    if ((!made->is_sha1 && strncmp(header, "sha256 ", 7) != 0) ||
        !decode(base64 + 1, strlen(base64 + 1), made->expected, sizeof(made->expected), &size) ||
        size != (made->is_sha1 ? SHA1_DIGEST_SIZE : SHA256_DIGEST_SIZE)) {
        mem_free(made);
        return error_set(error, STATUS_INVALID, NULL,
                         "failed to read Upload-Checksum: expected sha256 or sha1, a blank and the base64 of the hash");
    }
    if (made->is_sha1) {
        sha1_init(&made->state.sha1);
    } else {
        sha256_init(&made->state.sha256);
    }
    *out = made;
    return STATUS_OK;
}

void upload_checksum_update(struct upload_checksum *checksum, const void *data, size_t length) {
    if (checksum->is_sha1) {
        sha1_update(&checksum->state.sha1, length, data);
    } else {
        sha256_update(&checksum->state.sha256, length, data);
    }
}

enum status upload_checksum_finish(struct upload_checksum *checksum, struct error *error) {
    uint8_t got[SHA256_DIGEST_SIZE];
    size_t size = checksum->is_sha1 ? SHA1_DIGEST_SIZE : SHA256_DIGEST_SIZE;

    if (checksum->is_sha1) {
        sha1_digest(&checksum->state.sha1, size, got);
    } else {
        sha256_digest(&checksum->state.sha256, size, got);
    }
    if (memcmp(got, checksum->expected, size) != 0) {
        return error_set(error, STATUS_INVALID, NULL,
                         "failed to take the piece: its bytes do not have the checksum of Upload-Checksum");
    }
    return STATUS_OK;
}

void upload_checksum_free(struct upload_checksum *checksum) {
    mem_free(checksum);
}

enum status upload_metadata_get(const char *metadata, const char *key, char *out, size_t size, struct error *error) {
    size_t key_length = strlen(key), length, written = 0;
    const char *at = metadata;

    out[0] = '\0';
    while (*at != '\0') {
        at += strspn(at, " ,");
        length = strcspn(at, ",");
        if (length >= key_length && strncmp(at, key, key_length) == 0 && strchr(" ,", at[key_length]) != NULL) {
            break; /* strchr() also finds the final NUL */
        }
        at += length;
    }
    if (*at == '\0') {
        return STATUS_OK;
    }
    at += key_length;
    at += strspn(at, " ");
    length = strcspn(at, ", ");
    if (!decode(at, length, (uint8_t *)out, size - 1, &written) || memchr(out, '\0', written) != NULL) {
        out[0] = '\0';
        return error_set(error, STATUS_INVALID, NULL,
                         "failed to read Upload-Metadata: got a bad value of '%.40s', expected base64 of at most %zu "
                         "bytes",
                         key, size - 1);
    }
    out[written] = '\0';
    return STATUS_OK;
}
