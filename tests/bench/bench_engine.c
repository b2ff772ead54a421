/* The engine against ONNX Runtime, on full-width networks with random weights:
 *   forward images a second at 1 and 2 threads, both, interleaved; forward and backward to the input;
 *   the peak memory of a process that runs forward, both;
 *   a mask that differs in the last quarter of the work only, against a full run.
 *
 *   bench_engine [--rounds N] [--only NAME]
 *
 * ONNX Runtime is asked through the judge, a folder with judge.js and its modules (ONP_JUDGE, else ../shared/tools/judge); without it
 * its columns are empty. Every measurement is a process of its own (bench_engine --child ...). JSON lines, then tables. */
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/file.h"
#include "common/mem.h"
#include "common/parse.h"
#include "server/data/npz.h"
#include "server/nn/backend.h"
#include "server/nn/engine.h"
#include "server/nn/kernels.h"
#include "server/nn/loss.h"
#include "server/nn/prefix_cache.h"
#include "server/onnx/onnx_model.h"
#include "tests/support/architectures.h"

enum { REPEATS = 5, ROUNDS_MAX = 31, SMALL_BATCH = 100, LARGE_BATCH = 32, PATH_SIZE = 1024 };

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, size_t count) {
    qsort(values, count, sizeof *values, by_value);
    return count == 0 ? 0.0 : values[count / 2];
}

static double processor_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* ---- one measurement, in a child ---------------------------------------------------------------------------------- */

struct subject {
    const struct network *network;
    size_t batch, classes;
    float *x, *logits;
    struct pool *pool;
    struct engine *engine;
};

static void loss(void *user, size_t first, size_t n, const float *logits, float *dlogits) {
    static const int32_t target[SMALL_BATCH] = {0};
    const struct subject *s = user;
    (void)loss_cross_entropy(n, s->classes, logits, target + first, 1.0F / (float)s->batch, dlogits);
}

static void ignore(void *user, size_t first, size_t n, const float *x, const float *dx) {
    (void)user, (void)first, (void)n, (void)x, (void)dx;
}

static enum status subject_init(struct subject *s, const struct network *network, size_t threads, size_t batch,
                                bool backward, struct error *error) {
    const size_t floats = shape_count(&network->values[network->input].shape);
    const struct engine_options options = {.backward = backward};

    s->network = network;
    s->batch = batch;
    s->classes = network->values[network->output].shape.dim[1];
    s->x = mem_alloc(batch * floats, sizeof *s->x);
    s->logits = mem_alloc(batch * s->classes, sizeof *s->logits);
    if (s->x == NULL || s->logits == NULL) {
        return error_no_memory(error, "images");
    }
    for (size_t i = 0; i < batch * floats; i++) {
        s->x[i] = (float)(i * 2654435761U % 256U) / 255.0F;
    }
    const enum status status = pool_new(threads, &s->pool, error);
    return status == STATUS_OK ? engine_new(network, s->pool, &options, &s->engine, error) : status;
}

static void subject_deinit(struct subject *s) {
    engine_free(s->engine);
    pool_free(s->pool);
    mem_free(s->logits);
    mem_free(s->x);
}

/* Best of several, after one to warm up, as the judge does it. */
static enum status child_forward(const struct network *network, size_t threads, size_t batch, bool backward,
                                 struct error *error) {
    struct subject s = {0};
    double best = 0.0, best_processor = 0.0;
    enum status status = subject_init(&s, network, threads, batch, backward, error);
    const struct engine_run run = {.count = batch,
                                   .user = &s,
                                   .input = s.x,
                                   .logits = s.logits,
                                   .loss = backward ? loss : NULL,
                                   .input_grad = backward ? ignore : NULL};
    for (size_t i = 0; i <= REPEATS && status == STATUS_OK; i++) {
        const double start = clock_seconds(), used = processor_seconds();
        status = engine_run(s.engine, &run, error);
        const double rate = (double)batch / (clock_seconds() - start);
        const double processor_rate = (double)batch / (processor_seconds() - used);
        if (i > 0) {
            best = rate > best ? rate : best;
            best_processor = processor_rate > best_processor ? processor_rate : best_processor;
        }
    }
    if (status == STATUS_OK) {
        printf("{\"images_per_second\": %.2f, \"images_per_processor_second\": %.2f, \"chunk\": %zu}\n", best,
               best_processor, engine_chunk(s.engine));
    }
    subject_deinit(&s);
    return status;
}

