/* Uploads that go on where they broke off: tus 1.0 at /v1/uploads. */
#ifndef ONP_CLIENT_API_UPLOAD_H
#define ONP_CLIENT_API_UPLOAD_H

#include <jansson.h>

#include "client/api_client.h"
#include "common/error.h"

/* Uploads a regular file as `kind` ("model" or "samples") under `name`. A connection that breaks, or a server that restarts, is
 * waited for, and the upload goes on from what the server has; so does the upload of the same bytes by a later process, because
 * the Idempotency-Key is made of their digest. The SHA-256 of the answer must be that of the file. On success *out (a new
 * reference) is the model or samples. STATUS_CANCELLED if a hook says so; STATUS_UNAVAILABLE if the server was not reached, or
 * stays away for a minute and a half. */
enum status api_upload_file(struct api_client *client, const char *kind, const char *name, const char *file,
                            json_t **out, struct error *error);

#endif
