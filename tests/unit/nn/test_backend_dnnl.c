/* oneDNN against the reference: convolutions and their gradients on plain tensors, whole networks as programs in f32 and bf16,
 * and engines under ONP_BACKEND. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "common/rng.h"
#include "server/nn/backend_dnnl.h"
#include "server/nn/backend_dnnl_layer.h"
#include "tests/support/cm.h"
#include "tests/unit/nn/engine_fixture.h"
#include "tests/unit/nn/nets.h"

/* Sums of up to a thousand products in float in another order: some 1e-7 times the root of their number. */
static const float TOLERANCE = 2e-5F;
/* bf16 keeps 8 bits: 2^-9 a rounding, over the few layers of these networks. */
static const float TOLERANCE_BF16 = 3e-2F;

enum { CHUNK = 4, THREADS = 2, COUNT = 11, CASES = 9 };

static const struct conv_shape *cases(void) {
    static const struct conv_shape rows[CASES] = {
#define WINDOW(k, s, d, b, e, g)                                                                                       \
    .window = {.kernel = {(k), (k)},                                                                                   \
               .stride = {(s), (s)},                                                                                   \
               .dilation = {(d), (d)},                                                                                 \
               .pad_begin = {(b), (b)},                                                                                \
               .pad_end = {(e), (e)},                                                                                  \
               .group = (g)}
        {3, 9, 9, 16, 9, 9, WINDOW(3, 1, 1, 1, 1, 1)},   {16, 8, 8, 24, 8, 8, WINDOW(1, 1, 1, 0, 0, 1)},
        {16, 8, 8, 32, 4, 4, WINDOW(3, 2, 1, 1, 1, 1)},  {8, 9, 7, 20, 5, 4, WINDOW(1, 2, 1, 0, 0, 1)},
        {32, 7, 7, 32, 7, 7, WINDOW(3, 1, 1, 1, 1, 32)}, {32, 6, 6, 48, 6, 6, WINDOW(3, 1, 1, 1, 1, 4)},
        {16, 9, 9, 16, 9, 9, WINDOW(3, 1, 2, 2, 2, 1)},  {5, 8, 8, 7, 9, 9, WINDOW(3, 1, 1, 1, 2, 1)},
        {12, 5, 5, 10, 2, 2, WINDOW(3, 2, 1, 0, 1, 1)},
#undef WINDOW
    };
    return rows;
}

static struct backend_dnnl *library(void) {
    struct backend_dnnl *dnnl = NULL;
    struct error error = {0};
    assert_int_equal(backend_dnnl_new(&dnnl, &error), STATUS_OK);
    return dnnl;
}

/* The reference over n samples. */
static void reference(const struct conv_shape *s, size_t n, enum conv_pass pass, const float *x, const float *w,
                      const float *bias, const float *dy, float *out) {
    const struct conv_backend *blas = backend_blas();
    float *scratch = mem_aligned(blas->scratch_floats(blas, s, n, pass) + 1, sizeof *scratch);
    assert_non_null(scratch);
    if (pass == CONV_FORWARD) {
        blas->forward(blas, s, n, x, w, NULL, bias, out, scratch);
    } else if (pass == CONV_BACKWARD_DATA) {
        blas->backward_data(blas, s, n, dy, w, NULL, out, true, scratch);
    } else {
        blas->backward_weight(blas, s, n, x, dy, out, scratch);
    }
    mem_free(scratch);
}

