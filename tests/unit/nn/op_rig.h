/* A rig that holds one row of the op table over made-up values, and the checks that every row must pass:
 * against a slow reference in double, its backward against central differences of that reference, and the promises of op.h
 * (accumulation, wanted gradients only, memory that may be shared, what backward may read, samples kept apart). */
#ifndef ONP_TESTS_UNIT_NN_OP_RIG_H
#define ONP_TESTS_UNIT_NN_OP_RIG_H

#include "common/rng.h"
#include "server/nn/op.h"

enum { RIG_INPUTS_MAX = 6 };

struct rig;

/* The reference: out (n samples) from in (activations n samples, constants once), all in double. */
typedef void rig_reference(const struct rig *rig, size_t n, const double *const *in, double *out);

struct rig {
    struct network network;
    struct value values[RIG_INPUTS_MAX + 1];
    size_t inputs[RIG_INPUTS_MAX];
    struct node node;
    struct rng rng;
    rig_reference *reference;
    bool train;
    bool loose_samples;       /* rounding may depend on the samples beside (products through BLAS) */
    float low, high;          /* range of random activations; -1 to 1 if both are 0 */
    double tolerance;         /* relative to the largest magnitude; 0: 1e-5 */
    const float *mask, *fill; /* handed to the row; mask gradients are checked by test_op_mask.c */
    unsigned fixed;           /* bit i: input i, a constant, has no gradient (BatchNorm's mean and variance) */
};

void rig_init(struct rig *rig, enum op_kind op, uint64_t seed);
/* Adds an input; returns its index. A constant gets random data in [low, high). */
size_t rig_data(struct rig *rig, size_t rank, const size_t *dims);
size_t rig_constant(struct rig *rig, size_t rank, const size_t *dims, float low, float high);
void rig_omit(struct rig *rig);
void rig_deinit(struct rig *rig);

/* infer, then the output value's shape. */
enum status rig_infer(struct rig *rig, struct error *error);
/* infer must fail with this status and a message that holds `text` and names the node. */
void rig_refuses(struct rig *rig, enum status status, const char *text);
const struct shape *rig_shape(const struct rig *rig, size_t input);
const struct shape *rig_out_shape(const struct rig *rig);
size_t rig_count(const struct rig *rig, size_t input, size_t n);

/* All checks for a chunk of n samples. */
void rig_check(struct rig *rig, size_t n);

#define RIG_DATA(rig, ...)                                                                                             \
    rig_data((rig), sizeof((size_t[]){__VA_ARGS__}) / sizeof(size_t), (const size_t[]){__VA_ARGS__})
#define RIG_CONSTANT(rig, low, high, ...)                                                                              \
    rig_constant((rig), sizeof((size_t[]){__VA_ARGS__}) / sizeof(size_t), (const size_t[]){__VA_ARGS__}, (low), (high))

/* Largest |a - b| over largest |b| (at least `floor`). */
double rig_error(size_t count, const float *a, const double *b, double floor);

#endif
