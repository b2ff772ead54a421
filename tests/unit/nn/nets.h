/* Small networks made by hand, and a slow interpreter that runs any network in the plainest way: every value has its own
 * memory, nothing is aliased, gradients start at zero and are added to. It is what the engine is compared with. */
#ifndef ONP_TESTS_UNIT_NN_NETS_H
#define ONP_TESTS_UNIT_NN_NETS_H

#include "common/rng.h"
#include "server/nn/network.h"

enum { NETS_CLASSES = 5 };

/* All helpers fail the running test when something goes wrong. */
struct network *nets_start(size_t channels, size_t size, size_t *input);
size_t nets_constant(struct network *network, struct rng *rng, const char *name, const struct shape *shape, float low,
                     float high);
size_t nets_node(struct network *network, enum op_kind op, const char *name, const size_t *inputs, size_t count,
                 const struct op_attr *attr);
size_t nets_unary(struct network *network, enum op_kind op, const char *name, size_t x);
size_t nets_binary(struct network *network, enum op_kind op, const char *name, size_t a, size_t b);
/* 3x3, padding 1, no bias. */
size_t nets_conv(struct network *network, struct rng *rng, const char *name, size_t x, size_t out, size_t stride);
size_t nets_norm(struct network *network, struct rng *rng, const char *name, size_t x);
/* Global average, flatten, Gemm to NETS_CLASSES; set as the output. */
void nets_head(struct network *network, struct rng *rng, size_t x);
/* Convolutions, BatchNorm, a residual block with a strided shortcut, and the head. */
struct network *nets_residual(struct rng *rng, size_t channels, size_t size, enum op_kind activation);
/* A random graph of element-wise operators, aliases, masks and several readers, to try the planner with. */
struct network *nets_random(struct rng *rng, size_t nodes);

size_t nets_find(const struct network *network, const char *name);

/* Fills `count` floats uniformly. */
float *nets_floats(struct rng *rng, size_t count, float low, float high);

struct nets_result {
    float **values; /* one a value: n samples (not for constants) */
    float **grads;  /* one a value: gradients of everything, constants too */
    float *mask_grad;
    size_t value_count;
};
/* dlogits NULL: forward only. */
struct nets_result nets_interpret(const struct network *network, size_t n, const float *x, const float *mask,
                                  const float *fill, const float *dlogits);
void nets_result_free(struct nets_result *result);

#endif
