/* Comparing ONNX messages field by field, by the descriptors of the schema. */
#ifndef ONP_TESTS_UNIT_ONNX_MESSAGES_H
#define ONP_TESTS_UNIT_ONNX_MESSAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "onnx.pb-c.h"

/* Fails the running test if the file does not unpack. Free with onnx__model_proto__free_unpacked(model, NULL). */
Onnx__ModelProto *messages_unpack(const uint8_t *bytes, size_t length);
/* Every field that the schema knows, and the bytes of those that it does not; says on stderr where the first difference
 * is. */
bool messages_equal(const ProtobufCMessage *a, const ProtobufCMessage *b);

#endif
