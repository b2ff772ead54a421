/* The neuron graph against plain computations of its parts. */
#include "common/clock.h"
#include "server/graph/neuron_graph.h"
#include "tests/unit/graph/builder.h"

static struct unit_map *find(const struct network *network) {
    struct unit_map *map = NULL;
    struct error error = {0};
    if (units_find(network, &map, &error) != STATUS_OK) {
        fail_msg("%s", error.message);
    }
    return map;
}

static struct neuron_graph *graph_of(const struct network *network, const struct unit_map *map) {
    struct neuron_graph *graph = NULL;
    struct error error = {0};
    if (neuron_graph_new(network, map, &graph, &error) != STATUS_OK) {
        fail_msg("%s", error.message);
    }
    return graph;
}

static double absolute_sum(const float *x, size_t count) {
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        sum += fabs((double)x[i]);
    }
    return sum;
}

/* conv A (3 -> A) -> relu -> conv B (A -> B) -> relu -> head Gemm: vectors can be written down by hand. */
enum { A = 40, B = 24, CLASSES = 4 };
struct plain {
    struct network *network;
    const float *a, *b, *head; /* (A, 3, 9), (B, A, 9), (CLASSES, B) */
};

static struct plain plain_network(uint64_t seed) {
    struct builder b;
    size_t x = build_relu(&b, build_conv(&b, build_start(&b, seed, 3, 8), A, 3, 1, 1, true));
    build_head(&b, build_relu(&b, build_conv(&b, x, B, 3, 1, 1, true)), CLASSES);
    struct plain plain = {.network = b.network};
    const float **weights[] = {&plain.a, &plain.b, &plain.head};
    size_t found = 0;
    for (size_t i = 0; i < b.network->node_count && found < 3; i++) {
        const struct node *node = &b.network->nodes[i];
        if (node->op == OP_CONV || node->op == OP_GEMM) {
            *weights[found++] = b.network->values[node->inputs[1]].data;
        }
    }
    assert_int_equal(found, 3);
    return plain;
}

static void vectors_of_a(const struct plain *plain, double in[A][3], double out[A][B]) {
    for (size_t u = 0; u < A; u++) {
        for (size_t c = 0; c < 3; c++) {
            in[u][c] = absolute_sum(plain->a + (u * 3 + c) * 9, 9);
        }
        for (size_t m = 0; m < B; m++) {
            out[u][m] = absolute_sum(plain->b + (m * A + u) * 9, 9);
        }
    }
}

static double dot(const double *x, const double *y, size_t count) {
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        sum += x[i] * y[i];
    }
    return sum;
}

static double cosine(double in[A][3], double out[A][B], size_t i, size_t j) {
    double a = dot(in[i], in[j], 3) / sqrt(dot(in[i], in[i], 3) * dot(in[j], in[j], 3));
    double b = dot(out[i], out[j], B) / sqrt(dot(out[i], out[i], B) * dot(out[j], out[j], B));
    return (a + b) / 2;
}

static void similar_units_are_joined_above_one_threshold(void **state) {
    (void)state;
    struct plain plain = plain_network(41);
    struct unit_map *map = find(plain.network);
    struct neuron_graph *graph = graph_of(plain.network, map);
    static double in[A][3], out[A][B];
    vectors_of_a(&plain, in, out);
    const struct edge_list *edges = &graph->edges[RELATION_SIMILAR];
    bool joined[A][A] = {{false}};
    double lowest = 1, highest_absent = 0;
    for (size_t u = 0; u < A; u++) {
        for (size_t e = edges->start[u]; e < edges->start[u + 1]; e++) {
            size_t v = edges->source[e];
            assert_true(v < A && v != u);
            joined[u][v] = true;
            double expected = cosine(in, out, u, v);
            assert_true(fabs((double)edges->weight[e] - expected) < 1e-5);
            lowest = fmin(lowest, expected);
        }
    }
    for (size_t u = 0; u < A; u++) {
        for (size_t v = 0; v < A; v++) {
            assert_true(joined[u][v] == joined[v][u]);
            if (u != v && !joined[u][v]) {
                highest_absent = fmax(highest_absent, cosine(in, out, u, v));
            }
        }
    }
    assert_true(lowest > highest_absent - 2e-5); /* the width of a histogram bin */
    double degree = (double)edges->start[A] / A;
    assert_true(degree >= 8 && degree < 9);
    neuron_graph_free(graph);
    units_free(map);
    network_free(plain.network);
}

