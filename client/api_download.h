/* Downloads that go on where they broke off, and are checked. */
#ifndef ONP_CLIENT_API_DOWNLOAD_H
#define ONP_CLIENT_API_DOWNLOAD_H

#include <stdint.h>

#include "client/api_client.h"
#include "common/digest.h"
#include "common/error.h"

/* What the server says of a file. */
struct api_download_info {
    char sha256[DIGEST_HEX_SIZE];
    uint64_t size; /* bytes */
};

/* GETs `path` into `file`, by way of FILE.part beside it, which is synced and renamed when its digest is right. A connection
 * that breaks, or a server that restarts, is waited for, and the download goes on from what is there (Range with If-Range); so
 * does a later process from the FILE.part that an earlier one left. What is no regular file (a pipe, a device, "-": standard
 * output) is written directly. STATUS_CONFLICT if another process is at work on FILE.part; STATUS_UNAVAILABLE if the server was
 * not reached, or stays away for a minute. */
enum status api_download_file(struct api_client *client, const char *path, const struct api_download_info *info,
                              const char *file, struct error *error);

#endif
