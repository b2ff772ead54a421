/* See op_rig.h. The rig builds its values by hand instead of through network_add_node(), so that a row can be tested with
 * inputs that no whole network would give it. */
#include "tests/unit/nn/op_rig.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/mem.h"
#include "tests/support/cm.h"

enum { PROBES = 40 }; /* elements of an input whose derivative is taken by differences */

/* Buffers of one run. Each is a block of its own, of exact size, so that the address sanitizer sees a step outside. */
struct bench {
    size_t n;
    const struct op *row;
    float *in[RIG_INPUTS_MAX];
    float *din[RIG_INPUTS_MAX];
    bool accumulate[RIG_INPUTS_MAX];
    float *out, *dout, *saved, *scratch;
};

void rig_init(struct rig *rig, enum op_kind op, uint64_t seed) {
    *rig = (struct rig){.tolerance = 1e-5};
    rng_seed(&rig->rng, seed);
    rig->network.values = rig->values;
    rig->node.op = op;
    rig->node.name = "probe";
    rig->node.inputs = rig->inputs;
    rig->node.origin = NETWORK_NONE;
}

static size_t add_value(struct rig *rig, enum value_kind kind, size_t rank, const size_t *dims) {
    size_t index = rig->network.value_count++;
    struct value *value = &rig->values[index];

    assert_true(index < RIG_INPUTS_MAX);
    *value = (struct value){.kind = kind, .name = "input", .producer = NETWORK_NONE, .use_count = 1};
    value->shape.rank = rank;
    for (size_t d = 0; d < rank; d++) {
        value->shape.dim[d] = dims[d];
    }
    rig->inputs[rig->node.input_count] = index;
    return rig->node.input_count++;
}

size_t rig_data(struct rig *rig, size_t rank, const size_t *dims) {
    return add_value(rig, VALUE_COMPUTED, rank, dims);
}

size_t rig_constant(struct rig *rig, size_t rank, const size_t *dims, float low, float high) {
    size_t input = add_value(rig, VALUE_CONSTANT, rank, dims);
    struct value *value = &rig->values[rig->inputs[input]];
    size_t count = shape_count(&value->shape);

    value->data = mem_aligned(count, sizeof(float));
    assert_non_null(value->data);
    for (size_t i = 0; i < count; i++) {
        value->data[i] = rng_range(&rig->rng, low, high);
    }
    return input;
}

void rig_omit(struct rig *rig) {
    rig->inputs[rig->node.input_count++] = NETWORK_NONE;
}

void rig_deinit(struct rig *rig) {
    for (size_t i = 0; i < rig->network.value_count; i++) {
        mem_free(rig->values[i].data);
    }
}

enum status rig_infer(struct rig *rig, struct error *error) {
    struct shape shape = {.rank = 0};
    enum status status = op_find(rig->node.op)->infer(&rig->network, &rig->node, &shape, error);

    if (status == STATUS_OK) {
        rig->node.output = rig->network.value_count;
        rig->values[rig->node.output] = (struct value){.kind = VALUE_COMPUTED, .name = "output", .shape = shape};
    }
    return status;
}

void rig_refuses(struct rig *rig, enum status status, const char *text) {
    struct error error = {0};
    enum status got = rig_infer(rig, &error);

    if (got != status || strstr(error.message, text) == NULL) {
        fail_msg("got %s: '%s', expected %s with '%s'", status_name(got), error.message, status_name(status), text);
    }
    assert_string_equal(error.where, "node 'probe'");
    assert_non_null(strstr(error.message, op_find(rig->node.op)->name));
    rig_deinit(rig);
}

const struct shape *rig_shape(const struct rig *rig, size_t input) {
    return &rig->values[rig->inputs[input]].shape;
}

const struct shape *rig_out_shape(const struct rig *rig) {
    return &rig->values[rig->node.output].shape;
}

static bool is_present(const struct rig *rig, size_t input) {
    return rig->inputs[input] != NETWORK_NONE;
}

static bool is_constant(const struct rig *rig, size_t input) {
    return is_present(rig, input) && rig->values[rig->inputs[input]].kind == VALUE_CONSTANT;
}

size_t rig_count(const struct rig *rig, size_t input, size_t n) {
    return shape_count(rig_shape(rig, input)) * (is_constant(rig, input) ? 1 : n);
}

static size_t out_count(const struct rig *rig, size_t n) {
    return shape_count(rig_out_shape(rig)) * n;
}

static float *floats(size_t count) {
    float *block = mem_aligned(count, sizeof(float));

    assert_non_null(block);
    return block;
}

