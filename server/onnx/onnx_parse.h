/* Unpacks scanned bytes with protobuf-c into one bounded arena, and refuses the parts of ONNX that we do not have. */
#ifndef ONP_SERVER_ONNX_ONNX_PARSE_H
#define ONP_SERVER_ONNX_ONNX_PARSE_H

#include <stddef.h>
#include <stdint.h>

#include "common/arena.h"
#include "common/error.h"
#include "onnx.pb-c.h"

/* All of `model` lives in `arena`; it is freed with it, never with the unpacker's own free. */
struct onnx_message {
    struct arena *arena;
    Onnx__ModelProto *model;
};

/* The bytes must have passed onnx_scan(). On success *out is the caller's (onnx_message_deinit()). */
enum status onnx_unpack(const uint8_t *bytes, size_t length, struct onnx_message *out, struct error *error);
void onnx_message_deinit(struct onnx_message *message);

/* STATUS_UNSUPPORTED for functions, training info, sparse or external tensors, graphs in attributes, operators of other
 * domains, and opsets outside ONNX_OPSET_MIN to ONNX_OPSET_MAX; STATUS_INVALID if there is no graph. */
enum status onnx_check_features(const Onnx__ModelProto *model, int64_t *opset, struct error *error);

/* "" and "ai.onnx" name the standard operators; NULL is as "". */
int onnx_is_standard_domain(const char *domain);
/* Protobuf leaves absent strings NULL; this gives "". */
const char *onnx_text(const char *text);
/* "node '<name>'" for messages; nodes without a name are "<Op>_<index>". */
const char *onnx_node_name(const Onnx__NodeProto *node, size_t index, char *out, size_t size);
void onnx_node_place(const Onnx__NodeProto *node, size_t index, char where[ERROR_WHERE_MAX]);

#endif
