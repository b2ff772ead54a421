/* Convolution backends against each other on the layers of ResNet-18 for 32x32 images, at a quarter of the width and at
 * full width. One thread. Prints GFLOP/s a layer and pass, and the sum over a network's layers.
 *
 *   bench_conv [--samples N] [--seconds S]   N samples a chunk (default 8), S seconds a measurement (default 0.05) */
#include <cblas.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/mem.h"
#include "common/parse.h"
#include "common/rng.h"
#include "server/nn/backend.h"
#include "server/nn/kernels_conv.h"

/* One kind of layer, and how many a network has of it. */
struct layer {
    size_t in, out, size, kernel, stride, times;
};

/* C input channels of a stage over the base width: the 18 layers and their shortcuts. */
static const struct layer resnet18[] = {
    {0, 1, 32, 3, 1, 1}, {1, 1, 32, 3, 1, 4}, {1, 2, 32, 3, 2, 1}, {2, 2, 16, 3, 1, 3},
    {1, 2, 32, 1, 2, 1}, {2, 4, 16, 3, 2, 1}, {4, 4, 8, 3, 1, 3},  {2, 4, 16, 1, 2, 1},
    {4, 8, 8, 3, 2, 1},  {8, 8, 4, 3, 1, 3},  {4, 8, 8, 1, 2, 1},
};

struct setup {
    struct conv_shape shape;
    size_t n;
    size_t in_count, out_count, weight_count;
    float *x, *y, *weight, *dweight, *bias;
    double flops;
};

static float *random_floats(size_t count, struct rng *rng) {
    float *block = mem_aligned(count, sizeof *block);

    for (size_t i = 0; block != NULL && i < count; i++) {
        block[i] = rng_normal(rng);
    }
    return block;
}

static bool setup_init(const struct layer *layer, size_t width, size_t n, struct setup *s) {
    struct rng rng;
    const size_t pad = layer->kernel / 2, out = layer->size / layer->stride;

    rng_seed(&rng, 1);
    *s = (struct setup){.n = n};
    s->shape = (struct conv_shape){.channels = layer->in == 0 ? 3 : layer->in * width,
                                   .height = layer->size,
                                   .width = layer->size,
                                   .out_channels = layer->out * width,
                                   .out_height = out,
                                   .out_width = out,
                                   .window = {.kernel = {layer->kernel, layer->kernel},
                                              .stride = {layer->stride, layer->stride},
                                              .dilation = {1, 1},
                                              .pad_begin = {pad, pad},
                                              .pad_end = {pad, pad},
                                              .group = 1}};
    s->in_count = n * s->shape.channels * layer->size * layer->size;
    s->out_count = n * s->shape.out_channels * out * out;
    s->weight_count = s->shape.out_channels * s->shape.channels * layer->kernel * layer->kernel;
    s->flops = 2.0 * (double)(n * out * out) * (double)s->weight_count;
    s->x = random_floats(s->in_count, &rng);
    s->y = random_floats(s->out_count, &rng);
    s->weight = random_floats(s->weight_count, &rng);
    s->dweight = random_floats(s->weight_count, &rng);
    s->bias = random_floats(s->shape.out_channels, &rng);
    return s->x != NULL && s->y != NULL && s->weight != NULL && s->dweight != NULL && s->bias != NULL;
}

static void setup_deinit(struct setup *s) {
    mem_free(s->x);
    mem_free(s->y);
    mem_free(s->weight);
    mem_free(s->dweight);
    mem_free(s->bias);
}

static void run_once(const struct conv_backend *backend, struct setup *s, enum conv_pass pass, const float *prepared,
                     float *scratch) {
    switch (pass) {
    case CONV_FORWARD:
        backend->forward(backend, &s->shape, s->n, s->x, s->weight, prepared, s->bias, s->y, scratch);
        break;
    case CONV_BACKWARD_DATA:
        backend->backward_data(backend, &s->shape, s->n, s->y, s->weight, prepared, s->x, false, scratch);
        break;
    case CONV_BACKWARD_WEIGHT:
        backend->backward_weight(backend, &s->shape, s->n, s->x, s->y, s->dweight, scratch);
        break;
    }
}

