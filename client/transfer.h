/* Uploads and downloads with progress, and words of the command line that are an id or a file. */
#ifndef ONP_CLIENT_TRANSFER_H
#define ONP_CLIENT_TRANSFER_H

#include <jansson.h>

#include "client/api_client.h"
#include "client/api_download.h"
#include "client/progress_bar.h"
#include "common/error.h"
#include "common/id.h"

enum transfer_kind { TRANSFER_MODEL, TRANSFER_SAMPLES, TRANSFER_UNKNOWN };

/* From the end of the name: .onnx is a model, .npz and .zip are samples. */
enum transfer_kind transfer_kind_of(const char *file);
/* "model" or "samples"; TRANSFER_UNKNOWN for another word. */
enum transfer_kind transfer_kind_from_name(const char *name);

/* Uploads `file` under `name` (NULL: its base name). On success *object is a new reference to what the server answered.
 * SIGINT stops it (STATUS_CANCELLED). bar may be NULL. */
enum status transfer_upload(struct api_client *client, struct progress_bar *bar, enum transfer_kind kind,
                            const char *file, const char *name, json_t **object, struct error *error);
/* The id that `word` is, or that uploading the file `word` gives. */
enum status transfer_object_id(struct api_client *client, struct progress_bar *bar, enum transfer_kind kind,
                               const char *word, char id[ID_SIZE], struct error *error);
/* Downloads an artifact of a job to `file` ("-": standard output). *info, unless NULL, is what it is. */
enum status transfer_artifact(struct api_client *client, struct progress_bar *bar, const char *job_id,
                              const char *artifact, const char *file, struct api_download_info *info,
                              struct error *error);

#endif
