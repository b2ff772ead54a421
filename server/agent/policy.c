/* The policy network.
 *
 *   H_0     = s(X W_in + b_in)
 *   H_{l+1} = H_l + s(H_l W_self + sum_r M_r(H_l) W_r + b),   M_r(H)_u = mean of H over u's neighbours of relation r, by weight
 *   logit_a = s(P_a W_1 + b_1) . w_2 + b_2 + X_a . w_0,       P_a, X_a = mean of H_L and of X over the nodes of action a
 *   (w_0: features that speak for themselves need not go through the network; it carries over from few networks to others)
 *   value   = s(Q V_1 + c_1) . v_2 + c_2,                     Q = mean of H_L over all nodes
 *
 * with s(x) = x / (1 + |x|) (softsign): smooth enough for finite differences, bounded, and a loop of it vectorises, which tanh's does
 * not. Its derivative is (1 - |s|)^2, so the outputs are all that backward needs. */
#include "server/agent/policy.h"

#include <cblas.h>
#include <math.h>
#include <string.h>

#include "common/mem.h"

enum { LAYERS_MAX = 8 };

struct layer {
    size_t self, relation[RELATION_COUNT], bias; /* offsets into the parameters */
};

struct policy {
    struct policy_shape shape;
    size_t count;
    float *parameters, *gradient;
    size_t in, in_bias;
    struct layer layers[LAYERS_MAX];
    size_t head1, head1_bias, head2, head2_bias, skip;
    size_t value1, value1_bias, value2, value2_bias;

    /* Activations of the last forward, for node_capacity nodes and action_capacity actions. W is the width. */
    size_t node_capacity, action_capacity;
    float *h;            /* (layers + 1, N, W) */
    float *s;            /* (layers, N, W): output of the nonlinearity */
    float *m;            /* (layers, RELATION_COUNT, N, W): aggregated neighbours */
    float *inverse;      /* (RELATION_COUNT, N): 1 / sum of the weights of a node's edges */
    float *pooled;       /* (A, W) */
    float *hidden;       /* (A, W) */
    float *share;        /* (A): 1 / nodes of the action */
    float *mean;         /* (W) */
    float *value_hidden; /* (W) */
    float *d;            /* (3, max(N, A), W): work space of backward */
};

static size_t take(size_t *next, size_t count) {
    size_t at = *next;
    *next += count;
    return at;
}

static void lay_out(struct policy *policy) {
    size_t w = policy->shape.width, next = 0;
    policy->in = take(&next, policy->shape.feature_count * w);
    policy->in_bias = take(&next, w);
    for (size_t l = 0; l < policy->shape.layers; l++) {
        policy->layers[l].self = take(&next, w * w);
        for (size_t r = 0; r < RELATION_COUNT; r++) {
            policy->layers[l].relation[r] = take(&next, w * w);
        }
        policy->layers[l].bias = take(&next, w);
    }
    policy->head1 = take(&next, w * w);
    policy->head1_bias = take(&next, w);
    policy->head2 = take(&next, w);
    policy->head2_bias = take(&next, 1);
    policy->skip = take(&next, policy->shape.feature_count);
    policy->value1 = take(&next, w * w);
    policy->value1_bias = take(&next, w);
    policy->value2 = take(&next, w);
    policy->value2_bias = take(&next, 1);
    policy->count = next;
}

/* Glorot and Bengio 2010, eq. 16, times `gain`. */
static void draw(struct policy *policy, size_t offset, size_t in, size_t out, float gain, struct rng *rng) {
    float limit = gain * sqrtf(6.0F / (float)(in + out));
    for (size_t i = 0; i < in * out; i++) {
        policy->parameters[offset + i] = rng_range(rng, -limit, limit);
    }
}