/* All passes of one shape, for a whole chunk and for a smaller one; gradients are added to what is there. */
static void check_layer(struct backend_dnnl *dnnl, const struct conv_shape *s, struct rng *rng) {
    const size_t in = s->channels * s->height * s->width, out = s->out_channels * s->out_height * s->out_width;
    const size_t weights =
        s->out_channels * (s->channels / s->window.group) * s->window.kernel[0] * s->window.kernel[1];
    float *w = nets_floats(rng, weights, -1, 1), *bias = nets_floats(rng, s->out_channels, -1, 1);
    struct backend_dnnl_layer *layer = NULL;
    assert_int_equal(backend_dnnl_layer_new(dnnl, s, CHUNK, THREADS, true, true, &layer), STATUS_OK);
    assert_true(backend_dnnl_layer_prepare(layer, 0, 1, w, bias));
    for (size_t n = CHUNK; n >= CHUNK - 1; n--) {
        float *x = nets_floats(rng, n * in, -1, 1), *dy = nets_floats(rng, n * out, -1, 1);
        float *y[2], *dx[2], *dw[2];
        for (size_t i = 0; i < 2; i++) {
            y[i] = mem_calloc(n * out, sizeof(float));
            dx[i] = mem_calloc(n * in, sizeof(float));
            dw[i] = mem_calloc(weights, sizeof(float));
            if (y[i] == NULL || dx[i] == NULL || dw[i] == NULL) {
                fail();
                return;
            }
            dx[i][0] = dw[i][0] = 3.0F;
        }
        reference(s, n, CONV_FORWARD, x, w, bias, dy, y[0]);
        reference(s, n, CONV_BACKWARD_DATA, x, w, bias, dy, dx[0]);
        reference(s, n, CONV_BACKWARD_WEIGHT, x, w, bias, dy, dw[0]);
        assert_true(backend_dnnl_layer_forward(layer, n % THREADS, n, x, y[1]));
        assert_true(backend_dnnl_layer_data(layer, n % THREADS, n, dy, dx[1]));
        assert_true(backend_dnnl_layer_weight(layer, n % THREADS, n, x, dy, dw[1]));
        fixture_assert_close(y[1], y[0], n * out, TOLERANCE);
        fixture_assert_close(dx[1], dx[0], n * in, TOLERANCE);
        fixture_assert_close(dw[1], dw[0], weights, TOLERANCE);
        for (size_t i = 0; i < 2; i++) {
            mem_free(y[i]);
            mem_free(dx[i]);
            mem_free(dw[i]);
        }
        mem_free(x);
        mem_free(dy);
    }
    backend_dnnl_layer_free(layer);
    mem_free(bias);
    mem_free(w);
}

static void test_layers(void **state) {
    (void)state;
    struct rng rng;
    struct backend_dnnl *dnnl = library();
    rng_seed(&rng, 1);
    for (size_t i = 0; i < CASES; i++) {
        check_layer(dnnl, &cases()[i], &rng);
    }
    backend_dnnl_free(dnnl);
}

/* All transpositions, alpha and beta. */
static void test_gemm(void **state) {
    (void)state;
    struct rng rng;
    rng_seed(&rng, 2);
    for (unsigned i = 0; i < 8; i++) {
        struct gemm_shape s = {.m = 7, .n = 33, .k = 19, .trans_a = (i & 1) != 0, .trans_b = (i & 2) != 0};
        s.alpha = 0.5F;
        s.beta = (i & 4) != 0 ? 2.0F : 0.0F;
        s.lda = s.trans_a ? s.m : s.k;
        s.ldb = s.trans_b ? s.k : s.n;
        s.ldc = s.n + 3;
        float *a = nets_floats(&rng, s.m * s.k, -1, 1), *b = nets_floats(&rng, s.k * s.n, -1, 1);
        float *c = nets_floats(&rng, s.m * s.ldc, -1, 1), *d = mem_dup(c, s.m * s.ldc * sizeof *c);
        assert_non_null(d);
        backend_gemm(&s, a, b, c);
        backend_dnnl_gemm(&s, a, b, d);
        fixture_assert_close(d, c, s.m * s.ldc, TOLERANCE);
        mem_free(a);
        mem_free(b);
        mem_free(c);
        mem_free(d);
    }
}

/* Logits of one run under a backend; `rank` as in struct engine_run. */
static float *logits_under(const char *backend, const struct network *network, bool rank, const float *x,
                           const float *mask, const float *fill, size_t threads) {
    assert_int_equal(setenv("ONP_BACKEND", backend, 1), 0);
    struct pool *pool = fixture_pool(threads);
    struct engine *engine = fixture_engine(network, pool, (struct engine_options){.chunk = CHUNK, .rank = rank});
    float *logits = mem_calloc(COUNT * NETS_CLASSES, sizeof *logits);
    assert_non_null(logits);
    if (strcmp(backend, "dnnl") == 0) { /* it is planned for at least */
        assert_int_equal(setenv("ONP_BACKEND", "blas", 1), 0);
        struct engine *without = fixture_engine(network, pool, (struct engine_options){.chunk = CHUNK});
        assert_true(engine_bytes(engine) > engine_bytes(without));
        engine_free(without);
        assert_int_equal(setenv("ONP_BACKEND", backend, 1), 0);
    }
    fixture_run(engine, &(struct engine_run){
                            .count = COUNT, .input = x, .mask = mask, .fill = fill, .logits = logits, .rank = rank});
    engine_free(engine);
    pool_free(pool);
    assert_int_equal(unsetenv("ONP_BACKEND"), 0);
    return logits;
}

