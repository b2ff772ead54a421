/* Which variants a network takes for the same thing: of images with one bright stripe, by networks that look for it in different ways. */
#include "server/mitigate/variants.h"
#include "tests/unit/graph/builder.h"

enum { SAMPLES = 64, SIDE = 16, FLOATS = SIDE * SIDE, CLASSES = 2 };

/* Weight of the pixel (row, column) in the second logit; the first one's is its negative. */
typedef float weight_function(size_t row, size_t column);

/* Left or right. */
static float by_side(size_t row, size_t column) {
    (void)row;
    return column < SIDE / 2 ? -1.0F : 1.0F;
}

/* An even row or an odd one. */
static float by_row(size_t row, size_t column) {
    (void)column;
    return row % 2 == 0 ? -1.0F : 1.0F;
}

/* Whether it is bright enough. */
static float by_brightness(size_t row, size_t column) {
    (void)row, (void)column;
    return 1.0F;
}

/* Bright stripes across four columns of one half, twice as bright in every second image. */
static void draw_image(size_t i, float *image) {
    const size_t row = 3 + i / 4 % (SIDE - 6), first = i % 2 == 0 ? 2 : SIDE - 6;
    for (size_t column = first; column < first + 4; column++) {
        image[row * SIDE + column] = i / 2 % 2 == 0 ? 1.0F : 2.0F;
    }
}

static const struct network *make_network(struct builder *b, weight_function *weight, float threshold) {
    const size_t input = build_start(b, 1, 1, SIDE), flat = build_flatten(b, input);
    const size_t inputs[3] = {flat, build_constant(b, shape_make(2, CLASSES, FLOATS, 0, 0), 0, 0),
                              build_constant(b, shape_make(1, CLASSES, 0, 0, 0), 0, 0)};
    float *weights = network_constant_data(b->network, inputs[1]), *bias = network_constant_data(b->network, inputs[2]);
    for (size_t at = 0; at < FLOATS; at++) {
        weights[FLOATS + at] = weight(at / SIDE, at % SIDE);
        weights[at] = -weights[FLOATS + at];
    }
    bias[0] = threshold;
    bias[1] = -threshold;
    const struct op_attr attr = {.alpha = 1, .beta = 1, .trans_b = true};
    const size_t logits = build_node(b, OP_GEMM, inputs, 3, &attr);
    build_ok(b, network_set_output(b->network, logits, &b->error));
    return b->network;
}

/* Measures with labels that are what the network says, so that it is right on all samples. */
static struct augmentation measure(weight_function *weight, float threshold) {
    struct builder b;
    struct job job = {0};
    struct split split = {.build_count = SAMPLES};
    float images[SAMPLES * FLOATS] = {0}, logits[SAMPLES * CLASSES];
    int32_t labels[SAMPLES];
    struct error error = {0};
    const struct network *network = make_network(&b, weight, threshold);
    for (size_t i = 0; i < SAMPLES; i++) {
        draw_image(i, images + i * FLOATS);
    }
    job.split = &split;
    job.info.classes = CLASSES;
    job.image_floats = FLOATS;
    job.range = (struct image_range){.channels = 1, .height = SIDE, .width = SIDE};
    job.build_images = images;
    job.build_labels = job.build_predicted = labels;
    job.trace = json_array();
    rng_seed(&job.rng, 5);
    assert_int_equal(pool_new(1, &job.pool, &error), STATUS_OK);
    assert_int_equal(engine_new(network, job.pool, &(struct engine_options){.chunk = 8}, &job.forward, &error),
                     STATUS_OK);
    const struct engine_run run = {.count = SAMPLES, .input = images, .logits = logits};
    assert_int_equal(engine_run(job.forward, &run, &error), STATUS_OK);
    size_t second = 0;
    for (size_t i = 0; i < SAMPLES; i++) {
        labels[i] = logits[i * CLASSES + 1] > logits[i * CLASSES] ? 1 : 0;
        second += (size_t)labels[i];
    }
    assert_in_range(second, SAMPLES / 4, SAMPLES * 3 / 4); /* both classes are there */
    assert_int_equal(variants_measure(&job, &error), STATUS_OK);
    const json_t *event = json_array_get(job.trace, 0);
    assert_int_equal(json_integer_value(json_object_get(event, "right")), SAMPLES);
    json_decref(job.trace);
    engine_free(job.forward);
    pool_free(job.pool);
    network_free(b.network);
    return job.natural;
}

static void test_kinds(void **state) {
    (void)state;
    struct augmentation natural = measure(by_side, 0.0F);
    assert_true(natural.moved && !natural.mirrored);
    natural = measure(by_row, 0.0F);
    assert_true(!natural.moved && natural.mirrored);
    natural = measure(by_brightness, 6.0F);
    assert_true(natural.moved && natural.mirrored);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_kinds)};
    return cmocka_run_group_tests_name("mitigate: variants", tests, NULL, NULL);
}
