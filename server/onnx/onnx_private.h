/* The body of a loaded model, for onnx_model.c and onnx_write.c. */
#ifndef ONP_SERVER_ONNX_ONNX_PRIVATE_H
#define ONP_SERVER_ONNX_ONNX_PRIVATE_H

#include "common/arena.h"
#include "server/onnx/onnx_model.h"

struct onnx_model {
    uint8_t *bytes; /* the file as it came */
    size_t length;
    struct network *network;
    struct arena *arena; /* strings of `info` */
    struct onnx_info info;
};

/* Memory for names, bindings and folded constants; four times the file's bytes on top, for constants that are
 * converted (float64 to float32, int32 to int64). */
#define ONNX_SCRATCH_MAX ((size_t)64 << 20)

#endif