static void between_layers_the_strongest_eight_are_kept(void **state) {
    (void)state;
    struct plain plain = plain_network(42);
    struct unit_map *map = find(plain.network);
    struct neuron_graph *graph = graph_of(plain.network, map);
    static double in[A][3], out[A][B];
    vectors_of_a(&plain, in, out);
    for (size_t m = 0; m < B; m++) {
        const struct edge_list *edges = &graph->edges[RELATION_FORWARD];
        size_t first = edges->start[A + m];
        assert_int_equal(edges->start[A + m + 1] - first, 8);
        double strongest = out[edges->source[first]][m], weakest = out[edges->source[first + 7]][m];
        for (size_t k = 0; k < 8; k++) {
            assert_true(fabs((double)edges->weight[first + k] - out[edges->source[first + k]][m] / strongest) < 1e-5);
        }
        size_t stronger = 0;
        for (size_t u = 0; u < A; u++) {
            stronger += out[u][m] > weakest * (1 + 1e-6);
        }
        assert_int_equal(stronger, 7);
    }
    for (size_t u = 0; u < A; u++) {
        const struct edge_list *edges = &graph->edges[RELATION_BACKWARD];
        size_t first = edges->start[u], best = 0;
        assert_int_equal(edges->start[u + 1] - first, 8);
        assert_int_equal(graph->edges[RELATION_FORWARD].start[u + 1], graph->edges[RELATION_FORWARD].start[u]);
        for (size_t m = 0; m < B; m++) {
            best = out[u][m] > out[u][best] ? m : best;
        }
        assert_int_equal(edges->source[first], A + best);
        assert_true(edges->weight[first] == 1 && edges->weight[first + 7] > 0);
    }
    neuron_graph_free(graph);
    units_free(map);
    network_free(plain.network);
}

/* Largest singular value by plain power iteration in double, many steps. */
static double singular(const float *a, size_t rows, size_t columns) {
    double x[64], y[64], value = 0;
    for (size_t i = 0; i < columns; i++) {
        x[i] = 1 + (double)i * 0.1;
    }
    for (size_t step = 0; step < 2000; step++) {
        for (size_t r = 0; r < rows; r++) {
            y[r] = 0;
            for (size_t c = 0; c < columns; c++) {
                y[r] += (double)a[r * columns + c] * x[c];
            }
        }
        double norm = 0;
        for (size_t c = 0; c < columns; c++) {
            x[c] = 0;
            for (size_t r = 0; r < rows; r++) {
                x[c] += (double)a[r * columns + c] * y[r];
            }
            norm += x[c] * x[c];
        }
        value = sqrt(sqrt(norm));
        for (size_t c = 0; c < columns; c++) {
            x[c] /= sqrt(norm);
        }
    }
    return value;
}

static void weight_features_agree_with_plain_sums(void **state) {
    (void)state;
    struct plain plain = plain_network(43);
    struct unit_map *map = find(plain.network);
    struct neuron_graph *graph = graph_of(plain.network, map);
    static double in[A][3], out[A][B];
    vectors_of_a(&plain, in, out);
    for (size_t u = 0; u < A + B; u++) {
        const float *row = graph->weight_features + u * WEIGHT_FEATURE_COUNT;
        size_t channels = u < A ? 3 : A;
        const float *filter = u < A ? plain.a + u * 27 : plain.b + (u - A) * A * 9;
        double l1 = absolute_sum(filter, channels * 9), value = singular(filter, channels, 9);
        assert_true(fabs((double)row[WEIGHT_FEATURE_L1] - l1) < 1e-4 * l1);
        /* Singular values that lie close converge slowly; the value itself is then off by little. */
        assert_true(fabs((double)row[WEIGHT_FEATURE_LIPSCHITZ] - value) < 2e-3 * value);
        double outgoing = 0;
        for (size_t k = 0; u >= A && k < CLASSES; k++) {
            outgoing += pow((double)plain.head[k * B + u - A] * 1.5, 2); /* the builder's alpha */
        }
        outgoing = u < A ? sqrt(dot(out[u], out[u], B)) : sqrt(outgoing);
        assert_true(fabs((double)row[WEIGHT_FEATURE_OUT] - outgoing) < 1e-4 * outgoing);
        if (u < A) {
            double incoming = sqrt(dot(in[u], in[u], 3));
            assert_true(fabs((double)row[WEIGHT_FEATURE_IN] - incoming) < 1e-4 * incoming);
        }
    }
    neuron_graph_free(graph);
    units_free(map);
    network_free(plain.network);
}

