/* Units from the data flow: which values have them, how they are paired, and what shortcuts tie together. */
#include "server/graph/neuron_graph.h"
#include "server/graph/units.h"
#include "tests/unit/graph/builder.h"

static struct unit_map *find(const struct network *network) {
    struct unit_map *map = NULL;
    struct error error = {0};
    if (units_find(network, &map, &error) != STATUS_OK) {
        fail_msg("%s", error.message);
    }
    return map;
}

static void resnet18_has_1200_units_with_and_without_norms(void **state) {
    (void)state;
    for (int norms = 0; norms < 2; norms++) {
        struct network *network = build_resnet18(1, 16, 8, norms != 0);
        struct unit_map *map = find(network);
        assert_int_equal(map->unit_count, 1200);
        assert_int_equal(map->layer_count, 20);
        /* A stage's residual stream is one group a channel: stem or shortcut, and the second Conv of both blocks. */
        assert_int_equal(map->group_count, (16 * 3) + (32 * 3) + (64 * 3) + (128 * 3));
        assert_int_equal(map->layers[0].depth, 1);
        assert_int_equal(map->layers[19].depth, 17);
        for (size_t l = 0; l < map->layer_count; l++) {
            const struct unit_layer *layer = &map->layers[l];
            assert_int_equal(layer->norm_node != NETWORK_NONE, norms);
            assert_int_equal(network->nodes[layer->weight_node].op, OP_CONV);
            for (size_t c = 0; c < layer->count; c++) {
                assert_int_equal(map->layer_of[layer->first + c], l);
            }
        }
        /* Stem, then Conv 1 (free) and Conv 2 (tied to the stem) of the first block. */
        assert_int_equal(map->group_of[map->layers[2].first + 5], map->group_of[5]);
        assert_int_not_equal(map->group_of[map->layers[1].first + 5], map->group_of[5]);
        assert_true(map->layers[0].low == 0 && isinf(map->layers[0].high));
        assert_true(isinf(map->layers[2].low));
        units_free(map);
        network_free(network);
    }
}

static void preact_norms_stand_alone_and_their_convs_have_units_too(void **state) {
    (void)state;
    struct network *network = build_preact18(2, 16, 8);
    struct unit_map *map = find(network);
    /* BatchNorms: 976, as a prototype that pruned only them counted. Convs that write the residual stream: 16 for the stem, two a
     * stage of width w for Conv 2, and one for each shortcut Conv. */
    size_t alone = 0, paired = 0, bare = 0;
    for (size_t l = 0; l < map->layer_count; l++) {
        const struct unit_layer *layer = &map->layers[l];
        if (layer->weight_node == NETWORK_NONE) {
            alone += layer->count;
            assert_true(layer->low == 0);
        } else if (layer->norm_node != NETWORK_NONE) {
            paired += layer->count;
        } else {
            bare += layer->count;
        }
    }
    assert_int_equal(paired, 2 * (16 + 32 + 64 + 128));
    assert_int_equal(alone + paired, 976);
    assert_int_equal(bare, 16 + 2 * (16 + 32 + 64 + 128) + 32 + 64 + 128);
    assert_int_equal(map->unit_count, 1696);
    units_free(map);
    network_free(network);
}

static void a_logit_layer_behind_pooling_has_no_units(void **state) {
    (void)state;
    struct builder b;
    size_t x = build_start(&b, 3, 3, 8);
    x = build_relu(&b, build_conv(&b, x, 12, 3, 1, 1, true));
    x = build_relu(&b, build_norm(&b, build_conv(&b, x, 5, 1, 1, 1, false)));
    x = build_flatten(&b, build_unary(&b, OP_GLOBAL_AVERAGE_POOL, x));
    build_ok(&b, network_set_output(b.network, build_unary(&b, OP_SOFTMAX, x), &b.error));
    struct unit_map *map = find(b.network);
    assert_int_equal(map->unit_count, 12);
    assert_int_equal(map->layers[0].positions, 64);
    units_free(map);
    network_free(b.network);
}

