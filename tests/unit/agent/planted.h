/* A planted world: a layered graph of neurons in which a hidden set carries a backdoor. Its members are joined mostly with each
 * other; features say who they are only with much noise; the attack dies only when most of them are gone; every good neuron costs. */
#ifndef ONP_TESTS_UNIT_AGENT_PLANTED_H
#define ONP_TESTS_UNIT_AGENT_PLANTED_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "common/rng.h"
#include "server/agent/ppo.h"
#include "tests/support/cm.h"

#define UNUSED __attribute__((unused))

enum { PLANTED_FEATURES = 10, PLANTED_DEGREE = 8 };

struct planted {
    size_t nodes, bad_count;
    uint8_t *bad;
    double *worth; /* a bad node's share of the backdoor; a good node's cost */
    float *features;
    size_t *action_of;
    struct neuron_graph graph;
    struct rl_env env;
    size_t evaluations;
    double lambda, threshold, signal, homophily;
};

static inline double planted_reward(const struct planted *p, const uint8_t *mask) {
    double missed = 0, cost = 0;
    for (size_t u = 0; u < p->nodes; u++) {
        if (p->bad[u] && !mask[u]) {
            missed += p->worth[u];
        } else if (!p->bad[u] && mask[u]) {
            cost += p->worth[u];
        }
    }
    /* Attack success: a sigmoid of what is left of the backdoor, and a little that is linear. */
    double attack = 1 / (1 + exp(-(missed - p->threshold) / 0.08));
    return -attack - 0.2 * missed - p->lambda * cost * (1 + 0.02 * cost);
}

static inline enum status planted_evaluate(void *user, const uint8_t *masks, size_t count, double *rewards,
                                           struct error *error) {
    (void)error;
    struct planted *p = user;
    for (size_t i = 0; i < count; i++) {
        rewards[i] = planted_reward(p, masks + i * p->nodes);
    }
    p->evaluations += count;
    return STATUS_OK;
}

/* Edges: each node gets PLANTED_DEGREE random sources among its own layer (similar), the one before (forward), the one after
 * (backward); with probability `homophily` of its own kind, if there are any. */
static inline void planted_edges(struct planted *p, struct edge_list *edges, size_t layer_size, int offset,
                                 struct rng *rng) {
    edges->start = mem_calloc(p->nodes + 1, sizeof *edges->start);
    edges->source = mem_calloc(p->nodes * PLANTED_DEGREE, sizeof *edges->source);
    edges->weight = mem_calloc(p->nodes * PLANTED_DEGREE, sizeof *edges->weight);
    size_t layers = p->nodes / layer_size, at = 0;
    for (size_t u = 0; u < p->nodes; u++) {
        long layer = (long)(u / layer_size) + offset;
        for (size_t k = 0; layer >= 0 && layer < (long)layers && k < PLANTED_DEGREE; k++) {
            size_t source = 0;
            bool same_kind = rng_uniform_double(rng) < p->homophily;
            for (size_t tries = 0; tries < 200; tries++) {
                source = (size_t)layer * layer_size + (size_t)rng_below(rng, layer_size);
                if (source != u && (!same_kind || p->bad[source] == p->bad[u])) {
                    break;
                }
            }
            edges->source[at] = (uint32_t)source;
            edges->weight[at++] = rng_range(rng, 0.3F, 1.0F);
        }
        edges->start[u + 1] = at;
    }
}