static void randomize(struct rig *rig, size_t count, float *x, float low, float high) {
    for (size_t i = 0; i < count; i++) {
        x[i] = rng_range(&rig->rng, low, high);
    }
}

static void bench_init(struct rig *rig, size_t n, struct bench *bench) {
    const bool ranged = rig->low < rig->high;

    *bench = (struct bench){.n = n, .row = op_find(rig->node.op)};
    for (size_t i = 0; i < rig->node.input_count; i++) {
        if (!is_present(rig, i)) {
            continue;
        }
        size_t count = rig_count(rig, i, n);
        bench->in[i] = floats(count);
        if (is_constant(rig, i)) {
            memcpy(bench->in[i], rig->values[rig->inputs[i]].data, count * sizeof(float));
        } else {
            randomize(rig, count, bench->in[i], ranged ? rig->low : -1.0f, ranged ? rig->high : 1.0f);
        }
        bench->din[i] = (rig->fixed >> i & 1u) != 0 ? NULL : floats(count);
        bench->accumulate[i] = is_constant(rig, i);
    }
    bench->out = floats(out_count(rig, n));
    bench->dout = floats(out_count(rig, n));
    randomize(rig, out_count(rig, n), bench->dout, -1.0f, 1.0f);
    if (bench->row->saved_floats != NULL) {
        bench->saved = floats(bench->row->saved_floats(&rig->network, &rig->node, n));
    }
}

static void bench_deinit(struct bench *bench) {
    for (size_t i = 0; i < RIG_INPUTS_MAX; i++) {
        mem_free(bench->in[i]);
        mem_free(bench->din[i]);
    }
    mem_free(bench->out);
    mem_free(bench->dout);
    mem_free(bench->saved);
}

static void call(const struct rig *rig, struct bench *bench, bool backward) {
    size_t need = bench->row->scratch_floats != NULL
                      ? bench->row->scratch_floats(&rig->network, &rig->node, bench->n, backward)
                      : 0;
    const float *in[RIG_INPUTS_MAX];
    struct op_args args = {.network = &rig->network,
                           .node = &rig->node,
                           .n = bench->n,
                           .in = in,
                           .out = bench->out,
                           .saved = bench->saved,
                           .scratch = floats(need),
                           .train = rig->train,
                           .mask = rig->mask,
                           .fill = rig->fill};

    for (size_t i = 0; i < RIG_INPUTS_MAX; i++) {
        in[i] = bench->in[i];
    }
    /* Contents of scratch are undefined: make them as bad as they can be. */
    for (size_t i = 0; i < need; i++) {
        args.scratch[i] = NAN;
    }
    if (backward) {
        args.dout = bench->dout;
        args.din = bench->din;
        args.accumulate = bench->accumulate;
        bench->row->backward(&args);
    } else {
        bench->row->forward(&args);
    }
    mem_free(args.scratch);
}

double rig_error(size_t count, const float *a, const double *b, double floor) {
    double worst = 0.0, scale = floor;

    for (size_t i = 0; i < count; i++) {
        scale = fabs(b[i]) > scale ? fabs(b[i]) : scale;
    }
    for (size_t i = 0; i < count; i++) {
        double error = fabs((double)a[i] - b[i]) / scale;
        worst = error <= worst ? worst : error; /* a NaN becomes the worst */
    }
    return worst;
}

static void expect_close(const struct rig *rig, const char *what, size_t count, const float *a, const double *b) {
    double error = rig_error(count, a, b, 1e-3);

    if (!(error <= rig->tolerance)) {
        char text[SHAPE_TEXT_SIZE];
        fail_msg("%s of %s, output %s: relative error %g, expected at most %g", what, op_kind_name(rig->node.op),
                 shape_text(rig_out_shape(rig), text), error, rig->tolerance);
    }
}

static void expect_equal(const struct rig *rig, const char *what, size_t count, const float *a, const float *b) {
    for (size_t i = 0; i < count; i++) {
        /* Values, not bits: +0 and -0 are one, a NaN is never right here. */
        if (!(a[i] == b[i])) {
            fail_msg("%s of %s: element %zu: got %.9g, expected %.9g", what, op_kind_name(rig->node.op), i,
                     (double)a[i], (double)b[i]);
        }
    }
}

static double *widen(size_t count, const float *x) {
    double *wide = mem_alloc(count, sizeof *wide);

    assert_non_null(wide);
    for (size_t i = 0; i < count; i++) {
        wide[i] = (double)x[i];
    }
    return wide;
}