enum status policy_new(const struct policy_shape *shape, struct rng *rng, struct policy **out, struct error *error) {
    if (shape->feature_count == 0 || shape->width == 0 || shape->layers == 0 || shape->layers > LAYERS_MAX) {
        return error_set(
            error, STATUS_INVALID, NULL,
            "failed to make a policy: got %zu features, width %zu, %zu layers, expected at least 1 each and "
            "at most %d layers",
            shape->feature_count, shape->width, shape->layers, LAYERS_MAX);
    }
    struct policy *policy = mem_calloc(1, sizeof *policy);
    if (policy == NULL) {
        return error_no_memory(error, "policy");
    }
    policy->shape = *shape;
    lay_out(policy);
    policy->parameters = mem_aligned(policy->count, sizeof(float));
    policy->gradient = mem_aligned(policy->count, sizeof(float));
    if (policy->parameters == NULL || policy->gradient == NULL) {
        policy_free(policy);
        return error_no_memory(error, "policy");
    }
    size_t w = shape->width;
    draw(policy, policy->in, shape->feature_count, w, 1, rng);
    for (size_t l = 0; l < shape->layers; l++) {
        /* The four terms of a layer add up: half the gain each keeps their sum's variance that of one. */
        draw(policy, policy->layers[l].self, w, w, 0.5F, rng);
        for (size_t r = 0; r < RELATION_COUNT; r++) {
            draw(policy, policy->layers[l].relation[r], w, w, 0.5F, rng);
        }
    }
    draw(policy, policy->head1, w, w, 1, rng);
    draw(policy, policy->value1, w, w, 1, rng);
    *out = policy;
    return STATUS_OK;
}

static void free_activations(struct policy *policy) {
    float **all[] = {&policy->h,      &policy->s,     &policy->m,    &policy->inverse,      &policy->pooled,
                     &policy->hidden, &policy->share, &policy->mean, &policy->value_hidden, &policy->d};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        mem_free(*all[i]);
        *all[i] = NULL;
    }
    policy->node_capacity = policy->action_capacity = 0;
}

void policy_free(struct policy *policy) {
    if (policy == NULL) {
        return;
    }
    free_activations(policy);
    mem_free(policy->parameters);
    mem_free(policy->gradient);
    mem_free(policy);
}

const struct policy_shape *policy_shape_of(const struct policy *policy) {
    return &policy->shape;
}

size_t policy_parameter_count(const struct policy *policy) {
    return policy->count;
}

float *policy_parameters(struct policy *policy) {
    return policy->parameters;
}

float *policy_skip(struct policy *policy) {
    return policy->parameters + policy->skip;
}

float *policy_gradient(struct policy *policy) {
    return policy->gradient;
}

static enum status reserve(struct policy *policy, size_t nodes, size_t actions, struct error *error) {
    if (nodes == policy->node_capacity && actions == policy->action_capacity) {
        return STATUS_OK;
    }
    free_activations(policy);
    size_t w = policy->shape.width, layers = policy->shape.layers, rows = nodes > actions ? nodes : actions;
    policy->h = mem_aligned((layers + 1) * nodes, w * sizeof(float));
    policy->s = mem_aligned(layers * nodes, w * sizeof(float));
    policy->m = mem_aligned(layers * RELATION_COUNT * nodes, w * sizeof(float));
    policy->inverse = mem_aligned(RELATION_COUNT * nodes, sizeof(float));
    policy->pooled = mem_aligned(actions, w * sizeof(float));
    policy->hidden = mem_aligned(actions, w * sizeof(float));
    policy->share = mem_aligned(actions, sizeof(float));
    policy->mean = mem_aligned(w, sizeof(float));
    policy->value_hidden = mem_aligned(w, sizeof(float));
    policy->d = mem_aligned(3 * rows, w * sizeof(float));
    if (policy->h == NULL || policy->s == NULL || policy->m == NULL || policy->inverse == NULL ||
        policy->pooled == NULL || policy->hidden == NULL || policy->share == NULL || policy->mean == NULL ||
        policy->value_hidden == NULL || policy->d == NULL) {
        free_activations(policy);
        return error_no_memory(error, "policy activations");
    }
    policy->node_capacity = nodes;
    policy->action_capacity = actions;
    return STATUS_OK;
}

