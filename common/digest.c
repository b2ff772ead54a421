/* SHA-256 in lower-case hex; nettle's, which uses the processor's own instructions for it, several times as fast as libsodium's. */
#include "common/digest.h"

#include <errno.h>
#include <fcntl.h>
#include <nettle/sha2.h>
#include <sodium.h>
#include <unistd.h>

#include "common/mem.h"

struct digest {
    struct sha256_ctx state;
};

enum { READ_CHUNK = 32 * 1024 };

static void finish(struct sha256_ctx *state, char out[DIGEST_HEX_SIZE]) {
    unsigned char raw[SHA256_DIGEST_SIZE];
    sha256_digest(state, sizeof raw, raw);
    sodium_bin2hex(out, DIGEST_HEX_SIZE, raw, sizeof raw);
}

struct digest *digest_new(void) {
    struct digest *digest = mem_alloc(1, sizeof *digest);
    if (digest != NULL) {
        sha256_init(&digest->state);
    }
    return digest;
}

void digest_free(struct digest *digest) {
    mem_free(digest);
}

void digest_reset(struct digest *digest) {
    sha256_init(&digest->state);
}

void digest_update(struct digest *digest, const void *data, size_t length) {
    sha256_update(&digest->state, length, data);
}

void digest_finish(struct digest *digest, char out[DIGEST_HEX_SIZE]) {
    finish(&digest->state, out);
}

void digest_bytes(const void *data, size_t length, char out[DIGEST_HEX_SIZE]) {
    struct sha256_ctx state;
    sha256_init(&state);
    sha256_update(&state, length, data);
    finish(&state, out);
}

enum status digest_file(const char *path, char out[DIGEST_HEX_SIZE], struct error *error) {
    enum status status = STATUS_OK;
    unsigned char *chunk = NULL;
    struct sha256_ctx state;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return error_io(error, NULL, "failed to open file %s", path);
    }
    chunk = mem_alloc(READ_CHUNK, 1);
    if (chunk == NULL) {
        status = error_no_memory(error, "a read buffer");
        goto done;
    }
    sha256_init(&state);
    for (;;) {
        ssize_t got = read(fd, chunk, READ_CHUNK);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            status = error_io(error, NULL, "failed to read file %s", path);
            goto done;
        }
        if (got == 0) {
            break;
        }
        sha256_update(&state, (size_t)got, chunk);
    }
    finish(&state, out);
done:
    mem_free(chunk);
    (void)close(fd);
    return status;
}