/* The first Mask node with at least this share of the multiply-adds before it. */
static const struct node *late_mask(const struct network *network, double share) {
    const double all = network_macs(network);
    double before = 0.0;

    for (size_t i = 0; i < network->node_count; i++) {
        if (network->nodes[i].op == OP_MASK && before >= share * all) {
            return &network->nodes[i];
        }
        before += network_node_macs(network, i);
    }
    return NULL;
}

static enum status compare_masks(struct subject *s, const struct node *last, float *mask, const float *fill,
                                 struct error *error) {
    double full[REPEATS], cached[REPEATS];
    struct prefix_cache *cache = NULL;
    float *again = mem_alloc(s->batch * s->classes, sizeof *again);
    enum status status = again == NULL ? error_no_memory(error, "logits")
                                       : prefix_cache_new(s->engine, s->batch, (size_t)1 << 30, &cache, error);
    bool equal = true;
    /* The first two runs make the cache know what the masks have in common. */
    for (size_t i = 0; i < REPEATS + 2 && status == STATUS_OK; i++) {
        struct engine_run run = {.count = s->batch, .input = s->x, .mask = mask, .fill = fill, .logits = s->logits};
        mask[last->attr.mask_first + i] = 0.0F;
        const double start = processor_seconds();
        status = engine_run(s->engine, &run, error);
        const double middle = processor_seconds();
        run.logits = again;
        status = status == STATUS_OK ? prefix_cache_run(cache, &run, error) : status;
        if (i >= 2) {
            full[i - 2] = middle - start;
            cached[i - 2] = processor_seconds() - middle;
        }
        equal = equal && memcmp(again, s->logits, s->batch * s->classes * sizeof *again) == 0;
    }
    if (status == STATUS_OK) {
        const struct prefix_cache_stats stats = prefix_cache_stats(cache);
        printf("{\"full_seconds\": %.4f, \"masked_seconds\": %.4f, \"equal\": %s, \"state_bytes\": %zu}\n",
               median(full, REPEATS), median(cached, REPEATS), equal ? "true" : "false", stats.bytes);
    }
    prefix_cache_free(cache);
    mem_free(again);
    return status;
}

/* Masks behind every convolution; those that are compared differ from each other behind three quarters of the work. */
static enum status child_masked(const struct network *plain, size_t threads, size_t batch, struct error *error) {
    struct mask_site *sites = mem_calloc(plain->node_count, sizeof *sites);
    struct network *masked = NULL;
    struct subject s = {0};
    float *mask = NULL, *fill = NULL;
    size_t count = 0;
    for (size_t i = 0; i < plain->node_count && sites != NULL; i++) {
        if (plain->nodes[i].op == OP_CONV) {
            sites[count++] = (struct mask_site){plain->nodes[i].output, 1};
        }
    }
    enum status status =
        sites == NULL ? error_no_memory(error, "masks") : network_with_masks(plain, sites, count, &masked, error);
    if (status == STATUS_OK) {
        mask = mem_alloc(masked->unit_count, sizeof *mask);
        fill = mem_calloc(masked->unit_count, sizeof *fill);
        status = mask == NULL || fill == NULL ? error_no_memory(error, "masks")
                                              : subject_init(&s, masked, threads, batch, false, error);
    }
    if (status == STATUS_OK) {
        for (size_t u = 0; u < masked->unit_count; u++) {
            mask[u] = 1.0F;
        }
        status = compare_masks(&s, late_mask(masked, 0.75), mask, fill, error);
    }
    subject_deinit(&s);
    network_free(masked);
    mem_free(mask);
    mem_free(fill);
    mem_free(sites);
    return status;
}

