/* Writing back: what was not edited is equal afterwards, what was edited reads back as it was written, in the slot that was
 * meant and in no other. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/mem.h"
#include "server/onnx/onnx_model.h"
#include "tests/support/cases.h"
#include "tests/support/cm.h"
#include "tests/unit/onnx/messages.h"

static const char SMALL[] = "tests/data/onnx_good/small_cnn";

struct file {
    uint8_t *bytes;
    size_t length;
    struct onnx_model *model;
};

static struct file load_bytes(void *bytes, size_t length) {
    struct error error = {0};
    struct file file = {.bytes = bytes, .length = length};
    if (onnx_model_load(bytes, length, &onnx_default_limits, &file.model, &error) != STATUS_OK) {
        fail_msg("%s: %s", error.where, error.message);
    }
    return file;
}

static struct file load_case(const char *folder) {
    size_t length = 0;
    char *bytes = cases_read(folder, "model.onnx", &length);
    return load_bytes(bytes, length);
}

static void close_file(struct file *file) {
    onnx_model_free(file->model);
    mem_free(file->bytes);
}

static struct file write_back(const struct file *file, const struct onnx_edit *edits, size_t edit_count,
                              const struct onnx_metadata *metadata, size_t metadata_count) {
    uint8_t *bytes = NULL;
    size_t length = 0;
    struct error error = {0};
    if (onnx_model_write(file->model, edits, edit_count, metadata, metadata_count, &bytes, &length, &error) !=
        STATUS_OK) {
        fail_msg("%s: %s", error.where, error.message);
    }
    return load_bytes(bytes, length);
}

/* Index of the ONNX node of that name. */
static size_t node_of(const struct onnx_model *model, const char *name) {
    const struct network *network = onnx_model_network(model);
    for (size_t i = 0; i < network->node_count; i++) {
        if (strcmp(network->nodes[i].name, name) == 0) {
            return network->nodes[i].origin;
        }
    }
    fail_msg("no node %s", name);
    return 0;
}

/* What the network of the file reads at a slot; count gets its floats. */
static const float *slot_data(const struct onnx_model *model, const char *name, size_t slot, size_t *count) {
    const struct network *network = onnx_model_network(model);
    for (size_t i = 0; i < network->node_count; i++) {
        if (strcmp(network->nodes[i].name, name) == 0 && slot < network->nodes[i].input_count) {
            size_t value = network->nodes[i].inputs[slot];
            *count = shape_count(&network->values[value].shape);
            return network_constant_data(network, value);
        }
    }
    fail_msg("no slot %zu of node %s", slot, name);
    return NULL;
}

static void assert_slot(const struct file *file, const char *name, size_t slot, const float *expected, size_t count) {
    size_t got = 0;
    const float *data = slot_data(file->model, name, slot, &got);
    assert_int_equal(got, count);
    assert_memory_equal(data, expected, count * sizeof *data);
}

static void assert_same_slot(const struct file *a, const struct file *b, const char *name, size_t slot) {
    size_t count = 0;
    const float *data = slot_data(a->model, name, slot, &count);
    assert_slot(b, name, slot, data, count);
}

static void run_round_trip(void *user, const char *name, const char *folder) {
    size_t *unequal = user;
    struct file before = load_case(folder);
    struct file after = write_back(&before, NULL, 0, NULL, 0);
    Onnx__ModelProto *a = messages_unpack(before.bytes, before.length);
    Onnx__ModelProto *b = messages_unpack(after.bytes, after.length);
    /* These files were written in the order of the fields, as ours are, so even the bytes agree. */
    if (!messages_equal(&a->base, &b->base) || before.length != after.length ||
        memcmp(before.bytes, after.bytes, before.length) != 0) {
        (void)fprintf(stderr, "%s: not the same after a round trip\n", name);
        (*unequal)++;
    }
    onnx__model_proto__free_unpacked(a, NULL);
    onnx__model_proto__free_unpacked(b, NULL);
    close_file(&after);
    close_file(&before);
}