static void folded_norms_give_the_same_graph(void **state) {
    (void)state;
    struct network *living = build_resnet18(44, 8, 8, true), *folded = build_resnet18(44, 8, 8, false);
    struct unit_map *map = find(living), *folded_map = find(folded);
    assert_int_equal(map->layer_count, folded_map->layer_count);
    /* The folded network's kernels become the living one's times gamma / sigma. */
    for (size_t l = 0; l < map->layer_count; l++) {
        const struct node *from = &living->nodes[map->layers[l].weight_node];
        const struct node *norm = &living->nodes[map->layers[l].norm_node];
        const struct node *to = &folded->nodes[folded_map->layers[l].weight_node];
        size_t rest = shape_count_from(&living->values[from->inputs[1]].shape, 1);
        for (size_t i = 0; i < rest * map->layers[l].count; i++) {
            float variance = living->values[norm->inputs[4]].data[i / rest] + norm->attr.epsilon;
            float scale = living->values[norm->inputs[1]].data[i / rest] / sqrtf(variance);
            folded->values[to->inputs[1]].data[i] = living->values[from->inputs[1]].data[i] * scale;
        }
    }
    struct node *head = &living->nodes[living->node_count - 1], *other = &folded->nodes[folded->node_count - 1];
    memcpy(folded->values[other->inputs[1]].data, living->values[head->inputs[1]].data,
           shape_count(&living->values[head->inputs[1]].shape) * sizeof(float));
    struct neuron_graph *a = graph_of(living, map), *b = graph_of(folded, folded_map);
    for (size_t i = 0; i < map->unit_count * WEIGHT_FEATURE_COUNT; i++) {
        assert_true(fabsf(a->weight_features[i] - b->weight_features[i]) <= 1e-3F * (a->weight_features[i] + 1e-6F));
    }
    for (size_t r = 0; r < RELATION_COUNT; r++) {
        size_t same = 0, total = a->edges[r].start[map->unit_count];
        for (size_t u = 0; u < map->unit_count; u++) {
            for (size_t i = a->edges[r].start[u]; i < a->edges[r].start[u + 1]; i++) {
                for (size_t j = b->edges[r].start[u]; j < b->edges[r].start[u + 1]; j++) {
                    same += a->edges[r].source[i] == b->edges[r].source[j];
                }
            }
        }
        /* Ties and near-ties may fall either way by rounding. */
        assert_true((double)same > 0.99 * (double)total);
    }
    neuron_graph_free(a);
    neuron_graph_free(b);
    units_free(map);
    units_free(folded_map);
    network_free(living);
    network_free(folded);
}

/* Conv -> pool -> flatten -> hidden Gemm: the plane's positions belong to their channel. */
static void flattened_positions_find_their_channel(void **state) {
    (void)state;
    enum { C = 12, H = 10, POSITIONS = 16 };
    struct builder b;
    size_t x = build_relu(&b, build_conv(&b, build_start(&b, 45, 3, 8), C, 3, 1, 1, true));
    size_t flat = build_flatten(&b, build_pool(&b, x));
    size_t hidden = build_gemm(&b, flat, H, true, 1);
    size_t logits = build_gemm(&b, build_relu(&b, hidden), 3, true, 1);
    build_ok(&b, network_set_output(b.network, logits, &b.error));
    struct unit_map *map = find(b.network);
    struct neuron_graph *graph = graph_of(b.network, map);
    const float *weight = b.network->values[b.network->nodes[b.network->values[hidden].producer].inputs[1]].data;
    for (size_t h = 0; h < H; h++) {
        const float *row = weight + h * C * POSITIONS;
        const struct edge_list *edges = &graph->edges[RELATION_FORWARD];
        size_t first = edges->start[C + h], best = 0;
        for (size_t c = 0; c < C; c++) {
            best = absolute_sum(row + c * POSITIONS, POSITIONS) > absolute_sum(row + best * POSITIONS, POSITIONS)
                       ? c
                       : best;
        }
        assert_int_equal(edges->start[C + h + 1] - first, 8);
        assert_int_equal(edges->source[first], best);
    }
    neuron_graph_free(graph);
    units_free(map);
    network_free(b.network);
}

