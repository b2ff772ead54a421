/* The header fields of resumable uploads that carry more than a number: Upload-Checksum and Upload-Metadata. */
#ifndef ONP_SERVER_API_UPLOAD_CHECKSUM_H
#define ONP_SERVER_API_UPLOAD_CHECKSUM_H

#include <stddef.h>

#include "common/error.h"

struct upload_checksum;

/* Reads "sha256 <base64>" or "sha1 <base64>". STATUS_INVALID for anything else. */
enum status upload_checksum_new(const char *header, struct upload_checksum **out, struct error *error);
void upload_checksum_update(struct upload_checksum *checksum, const void *data, size_t length);
/* Were these the bytes? Ends it; only free is of use afterwards. STATUS_INVALID if not. */
enum status upload_checksum_finish(struct upload_checksum *checksum, struct error *error);
void upload_checksum_free(struct upload_checksum *checksum); /* accepts NULL */

/* The value of `key` in "key1 base64,key2 base64,flag", decoded and ended with a NUL; "" if it is not there. STATUS_INVALID if
 * the value is no base64, holds a NUL or does not fit. */
enum status upload_metadata_get(const char *metadata, const char *key, char *out, size_t size, struct error *error);

#endif