static void test_round_trip(void **state) {
    (void)state;
    size_t unequal = 0;
    (void)cases_each("tests/data/onnx_good", run_round_trip, &unequal);
    assert_int_equal(unequal, 0);
}

/* Fields that the schema does not know, of the model and of the first node, survive. */
static void test_unknown_fields_survive(void **state) {
    (void)state;
    static const uint8_t UNKNOWN[] = {0xfa, 0x3e, 3, 'o', 'l', 'd'}; /* field 1007, 3 bytes */
    size_t length = 0;
    char *bytes = cases_read(SMALL, "model.onnx", &length);
    uint8_t *longer = mem_alloc(length + sizeof UNKNOWN, 1);
    assert_non_null(longer);
    memcpy(longer, UNKNOWN, sizeof UNKNOWN);
    memcpy(longer + sizeof UNKNOWN, bytes, length);
    mem_free(bytes);
    struct file before = load_bytes(longer, length + sizeof UNKNOWN);
    struct file after = write_back(&before, NULL, 0, NULL, 0);
    Onnx__ModelProto *a = messages_unpack(before.bytes, before.length);
    Onnx__ModelProto *b = messages_unpack(after.bytes, after.length);
    assert_int_equal(b->base.n_unknown_fields, 1);
    assert_int_equal(b->base.unknown_fields[0].tag, 1007);
    assert_true(messages_equal(&a->base, &b->base));
    onnx__model_proto__free_unpacked(a, NULL);
    onnx__model_proto__free_unpacked(b, NULL);
    close_file(&after);
    close_file(&before);
}

/* An initializer that one slot reads is changed in place: nothing else in the file differs. */
static void test_edit_in_place(void **state) {
    (void)state;
    struct file before = load_case(SMALL);
    size_t count = 0;
    const float *weight = slot_data(before.model, "conv1", 1, &count);
    float *changed = mem_dup(weight, count * sizeof *weight);
    assert_non_null(changed);
    memset(changed, 0, count / 4 * sizeof *changed); /* the first of four channels */
    const struct onnx_edit edit = {.node = node_of(before.model, "conv1"), .slot = 1, .data = changed, .count = count};
    struct file after = write_back(&before, &edit, 1, NULL, 0);
    assert_slot(&after, "conv1", 1, changed, count);

    Onnx__ModelProto *a = messages_unpack(before.bytes, before.length);
    Onnx__ModelProto *b = messages_unpack(after.bytes, after.length);
    assert_int_equal(before.length, after.length);
    Onnx__TensorProto *tensor = a->graph->initializer[0];
    assert_string_equal(tensor->name, "w");
    assert_int_equal(tensor->raw_data.len, count * sizeof *changed);
    assert_false(messages_equal(&a->base, &b->base));
    memcpy(tensor->raw_data.data, changed, tensor->raw_data.len);
    assert_true(messages_equal(&a->base, &b->base));
    onnx__model_proto__free_unpacked(a, NULL);
    onnx__model_proto__free_unpacked(b, NULL);
    mem_free(changed);
    close_file(&after);
    close_file(&before);
}

