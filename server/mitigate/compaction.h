/* The parameter `compact`: the repaired file without its dead channels (server/prune/compact.h), written anew: opset 13, the batch
 * open, names of nodes, input and output as they were. */
#ifndef ONP_SERVER_MITIGATE_COMPACTION_H
#define ONP_SERVER_MITIGATE_COMPACTION_H

#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "server/mitigate/job.h"
#include "server/onnx/onnx_model.h"

/* `repaired` is the repaired file, read back; `repaired_bytes` its size. On success *bytes (the caller's, mem_free()) is the compact file,
 * whose logits over all samples differ by at most 1e-4 of the largest from job->logits1, and the report's "compact" has
 * its figures. If nothing can be removed, or the logits would differ, *bytes is NULL and the report says so. */
enum status compaction_run(struct job *job, const struct onnx_model *repaired, size_t repaired_bytes,
                           const struct onnx_metadata *metadata, size_t metadata_count, uint8_t **bytes, size_t *length,
                           struct error *error);

#endif
