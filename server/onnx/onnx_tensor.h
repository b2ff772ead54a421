/* Tensors of the file as constants: sizes checked, numbers converted, floats finite. */
#ifndef ONP_SERVER_ONNX_ONNX_TENSOR_H
#define ONP_SERVER_ONNX_ONNX_TENSOR_H

#include <stddef.h>
#include <stdint.h>

#include "common/arena.h"
#include "common/error.h"
#include "onnx.pb-c.h"
#include "server/nn/tensor.h"

/* In a tensor that came from Shape, this integer stands for the batch size, which is not known at load. A file that
 * holds it as a number is refused. */
#define ONNX_BATCH (INT64_MIN + 0x6f6e70)

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

/* "float32", "int64", ...; for messages. */
const char *onnx_type_name(int32_t type);

#endif