static void depthwise_convolutions_follow_their_input(void **state) {
    (void)state;
    struct builder b;
    size_t x = build_start(&b, 4, 3, 8);
    size_t stem = build_unary(&b, OP_CLIP, build_norm(&b, build_conv(&b, x, 8, 3, 1, 1, false)));
    size_t wide = build_unary(&b, OP_CLIP, build_norm(&b, build_conv(&b, stem, 16, 1, 1, 1, false)));
    size_t deep = build_unary(&b, OP_CLIP, build_norm(&b, build_conv(&b, wide, 32, 3, 1, 16, false)));
    size_t narrow = build_norm(&b, build_conv(&b, deep, 8, 1, 1, 1, false));
    build_head(&b, build_pair(&b, OP_ADD, stem, narrow), 4);
    struct unit_map *map = find(b.network);
    assert_int_equal(map->layer_count, 3);
    assert_int_equal(map->unit_count, 8 + 16 + 8);
    assert_int_equal(map->group_count, 8 + 16);
    assert_true(map->layers[0].low == 0 && isinf(map->layers[0].high) == 0);
    assert_int_equal(map->group_of[map->layers[2].first + 3], map->group_of[3]);
    units_free(map);
    network_free(b.network);
}

static void a_depthwise_convolution_on_the_input_has_units_of_its_own(void **state) {
    (void)state;
    struct builder b;
    size_t x = build_relu(&b, build_norm(&b, build_conv(&b, build_start(&b, 5, 3, 8), 6, 3, 1, 3, false)));
    build_head(&b, x, 4);
    struct unit_map *map = find(b.network);
    assert_int_equal(map->unit_count, 6);
    assert_int_not_equal(map->layers[0].norm_node, NETWORK_NONE);
    units_free(map);
    network_free(b.network);
}

static void matmul_and_add_make_one_unit_layer(void **state) {
    (void)state;
    struct builder b;
    size_t x = build_flatten(&b, build_start(&b, 6, 2, 4));
    size_t matmul = build_gemm(&b, x, 7, false, 0);
    size_t biased = build_pair(&b, OP_ADD, build_constant(&b, shape_make(1, 7, 0, 0, 0), 0, 1), matmul);
    size_t hidden = build_gemm(&b, build_relu(&b, biased), 9, true, 1);
    size_t logits = build_gemm(&b, build_relu(&b, hidden), 3, false, 0);
    logits = build_pair(&b, OP_ADD, logits, build_constant(&b, shape_make(1, 3, 0, 0, 0), 0, 1));
    build_ok(&b, network_set_output(b.network, logits, &b.error));
    struct unit_map *map = find(b.network);
    assert_int_equal(map->layer_count, 2);
    assert_int_equal(map->layers[0].value, biased);
    assert_int_equal(map->layers[0].count, 7);
    assert_true(map->layers[0].low == 0);
    assert_int_equal(map->layers[1].value, hidden);
    assert_int_equal(map->layers[1].positions, 1);
    assert_string_equal(units_layer_name(b.network, &map->layers[1]),
                        b.network->nodes[map->layers[1].weight_node].name);
    units_free(map);
    network_free(b.network);
}

static void channels_that_meet_through_concat_are_tied_by_offset(void **state) {
    (void)state;
    struct builder b;
    size_t x = build_start(&b, 7, 3, 8);
    size_t left = build_conv(&b, x, 4, 3, 1, 1, true), right = build_conv(&b, x, 6, 3, 1, 1, true);
    size_t both = build_relu(&b, build_pair(&b, OP_CONCAT, left, right));
    size_t wide = build_conv(&b, both, 10, 3, 1, 1, true);
    build_head(&b, build_pair(&b, OP_ADD, wide, both), 4);
    struct unit_map *map = find(b.network);
    assert_int_equal(map->unit_count, 20);
    assert_int_equal(map->group_count, 10);
    assert_int_equal(map->group_of[10 + 3], map->group_of[3]);     /* left 3 */
    assert_int_equal(map->group_of[10 + 4], map->group_of[4 + 0]); /* right 0 */
    assert_int_equal(map->group_of[10 + 9], map->group_of[4 + 5]);
    units_free(map);
    network_free(b.network);
}