static float *copy(size_t count, const float *x) {
    float *same = floats(count);

    memcpy(same, x, count * sizeof *same);
    return same;
}

/* The sum of dout * reference(in). */
static double objective(const struct rig *rig, const struct bench *bench, const double *const *in, double *out) {
    double sum = 0.0;

    rig->reference(rig, bench->n, in, out);
    for (size_t i = 0; i < out_count(rig, bench->n); i++) {
        sum += (double)bench->dout[i] * out[i];
    }
    return sum;
}

static void check_reference(struct rig *rig, struct bench *bench) {
    double *in[RIG_INPUTS_MAX] = {NULL};
    double *out = mem_calloc(out_count(rig, bench->n), sizeof *out);

    assert_non_null(out);
    for (size_t i = 0; i < rig->node.input_count; i++) {
        in[i] = is_present(rig, i) ? widen(rig_count(rig, i, bench->n), bench->in[i]) : NULL;
    }
    const double *const *fixed = (const double *const *)in;
    rig->reference(rig, bench->n, fixed, out);
    expect_close(rig, "forward", out_count(rig, bench->n), bench->out, out);

    /* Central differences in double: exact to about 1e-8 for smooth rows, and no random value lies so near a kink. */
    for (size_t i = 0; i < rig->node.input_count; i++) {
        size_t count = bench->din[i] != NULL ? rig_count(rig, i, bench->n) : 0;
        size_t probes = count < PROBES ? count : PROBES;
        float got[PROBES];
        double expected[PROBES];
        for (size_t p = 0; p < probes; p++) {
            const double step = 1e-6;
            size_t at = count <= PROBES ? p : (size_t)rng_below(&rig->rng, count);
            double before = in[i][at];
            in[i][at] = before + step;
            double above = objective(rig, bench, fixed, out);
            in[i][at] = before - step;
            double below = objective(rig, bench, fixed, out);
            in[i][at] = before;
            got[p] = bench->din[i][at];
            expected[p] = (above - below) / (2.0 * step);
        }
        expect_close(rig, "backward", probes, got, expected);
    }
    for (size_t i = 0; i < RIG_INPUTS_MAX; i++) {
        mem_free(in[i]);
    }
    mem_free(out);
}

/* Runs backward into fresh buffers that hold `before`, and expects before + gradient (or the gradient alone). */
static void check_accumulation(struct rig *rig, struct bench *bench) {
    float *first[RIG_INPUTS_MAX] = {NULL};
    bool accumulate[RIG_INPUTS_MAX];

    memcpy(accumulate, bench->accumulate, sizeof accumulate);
    for (int only = -1; only < (int)rig->node.input_count; only++) {
        float *kept[RIG_INPUTS_MAX];
        memcpy(kept, bench->din, sizeof kept);
        for (size_t i = 0; i < rig->node.input_count; i++) {
            size_t count = kept[i] != NULL ? rig_count(rig, i, bench->n) : 0;
            bench->din[i] = kept[i] != NULL && (only < 0 || only == (int)i) ? floats(count) : NULL;
            if (bench->din[i] != NULL) {
                randomize(rig, count, bench->din[i], -1.0f, 1.0f);
                first[i] = copy(count, bench->din[i]);
            }
            /* With one gradient alone, activations are overwritten, so that both ways are seen. */
            bench->accumulate[i] = only < 0 || is_constant(rig, i);
        }
        call(rig, bench, true);
        for (size_t i = 0; i < rig->node.input_count; i++) {
            if (bench->din[i] == NULL) {
                continue;
            }
            size_t count = rig_count(rig, i, bench->n);
            double *expected = widen(count, kept[i]);
            for (size_t j = 0; j < count && bench->accumulate[i]; j++) {
                expected[j] += (double)first[i][j];
            }
            expect_close(rig, "accumulation", count, bench->din[i], expected);
            mem_free(expected);
            mem_free(bench->din[i]);
            mem_free(first[i]);
        }
        memcpy(bench->din, kept, sizeof kept);
    }
    memcpy(bench->accumulate, accumulate, sizeof accumulate);
}

