/* From untrusted ONNX bytes to a checked network and back.
 *
 * onnx_scan (wire scan, counts before anything is unpacked) -> onnx_parse (protobuf-c) -> onnx_validate -> onnx_lower (to
 * server/nn/network.h), and onnx_write. */
#ifndef ONP_SERVER_ONNX_ONNX_MODEL_H
#define ONP_SERVER_ONNX_ONNX_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "server/nn/network.h"

struct onnx_limits {
    size_t max_bytes; /* of the file */
    size_t max_nodes;
    size_t max_initializers;
    size_t max_depth;      /* nested messages */
    size_t max_parameters; /* floats */
    size_t max_activation; /* floats of one activation at batch 1 */
};
extern const struct onnx_limits onnx_default_limits;

/* First pass over the wire format: depth, counts, lengths. Error place: "byte <offset>". */
enum status onnx_scan(const uint8_t *bytes, size_t length, const struct onnx_limits *limits, struct error *error);

struct onnx_model;

/* Scan, parse, validate, lower. `bytes` is not needed afterwards. Errors: STATUS_INVALID (not ONNX, NaN weights, shapes that
 * disagree; place = byte, node or initializer), STATUS_UNSUPPORTED (operator, domain, opset; names operator and node),
 * STATUS_LIMIT. */
enum status onnx_model_load(const uint8_t *bytes, size_t length, const struct onnx_limits *limits,
                            struct onnx_model **out, struct error *error);
void onnx_model_free(struct onnx_model *model);

/* Borrowed, lives as long as the model. */
const struct network *onnx_model_network(const struct onnx_model *model);

struct onnx_info {
    const char *producer; /* "pytorch 1.13.1"; may be "" */
    const char *input_name, *output_name;
    int64_t ir_version, opset;
    bool batch_is_dynamic; /* false: the file says batch 1 (or another fixed number) */
    bool channels_last;    /* the file's input is (N, H, W, C); the network's is (N, C, H, W) all the same */
    bool probabilities;    /* the file's output is a Softmax; the network's is what it reads, the logits */
    size_t channels, height, width, classes;
    size_t parameters, nodes;
};
/* Strings are borrowed from the model. */
void onnx_model_info(const struct onnx_model *model, struct onnx_info *info);

/* "Input slot `slot` of ONNX node `node` now holds these floats." If the slot's initializer is read by nothing else it is changed in
 * place; if it is shared, or comes from a Constant or Identity node, a new initializer of a fresh name is made and only this
 * slot rewired; if the slot is empty (Conv or Gemm without bias, or slot 2 of a MatMul, which gets an Add behind it) a rank-1
 * initializer of `count` floats is added. */
struct onnx_edit {
    size_t node; /* index of the ONNX node, = struct node.origin */
    size_t slot; /* = index into struct node.inputs, for Conv, BatchNormalization, Gemm and MatMul */
    const float *data;
    size_t count;
};
struct onnx_metadata {
    const char *key, *value;
};

/* The file with the edits done and metadata_props added (a key that is there is replaced); everything else as it came. *bytes is the
 * caller's (mem_free()). */
enum status onnx_model_write(const struct onnx_model *model, const struct onnx_edit *edits, size_t edit_count,
                             const struct onnx_metadata *metadata, size_t metadata_count, uint8_t **bytes,
                             size_t *length, struct error *error);

/* A new ONNX file from a network of ours (the forge): opset 13, dynamic batch, one initializer a constant. */
enum status onnx_export(const struct network *network, const char *producer, uint8_t **bytes, size_t *length,
                        struct error *error);

/* Names of the supported ONNX operators, NULL-terminated, sorted; and the opset range. */
extern const char *const onnx_operators[];
enum { ONNX_OPSET_MIN = 9, ONNX_OPSET_MAX = 18 };

#endif
