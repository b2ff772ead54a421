/* Random numbers: xoshiro256** (Blackman and Vigna, "Scrambled linear pseudorandom number generators",
 * ACM TOMS 2021), seeded by splitmix64. All randomness of a job comes from one of these, passed by the
 * caller, so a seed fixes the result. Not thread-safe: one a thread. */
#ifndef ONP_COMMON_RNG_H
#define ONP_COMMON_RNG_H

#include <stddef.h>
#include <stdint.h>

struct rng {
    uint64_t state[4];
};

void rng_seed(struct rng *rng, uint64_t seed);
/* A generator independent of the parent and of other streams; the parent is not advanced. Use it to give each
 * part of a job its own stream, so that one part's draws do not shift another's. */
struct rng rng_stream(const struct rng *parent, uint64_t stream);
uint64_t rng_next(struct rng *rng);
/* Uniform integer in [0, bound), without modulo bias; bound > 0. */
uint64_t rng_below(struct rng *rng, uint64_t bound);
/* Uniform in [0, 1). */
float rng_uniform(struct rng *rng);
double rng_uniform_double(struct rng *rng);
/* Uniform in [low, high). */
float rng_range(struct rng *rng, float low, float high);
/* Standard normal (Box-Muller). */
float rng_normal(struct rng *rng);
/* Fisher-Yates over indices. */
void rng_shuffle(struct rng *rng, size_t *items, size_t count);

#endif
