/* Building networks: indices, uses, names, refusals that change nothing; and masked copies. */
#include "server/nn/network.h"

#include <stdio.h>
#include <string.h>

#include "common/mem.h"
#include "common/rng.h"
#include "tests/support/cm.h"
#include "tests/unit/nn/nets.h"

static void test_producers_and_uses(void **state) {
    struct rng rng;
    (void)state;

    rng_seed(&rng, 1);
    struct network *network = nets_residual(&rng, 4, 8, OP_RELU);
    size_t uses[256] = {0};
    assert_true(network->value_count < 256);
    for (size_t i = 0; i < network->node_count; i++) {
        const struct node *node = &network->nodes[i];
        assert_int_equal(network->values[node->output].producer, i);
        assert_int_equal(node->origin, 7);
        for (size_t k = 0; k < node->input_count; k++) {
            uses[node->inputs[k]]++;
            assert_true(node->inputs[k] < node->output); /* topological order */
        }
    }
    uses[network->output]++;
    for (size_t v = 0; v < network->value_count; v++) {
        assert_int_equal(network->values[v].use_count, uses[v]);
        bool computed = network->values[v].kind == VALUE_COMPUTED;
        assert_int_equal(network->values[v].producer == NETWORK_NONE, !computed);
        assert_int_equal(network->values[v].data != NULL, network->values[v].kind == VALUE_CONSTANT);
    }
    assert_int_equal(network->values[nets_find(network, "a.act")].use_count, 2);
    assert_int_equal(network->input, nets_find(network, "x"));
    assert_int_equal(network->output, nets_find(network, "fc"));
    assert_int_equal(network->unit_count, 0);
    network_free(network);
}

static void test_names_and_data_are_copied(void **state) {
    struct error error = {0};
    char name[] = "weights";
    float data[2] = {1.0f, 2.0f};
    size_t value = 0, zeros = 0;
    (void)state;

    struct network *network = network_new();
    assert_int_equal(network_add_constant(network, name, &(struct shape){1, {2}}, data, &value, &error), STATUS_OK);
    assert_int_equal(network_add_constant(network, NULL, &(struct shape){1, {3}}, NULL, &zeros, &error), STATUS_OK);
    name[0] = 'X';
    data[0] = 9.0f;
    assert_string_equal(network->values[value].name, "weights");
    assert_true(network_constant_data(network, value)[0] == 1.0f && network_constant_data(network, value)[1] == 2.0f);
    assert_string_equal(network->values[zeros].name, "");
    for (size_t i = 0; i < 3; i++) {
        assert_true(network_constant_data(network, zeros)[i] == 0.0f);
    }
    assert_null(network_constant_data(network, 5));
    network_free(network);
    network_free(NULL);
}

static void expect(struct error *error, enum status got, enum status status, const char *where) {
    assert_int_equal(got, status);
    assert_string_equal(error->where, where);
    assert_true(strncmp(error->message, "failed to ", 10) == 0);
    error_clear(error);
}