/* ShuffleNet's channel shuffle, (g, C / g) -> (C / g, g): the ties must follow the permutation. */
static void channels_are_followed_through_a_shuffle(void **state) {
    (void)state;
    enum { SIDE = 4, GROUPS = 2, CHANNELS = 6 };
    struct builder b;
    size_t x = build_conv(&b, build_start(&b, 8, 3, SIDE), CHANNELS, 3, 1, 1, true);
    struct shape split = {.rank = 5, .dim = {1, GROUPS, CHANNELS / GROUPS, SIDE, SIDE}};
    struct op_attr perm = {.axes = {0, 2, 1, 3, 4}, .axes_count = 5};
    size_t y = build_reshape(&b, x, split);
    y = build_node(&b, OP_TRANSPOSE, &y, 1, &perm);
    y = build_reshape(&b, y, shape_make(4, 1, CHANNELS, SIDE, SIDE));
    size_t z = build_conv(&b, y, CHANNELS, 3, 1, 1, true);
    build_head(&b, build_pair(&b, OP_ADD, y, z), 4);
    struct unit_map *map = find(b.network);
    assert_int_equal(map->group_count, CHANNELS);
    for (size_t c = 0; c < CHANNELS; c++) {
        size_t source = c % GROUPS * (CHANNELS / GROUPS) + c / GROUPS;
        assert_int_equal(map->group_of[CHANNELS + c], map->group_of[source]);
    }
    units_free(map);
    network_free(b.network);
}

static void a_padded_shortcut_ties_only_the_channels_it_has(void **state) {
    (void)state;
    struct builder b;
    size_t x = build_conv(&b, build_start(&b, 9, 3, 8), 4, 3, 1, 1, true);
    struct op_attr pad = {.pad_begin = {0, 2, 0, 0}, .pad_end = {0, 2, 0, 0}};
    size_t padded = build_node(&b, OP_PAD, &x, 1, &pad);
    size_t y = build_conv(&b, x, 8, 3, 1, 1, true);
    build_head(&b, build_pair(&b, OP_ADD, y, padded), 4);
    struct unit_map *map = find(b.network);
    assert_int_equal(map->unit_count, 12);
    assert_int_equal(map->group_count, 8);
    assert_int_equal(map->group_of[4 + 2], map->group_of[0]);
    assert_int_equal(map->group_of[4 + 5], map->group_of[3]);
    units_free(map);
    network_free(b.network);
}

static void norms_that_repeat_a_unit_add_none(void **state) {
    (void)state;
    struct builder b;
    size_t x = build_norm(&b, build_start(&b, 10, 3, 8)); /* normalises the input: no neurons */
    x = build_norm(&b, build_relu(&b, build_conv(&b, x, 5, 3, 1, 1, true)));
    build_head(&b, x, 4);
    struct unit_map *map = find(b.network);
    assert_int_equal(map->unit_count, 5);
    assert_int_equal(map->layers[0].norm_node, NETWORK_NONE);
    assert_true(map->layers[0].low == 0);
    units_free(map);
    network_free(b.network);
}

static void a_network_without_hidden_layers_is_refused(void **state) {
    (void)state;
    struct builder b;
    build_head(&b, build_start(&b, 11, 3, 8), 4);
    struct unit_map *map = NULL;
    struct error error = {0};
    assert_int_equal(units_find(b.network, &map, &error), STATUS_UNSUPPORTED);
    assert_null(map);
    assert_non_null(strstr(error.message, "prunable"));
    network_free(b.network);
}

static void the_masked_network_has_one_mask_a_layer(void **state) {
    (void)state;
    struct network *network = build_preact18(12, 4, 8), *masked = NULL;
    struct unit_map *map = find(network);
    struct error error = {0};
    assert_int_equal(units_masked_network(network, map, &masked, &error), STATUS_OK);
    assert_int_equal(masked->unit_count, map->unit_count);
    size_t masks = 0;
    for (size_t i = 0; i < masked->node_count; i++) {
        if (masked->nodes[i].op == OP_MASK) {
            const struct op_attr *attr = &masked->nodes[i].attr;
            assert_int_equal(attr->mask_first, map->layers[attr->mask_layer].first);
            masks++;
        }
    }
    assert_int_equal(masks, map->layer_count);
    network_free(masked);
    units_free(map);
    network_free(network);
}

static void every_failed_allocation_is_reported(void **state) {
    (void)state;
    struct network *network = build_preact18(13, 4, 8);
    for (uint64_t n = 1;; n++) {
        struct unit_map *map = NULL;
        struct error error = {0};
        mem_fail_after(n);
        enum status status = units_find(network, &map, &error);
        mem_fail_after(0);
        if (status == STATUS_OK) {
            assert_true(n > 20);
            units_free(map);
            break;
        }
        assert_int_equal(status, STATUS_NO_MEMORY);
        assert_int_equal(error.status, STATUS_NO_MEMORY);
        assert_null(map);
    }
    network_free(network);
}

