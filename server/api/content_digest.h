/* The Content-Digest header field (RFC 9530). Pure. */
#ifndef ONP_SERVER_API_CONTENT_DIGEST_H
#define ONP_SERVER_API_CONTENT_DIGEST_H

#include "common/digest.h"
#include "common/error.h"

/* Takes the SHA-256 of "sha-256=:<base64>:" (among others, separated by commas) as lower-case hex; "" if there is none of this
 * algorithm. STATUS_INVALID if it is there but is not the base64 of 32 bytes. */
enum status content_digest_read(const char *header, char out[DIGEST_HEX_SIZE], struct error *error);

#endif
