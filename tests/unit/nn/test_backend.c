/* The convolution backends against each other, on the layers of real networks and on random shapes. */
#include <math.h>
#include <string.h>

#include "common/mem.h"
#include "common/rng.h"
#include "server/nn/backend.h"
#include "server/nn/kernels_conv.h"
#include "tests/support/cm.h"

/* Both add the same products in float, in another order: an error of about 1e-7 times the root of their number, which is
 * at most a few thousand here, relative to the largest sum. */
static const double TOLERANCE = 2e-5;

struct buffers {
    size_t x_count, y_count, weight_count;
    float *x, *y, *weight, *bias;
};

static float *random_floats(struct rng *rng, size_t count) {
    float *block = mem_aligned(count, sizeof *block);

    assert_non_null(block);
    for (size_t i = 0; i < count; i++) {
        block[i] = rng_normal(rng);
    }
    return block;
}

static float *copy(const float *x, size_t count) {
    float *same = mem_aligned(count, sizeof *same);

    assert_non_null(same);
    memcpy(same, x, count * sizeof *same);
    return same;
}

static struct buffers make_buffers(const struct conv_shape *s, size_t n, struct rng *rng) {
    struct buffers b = {.x_count = n * s->channels * s->height * s->width,
                        .y_count = n * s->out_channels * s->out_height * s->out_width,
                        .weight_count = s->out_channels * (s->channels / s->window.group) * s->window.kernel[0] *
                                        s->window.kernel[1]};

    b.x = random_floats(rng, b.x_count);
    b.y = random_floats(rng, b.y_count);
    b.weight = random_floats(rng, b.weight_count);
    b.bias = random_floats(rng, s->out_channels);
    return b;
}

static void free_buffers(struct buffers *b) {
    mem_free(b->x);
    mem_free(b->y);
    mem_free(b->weight);
    mem_free(b->bias);
}

/* `flag`: with bias, or adding to what is there. Single samples go with prepared weights, several make their own. */
static void run(const struct conv_backend *backend, const struct conv_shape *s, size_t n, enum conv_pass pass,
                const struct buffers *b, bool flag, float *out) {
    size_t need = backend->scratch_floats(backend, s, n, pass);
    float *scratch = mem_aligned(need, sizeof *scratch), *prepared = NULL;

    if (n == 1 && pass != CONV_BACKWARD_WEIGHT && backend->prepared_floats != NULL) {
        prepared = mem_aligned(backend->prepared_floats(backend, s, pass), sizeof *prepared);
        assert_non_null(prepared);
        backend->prepare(backend, s, pass, b->weight, prepared);
    }

    assert_non_null(scratch);
    for (size_t i = 0; i < need; i++) {
        scratch[i] = NAN;
    }
    if (pass == CONV_FORWARD) {
        backend->forward(backend, s, n, b->x, b->weight, prepared, flag ? b->bias : NULL, out, scratch);
    } else if (pass == CONV_BACKWARD_DATA) {
        backend->backward_data(backend, s, n, b->y, b->weight, prepared, out, flag, scratch);
    } else {
        backend->backward_weight(backend, s, n, b->x, b->y, out, scratch);
    }
    mem_free(prepared);
    mem_free(scratch);
}

static void expect_close(const char *name, const struct conv_shape *s, size_t count, const float *got,
                         const float *expected) {
    double scale = 1e-3, worst = 0.0;

    for (size_t i = 0; i < count; i++) {
        scale = fmax(scale, fabs((double)expected[i]));
    }
    for (size_t i = 0; i < count; i++) {
        double error = fabs((double)got[i] - (double)expected[i]) / scale;
        worst = error <= worst ? worst : error;
    }
    if (!(worst <= TOLERANCE)) {
        fail_msg("%s: %zu x %zux%zu to %zu, kernel %zux%zu, stride %zux%zu: error %g", name, s->channels, s->height,
                 s->width, s->out_channels, s->window.kernel[0], s->window.kernel[1], s->window.stride[0],
                 s->window.stride[1], worst);
    }
}

/* One backend and pass against the reference, alone and together with what is there already; each sample alone gives the
 * same bits. Returns whether the backend has the pass. */
static bool check_pass(const struct conv_backend *backend, const struct conv_shape *s, size_t n, enum conv_pass pass,
                       const struct buffers *b) {
    const size_t count = pass == CONV_FORWARD ? b->y_count : b->x_count;

    if (!backend->supports(s, pass)) {
        return false;
    }
    for (int flag = 0; flag < 2; flag++) {
        float *expected = copy(pass == CONV_FORWARD ? b->y : b->x, count);
        float *got = copy(expected, count);
        run(backend_blas(), s, n, pass, b, flag == 1, expected);
        run(backend, s, n, pass, b, flag == 1, got);
        expect_close(backend->name, s, count, got, expected);
        for (size_t i = 0; i < n; i++) {
            struct buffers one = *b;
            one.x += i * b->x_count / n;
            one.y += i * b->y_count / n;
            float *alone = copy((pass == CONV_FORWARD ? b->y : b->x) + i * count / n, count / n);
            run(backend, s, 1, pass, &one, flag == 1, alone);
            assert_memory_equal(alone, got + i * count / n, count / n * sizeof *alone);
            mem_free(alone);
        }
        mem_free(expected);
        mem_free(got);
    }
    return true;
}

