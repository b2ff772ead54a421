/* Checks an unpacked graph as a whole: names, order, the one input and the one output. */
#ifndef ONP_SERVER_ONNX_ONNX_VALIDATE_H
#define ONP_SERVER_ONNX_ONNX_VALIDATE_H

#include "common/arena.h"
#include "common/error.h"
#include "onnx.pb-c.h"
#include "server/nn/tensor.h"
#include "server/onnx/onnx_names.h"

struct onnx_graph {
    const Onnx__GraphProto *proto;
    struct onnx_names *names;   /* every value of the graph: input, initializers, outputs of nodes */
    const char *input, *output; /* borrowed from the message */
    struct shape input_shape;   /* dim[0] == 1 */
    bool batch_is_dynamic;
    size_t fixed_batch; /* the batch that the file says, if it is not dynamic */
};

/* After this every name is defined once, before it is read; so the graph has no cycle. Memory is taken from `arena`. */
enum status onnx_validate(const Onnx__GraphProto *graph, struct arena *arena, struct onnx_graph *out,
                          struct error *error);

#endif