UNUSED static void planted_init(struct planted *p, size_t layers, size_t layer_size, size_t bad_count, uint64_t seed,
                                double signal, double homophily) {
    struct rng rng;
    rng_seed(&rng, seed);
    *p = (struct planted){.nodes = layers * layer_size,
                          .bad_count = bad_count,
                          .lambda = 0.003,
                          .threshold = 0.35,
                          .signal = signal,
                          .homophily = homophily};
    p->bad = mem_calloc(p->nodes, 1);
    p->worth = mem_calloc(p->nodes, sizeof *p->worth);
    p->features = mem_calloc(p->nodes * PLANTED_FEATURES, sizeof *p->features);
    p->action_of = mem_calloc(p->nodes, sizeof *p->action_of);
    double total = 0;
    for (size_t k = 0; k < bad_count;) {
        /* Deeper layers carry more of it. */
        size_t layer = layers / 2 + (size_t)rng_below(&rng, layers - layers / 2);
        size_t u = layer * layer_size + (size_t)rng_below(&rng, layer_size);
        if (!p->bad[u]) {
            p->bad[u] = 1;
            p->worth[u] = 0.3 + rng_uniform_double(&rng);
            total += p->worth[u];
            k++;
        }
    }
    for (size_t u = 0; u < p->nodes; u++) {
        p->action_of[u] = u;
        p->worth[u] = p->bad[u] ? p->worth[u] / total : exp(0.8 * (double)rng_normal(&rng));
        float *row = p->features + u * PLANTED_FEATURES;
        for (size_t k = 0; k < PLANTED_FEATURES; k++) {
            row[k] = rng_normal(&rng);
        }
        const size_t layer = u / layer_size;
        row[0] += p->bad[u] ? (float)p->signal : 0;
        row[1] += p->bad[u] ? (float)p->signal * 0.7F : 0;
        row[2] += p->bad[u] ? 0 : 0.5F * (float)log(p->worth[u]); /* good neurons that matter show it, a little */
        row[PLANTED_FEATURES - 1] = (float)layer / (float)layers;
    }
    p->graph.node_count = p->nodes;
    planted_edges(p, &p->graph.edges[RELATION_SIMILAR], layer_size, 0, &rng);
    planted_edges(p, &p->graph.edges[RELATION_FORWARD], layer_size, -1, &rng);
    planted_edges(p, &p->graph.edges[RELATION_BACKWARD], layer_size, 1, &rng);
    p->env = (struct rl_env){.user = p,
                             .graph = &p->graph,
                             .features = p->features,
                             .feature_count = PLANTED_FEATURES,
                             .action_count = p->nodes,
                             .action_of = p->action_of,
                             .evaluate = planted_evaluate};
}

UNUSED static void planted_deinit(struct planted *p) {
    for (size_t r = 0; r < RELATION_COUNT; r++) {
        mem_free(p->graph.edges[r].start);
        mem_free(p->graph.edges[r].source);
        mem_free(p->graph.edges[r].weight);
    }
    mem_free(p->bad);
    mem_free(p->worth);
    mem_free(p->features);
    mem_free(p->action_of);
}

/* Nodes by falling feature 0 + feature 1: the ranking that a greedy method would have. */
UNUSED static void planted_ranking(const struct planted *p, size_t *order) {
    for (size_t u = 0; u < p->nodes; u++) {
        order[u] = u;
    }
    for (size_t i = 1; i < p->nodes; i++) {
        size_t u = order[i], at = i;
        float score = p->features[u * PLANTED_FEATURES] + p->features[u * PLANTED_FEATURES + 1];
        while (at > 0 &&
               p->features[order[at - 1] * PLANTED_FEATURES] + p->features[order[at - 1] * PLANTED_FEATURES + 1] <
                   score) {
            order[at] = order[at - 1];
            at--;
        }
        order[at] = u;
    }
}

/* The best prefix of the ranking, as the warm start of the search stage. */
UNUSED static void planted_greedy(const struct planted *p, const size_t *order, uint8_t *best) {
    uint8_t *mask = mem_calloc(p->nodes, 1);
    double reward = planted_reward(p, mask);
    memset(best, 0, p->nodes);
    for (size_t k = 0; k < p->nodes / 4; k++) {
        mask[order[k]] = 1;
        double now = planted_reward(p, mask);
        if (now > reward) {
            reward = now;
            memcpy(best, mask, p->nodes);
        }
    }
    mem_free(mask);
}

/* Masks at random around the warm one; `climb`: around the best so far. */
UNUSED static double planted_random(const struct planted *p, const uint8_t *warm, size_t evaluations, double flips,
                                    bool climb, struct rng *rng) {
    uint8_t *base = mem_dup(warm, p->nodes), *mask = mem_alloc(p->nodes, 1);
    double best = planted_reward(p, warm);
    for (size_t i = 1; i < evaluations; i++) {
        memcpy(mask, base, p->nodes);
        for (size_t u = 0; u < p->nodes; u++) {
            mask[u] ^= rng_uniform_double(rng) < flips / (double)p->nodes;
        }
        double reward = planted_reward(p, mask);
        if (reward > best) {
            best = reward;
            if (climb) {
                memcpy(base, mask, p->nodes);
            }
        }
    }
    mem_free(base);
    mem_free(mask);
    return best;
}

/* Bits flipped one after the other, kept if better, in the given order. */
UNUSED static double planted_bit_flips(const struct planted *p, const uint8_t *warm, const size_t *order,
                                       size_t evaluations) {
    uint8_t *mask = mem_dup(warm, p->nodes);
    double best = planted_reward(p, warm);
    for (size_t i = 0; i + 1 < evaluations; i++) {
        size_t u = order[i % p->nodes];
        mask[u] = !mask[u];
        double reward = planted_reward(p, mask);
        if (reward > best) {
            best = reward;
        } else {
            mask[u] = !mask[u];
        }
    }
    mem_free(mask);
    return best;
}

#endif