/* y (rows, out) [+]= x (rows, in) W (in, out). */
static void multiply(size_t rows, size_t in, size_t out, const float *x, const float *weight, float keep, float *y) {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)rows, (int)out, (int)in, 1, x, (int)in, weight,
                (int)out, keep, y, (int)out);
}

/* dx (rows, in) [+]= dy (rows, out) W^T. */
static void multiply_back(size_t rows, size_t in, size_t out, const float *dy, const float *weight, float keep,
                          float *dx) {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)rows, (int)in, (int)out, 1, dy, (int)out, weight,
                (int)out, keep, dx, (int)in);
}

/* dW (in, out) += x^T dy. */
static void weight_gradient(size_t rows, size_t in, size_t out, const float *x, const float *dy, float *gradient) {
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)in, (int)out, (int)rows, 1, x, (int)in, dy, (int)out, 1,
                gradient, (int)out);
}

static void bias_gradient(size_t rows, size_t width, const float *dy, float *gradient) {
    for (size_t i = 0; i < rows; i++) {
        for (size_t k = 0; k < width; k++) {
            gradient[k] += dy[i * width + k];
        }
    }
}

/* y = s(y + bias), row by row. */
static void activate(size_t rows, size_t width, const float *restrict bias, float *restrict y) {
    for (size_t i = 0; i < rows; i++) {
        float *row = y + i * width;
        for (size_t k = 0; k < width; k++) {
            float x = row[k] + bias[k];
            row[k] = x / (1.0F + fabsf(x));
        }
    }
}

/* dz = dy * s'(.), from the output s. */
static void activate_back(size_t count, const float *restrict dy, const float *restrict s, float *restrict dz) {
    for (size_t i = 0; i < count; i++) {
        float slope = 1.0F - fabsf(s[i]);
        dz[i] = dy[i] * slope * slope;
    }
}

static void edge_norms(struct policy *policy, const struct neuron_graph *graph) {
    for (size_t r = 0; r < RELATION_COUNT; r++) {
        const struct edge_list *edges = &graph->edges[r];
        for (size_t u = 0; u < graph->node_count; u++) {
            float sum = 0;
            for (size_t e = edges->start[u]; e < edges->start[u + 1]; e++) {
                sum += edges->weight[e];
            }
            policy->inverse[r * graph->node_count + u] = sum > 0 ? 1 / sum : 0;
        }
    }
}

/* m (N, W): weighted mean of h over the neighbours of each node. */
static void aggregate(const struct edge_list *edges, size_t nodes, size_t width, const float *inverse, const float *h,
                      float *m) {
    for (size_t u = 0; u < nodes; u++) {
        float *restrict to = m + u * width;
        memset(to, 0, width * sizeof *to);
        for (size_t e = edges->start[u]; e < edges->start[u + 1]; e++) {
            const float *restrict from = h + (size_t)edges->source[e] * width;
            float weight = edges->weight[e] * inverse[u];
            for (size_t k = 0; k < width; k++) {
                to[k] += weight * from[k];
            }
        }
    }
}

/* The transpose: dh += . */
static void aggregate_back(const struct edge_list *edges, size_t nodes, size_t width, const float *inverse,
                           const float *dm, float *dh) {
    for (size_t u = 0; u < nodes; u++) {
        const float *restrict from = dm + u * width;
        for (size_t e = edges->start[u]; e < edges->start[u + 1]; e++) {
            float *restrict to = dh + (size_t)edges->source[e] * width;
            float weight = edges->weight[e] * inverse[u];
            for (size_t k = 0; k < width; k++) {
                to[k] += weight * from[k];
            }
        }
    }
}