static void check_network(const struct network *network, struct rng *rng) {
    float *x = nets_floats(rng, COUNT * fixture_input_floats(network), -1, 1);
    float *mask = network->unit_count > 0 ? fixture_mask(rng, network) : NULL;
    float *fill = network->unit_count > 0 ? nets_floats(rng, network->unit_count, -1, 1) : NULL;
    float *blas = logits_under("blas", network, false, x, mask, fill, 1);
    float *one = logits_under("dnnl", network, false, x, mask, fill, 1);
    float *two = logits_under("dnnl", network, false, x, mask, fill, 2);
    fixture_assert_close(one, blas, COUNT * NETS_CLASSES, TOLERANCE);
    assert_memory_equal(one, two, COUNT * NETS_CLASSES * sizeof *one);
    if (backend_dnnl_bf16() != BACKEND_DNNL_BF16_NONE) {
        float *ranked = logits_under("dnnl", network, true, x, mask, fill, 2);
        fixture_assert_close(ranked, blas, COUNT * NETS_CLASSES, TOLERANCE_BF16);
        mem_free(ranked);
    }
    mem_free(one);
    mem_free(two);
    mem_free(blas);
    mem_free(fill);
    mem_free(mask);
    mem_free(x);
}

static void test_programs(void **state) {
    (void)state;
    static const enum op_kind activations[] = {OP_RELU, OP_SIGMOID, OP_TANH};
    struct rng rng;
    rng_seed(&rng, 3);
    for (size_t i = 0; i < sizeof activations / sizeof activations[0]; i++) {
        struct network *network = nets_residual(&rng, 16 + 3 * i, 12, activations[i]);
        struct network *masked = fixture_masked_residual(network);
        check_network(network, &rng);
        check_network(masked, &rng);
        network_free(masked);
        network_free(network);
    }
}

/* Pooling, concatenation, depthwise, pre-activation and what oneDNN has no operation for in between. */
static void test_program_of_many_kinds(void **state) {
    (void)state;
    struct rng rng;
    size_t x;
    rng_seed(&rng, 4);
    struct network *network = nets_start(3, 14, &x);
    const size_t a = nets_norm(network, &rng, "n1", nets_conv(network, &rng, "c1", x, 16, 1));
    const size_t b = nets_unary(network, OP_RELU, "r1", a);
    struct op_attr pool = {.window = {.kernel = {3, 3}, .stride = {2, 2}, .dilation = {1, 1}, .pad_begin = {1, 1}}};
    const size_t c = nets_node(network, OP_MAX_POOL, "p1", &b, 1, &pool);
    const size_t d = nets_node(network, OP_AVERAGE_POOL, "p2", &b, 1, &pool);
    const size_t both[] = {c, d, c};
    const size_t e = nets_node(network, OP_CONCAT, "cat", both, 3, &(struct op_attr){.axis = 1});
    const size_t f = nets_unary(network, OP_RELU, "r2", nets_norm(network, &rng, "n2", e));
    const size_t g = nets_unary(network, OP_ERF, "own", nets_conv(network, &rng, "c2", f, 10, 1));
    const size_t h = nets_conv(network, &rng, "c3", g, 10, 1);
    nets_head(network, &rng, nets_binary(network, OP_ADD, "sum", g, nets_unary(network, OP_RELU, "r3", h)));
    check_network(network, &rng);
    network_free(network);
}