/* The gradient of the weights, which adds to what is there. */
static bool check_weight_pass(const struct conv_backend *backend, const struct conv_shape *s, size_t n,
                              const struct buffers *b) {
    if (!backend->supports(s, CONV_BACKWARD_WEIGHT)) {
        return false;
    }
    float *expected = copy(b->weight, b->weight_count), *got = copy(b->weight, b->weight_count);
    run(backend_blas(), s, n, CONV_BACKWARD_WEIGHT, b, false, expected);
    run(backend, s, n, CONV_BACKWARD_WEIGHT, b, false, got);
    expect_close(backend->name, s, b->weight_count, got, expected);
    mem_free(expected);
    mem_free(got);
    return true;
}

static size_t check_shape(const struct conv_shape *s, size_t n, uint64_t seed) {
    struct rng rng;
    size_t checked = 0;

    rng_seed(&rng, seed);
    struct buffers b = make_buffers(s, n, &rng);
    for (enum kernels_level level = KERNELS_PORTABLE; level < KERNELS_LEVELS; level++) {
        const struct conv_backend *const backends[] = {backend_direct(level), backend_winograd(level)};
        for (size_t i = 0; i < 2; i++) {
            for (enum conv_pass pass = CONV_FORWARD; backends[i] != NULL && pass <= CONV_BACKWARD_DATA; pass++) {
                checked += check_pass(backends[i], s, n, pass, &b);
            }
            checked += backends[i] != NULL && check_weight_pass(backends[i], s, n, &b);
        }
    }
    free_buffers(&b);
    return checked;
}

static bool has_direct(void) {
    return conv_kernels() != NULL;
}

static struct conv_shape square(size_t channels, size_t size, size_t out_channels, size_t kernel, size_t stride) {
    const size_t pad = kernel / 2;

    return (struct conv_shape){.channels = channels,
                               .height = size,
                               .width = size,
                               .out_channels = out_channels,
                               .out_height = (size + 2 * pad - kernel) / stride + 1,
                               .out_width = (size + 2 * pad - kernel) / stride + 1,
                               .window = {.kernel = {kernel, kernel},
                                          .stride = {stride, stride},
                                          .dilation = {1, 1},
                                          .pad_begin = {pad, pad},
                                          .pad_end = {pad, pad},
                                          .group = 1}};
}

static void layers(void **state) {
    (void)state;
    static const size_t cases[][5] = {
        {3, 32, 16, 3, 1}, {16, 32, 16, 3, 1},  {16, 32, 32, 3, 2}, {16, 32, 32, 1, 2}, {32, 16, 32, 3, 1},
        {64, 8, 64, 3, 1}, {128, 4, 128, 3, 1}, {64, 8, 128, 1, 2}, {64, 8, 128, 3, 2}, {32, 16, 48, 1, 1},
        {40, 2, 24, 3, 1}, {24, 1, 40, 3, 1},   {3, 31, 24, 7, 2},  {20, 7, 33, 5, 1},  {96, 14, 70, 1, 1},
        {9, 28, 17, 3, 1}, {8, 56, 8, 3, 1},
    };

    if (!has_direct()) {
        skip();
    }
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct conv_shape s = square(cases[i][0], cases[i][1], cases[i][2], cases[i][3], cases[i][4]);
        assert_true(check_shape(&s, 1, i + 1) >= 3);
        assert_true(check_shape(&s, 3 + i % 3, i + 100) >= 3);
    }
}

static size_t draw(struct rng *rng, size_t low, size_t high) {
    return low + (size_t)rng_below(rng, high - low + 1);
}

static void random_shapes(void **state) {
    (void)state;
    struct rng rng;

    if (!has_direct()) {
        skip();
    }
    rng_seed(&rng, 3);
    for (uint64_t done = 0; done < 300;) {
        struct conv_shape s = {.channels = draw(&rng, 1, 20), .out_channels = draw(&rng, 1, 40)};
        size_t in[2], out[2];
        bool fits = true;
        s.window.group = 1;
        for (size_t d = 0; d < 2; d++) {
            struct window_attr *w = &s.window;
            in[d] = draw(&rng, 1, 20);
            w->kernel[d] = draw(&rng, 1, 5);
            w->stride[d] = draw(&rng, 1, 2);
            w->dilation[d] = draw(&rng, 1, 3);
            w->pad_begin[d] = draw(&rng, 0, 4);
            w->pad_end[d] = draw(&rng, 0, 4);
            size_t span = (w->kernel[d] - 1) * w->dilation[d] + 1, padded = in[d] + w->pad_begin[d] + w->pad_end[d];
            fits = fits && span <= padded;
            out[d] = fits ? (padded - span) / w->stride[d] + 1 : 0;
        }
        if (!fits) {
            continue;
        }
        s.height = in[0];
        s.width = in[1];
        s.out_height = out[0];
        s.out_width = out[1];
        assert_true(check_shape(&s, draw(&rng, 1, 4), ++done) >= 3);
    }
}