static void pool_nodes(struct policy *policy, const struct rl_env *env, const float *h) {
    size_t w = policy->shape.width, nodes = env->graph->node_count;
    memset(policy->share, 0, env->action_count * sizeof(float));
    memset(policy->pooled, 0, env->action_count * w * sizeof(float));
    memset(policy->mean, 0, w * sizeof(float));
    for (size_t u = 0; u < nodes; u++) {
        if (env->action_of[u] != RL_NO_ACTION) {
            policy->share[env->action_of[u]] += 1;
        }
    }
    for (size_t a = 0; a < env->action_count; a++) {
        policy->share[a] = policy->share[a] > 0 ? 1 / policy->share[a] : 0;
    }
    for (size_t u = 0; u < nodes; u++) {
        size_t a = env->action_of[u];
        for (size_t k = 0; k < w; k++) {
            policy->mean[k] += h[u * w + k] / (float)nodes;
        }
        for (size_t k = 0; a != RL_NO_ACTION && k < w; k++) {
            policy->pooled[a * w + k] += policy->share[a] * h[u * w + k];
        }
    }
}

static enum status check_env(const struct policy *policy, const struct rl_env *env, struct error *error) {
    if (env->feature_count != policy->shape.feature_count || env->graph->node_count == 0 || env->action_count == 0) {
        return error_set(
            error, STATUS_INVALID, NULL,
            "failed to run the policy: got %zu features, %zu nodes, %zu actions, expected %zu features and at "
            "least one of the others",
            env->feature_count, env->graph->node_count, env->action_count, policy->shape.feature_count);
    }
    return STATUS_OK;
}

enum status policy_forward(struct policy *policy, const struct rl_env *env, float *logits, float *value,
                           struct error *error) {
    enum status status = check_env(policy, env, error);
    if (status == STATUS_OK) {
        status = reserve(policy, env->graph->node_count, env->action_count, error);
    }
    if (status != STATUS_OK) {
        return status;
    }
    size_t w = policy->shape.width, nodes = env->graph->node_count, actions = env->action_count, plane = nodes * w;
    const float *p = policy->parameters;
    edge_norms(policy, env->graph);
    multiply(nodes, env->feature_count, w, env->features, p + policy->in, 0, policy->h);
    activate(nodes, w, p + policy->in_bias, policy->h);
    for (size_t l = 0; l < policy->shape.layers; l++) {
        const float *h = policy->h + l * plane;
        float *s = policy->s + l * plane, *next = policy->h + (l + 1) * plane;
        multiply(nodes, w, w, h, p + policy->layers[l].self, 0, s);
        for (size_t r = 0; r < RELATION_COUNT; r++) {
            float *m = policy->m + (l * RELATION_COUNT + r) * plane;
            aggregate(&env->graph->edges[r], nodes, w, policy->inverse + r * nodes, h, m);
            multiply(nodes, w, w, m, p + policy->layers[l].relation[r], 1, s);
        }
        activate(nodes, w, p + policy->layers[l].bias, s);
        for (size_t i = 0; i < plane; i++) {
            next[i] = h[i] + s[i];
        }
    }
    pool_nodes(policy, env, policy->h + policy->shape.layers * plane);
    multiply(actions, w, w, policy->pooled, p + policy->head1, 0, policy->hidden);
    activate(actions, w, p + policy->head1_bias, policy->hidden);
    for (size_t a = 0; a < actions; a++) {
        logits[a] = p[policy->head2_bias] + cblas_sdot((int)w, policy->hidden + a * w, 1, p + policy->head2, 1);
    }
    for (size_t u = 0; u < nodes; u++) {
        const size_t a = env->action_of[u], features = env->feature_count;
        if (a != RL_NO_ACTION) {
            const float *x = env->features + u * features;
            logits[a] += policy->share[a] * cblas_sdot((int)features, x, 1, p + policy->skip, 1);
        }
    }
    multiply(1, w, w, policy->mean, p + policy->value1, 0, policy->value_hidden);
    activate(1, w, p + policy->value1_bias, policy->value_hidden);
    *value = p[policy->value2_bias] + cblas_sdot((int)w, policy->value_hidden, 1, p + policy->value2, 1);
    return STATUS_OK;
}