/* Gradients of everything under both backends. */
static void test_gradients(void **state) {
    (void)state;
    struct rng rng;
    rng_seed(&rng, 5);
    struct network *network = nets_residual(&rng, 16, 8, OP_RELU), *masked = fixture_masked_residual(network);
    float *x = nets_floats(&rng, COUNT * fixture_input_floats(masked), -1, 1);
    float *weight = nets_floats(&rng, COUNT * NETS_CLASSES, -1, 1);
    float *mask = fixture_mask(&rng, masked), *fill = nets_floats(&rng, masked->unit_count, -1, 1);
    static const char *const backends[] = {"blas", "dnnl"};
    struct gradients g[2];
    struct pool *pool = fixture_pool(2);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(setenv("ONP_BACKEND", backends[i], 1), 0);
        g[i] = fixture_gradients(masked, COUNT, x, weight);
        struct engine *engine = fixture_engine(
            masked, pool, (struct engine_options){.chunk = CHUNK, .backward = true, .wants_grad = g[i].wants});
        const struct engine_run run = fixture_gradient_run(&g[i], COUNT, mask, fill);
        fixture_run(engine, &run);
        engine_free(engine);
    }
    assert_int_equal(unsetenv("ONP_BACKEND"), 0);
    fixture_assert_close(g[1].collected.dx, g[0].collected.dx, COUNT * fixture_input_floats(masked), TOLERANCE);
    fixture_assert_close(g[1].mask_grad, g[0].mask_grad, masked->unit_count, TOLERANCE);
    for (size_t v = 0; v < masked->value_count; v++) {
        if (g[0].wants[v]) {
            fixture_assert_close(g[1].param_grad[v], g[0].param_grad[v], shape_count(&masked->values[v].shape),
                                 5 * TOLERANCE);
        }
    }
    fixture_free_gradients(&g[0]);
    fixture_free_gradients(&g[1]);
    pool_free(pool);
    mem_free(fill);
    mem_free(mask);
    mem_free(weight);
    mem_free(x);
    network_free(masked);
    network_free(network);
}

/* Weights that change between two runs of one engine are seen. */
static void test_changed_weights(void **state) {
    (void)state;
    struct rng rng;
    rng_seed(&rng, 6);
    struct network *network = nets_residual(&rng, 16, 8, OP_RELU);
    float *x = nets_floats(&rng, COUNT * fixture_input_floats(network), -1, 1);
    float logits[COUNT * NETS_CLASSES];
    struct pool *pool = fixture_pool(1);
    assert_int_equal(setenv("ONP_BACKEND", "dnnl", 1), 0);
    struct engine *engine = fixture_engine(network, pool, (struct engine_options){.chunk = CHUNK});
    const struct engine_run run = {.count = COUNT, .input = x, .logits = logits};
    fixture_run(engine, &run);
    for (size_t i = 0; i < network->node_count; i++) {
        if (network->nodes[i].op == OP_CONV) {
            network_constant_data(network, network->nodes[i].inputs[1])[0] += 0.5F;
        }
    }
    fixture_run(engine, &run);
    float *fresh = logits_under("blas", network, false, x, NULL, NULL, 1);
    fixture_assert_close(logits, fresh, COUNT * NETS_CLASSES, TOLERANCE);
    mem_free(fresh);
    engine_free(engine);
    pool_free(pool);
    mem_free(x);
    network_free(network);
}

static void test_choice(void **state) {
    (void)state;
    enum backend_choice choice = BACKEND_AUTO;
    assert_true(backend_choice_from_name("dnnl", &choice));
    assert_int_equal(choice, BACKEND_DNNL);
    assert_false(backend_choice_from_name("mkl", &choice));
    assert_int_equal(setenv("ONP_BACKEND", "blas", 1), 0);
    assert_int_equal(backend_choice(), BACKEND_BLAS);
    assert_string_equal(backend_description(), "blas");
    assert_ptr_equal(backend_conv(&cases()[0], CONV_FORWARD), backend_blas());
    assert_int_equal(setenv("ONP_BACKEND", "nonsense", 1), 0);
    assert_int_equal(backend_choice(), BACKEND_AUTO);
    assert_int_equal(unsetenv("ONP_BACKEND"), 0);
    assert_int_equal(backend_choice(), BACKEND_AUTO);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layers),    cmocka_unit_test(test_gemm),
        cmocka_unit_test(test_programs),  cmocka_unit_test(test_program_of_many_kinds),
        cmocka_unit_test(test_gradients), cmocka_unit_test(test_changed_weights),
        cmocka_unit_test(test_choice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
