/* SHA-256 (nettle), whole and in parts. */
#ifndef ONP_COMMON_DIGEST_H
#define ONP_COMMON_DIGEST_H

#include <stddef.h>

#include "common/error.h"

enum { DIGEST_HEX_SIZE = 65 };

struct digest; /* a running hash */
struct digest *digest_new(void);
void digest_free(struct digest *digest);
void digest_update(struct digest *digest, const void *data, size_t length);
void digest_reset(struct digest *digest); /* as new */
/* Lower-case hex. The running hash must not be updated afterwards. */
void digest_finish(struct digest *digest, char out[DIGEST_HEX_SIZE]);

void digest_bytes(const void *data, size_t length, char out[DIGEST_HEX_SIZE]);
enum status digest_file(const char *path, char out[DIGEST_HEX_SIZE], struct error *error);

#endif