/* bench_engine --child KIND MODEL THREADS BATCH */
static int child(char **argv) {
    struct error error = {0};
    struct onnx_model *model = NULL;
    char *bytes = NULL;
    size_t length = 0;
    uint64_t threads = 0, batch = 0;
    enum status status = file_read(argv[1], onnx_default_limits.max_bytes, &bytes, &length, &error);
    if (status == STATUS_OK) {
        status = onnx_model_load((const uint8_t *)bytes, length, &onnx_default_limits, &model, &error);
    }
    mem_free(bytes);
    if (status == STATUS_OK && (!parse_u64(argv[2], 1024, &threads) || !parse_u64(argv[3], SMALL_BATCH, &batch))) {
        status = error_set(&error, STATUS_INVALID, "", "failed to read the child's arguments");
    }
    if (status == STATUS_OK) {
        const struct network *network = onnx_model_network(model);
        status = strcmp(argv[0], "masked") == 0
                     ? child_masked(network, (size_t)threads, (size_t)batch, &error)
                     : child_forward(network, (size_t)threads, (size_t)batch, strcmp(argv[0], "backward") == 0, &error);
    }
    onnx_model_free(model);
    if (status != STATUS_OK) {
        fprintf(stderr, "bench_engine: %s: %s\n", error.where, error.message);
    }
    return status == STATUS_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* ---- processes ---------------------------------------------------------------------------------------------------- */

/* Runs a program that prints one JSON object; peak: the most memory it held, bytes. NULL if it failed. */
static json_t *run_program(const char *const *argv, double *peak) {
    char text[4096];
    int ends[2], state = 0;
    struct rusage usage;
    size_t used = 0;

    if (pipe(ends) != 0) {
        return NULL;
    }
    const pid_t pid = fork();
    if (pid == 0) {
        (void)dup2(ends[1], STDOUT_FILENO);
        close(ends[0]);
        close(ends[1]);
        execvp(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    close(ends[1]);
    for (ssize_t got = 1; pid > 0 && got > 0 && used<sizeof text - 1; used += got> 0 ? (size_t)got : 0) {
        got = read(ends[0], text + used, sizeof text - 1 - used);
    }
    close(ends[0]);
    if (pid < 0 || wait4(pid, &state, 0, &usage) != pid || !WIFEXITED(state) || WEXITSTATUS(state) != 0) {
        return NULL;
    }
    *peak = (double)usage.ru_maxrss * 1024.0;
    return json_loadb(text, used, 0, NULL);
}

static double number_of(const json_t *object, const char *name) {
    return json_number_value(json_object_get(object, name));
}

struct setup {
    const char *program, *judge; /* judge: the path of judge.js, NULL without */
    char folder[PATH_SIZE];
    size_t rounds;
};

static json_t *measure(const struct setup *setup, const char *kind, const char *model, size_t threads, size_t batch,
                       double *peak) {
    char threads_text[24], batch_text[24];
    (void)snprintf(threads_text, sizeof threads_text, "%zu", threads);
    (void)snprintf(batch_text, sizeof batch_text, "%zu", batch);
    const char *const argv[] = {setup->program, "--child", kind, model, threads_text, batch_text, NULL};
    return run_program(argv, peak);
}

static json_t *ask_judge(const struct setup *setup, const char *model, const char *images, size_t threads,
                         double *peak) {
    char threads_text[24];
    (void)snprintf(threads_text, sizeof threads_text, "%zu", threads);
    const char *const argv[] = {"node",    setup->judge, model,       "--clean",    images, "--bench",
                                "--limit", "0",          "--threads", threads_text, NULL};
    return setup->judge != NULL ? run_program(argv, peak) : NULL;
}

/* ---- the whole bench ---------------------------------------------------------------------------------------------- */

static enum status write_images(const char *path, size_t count, size_t size, struct error *error) {
    const size_t floats = count * 3 * size * size;
    float *x = mem_alloc(floats, sizeof *x);
    int64_t *y = mem_calloc(count, sizeof *y);
    enum status status = x == NULL || y == NULL ? error_no_memory(error, "images") : STATUS_OK;
    for (size_t i = 0; i < floats && status == STATUS_OK; i++) {
        x[i] = (float)(i * 2654435761U % 256U) / 255.0F;
    }
    const struct npy arrays[] = {{"x", NPY_F4, {4, {count, 3, size, size}}, x}, {"y", NPY_I8, {1, {count}}, y}};
    if (status == STATUS_OK) {
        status = npz_save(path, arrays, 2, error);
    }
    mem_free(x);
    mem_free(y);
    return status;
}

static enum status write_model(enum architecture architecture, const char *path, struct error *error) {
    struct network *network = NULL;
    uint8_t *bytes = NULL;
    size_t length = 0;
    struct rng rng;
    rng_seed(&rng, 1);
    enum status status = architecture_new(architecture, &rng, &network, error);
    if (status == STATUS_OK) {
        status = onnx_export(network, "onp-bench", &bytes, &length, error);
    }
    if (status == STATUS_OK) {
        status = file_write_atomic(path, (const char *)bytes, length, error);
    }
    mem_free(bytes);
    network_free(network);
    return status;
}

static void print_ratio(const char *name, const char *what, size_t threads, size_t batch, double ours, double theirs) {
    if (theirs > 0.0) {
        printf("%-14s %-20s %zu   %3zu  %9.1f  %9.1f  %5.2f\n", name, what, threads, batch, ours, theirs,
               ours / theirs);
    } else {
        printf("%-14s %-20s %zu   %3zu  %9.1f          -      -\n", name, what, threads, batch, ours);
    }
}

/* Forward at one number of threads: both, in turn. */
static void bench_forward(const struct setup *setup, const char *name, const char *model, const char *images,
                          size_t threads, size_t batch) {
    double ours[ROUNDS_MAX], processor[ROUNDS_MAX], theirs[ROUNDS_MAX], peak = 0.0, our_peak = 0.0, their_peak = 0.0;
    size_t our_count = 0, their_count = 0;
    for (size_t r = 0; r < setup->rounds; r++) {
        json_t *line = measure(setup, "forward", model, threads, batch, &peak);
        if (line != NULL) {
            processor[our_count] = number_of(line, "images_per_processor_second");
            ours[our_count++] = number_of(line, "images_per_second");
            our_peak = peak > our_peak ? peak : our_peak;
            json_decref(line);
        }
        line = ask_judge(setup, model, images, threads, &peak);
        if (line != NULL) {
            theirs[their_count++] = number_of(line, "images_per_second");
            their_peak = peak > their_peak ? peak : their_peak;
            json_decref(line);
        }
    }
    const double our_rate = median(ours, our_count), their_rate = median(theirs, their_count);
    printf("{\"model\": \"%s\", \"what\": \"forward\", \"threads\": %zu, \"batch\": %zu, \"images_per_second\": %.2f, "
           "\"images_per_processor_second\": %.2f, \"peak_bytes\": %.0f",
           name, threads, batch, our_rate, median(processor, our_count), our_peak);
    if (their_count > 0) {
        printf(", \"onnxruntime_images_per_second\": %.2f, \"onnxruntime_peak_bytes\": %.0f, \"ratio\": %.3f",
               their_rate, their_peak, our_rate / their_rate);
    }
    printf("}\n");
    print_ratio(name, "forward images/s", threads, batch, our_rate, their_rate);
    print_ratio(name, "peak memory MB", threads, batch, our_peak / 1e6, their_count > 0 ? their_peak / 1e6 : 0.0);
    fflush(stdout);
}

static void bench_backward(const struct setup *setup, const char *name, const char *model, size_t threads,
                           size_t batch) {
    double peak = 0.0;
    json_t *line = measure(setup, "backward", model, threads, batch, &peak);
    const double rate = number_of(line, "images_per_second");
    printf("{\"model\": \"%s\", \"what\": \"forward and backward\", \"threads\": %zu, \"batch\": %zu, "
           "\"images_per_second\": %.2f, \"images_per_processor_second\": %.2f, \"peak_bytes\": %.0f}\n",
           name, threads, batch, rate, number_of(line, "images_per_processor_second"), peak);
    print_ratio(name, "fwd + bwd images/s", threads, batch, rate, 0.0);
    json_decref(line);
}

static void bench_masked(const struct setup *setup, const char *name, const char *model, size_t batch) {
    double peak = 0.0;
    json_t *line = measure(setup, "masked", model, 1, batch, &peak);
    const double full = number_of(line, "full_seconds"), masked = number_of(line, "masked_seconds");
    printf("{\"model\": \"%s\", \"what\": \"mask of the last quarter\", \"batch\": %zu, \"full_seconds\": %.4f, "
           "\"masked_seconds\": %.4f, \"equal\": %s, \"times_faster\": %.2f}\n",
           name, batch, full, masked, json_is_true(json_object_get(line, "equal")) ? "true" : "false", full / masked);
    print_ratio(name, "last quarter runs/s", 1, batch, 1.0 / masked, 1.0 / full);
    json_decref(line);
}

static enum status bench(const struct setup *setup, enum architecture architecture, struct error *error) {
    char model[PATH_SIZE + 32], images[PATH_SIZE + 32];
    const char *name = architecture_name(architecture);
    const size_t size = architecture_size(architecture), batch = size > 64 ? LARGE_BATCH : SMALL_BATCH;
    (void)snprintf(model, sizeof model, "%s/%s.onnx", setup->folder, name);
    (void)snprintf(images, sizeof images, "%s/%s.npz", setup->folder, name);
    enum status status = write_model(architecture, model, error);
    if (status == STATUS_OK) {
        status = write_images(images, batch, size, error);
    }
    for (size_t threads = 1; threads <= 2 && status == STATUS_OK; threads++) {
        bench_forward(setup, name, model, images, threads, batch);
        bench_backward(setup, name, model, threads, batch);
    }
    if (status == STATUS_OK) {
        bench_masked(setup, name, model, batch);
    }
    (void)unlink(model);
    (void)unlink(images);
    return status;
}

/* judge.js with its modules; false says why there is none. */
static bool find_judge(char *path, size_t size) {
    const char *folder = getenv("ONP_JUDGE");
    char modules[PATH_SIZE];
    folder = folder == NULL ? "../shared/tools/judge" : folder;
    (void)snprintf(path, size, "%s/judge.js", folder);
    (void)snprintf(modules, sizeof modules, "%s/node_modules/onnxruntime-node", folder);
    if (access(path, R_OK) == 0 && access(modules, R_OK) == 0) {
        return true;
    }
    printf("ONNX Runtime is not measured: %s has no judge.js with its modules (npm install there, or set ONP_JUDGE)\n",
           folder);
    return false;
}

int main(int argc, char **argv) {
    struct setup setup = {.program = "/proc/self/exe", .rounds = 3};
    struct error error = {0};
    enum status status = STATUS_OK;
    const char *only = NULL, *temporary = getenv("TMPDIR");
    char judge[PATH_SIZE];
    uint64_t rounds = 3;

    if (argc == 6 && strcmp(argv[1], "--child") == 0) {
        return child(argv + 2);
    }
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 < argc && strcmp(argv[i], "--only") == 0) {
            only = argv[i + 1];
        } else if (i + 1 >= argc || strcmp(argv[i], "--rounds") != 0 || !parse_u64(argv[i + 1], ROUNDS_MAX, &rounds) ||
                   rounds == 0) {
            fprintf(stderr, "usage: %s [--rounds N] [--only MODEL]\n", argv[0]);
            return EXIT_FAILURE;
        }
    }
    setup.rounds = (size_t)rounds;
    setup.judge = find_judge(judge, sizeof judge) ? judge : NULL;
    (void)snprintf(setup.folder, sizeof setup.folder, "%s/onp-bench-XXXXXX", temporary == NULL ? "/tmp" : temporary);
    if (mkdtemp(setup.folder) == NULL) {
        fprintf(stderr, "bench_engine: failed to make folder '%s'\n", setup.folder);
        return EXIT_FAILURE;
    }
    const struct conv_shape layer = {.channels = 64,
                                     .height = 32,
                                     .width = 32,
                                     .out_channels = 64,
                                     .out_height = 32,
                                     .out_width = 32,
                                     .window = {.kernel = {3, 3},
                                                .stride = {1, 1},
                                                .dilation = {1, 1},
                                                .pad_begin = {1, 1},
                                                .pad_end = {1, 1},
                                                .group = 1}};
    printf("kernels %s; a 3x3 layer goes to %s; f32; %zu rounds, medians\n", kernels()->name,
           backend_conv(&layer, CONV_FORWARD)->name, setup.rounds);
    printf("%-14s %-20s thr  batch    ours     onnxrt  ratio (batch 32 at 224x224 for memory)\n", "model", "what");
    for (enum architecture a = 0; a < ARCHITECTURES && status == STATUS_OK; a++) {
        if (only == NULL || strcmp(only, architecture_name(a)) == 0) {
            status = bench(&setup, a, &error);
        }
    }
    (void)rmdir(setup.folder);
    if (status != STATUS_OK) {
        fprintf(stderr, "bench_engine: %s: %s\n", error.where, error.message);
    }
    return status == STATUS_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}