/* `w2` is read by two Convs, `s` by a BatchNorm and by an Identity that feeds another: only the slot changes. */
static void test_edit_of_shared_and_aliased(void **state) {
    (void)state;
    struct file before = load_case(SMALL);
    float weight[4 * 4 * 3 * 3], scale[4] = {0, 1, 2, 3}, alias[4] = {4, 5, 6, 7};
    for (size_t i = 0; i < sizeof weight / sizeof *weight; i++) {
        weight[i] = (float)i / 8;
    }
    const struct onnx_edit edits[] = {
        {.node = node_of(before.model, "conv2"), .slot = 1, .data = weight, .count = sizeof weight / sizeof *weight},
        {.node = node_of(before.model, "bn1"), .slot = 1, .data = scale, .count = 4},
        {.node = node_of(before.model, "bn2"), .slot = 1, .data = alias, .count = 4},
    };
    struct file after = write_back(&before, edits, 3, NULL, 0);
    assert_slot(&after, "conv2", 1, weight, sizeof weight / sizeof *weight);
    assert_slot(&after, "bn1", 1, scale, 4);
    assert_slot(&after, "bn2", 1, alias, 4);
    assert_same_slot(&before, &after, "conv1", 1);
    assert_same_slot(&before, &after, "conv3", 1);
    for (size_t slot = 2; slot < 5; slot++) {
        assert_same_slot(&before, &after, "bn1", slot);
        assert_same_slot(&before, &after, "bn2", slot);
    }
    assert_same_slot(&before, &after, "head", 1);

    Onnx__ModelProto *a = messages_unpack(before.bytes, before.length);
    Onnx__ModelProto *b = messages_unpack(after.bytes, after.length);
    /* w2 and s have got a tensor of their own for one slot; the third edit took s's Identity, also a new one. The old ones
     * stay as they are. */
    assert_int_equal(b->graph->n_initializer, a->graph->n_initializer + 3);
    for (size_t i = 0; i < a->graph->n_initializer; i++) {
        assert_true(messages_equal(&a->graph->initializer[i]->base, &b->graph->initializer[i]->base));
    }
    onnx__model_proto__free_unpacked(a, NULL);
    onnx__model_proto__free_unpacked(b, NULL);
    close_file(&after);
    close_file(&before);
}

static void test_edit_adds_bias(void **state) {
    (void)state;
    struct file before = load_case(SMALL);
    const float bias[4] = {1, -2, 3, -4};
    const struct onnx_edit edits[] = {
        {.node = node_of(before.model, "conv1"), .slot = 2, .data = bias, .count = 4},
        {.node = node_of(before.model, "conv3"), .slot = 2, .data = bias, .count = 4},
    };
    struct file after = write_back(&before, edits, 2, NULL, 0);
    assert_slot(&after, "conv1", 2, bias, 4);
    assert_slot(&after, "conv3", 2, bias, 4);
    assert_same_slot(&before, &after, "conv1", 1);
    const struct network *network = onnx_model_network(after.model);
    for (size_t i = 0; i < network->node_count; i++) {
        if (strcmp(network->nodes[i].name, "conv2") == 0) {
            assert_int_equal(network->nodes[i].input_count, 2);
        }
    }
    /* What was added can be edited again. */
    const float other[4] = {9, 9, 9, 9};
    const struct onnx_edit again = {.node = node_of(after.model, "conv1"), .slot = 2, .data = other, .count = 4};
    struct file third = write_back(&after, &again, 1, NULL, 0);
    assert_slot(&third, "conv1", 2, other, 4);
    assert_slot(&third, "conv3", 2, bias, 4);
    assert_int_equal(third.length, after.length);
    close_file(&third);
    close_file(&after);
    close_file(&before);
}

