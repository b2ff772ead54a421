/* Tensors of the file as constants: sizes checked, numbers converted, floats finite. */
#ifndef ONP_SERVER_ONNX_ONNX_TENSOR_H
#define ONP_SERVER_ONNX_ONNX_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/arena.h"
#include "common/error.h"
#include "onnx.pb-c.h"
#include "server/nn/tensor.h"

/* In a tensor that came from Shape, this integer stands for the batch size, which is not known at load, and those from
 * it on for multiples of the batch size, up to ONNX_BATCH_TIMES_MAX times. A file that holds one as a number is refused. */
#define ONNX_BATCH (INT64_MIN + 0x6f6e70)
#define ONNX_BATCH_TIMES_MAX INT32_MAX

struct onnx_constant {
    int32_t type; /* Onnx__TensorProto__DataType; floats are FLOAT or DOUBLE, integers INT32, INT64, BOOL */
    struct shape shape;
    size_t count;
    const float *floats;     /* (count), or NULL */
    const int64_t *integers; /* (count), or NULL */
    const char *name;        /* of the initializer or of the node's output */
    size_t value;            /* its network value, NETWORK_NONE until a node needs it */
};

/* `place` is where errors point ("initializer 'w'"). Data is borrowed from `tensor` where it can be, else in `arena`. */
enum status onnx_tensor_read(const Onnx__TensorProto *tensor, const char *place, struct arena *arena,
                             struct onnx_constant *out, struct error *error);

/* Whether the integer stands for the batch size, *times of it. */
bool onnx_is_batch(int64_t integer, int64_t *times);
/* The integer that stands for `times` (1 to ONNX_BATCH_TIMES_MAX) the batch size. */
int64_t onnx_batch(int64_t times);

/* "float32", "int64", ...; for messages. */
const char *onnx_type_name(int32_t type);

#endif
