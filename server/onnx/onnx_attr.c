/* Attributes of the node that is being lowered, with their types checked. */
#include <stdio.h>
#include <string.h>

#include "server/onnx/onnx_lower.h"
#include "server/onnx/onnx_parse.h"

const Onnx__AttributeProto *lower_attr(const struct lower *lower, const char *name) {
    for (size_t i = 0; i < lower->node->n_attribute; i++) {
        if (strcmp(onnx_text(lower->node->attribute[i]->name), name) == 0) {
            return lower->node->attribute[i];
        }
    }
    return NULL;
}

/* Files before IR version 2 have no type; those that have one must have the right one. */
static enum status check_type(struct lower *lower, const Onnx__AttributeProto *attribute, bool there,
                              Onnx__AttributeProto__AttributeType type, const char *expected) {
    if ((attribute->has_type && attribute->type != type) || !there) {
        return lower_refuse(lower, STATUS_INVALID, "got attribute '%s' of type %d, expected %s", attribute->name,
                            attribute->has_type ? (int)attribute->type : 0, expected);
    }
    return STATUS_OK;
}

enum status lower_attr_int(struct lower *lower, const char *name, int64_t fallback, int64_t *out) {
    const Onnx__AttributeProto *attribute = lower_attr(lower, name);
    if (attribute == NULL) {
        *out = fallback;
        return STATUS_OK;
    }
    /* Writers may leave out a field that is zero. */
    bool there = attribute->has_i || attribute->has_type;
    enum status status = check_type(lower, attribute, there, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT, "an integer");
    if (status == STATUS_OK) {
        *out = attribute->has_i ? attribute->i : 0;
    }
    return status;
}

enum status lower_attr_bool(struct lower *lower, const char *name, bool fallback, bool *out) {
    int64_t value = 0;
    enum status status = lower_attr_int(lower, name, fallback, &value);
    if (status == STATUS_OK && value != 0 && value != 1) {
        return lower_refuse(lower, STATUS_INVALID, "got attribute '%s' = %lld, expected 0 or 1", name,
                            (long long)value);
    }
    if (status == STATUS_OK) {
        *out = value == 1;
    }
    return status;
}

enum status lower_attr_float(struct lower *lower, const char *name, float fallback, float *out) {
    const Onnx__AttributeProto *attribute = lower_attr(lower, name);
    if (attribute == NULL) {
        *out = fallback;
        return STATUS_OK;
    }
    bool there = attribute->has_f || attribute->has_type;
    enum status status = check_type(lower, attribute, there, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT, "a float");
    float value = attribute->has_f ? attribute->f : 0.0F;
    if (status == STATUS_OK && !__builtin_isfinite(value)) {
        return lower_refuse(lower, STATUS_INVALID, "got attribute '%s' = %g, expected a finite number", name,
                            (double)value);
    }
    if (status == STATUS_OK) {
        *out = value;
    }
    return status;
}

enum status lower_attr_ints(struct lower *lower, const char *name, const int64_t **out, size_t *count) {
    const Onnx__AttributeProto *attribute = lower_attr(lower, name);
    *out = NULL;
    *count = 0;
    if (attribute == NULL) {
        return STATUS_OK;
    }
    bool there = attribute->n_ints > 0 || attribute->has_type;
    enum status status =
        check_type(lower, attribute, there, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS, "a list of integers");
    if (status == STATUS_OK) {
        *out = attribute->ints;
        *count = attribute->n_ints;
    }
    return status;
}

enum status lower_attr_text(struct lower *lower, const char *name, const char *fallback, char out[LOWER_TEXT_MAX]) {
    const Onnx__AttributeProto *attribute = lower_attr(lower, name);
    if (attribute == NULL) {
        (void)snprintf(out, LOWER_TEXT_MAX, "%s", fallback);
        return STATUS_OK;
    }
    enum status status =
        check_type(lower, attribute, attribute->has_s, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRING, "text");
    if (status == STATUS_OK && attribute->s.len >= LOWER_TEXT_MAX) {
        return lower_refuse(lower, STATUS_INVALID, "got attribute '%s' of %zu bytes, expected a short word", name,
                            attribute->s.len);
    }
    if (status == STATUS_OK) {
        if (attribute->s.len > 0) {
            memcpy(out, attribute->s.data, attribute->s.len);
        }
        out[attribute->s.len] = '\0';
    }
    return status;
}