static void every_edge_of_a_preact_network_is_sound(void **state) {
    (void)state;
    struct network *network = build_preact18(46, 8, 8);
    struct unit_map *map = find(network);
    struct neuron_graph *graph = graph_of(network, map), *again = graph_of(network, map);
    for (size_t r = 0; r < RELATION_COUNT; r++) {
        const struct edge_list *edges = &graph->edges[r];
        assert_int_equal(edges->start[0], 0);
        for (size_t u = 0; u < map->unit_count; u++) {
            assert_true(edges->start[u] <= edges->start[u + 1]);
            for (size_t e = edges->start[u]; e < edges->start[u + 1]; e++) {
                size_t other = edges->source[e], here = map->layer_of[u], there = map->layer_of[other];
                assert_true(edges->weight[e] > 0 && edges->weight[e] <= 1);
                assert_true(r == RELATION_SIMILAR ? here == there : here != there);
            }
        }
        size_t total = edges->start[map->unit_count];
        assert_int_equal(again->edges[r].start[map->unit_count], total);
        assert_memory_equal(again->edges[r].source, edges->source, total * sizeof *edges->source);
        assert_memory_equal(again->edges[r].weight, edges->weight, total * sizeof *edges->weight);
    }
    /* A norm that stands alone behind the stem is reached by the stem's channel of the same index. */
    const struct edge_list *forward = &graph->edges[RELATION_FORWARD];
    const struct unit_layer *norm = &map->layers[1];
    assert_int_equal(norm->weight_node, NETWORK_NONE);
    assert_int_equal(forward->start[norm->first + 4] - forward->start[norm->first + 3], 1);
    assert_int_equal(forward->source[forward->start[norm->first + 3]], 3);
    neuron_graph_free(graph);
    neuron_graph_free(again);
    units_free(map);
    network_free(network);
}

static void features_are_standardised_in_each_layer(void **state) {
    (void)state;
    struct network *network = build_resnet18(47, 8, 8, true);
    struct unit_map *map = find(network);
    struct neuron_graph *graph = graph_of(network, map);
    float *extra = mem_alloc(map->unit_count, sizeof *extra), *flat = mem_calloc(map->unit_count, sizeof *flat);
    for (size_t u = 0; u < map->unit_count; u++) {
        extra[u] = (float)(u * u % 97);
        flat[u] = 7;
    }
    extra[3] = 1e9F; /* an outlier is clamped */
    extra[map->layers[2].first] = NAN;
    const float *columns[2] = {extra, flat};
    float *features = NULL;
    size_t width = 0;
    struct error error = {0};
    assert_int_equal(neuron_graph_features(graph, map, columns, 2, &features, &width, &error), STATUS_OK);
    assert_int_equal(width, WEIGHT_FEATURE_COUNT + 4);
    size_t whole = 0;
    for (size_t l = 0; l < map->layer_count; l++) {
        const struct unit_layer *layer = &map->layers[l];
        for (size_t k = 0; k < WEIGHT_FEATURE_COUNT; k++) {
            double sum = 0, square = 0;
            bool clamped = false;
            for (size_t u = layer->first; u < layer->first + layer->count; u++) {
                double x = (double)features[u * width + k];
                clamped = clamped || fabs(x) >= 5;
                sum += x;
                square += x * x;
            }
            whole += !clamped;
            assert_true(clamped || fabs(sum) < 1e-3);
            assert_true(clamped || fabs(square / (double)layer->count - 1) < 1e-3);
        }
        for (size_t u = layer->first; u < layer->first + layer->count; u++) {
            assert_true(fabsf(features[u * width + WEIGHT_FEATURE_COUNT]) <= 5);
            assert_true(features[u * width + WEIGHT_FEATURE_COUNT + 1] == 0);
            assert_true(fabsf(features[u * width + width - 2] - (float)layer->depth / 17) < 1e-6F);
            assert_true(fabsf(features[u * width + width - 1] - log2f((float)layer->count) / 10) < 1e-6F);
        }
    }
    assert_true(whole > 70); /* of 80 columns: clamping is rare */
    mem_free(extra);
    mem_free(flat);
    mem_free(features);
    neuron_graph_free(graph);
    units_free(map);
    network_free(network);
}