/* A MatMul has no bias: an Add of it comes in behind, and has the name that readers know. */
static void test_edit_adds_bias_of_matmul(void **state) {
    (void)state;
    struct file before = load_case("tests/data/onnx_good/matmul_rank3");
    const float bias[6] = {1, -2, 3, -4, 5, -6};
    const struct onnx_edit edit = {.node = node_of(before.model, "MatMul_1"), .slot = 2, .data = bias, .count = 6};
    struct file after = write_back(&before, &edit, 1, NULL, 0);
    Onnx__ModelProto *b = messages_unpack(after.bytes, after.length);
    const Onnx__NodeProto *product = b->graph->node[1], *add = b->graph->node[2], *reader = b->graph->node[3];
    const Onnx__TensorProto *tensor = b->graph->initializer[b->graph->n_initializer - 1];
    assert_string_equal(product->op_type, "MatMul");
    assert_string_equal(add->op_type, "Add");
    assert_string_equal(add->input[0], product->output[0]);
    assert_string_equal(add->input[1], tensor->name);
    assert_string_equal(reader->input[0], add->output[0]);
    assert_string_equal(add->output[0], "g");
    assert_int_equal(tensor->raw_data.len, sizeof bias);
    assert_memory_equal(tensor->raw_data.data, bias, sizeof bias);
    onnx__model_proto__free_unpacked(b, NULL);
    close_file(&after);
    /* Without memory for it, nothing is written. */
    size_t failures = 0;
    uint8_t *bytes = NULL;
    for (uint64_t n = 1; bytes == NULL; n++) {
        struct error error = {0};
        size_t length = 0;
        mem_fail_after(n);
        enum status status = onnx_model_write(before.model, &edit, 1, NULL, 0, &bytes, &length, &error);
        mem_fail_after(0);
        assert_int_equal(status, bytes != NULL ? STATUS_OK : STATUS_NO_MEMORY);
        failures += bytes == NULL;
    }
    assert_true(failures >= 3);
    mem_free(bytes);
    close_file(&before);
}

/* float_data stays float_data. */
static void test_edit_of_typed_data(void **state) {
    (void)state;
    struct file before = load_case("tests/data/onnx_good/typed_initializers");
    const float bias[2] = {0.5F, 0.25F};
    const struct onnx_edit edit = {.node = node_of(before.model, "conv"), .slot = 2, .data = bias, .count = 2};
    struct file after = write_back(&before, &edit, 1, NULL, 0);
    assert_slot(&after, "conv", 2, bias, 2);
    Onnx__ModelProto *b = messages_unpack(after.bytes, after.length);
    for (size_t i = 0; i < b->graph->n_initializer; i++) {
        const Onnx__TensorProto *tensor = b->graph->initializer[i];
        assert_false(tensor->has_raw_data);
        if (strcmp(tensor->name, "b") == 0) {
            assert_int_equal(tensor->n_float_data, 2);
            assert_memory_equal(tensor->float_data, bias, sizeof bias);
        }
    }
    onnx__model_proto__free_unpacked(b, NULL);
    close_file(&after);
    close_file(&before);
}

/* Before IR version 4 a new initializer must be an input of the graph as well. */
static void test_edit_of_old_ir(void **state) {
    (void)state;
    struct file before = load_case("tests/data/onnx_good/ir3_inputs");
    float weight[9] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
    const struct onnx_edit edit = {.node = node_of(before.model, "conv2"), .slot = 1, .data = weight, .count = 9};
    struct file after = write_back(&before, &edit, 1, NULL, 0);
    assert_slot(&after, "conv2", 1, weight, 9);
    assert_same_slot(&before, &after, "conv", 1);
    Onnx__ModelProto *a = messages_unpack(before.bytes, before.length);
    Onnx__ModelProto *b = messages_unpack(after.bytes, after.length);
    assert_int_equal(b->graph->n_input, a->graph->n_input + 1);
    const Onnx__ValueInfoProto *input = b->graph->input[b->graph->n_input - 1];
    assert_string_equal(input->name, b->graph->initializer[b->graph->n_initializer - 1]->name);
    assert_int_equal(input->type->tensor_type->shape->n_dim, 4);
    assert_int_equal(input->type->tensor_type->shape->dim[0]->dim_value, 3);
    onnx__model_proto__free_unpacked(a, NULL);
    onnx__model_proto__free_unpacked(b, NULL);
    close_file(&after);
    close_file(&before);
}

static void test_metadata(void **state) {
    (void)state;
    struct file before = load_case(SMALL);
    const struct onnx_metadata metadata[] = {{"onp.method", "onp"}, {"author", "someone else"}, {"onp.method", "last"}};
    struct file after = write_back(&before, NULL, 0, metadata, 3);
    Onnx__ModelProto *b = messages_unpack(after.bytes, after.length);
    assert_int_equal(b->n_metadata_props, 2);
    assert_string_equal(b->metadata_props[0]->key, "author");
    assert_string_equal(b->metadata_props[0]->value, "someone else");
    assert_string_equal(b->metadata_props[1]->key, "onp.method");
    assert_string_equal(b->metadata_props[1]->value, "last");
    onnx__model_proto__free_unpacked(b, NULL);
    close_file(&after);
    close_file(&before);
}