static void test_refusals_change_nothing(void **state) {
    struct rng rng;
    struct error error = {0};
    size_t value = 77;
    (void)state;

    rng_seed(&rng, 2);
    struct network *network = nets_residual(&rng, 4, 8, OP_RELU);
    size_t values = network->value_count;
    size_t nodes = network->node_count;
    size_t x = network->input;
    size_t weight = nets_find(network, "fc.w");
    size_t uses = network->values[weight].use_count;

    expect(&error, network_add_input(network, "y", &(struct shape){4, {1, 3, 8, 8}}, &value, &error),
           STATUS_UNSUPPORTED, "input 'y'");
    expect(&error, network_add_constant(network, "c", &(struct shape){2, {3, 0}}, NULL, &value, &error), STATUS_INVALID,
           "value 'c'");
    struct shape huge = {3, {SIZE_MAX / 2, 3, 5}};
    expect(&error, network_add_constant(network, "c", &huge, NULL, &value, &error), STATUS_INVALID, "value 'c'");
    expect(&error, network_add_node(network, OP_RELU, "r", &(size_t){9999}, 1, NULL, 0, &value, &error), STATUS_INVALID,
           "node 'r'");
    expect(&error, network_add_node(network, OP_RELU, "r", &weight, 1, NULL, 0, &value, &error), STATUS_UNSUPPORTED,
           "node 'r'");
    expect(&error, network_add_node(network, OP_KIND_COUNT, "r", &x, 1, NULL, 0, &value, &error), STATUS_UNSUPPORTED,
           "node 'r'");
    size_t none = NETWORK_NONE;
    expect(&error, network_add_node(network, OP_RELU, "r", &none, 1, NULL, 0, &value, &error), STATUS_UNSUPPORTED,
           "node 'r'");
    /* The op table speaks through us: shapes that do not fit. */
    size_t sum[2] = {x, nets_find(network, "b.sum")};
    expect(&error, network_add_node(network, OP_ADD, "s", sum, 2, NULL, 0, &value, &error), STATUS_INVALID, "node 's'");
    expect(&error, network_set_output(network, x, &error), STATUS_INVALID, "output 'x'");
    expect(&error, network_set_output(network, weight, &error), STATUS_INVALID, "output 'fc.w'");
    expect(&error, network_set_output(network, sum[1], &error), STATUS_UNSUPPORTED, "output 'b.sum'");
    expect(&error, network_set_output(network, 9999, &error), STATUS_INVALID, "");

    assert_int_equal(value, 77);
    assert_int_equal(network->value_count, values);
    assert_int_equal(network->node_count, nodes);
    assert_int_equal(network->values[weight].use_count, uses);
    network_free(network);

    network = network_new();
    expect(&error, network_add_input(network, "x", &(struct shape){4, {8, 3, 8, 8}}, &value, &error), STATUS_INVALID,
           "input 'x'");
    expect(&error, network_add_input(network, "x", &(struct shape){1, {1}}, &value, &error), STATUS_INVALID,
           "input 'x'");
    network_free(network);
}

static void test_output_may_be_set_again(void **state) {
    struct rng rng;
    struct error error = {0};
    (void)state;

    rng_seed(&rng, 3);
    struct network *network = nets_residual(&rng, 4, 8, OP_RELU);
    size_t logits = network->output;
    size_t p = nets_unary(network, OP_RELU, "relu", logits);
    assert_int_equal(network->values[logits].use_count, 2);
    assert_int_equal(network_set_output(network, p, &error), STATUS_OK);
    assert_int_equal(network->values[logits].use_count, 1);
    assert_int_equal(network->values[p].use_count, 1);
    network_free(network);
}

static void test_counts(void **state) {
    struct rng rng;
    size_t x = 0;
    (void)state;

    rng_seed(&rng, 4);
    struct network *network = nets_start(3, 8, &x);
    nets_head(network, &rng, nets_conv(network, &rng, "c", x, 6, 2));
    /* 6 x 3 x 3 x 3 weights, 5 x 6 and 5; the convolution runs at 4 x 4 places. */
    assert_int_equal(network_parameter_count(network), 162 + 30 + 5);
    assert_true(network_macs(network) == 162.0 * 16.0 + 30.0);
    assert_string_equal(op_kind_name(OP_CONV), "Conv");
    network_free(network);
}

static void test_masks(void **state) {
    struct rng rng;
    struct error error = {0};
    struct network *masked = NULL;
    (void)state;

    rng_seed(&rng, 5);
    struct network *network = nets_residual(&rng, 4, 8, OP_RELU);
    size_t nodes = network->node_count;
    size_t uses = network->values[nets_find(network, "a.act")].use_count;
    const struct mask_site sites[] = {
        {nets_find(network, "b1.bn"), 1}, {nets_find(network, "a.act"), 1}, {network->output, 1}, {network->input, 1}};
    assert_int_equal(network_with_masks(network, sites, 4, &masked, &error), STATUS_OK);

    assert_int_equal(masked->node_count, nodes + 4);
    assert_int_equal(masked->unit_count, 8 + 4 + NETS_CLASSES + 3);
    assert_int_equal(network->node_count, nodes); /* the original is as it was */
    assert_int_equal(network->values[nets_find(network, "a.act")].use_count, uses);

    static const char *const names[] = {"b1.bn", "a.act", "fc", "x"};
    static const size_t firsts[] = {0, 8, 12, 12 + NETS_CLASSES};
    for (size_t i = 0; i < 4; i++) {
        char name[64];
        (void)snprintf(name, sizeof name, "%s.mask", names[i]);
        size_t of = nets_find(masked, names[i]);
        size_t mask = nets_find(masked, name);
        const struct node *node = &masked->nodes[masked->values[mask].producer];
        assert_int_equal(node->op, OP_MASK);
        assert_int_equal(node->origin, NETWORK_NONE);
        assert_int_equal(node->attr.mask_layer, i);
        assert_int_equal(node->attr.mask_first, firsts[i]);
        assert_int_equal(node->inputs[0], of);
        assert_int_equal(masked->values[of].use_count, 1); /* only the mask reads it */
        assert_int_equal(masked->values[mask].use_count, network->values[sites[i].value].use_count);
    }
    assert_int_equal(masked->output, nets_find(masked, "fc.mask"));
    assert_int_equal(masked->input, nets_find(masked, "x"));
    assert_ptr_equal(network_constant_data(masked, nets_find(masked, "a2.w")),
                     network_constant_data(network, nets_find(network, "a2.w")));
    assert_int_equal(masked->nodes[masked->values[nets_find(masked, "a2")].producer].origin, 7);
    network_free(masked);
    network_free(network);
}