/* Halves of a Conv's channels, one of them added to another Conv: its channels are tied by their offset in the whole. */
static void channels_are_followed_through_a_slice(void **state) {
    (void)state;
    struct builder b;
    size_t x = build_conv(&b, build_start(&b, 7, 3, 4), 8, 3, 1, 1, true);
    struct op_attr half = {.shape = shape_make(4, 1, 4, 4, 4), .slice_start = {0, 4}, .slice_step = {1, 1, 1, 1}};
    size_t upper = build_node(&b, OP_SLICE, &x, 1, &half);
    size_t other = build_conv(&b, x, 4, 3, 1, 1, true);
    build_head(&b, build_pair(&b, OP_ADD, upper, other), 3);
    struct unit_map *map = find(b.network);
    assert_int_equal(map->unit_count, 12);
    for (size_t c = 0; c < 4; c++) {
        assert_int_equal(map->group_of[8 + c], map->group_of[4 + c]);
        assert_int_not_equal(map->group_of[8 + c], map->group_of[c]);
    }
    units_free(map);
    network_free(b.network);
}

struct attention {
    size_t tokens, width, heads;
};

/* Queries, keys and values from one product of the tokens x (1, L, E), split into heads: (1, 3, heads, L, width). */
static size_t build_qkv(struct builder *b, size_t x, const struct attention *a) {
    struct op_attr product = {.alpha = 1, .beta = 1};
    size_t in[2] = {x, build_constant(b, shape_make(2, a->width * a->heads, 3 * a->width * a->heads, 0, 0), 0, 0.5F)};
    struct op_attr apart = {.shape = {.rank = 5, .dim = {1, a->tokens, 3, a->heads, a->width}}};
    struct op_attr turn = {.axes = {0, 2, 3, 1, 4}, .axes_count = 5};
    x = build_node(b, OP_GEMM, in, 2, &product);
    x = build_pair(b, OP_ADD, x, build_constant(b, shape_make(1, 3 * a->width * a->heads, 0, 0, 0), 0, 0.5F));
    x = build_node(b, OP_RESHAPE, &x, 1, &apart);
    return build_node(b, OP_TRANSPOSE, &x, 1, &turn);
}

/* Part `which` of it: (1, heads, L, width). */
static size_t build_part(struct builder *b, size_t qkv, size_t which, const struct attention *a) {
    struct op_attr part = {.shape = {.rank = 5, .dim = {1, 1, a->heads, a->tokens, a->width}},
                           .slice_start = {0, which},
                           .slice_step = {1, 1, 1, 1, 1}};
    struct op_attr drop = {.shape = {.rank = 4, .dim = {1, a->heads, a->tokens, a->width}}};
    size_t x = build_node(b, OP_SLICE, &qkv, 1, &part);
    return build_node(b, OP_RESHAPE, &x, 1, &drop);
}