/* Processor time of this thread: the machine may be shared. */
static double thread_seconds(void) {
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Seconds of one call: the least of several rounds. */
static double measure(const struct conv_backend *backend, struct setup *s, enum conv_pass pass, double seconds) {
    float *scratch = NULL, *prepared = NULL;
    double best = INFINITY, spent = 0.0;

    if (backend == NULL || !backend->supports(&s->shape, pass)) {
        return INFINITY;
    }
    scratch = mem_aligned(backend->scratch_floats(backend, &s->shape, s->n, pass), sizeof *scratch);
    if (scratch == NULL) {
        return INFINITY;
    }
    if (pass != CONV_BACKWARD_WEIGHT && backend->prepared_floats != NULL) {
        prepared = mem_aligned(backend->prepared_floats(backend, &s->shape, pass), sizeof *prepared);
        if (prepared != NULL) {
            backend->prepare(backend, &s->shape, pass, s->weight, prepared);
        }
    }
    run_once(backend, s, pass, prepared, scratch);
    while (spent < seconds) {
        double start = thread_seconds();
        run_once(backend, s, pass, prepared, scratch);
        double took = thread_seconds() - start;
        best = took < best ? took : best;
        spent += took;
    }
    mem_free(prepared);
    mem_free(scratch);
    return best;
}

enum { BACKENDS = 3 };

static int bench_width(size_t width, size_t n, double seconds) {
    static const char *const pass_names[] = {"forward", "by data", "by weight"};
    const enum kernels_level level = conv_kernels_at(KERNELS_AVX512) != NULL ? KERNELS_AVX512 : KERNELS_AVX2;
    const struct conv_backend *const backends[BACKENDS] = {backend_blas(), backend_direct(level),
                                                           backend_winograd(level)};
    double total[3][BACKENDS + 1] = {{0.0}};

    printf(
        "width %zu, %zu samples a chunk; GFLOP/s (of the direct sum) of blas, direct, winograd, and the choice\n%-26s",
        width, n, "layer");
    for (size_t pass = 0; pass < 3; pass++) {
        printf("  %-25s", pass_names[pass]);
    }
    printf("\n");
    for (size_t i = 0; i < sizeof resnet18 / sizeof resnet18[0]; i++) {
        const struct layer *layer = &resnet18[i];
        struct setup s;
        char name[64];
        if (!setup_init(layer, width, n, &s)) {
            setup_deinit(&s);
            return EXIT_FAILURE;
        }
        snprintf(name, sizeof name, "%zu x %zux%zu %zu->%zu /%zu %zux%zu", layer->times, layer->kernel, layer->kernel,
                 s.shape.channels, s.shape.out_channels, layer->stride, layer->size, layer->size);
        printf("%-26s", name);
        for (enum conv_pass pass = CONV_FORWARD; pass <= CONV_BACKWARD_WEIGHT; pass++) {
            const struct conv_backend *chosen = backend_conv(&s.shape, pass);
            double least = INFINITY;
            printf("  ");
            for (size_t b = 0; b < BACKENDS; b++) {
                double took = measure(backends[b], &s, pass, seconds);
                least = took < least ? took : least;
                total[pass][b] += (took < INFINITY ? took : least) * (double)layer->times;
                total[pass][BACKENDS] += chosen == backends[b] ? took * (double)layer->times : 0.0;
                printf(" %4.0f", s.flops / took / 1e9);
            }
            printf(" %-9.8s", chosen != NULL ? chosen->name : "none");
        }
        printf("\n");
        setup_deinit(&s);
    }
    printf("%-26s", "images/s of all layers");
    for (size_t pass = 0; pass < 3; pass++) {
        printf("  ");
        for (size_t b = 0; b <= BACKENDS; b++) {
            printf(" %4.0f", (double)n / total[pass][b]);
        }
        printf("     ");
    }
    printf("\n\n");
    return EXIT_SUCCESS;
}

int main(int argc, char **argv) {
    uint64_t samples = 8;
    double seconds = 0.05;

    for (int i = 1; i + 1 < argc; i += 2) {
        bool ok = false;
        if (strcmp(argv[i], "--samples") == 0) {
            ok = parse_u64(argv[i + 1], 1024, &samples) && samples > 0;
        } else if (strcmp(argv[i], "--seconds") == 0) {
            ok = parse_double(argv[i + 1], 0.0, 60.0, &seconds);
        }
        if (!ok) {
            fprintf(stderr, "usage: %s [--samples N] [--seconds S]\n", argv[0]);
            return EXIT_FAILURE;
        }
    }
    openblas_set_num_threads(1);
    if (bench_width(16, (size_t)samples, seconds) != EXIT_SUCCESS) {
        return EXIT_FAILURE;
    }
    return bench_width(64, (size_t)samples, seconds);
}