/* As random_shapes(), of the kind that Winograd's method has. */
static void random_3x3(void **state) {
    (void)state;
    struct rng rng;

    if (!has_direct()) {
        skip();
    }
    rng_seed(&rng, 4);
    for (uint64_t done = 0; done < 100;) {
        struct conv_shape s = square(draw(&rng, 1, 40), draw(&rng, 1, 20), draw(&rng, 1, 70), 3, 1);
        struct window_attr *w = &s.window;
        s.width = draw(&rng, 1, 40);
        for (size_t d = 0; d < 2; d++) {
            w->pad_begin[d] = draw(&rng, 0, 2);
            w->pad_end[d] = draw(&rng, 0, 2);
        }
        s.out_height = s.height + w->pad_begin[0] + w->pad_end[0] - 2;
        s.out_width = s.width + w->pad_begin[1] + w->pad_end[1] - 2;
        if ((long)s.out_height > 0 && (long)s.out_width > 0) {
            assert_true(check_shape(&s, draw(&rng, 1, 9), ++done) >= 6);
        }
    }
}

static size_t below(struct rng *rng, size_t count) {
    return (size_t)rng_below(rng, count);
}

static void random_depthwise(void **state) {
    (void)state;
    struct rng rng;

    rng_seed(&rng, 5);
    for (uint64_t done = 0; done < 200;) {
        struct conv_shape s = {
            .channels = 2 + below(&rng, 6), .height = 1 + below(&rng, 20), .width = 1 + below(&rng, 40)};
        struct window_attr *w = &s.window;
        s.out_channels = s.channels * (1 + below(&rng, 2));
        w->group = s.channels;
        for (size_t d = 0; d < 2; d++) {
            w->kernel[d] = 1 + below(&rng, 5);
            w->stride[d] = 1 + below(&rng, 3);
            w->dilation[d] = 1 + below(&rng, 2);
            w->pad_begin[d] = below(&rng, 4);
            w->pad_end[d] = below(&rng, 4);
        }
        const size_t rows = s.height + w->pad_begin[0] + w->pad_end[0],
                     row_span = (w->kernel[0] - 1) * w->dilation[0] + 1;
        const size_t columns = s.width + w->pad_begin[1] + w->pad_end[1],
                     span = (w->kernel[1] - 1) * w->dilation[1] + 1;
        if (rows < row_span || columns < span) {
            continue;
        }
        s.out_height = (rows - row_span) / w->stride[0] + 1;
        s.out_width = (columns - span) / w->stride[1] + 1;
        struct buffers b = make_buffers(&s, 3, &rng);
        for (enum conv_pass pass = CONV_FORWARD; pass <= CONV_BACKWARD_DATA; pass++) {
            assert_true(check_pass(backend_depthwise(), &s, 3, pass, &b));
        }
        assert_true(check_weight_pass(backend_depthwise(), &s, 3, &b));
        assert_ptr_equal(backend_conv(&s, CONV_FORWARD), backend_depthwise());
        free_buffers(&b);
        done++;
    }
}

/* What the direct backend does not have goes to the reference; whatever is chosen has the pass. */
static void choice(void **state) {
    (void)state;
    struct conv_shape s = square(16, 16, 16, 3, 1);

    if (has_direct()) {
        assert_ptr_not_equal(backend_conv(&s, CONV_BACKWARD_WEIGHT), backend_blas());
        assert_ptr_not_equal(backend_conv(&s, CONV_FORWARD), backend_blas());
        assert_ptr_not_equal(backend_conv(&s, CONV_BACKWARD_DATA), backend_blas());
    }
    s.window.group = 4;
    assert_true(backend_conv(&s, CONV_FORWARD)->supports(&s, CONV_FORWARD));
    s = square(16, 16, 16, 3, 3);
    assert_ptr_equal(backend_conv(&s, CONV_FORWARD), backend_blas());
    s = square(16, 16, 16, 9, 1);
    assert_ptr_equal(backend_conv(&s, CONV_FORWARD), backend_blas());
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layers),           cmocka_unit_test(random_shapes), cmocka_unit_test(random_3x3),
        cmocka_unit_test(random_depthwise), cmocka_unit_test(choice),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