/* Backward may read activations and the output only if the row says so. */
static void check_reads(struct rig *rig, struct bench *bench) {
    float *in[RIG_INPUTS_MAX];
    float *out = bench->out;
    float *din[RIG_INPUTS_MAX] = {NULL};

    memcpy(in, bench->in, sizeof in);
    for (size_t i = 0; i < rig->node.input_count; i++) {
        if (!is_present(rig, i)) {
            continue;
        }
        size_t count = rig_count(rig, i, bench->n);
        if (!is_constant(rig, i) && (bench->row->flags & OP_NEEDS_INPUT) == 0) {
            bench->in[i] = floats(count);
            for (size_t j = 0; j < count; j++) {
                bench->in[i][j] = NAN;
            }
        }
        din[i] = bench->din[i];
        bench->din[i] = din[i] != NULL ? floats(count) : NULL;
    }
    if ((bench->row->flags & OP_NEEDS_OUTPUT) == 0) {
        bench->out = floats(out_count(rig, bench->n));
        for (size_t j = 0; j < out_count(rig, bench->n); j++) {
            bench->out[j] = NAN;
        }
    }
    call(rig, bench, true);
    for (size_t i = 0; i < rig->node.input_count; i++) {
        if (din[i] != NULL) {
            expect_equal(rig, "backward without what it may not read", rig_count(rig, i, bench->n), bench->din[i],
                         din[i]);
            mem_free(bench->din[i]);
        }
        if (bench->in[i] != in[i]) {
            mem_free(bench->in[i]);
        }
        bench->in[i] = in[i];
        bench->din[i] = is_present(rig, i) ? din[i] : NULL;
    }
    if (bench->out != out) {
        mem_free(bench->out);
        bench->out = out;
    }
}

/* Forward over the input's memory, backward over the gradient's. */
static void check_alias(struct rig *rig, struct bench *bench) {
    const size_t count = out_count(rig, bench->n);

    if ((bench->row->flags & OP_MAY_ALIAS) == 0 || is_constant(rig, 0) || rig_count(rig, 0, bench->n) != count) {
        return;
    }
    struct bench alias = *bench;
    alias.in[0] = copy(count, bench->in[0]);
    alias.out = alias.in[0];
    call(rig, &alias, false);
    expect_equal(rig, "forward in place", count, alias.out, bench->out);
    mem_free(alias.in[0]);

    alias = *bench;
    alias.dout = copy(count, bench->dout);
    alias.din[0] = alias.dout;
    for (size_t i = 1; i < rig->node.input_count; i++) {
        alias.din[i] = bench->din[i] != NULL ? floats(rig_count(rig, i, bench->n)) : NULL;
    }
    call(rig, &alias, true);
    for (size_t i = 0; i < rig->node.input_count; i++) {
        if (alias.din[i] != NULL) {
            expect_equal(rig, "backward in place", rig_count(rig, i, bench->n), alias.din[i], bench->din[i]);
            mem_free(alias.din[i]);
        }
    }
}

/* Each sample alone gives what it gives among others. */
static void check_samples(struct rig *rig, struct bench *bench) {
    const size_t out_one = out_count(rig, 1);

    for (size_t s = 0; s < bench->n && !rig->train; s++) {
        struct bench one = *bench;
        one.n = 1;
        one.out = floats(out_one);
        one.dout = copy(out_one, bench->dout + s * out_one);
        for (size_t i = 0; i < rig->node.input_count; i++) {
            bool data = is_present(rig, i) && !is_constant(rig, i);
            size_t count = data ? rig_count(rig, i, 1) : 0;
            one.in[i] = data ? copy(count, bench->in[i] + s * count) : bench->in[i];
            one.din[i] = data ? floats(count) : NULL;
        }
        call(rig, &one, false);
        call(rig, &one, true);
        double *wide = widen(out_one, bench->out + s * out_one);
        expect_close(rig, "forward of one sample", out_one, one.out, wide);
        mem_free(wide);
        if (!rig->loose_samples) {
            expect_equal(rig, "forward of one sample", out_one, one.out, bench->out + s * out_one);
        }
        for (size_t i = 0; i < rig->node.input_count; i++) {
            if (one.din[i] == NULL) {
                continue;
            }
            size_t count = rig_count(rig, i, 1);
            wide = widen(count, bench->din[i] + s * count);
            expect_close(rig, "backward of one sample", count, one.din[i], wide);
            mem_free(wide);
            mem_free(one.in[i]);
            mem_free(one.din[i]);
        }
        mem_free(one.out);
        mem_free(one.dout);
    }
}

void rig_check(struct rig *rig, size_t n) {
    struct error error = {0};
    struct bench bench;

    if (rig_infer(rig, &error) != STATUS_OK) {
        fail_msg("%s: %s", error.where, error.message);
    }
    bench_init(rig, n, &bench);
    call(rig, &bench, false);
    call(rig, &bench, true);
    check_reference(rig, &bench);
    check_accumulation(rig, &bench);
    check_reads(rig, &bench);
    check_alias(rig, &bench);
    check_samples(rig, &bench);
    bench_deinit(&bench);
}