/* The values of one head are tied, queries and keys are free; what reads the context sees each column of the values. */
static void values_of_an_attention_head_are_tied(void **state) {
    (void)state;
    const struct attention a = {.tokens = 4, .width = 3, .heads = 2};
    struct builder b;
    struct op_attr tokens = {.shape = {.rank = 3, .dim = {1, a.tokens, 6}}};
    struct op_attr swap = {.axes = {0, 1, 3, 2}, .axes_count = 4}, back = {.axes = {0, 2, 1, 3}, .axes_count = 4};
    struct op_attr rows = {.axis = 3}, product = {.alpha = 1, .beta = 1}, mean = {.axes = {1}, .axes_count = 1};
    size_t x = build_start(&b, 9, 6, 2);
    x = build_qkv(&b, build_node(&b, OP_RESHAPE, &x, 1, &tokens), &a);
    size_t keys = build_part(&b, x, 1, &a), values = build_part(&b, x, 2, &a);
    x = build_pair(&b, OP_MATMUL, build_part(&b, x, 0, &a), build_node(&b, OP_TRANSPOSE, &keys, 1, &swap));
    x = build_pair(&b, OP_MATMUL, build_node(&b, OP_SOFTMAX, &x, 1, &rows), values);
    x = build_node(&b, OP_TRANSPOSE, &x, 1, &back);
    x = build_node(&b, OP_RESHAPE, &x, 1, &tokens);
    size_t out[2] = {x, build_constant(&b, shape_make(2, 6, 5, 0, 0), 0, 0.5F)};
    x = build_node(&b, OP_GEMM, out, 2, &product);
    x = build_unary(&b, OP_ERF, x);
    x = build_node(&b, OP_REDUCE_MEAN, &x, 1, &mean);
    size_t head[2] = {x, build_constant(&b, shape_make(2, 5, 3, 0, 0), 0, 0.5F)};
    build_ok(&b, network_set_output(b.network, build_node(&b, OP_GEMM, head, 2, &product), &b.error));
    struct unit_map *map = find(b.network);
    assert_int_equal(map->layer_count, 2);
    assert_int_equal(map->unit_count, 18 + 5);
    assert_int_equal(map->group_count, 12 + 2 + 5);
    for (size_t c = 0; c < 6; c++) {
        assert_int_equal(map->group_of[12 + c], map->group_of[12 + c / 3 * 3]);
    }
    assert_int_not_equal(map->group_of[12], map->group_of[15]);
    struct neuron_graph *graph = NULL;
    build_ok(&b, neuron_graph_new(b.network, map, &graph, &b.error));
    const struct edge_list *edges = &graph->edges[RELATION_FORWARD];
    for (size_t u = 18; u < 23; u++) { /* each output reads all six columns of the values, and only these */
        assert_int_equal(edges->start[u + 1] - edges->start[u], 6);
        for (size_t i = edges->start[u]; i < edges->start[u + 1]; i++) {
            assert_in_range(edges->source[i], 12, 17);
        }
    }
    neuron_graph_free(graph);
    units_free(map);
    network_free(b.network);
}

/* A product over several rows a sample (tokens, or positions of an NHWC value) has its outputs, the units, on the last axis. They
 * are the channels of the convolution behind the Transpose. */
static void products_with_several_rows_have_units_on_the_last_axis(void **state) {
    (void)state;
    struct builder b;
    size_t x = build_relu(&b, build_conv(&b, build_start(&b, 8, 3, 4), 6, 3, 1, 1, true));
    struct op_attr last = {.axes = {0, 2, 3, 1}, .axes_count = 4};
    size_t inputs[2] = {build_node(&b, OP_TRANSPOSE, &x, 1, &last), 0};
    inputs[1] = build_constant(&b, shape_make(2, 6, 9, 0, 0), 0, 0.5F);
    struct op_attr product = {.alpha = 1, .beta = 1};
    size_t y = build_unary(&b, OP_ERF, build_node(&b, OP_GEMM, inputs, 2, &product));
    struct op_attr first = {.axes = {0, 3, 1, 2}, .axes_count = 4};
    build_head(&b, build_node(&b, OP_TRANSPOSE, &y, 1, &first), 3);
    struct unit_map *map = find(b.network);
    assert_int_equal(map->layer_count, 2);
    assert_int_equal(map->unit_count, 6 + 9);
    assert_int_equal(map->layers[1].axis, 3);
    assert_int_equal(map->layers[1].positions, 16);
    assert_int_equal(map->layers[1].inner, 1);
    units_free(map);
    network_free(b.network);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(resnet18_has_1200_units_with_and_without_norms),
        cmocka_unit_test(preact_norms_stand_alone_and_their_convs_have_units_too),
        cmocka_unit_test(a_logit_layer_behind_pooling_has_no_units),
        cmocka_unit_test(depthwise_convolutions_follow_their_input),
        cmocka_unit_test(a_depthwise_convolution_on_the_input_has_units_of_its_own),
        cmocka_unit_test(matmul_and_add_make_one_unit_layer),
        cmocka_unit_test(channels_that_meet_through_concat_are_tied_by_offset),
        cmocka_unit_test(channels_are_followed_through_a_shuffle),
        cmocka_unit_test(a_padded_shortcut_ties_only_the_channels_it_has),
        cmocka_unit_test(channels_are_followed_through_a_slice),
        cmocka_unit_test(values_of_an_attention_head_are_tied),
        cmocka_unit_test(products_with_several_rows_have_units_on_the_last_axis),
        cmocka_unit_test(norms_that_repeat_a_unit_add_none),
        cmocka_unit_test(a_network_without_hidden_layers_is_refused),
        cmocka_unit_test(the_masked_network_has_one_mask_a_layer),
        cmocka_unit_test(every_failed_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
