/* Building an ONNX message in an arena, for the export. A failed allocation is remembered, so callers check once. */
#ifndef ONP_SERVER_ONNX_ONNX_BUILD_H
#define ONP_SERVER_ONNX_ONNX_BUILD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/arena.h"
#include "onnx.pb-c.h"
#include "server/nn/tensor.h"

struct onnx_build {
    struct arena *arena;
    Onnx__GraphProto *graph;
    size_t initializer_max; /* room of the graph's list */
    bool failed;            /* an allocation has failed */
};

void *build_alloc(struct onnx_build *build, size_t count, size_t size);
char *build_text(struct onnx_build *build, const char *text);

/* Attributes of a node that has room for them (build_node()). */
enum { BUILD_ATTRIBUTES_MAX = 8 };
Onnx__NodeProto *build_node(struct onnx_build *build, const char *operator, const char * name, size_t inputs);
void build_int(struct onnx_build *build, Onnx__NodeProto *node, const char *name, int64_t value);
void build_float(struct onnx_build *build, Onnx__NodeProto *node, const char *name, float value);
void build_string(struct onnx_build *build, Onnx__NodeProto *node, const char *name, const char *value);
void build_ints(struct onnx_build *build, Onnx__NodeProto *node, const char *name, const size_t *values, size_t count);

/* Initializers; data is copied. */
void build_floats_tensor(struct onnx_build *build, const char *name, const struct shape *shape, const float *data);
void build_integers_tensor(struct onnx_build *build, const char *name, const int64_t *data, size_t count);

/* float32 of the given shape, dimension 0 written as "batch". */
Onnx__ValueInfoProto *build_value_info(struct onnx_build *build, const char *name, const struct shape *shape);

#endif