static void test_edits_that_are_refused(void **state) {
    (void)state;
    struct file file = load_case(SMALL);
    const float numbers[4] = {1, 2, 3, 4}, bad[4] = {1, NAN, 3, 4};
    const struct onnx_edit edits[] = {
        {.node = 1000, .slot = 1, .data = numbers, .count = 4},                         /* no such node */
        {.node = node_of(file.model, "bn1"), .slot = 0, .data = numbers, .count = 4},   /* computed */
        {.node = node_of(file.model, "bn1"), .slot = 1, .data = numbers, .count = 3},   /* length */
        {.node = node_of(file.model, "bn1"), .slot = 1, .data = bad, .count = 4},       /* NaN */
        {.node = node_of(file.model, "relu1"), .slot = 1, .data = numbers, .count = 4}, /* no such slot */
        {.node = node_of(file.model, "conv1"), .slot = 3, .data = numbers, .count = 4}, /* past the bias */
        {.node = node_of(file.model, "conv1"), .slot = 2, .data = numbers, .count = 3}, /* length of a bias */
    };
    for (size_t i = 0; i < sizeof edits / sizeof *edits; i++) {
        struct error error = {0};
        uint8_t *bytes = NULL;
        size_t length = 0;
        assert_int_equal(onnx_model_write(file.model, &edits[i], 1, NULL, 0, &bytes, &length, &error), STATUS_INVALID);
        assert_null(bytes);
        assert_non_null(strstr(error.message, "failed to edit input"));
    }
    close_file(&file);
}

/* Every allocation in turn fails; nothing may crash or leak, and the out parameters stay untouched. */
static void test_no_memory(void **state) {
    (void)state;
    size_t length = 0, failures = 0;
    char *bytes = cases_read(SMALL, "model.onnx", &length);
    struct onnx_model *model = NULL;
    for (uint64_t n = 1; model == NULL; n++) {
        struct error error = {0};
        mem_fail_after(n);
        enum status status = onnx_model_load((const uint8_t *)bytes, length, &onnx_default_limits, &model, &error);
        mem_fail_after(0);
        assert_int_equal(status, model != NULL ? STATUS_OK : STATUS_NO_MEMORY);
        failures += model == NULL;
    }
    assert_true(failures > 20);
    const float bias[4] = {1, 2, 3, 4};
    const struct onnx_edit edit = {.node = node_of(model, "conv1"), .slot = 2, .data = bias, .count = 4};
    const struct onnx_metadata metadata = {"key", "value"};
    uint8_t *written = NULL;
    size_t written_length = 0;
    for (uint64_t n = 1; written == NULL; n++) {
        struct error error = {0};
        mem_fail_after(n);
        enum status status = onnx_model_write(model, &edit, 1, &metadata, 1, &written, &written_length, &error);
        mem_fail_after(0);
        assert_int_equal(status, written != NULL ? STATUS_OK : STATUS_NO_MEMORY);
    }
    mem_free(written);
    onnx_model_free(model);
    mem_free(bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),         cmocka_unit_test(test_unknown_fields_survive),
        cmocka_unit_test(test_edit_in_place),      cmocka_unit_test(test_edit_of_shared_and_aliased),
        cmocka_unit_test(test_edit_adds_bias),     cmocka_unit_test(test_edit_adds_bias_of_matmul),
        cmocka_unit_test(test_edit_of_typed_data), cmocka_unit_test(test_edit_of_old_ir),
        cmocka_unit_test(test_metadata),           cmocka_unit_test(test_edits_that_are_refused),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests_name("onnx: write", tests, NULL, NULL);
}