/* A fifth of the second layer's filters read from and write to channels of their own: they must be each other's neighbours. */
static void planted_neurons_connect_with_each_other(void **state) {
    (void)state;
    struct builder b;
    size_t x = build_relu(&b, build_conv(&b, build_start(&b, 48, 3, 8), 64, 3, 1, 1, true));
    size_t y = build_relu(&b, build_conv(&b, x, 64, 3, 1, 1, true));
    build_head(&b, build_relu(&b, build_conv(&b, y, 64, 3, 1, 1, true)), 10);
    struct unit_map *map = find(b.network);
    float *second = b.network->values[b.network->nodes[map->layers[1].weight_node].inputs[1]].data;
    float *third = b.network->values[b.network->nodes[map->layers[2].weight_node].inputs[1]].data;
    for (size_t m = 0; m < 12; m++) {
        for (size_t c = 0; c < 6; c++) {
            for (size_t i = 0; i < 9; i++) {
                second[(m * 64 + c) * 9 + i] *= 3;
                third[(c * 64 + m) * 9 + i] *= 3;
            }
        }
    }
    struct neuron_graph *graph = graph_of(b.network, map);
    const struct edge_list *edges = &graph->edges[RELATION_SIMILAR];
    size_t inside = 0, total = 0;
    for (size_t m = 0; m < 12; m++) {
        for (size_t e = edges->start[64 + m]; e < edges->start[64 + m + 1]; e++) {
            inside += edges->source[e] < 64 + 12;
            total++;
        }
    }
    assert_true(total >= 48 && inside * 10 >= total * 9);
    neuron_graph_free(graph);
    units_free(map);
    network_free(b.network);
}

static void a_network_of_eleven_million_weights_takes_seconds(void **state) {
    (void)state;
    struct network *network = build_resnet18(49, 64, 32, true);
    struct unit_map *map = find(network);
    double start = clock_seconds();
    struct neuron_graph *graph = graph_of(network, map);
    double seconds = clock_seconds() - start;
    print_message("graph of %zu units, %zu weights: %.2f s\n", map->unit_count, network_parameter_count(network),
                  seconds);
    assert_int_equal(map->unit_count, 4800);
    assert_true(seconds < 60); /* far above what it takes: sanitizers and a busy machine included */
    neuron_graph_free(graph);
    units_free(map);
    network_free(network);
}

static void every_failed_allocation_is_reported(void **state) {
    (void)state;
    struct network *network = build_preact18(50, 2, 8);
    struct unit_map *map = find(network);
    for (uint64_t n = 1;; n++) {
        struct neuron_graph *graph = NULL;
        struct error error = {0};
        mem_fail_after(n);
        enum status status = neuron_graph_new(network, map, &graph, &error);
        mem_fail_after(0);
        if (status == STATUS_OK) {
            assert_true(n > 50);
            neuron_graph_free(graph);
            break;
        }
        assert_int_equal(status, STATUS_NO_MEMORY);
        assert_int_equal(error.status, STATUS_NO_MEMORY);
        assert_null(graph);
    }
    units_free(map);
    network_free(network);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(similar_units_are_joined_above_one_threshold),
        cmocka_unit_test(between_layers_the_strongest_eight_are_kept),
        cmocka_unit_test(weight_features_agree_with_plain_sums),
        cmocka_unit_test(folded_norms_give_the_same_graph),
        cmocka_unit_test(flattened_positions_find_their_channel),
        cmocka_unit_test(every_edge_of_a_preact_network_is_sound),
        cmocka_unit_test(features_are_standardised_in_each_layer),
        cmocka_unit_test(planted_neurons_connect_with_each_other),
        cmocka_unit_test(a_network_of_eleven_million_weights_takes_seconds),
        cmocka_unit_test(every_failed_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