static void test_masks_refuse(void **state) {
    struct rng rng;
    struct error error = {0};
    struct network *masked = NULL;
    (void)state;

    rng_seed(&rng, 6);
    struct network *network = nets_residual(&rng, 4, 8, OP_RELU);
    const struct mask_site twice[] = {{nets_find(network, "a1"), 1}, {nets_find(network, "a1"), 1}};
    expect(&error, network_with_masks(network, twice, 2, &masked, &error), STATUS_CONFLICT, "mask site 1");
    const struct mask_site wrong[] = {{nets_find(network, "a1"), 0},
                                      {nets_find(network, "a1"), 4},
                                      {nets_find(network, "a1.w"), 1},
                                      {NETWORK_NONE, 1}};
    for (size_t i = 0; i < 4; i++) {
        expect(&error, network_with_masks(network, &wrong[i], 1, &masked, &error), STATUS_INVALID, "mask site 0");
    }
    assert_null(masked);
    /* No site at all is a plain copy. */
    assert_int_equal(network_with_masks(network, NULL, 0, &masked, &error), STATUS_OK);
    assert_int_equal(masked->node_count, network->node_count);
    assert_int_equal(masked->unit_count, 0);
    network_free(masked);
    network_free(network);
}

static enum status build_small(struct network **out, struct error *error) {
    struct network *network = network_new();
    size_t x = 0, weight = 0, y = 0;
    if (network == NULL) {
        return STATUS_NO_MEMORY;
    }
    enum status status = network_add_input(network, "x", &(struct shape){2, {1, 3}}, &x, error);
    if (status == STATUS_OK) {
        status = network_add_constant(network, "w", &(struct shape){2, {3, 2}}, NULL, &weight, error);
    }
    if (status == STATUS_OK) {
        status = network_add_node(network, OP_GEMM, "y", (size_t[]){x, weight}, 2, &(struct op_attr){.alpha = 1.0f}, 0,
                                  &y, error);
    }
    if (status == STATUS_OK) {
        status = network_set_output(network, y, error);
    }
    if (status == STATUS_OK) {
        status = network_with_masks(network, &(struct mask_site){y, 1}, 1, out, error);
    }
    network_free(network);
    return status;
}

static void test_building_survives_no_memory(void **state) {
    enum status status = STATUS_NO_MEMORY;
    uint64_t tries = 0;
    (void)state;

    for (uint64_t n = 1; status != STATUS_OK; n++, tries++) {
        struct error error = {0};
        struct network *masked = NULL;
        mem_fail_after(n);
        status = build_small(&masked, &error);
        mem_fail_after(0);
        assert_true(status == STATUS_OK || (status == STATUS_NO_MEMORY && masked == NULL));
        network_free(masked);
    }
    assert_true(tries > 8);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_producers_and_uses),
        cmocka_unit_test(test_names_and_data_are_copied),
        cmocka_unit_test(test_refusals_change_nothing),
        cmocka_unit_test(test_output_may_be_set_again),
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_masks),
        cmocka_unit_test(test_masks_refuse),
        cmocka_unit_test(test_building_survives_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