/* Gradients of both heads; dh (N, W) is overwritten with the gradient of the last embedding. work: (max(N, A), W) twice. */
static void heads_back(struct policy *policy, const struct rl_env *env, const float *dlogits, float dvalue, float *dh,
                       float *work) {
    size_t w = policy->shape.width, nodes = env->graph->node_count, actions = env->action_count;
    size_t rows = nodes > actions ? nodes : actions;
    const float *p = policy->parameters;
    float *g = policy->gradient, *dhidden = work, *dpooled = work + rows * w;
    for (size_t a = 0; a < actions; a++) {
        g[policy->head2_bias] += dlogits[a];
        for (size_t k = 0; k < w; k++) {
            g[policy->head2 + k] += dlogits[a] * policy->hidden[a * w + k];
            dhidden[a * w + k] = dlogits[a] * p[policy->head2 + k];
        }
    }
    activate_back(actions * w, dhidden, policy->hidden, dpooled); /* dpooled holds dz for now */
    memcpy(dhidden, dpooled, actions * w * sizeof(float));
    weight_gradient(actions, w, w, policy->pooled, dhidden, g + policy->head1);
    bias_gradient(actions, w, dhidden, g + policy->head1_bias);
    multiply_back(actions, w, w, dhidden, p + policy->head1, 0, dpooled);
    for (size_t u = 0; u < nodes; u++) {
        size_t a = env->action_of[u];
        for (size_t k = 0; k < w; k++) {
            dh[u * w + k] = a == RL_NO_ACTION ? 0 : policy->share[a] * dpooled[a * w + k];
        }
        if (a != RL_NO_ACTION) {
            const float *x = env->features + u * env->feature_count;
            cblas_saxpy((int)env->feature_count, policy->share[a] * dlogits[a], x, 1, g + policy->skip, 1);
        }
    }
    g[policy->value2_bias] += dvalue;
    float *dz = dhidden, *dmean = dhidden + w; /* rows >= 1, and work holds 2 rows at least */
    for (size_t k = 0; k < w; k++) {
        g[policy->value2 + k] += dvalue * policy->value_hidden[k];
        float slope = 1.0F - fabsf(policy->value_hidden[k]);
        dz[k] = dvalue * p[policy->value2 + k] * slope * slope;
    }
    weight_gradient(1, w, w, policy->mean, dz, g + policy->value1);
    bias_gradient(1, w, dz, g + policy->value1_bias);
    multiply_back(1, w, w, dz, p + policy->value1, 0, dmean);
    for (size_t u = 0; u < nodes; u++) {
        for (size_t k = 0; k < w; k++) {
            dh[u * w + k] += dmean[k] / (float)nodes;
        }
    }
}

void policy_backward(struct policy *policy, const struct rl_env *env, const float *dlogits, float dvalue) {
    size_t w = policy->shape.width, nodes = env->graph->node_count, plane = nodes * w;
    size_t rows = nodes > env->action_count ? nodes : env->action_count;
    const float *p = policy->parameters;
    float *g = policy->gradient, *dh = policy->d, *dz = policy->d + rows * w, *dm = policy->d + 2 * rows * w;
    heads_back(policy, env, dlogits, dvalue, dh, dz);
    for (size_t l = policy->shape.layers; l-- > 0;) {
        const float *h = policy->h + l * plane;
        activate_back(plane, dh, policy->s + l * plane, dz);
        weight_gradient(nodes, w, w, h, dz, g + policy->layers[l].self);
        bias_gradient(nodes, w, dz, g + policy->layers[l].bias);
        multiply_back(nodes, w, w, dz, p + policy->layers[l].self, 1, dh);
        for (size_t r = 0; r < RELATION_COUNT; r++) {
            const float *m = policy->m + (l * RELATION_COUNT + r) * plane;
            weight_gradient(nodes, w, w, m, dz, g + policy->layers[l].relation[r]);
            multiply_back(nodes, w, w, dz, p + policy->layers[l].relation[r], 0, dm);
            aggregate_back(&env->graph->edges[r], nodes, w, policy->inverse + r * nodes, dm, dh);
        }
    }
    activate_back(plane, dh, policy->h, dz);
    weight_gradient(nodes, env->feature_count, w, env->features, dz, g + policy->in);
    bias_gradient(nodes, w, dz, g + policy->in_bias);
}
