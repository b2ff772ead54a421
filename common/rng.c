/* xoshiro256** 1.0 with splitmix64 for seeding (Blackman and Vigna, ACM TOMS 2021), and the few distributions that a
 * job draws from. Every function consumes a number of raw outputs that depends only on its arguments, except
 * rng_below() and rng_normal(), which may reject: a seed still fixes everything. */
#include "common/rng.h"

#include <math.h>

static uint64_t rotate_left(uint64_t x, unsigned k) {
    return (x << k) | (x >> (64 - k));
}

/* splitmix64: a bijection of a counter, so four successive outputs are never all zero. */
static uint64_t splitmix_next(uint64_t *counter) {
    uint64_t z = (*counter += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

void rng_seed(struct rng *rng, uint64_t seed) {
    for (int i = 0; i < 4; i++) {
        rng->state[i] = splitmix_next(&seed);
    }
}

struct rng rng_stream(const struct rng *parent, uint64_t stream) {
    /* Each word of the parent's state passes through splitmix64 together with the stream number, chained, so that
     * neighbouring stream numbers and neighbouring parents give unrelated states. */
    struct rng child;
    uint64_t chain = splitmix_next(&stream);
    for (int i = 0; i < 4; i++) {
        uint64_t word = parent->state[i] ^ chain;
        chain = splitmix_next(&word);
    }
    for (int i = 0; i < 4; i++) {
        child.state[i] = splitmix_next(&chain);
    }
    return child;
}

uint64_t rng_next(struct rng *rng) {
    uint64_t *s = rng->state;
    uint64_t result = rotate_left(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate_left(s[3], 45);
    return result;
}

uint64_t rng_below(struct rng *rng, uint64_t bound) {
    /* Lemire, "Fast random integer generation in an interval", 2019: the high word of x * bound is uniform once the
     * first 2^64 mod bound values of the low word are thrown away. */
    unsigned __int128 product = (unsigned __int128)rng_next(rng) * bound;
    if ((uint64_t)product < bound) {
        uint64_t threshold = (0 - bound) % bound;
        while ((uint64_t)product < threshold) {
            product = (unsigned __int128)rng_next(rng) * bound;
        }
    }
    return (uint64_t)(product >> 64);
}

float rng_uniform(struct rng *rng) {
    return (float)(rng_next(rng) >> 40) * 0x1.0p-24f; /* 24 bits: every value is exact, 1 is never reached */
}

double rng_uniform_double(struct rng *rng) {
    return (double)(rng_next(rng) >> 11) * 0x1.0p-53;
}

float rng_range(struct rng *rng, float low, float high) {
    float value = low + (high - low) * rng_uniform(rng);
    return value < high ? value : low; /* rounding may reach `high`, which the interval excludes */
}

float rng_normal(struct rng *rng) {
    double radius = 0.0;
    do {
        radius = rng_uniform_double(rng); /* log(0) is the only value to avoid */
    } while (radius <= 0.0);
    double angle = 2.0 * M_PI * rng_uniform_double(rng);
    return (float)(sqrt(-2.0 * log(radius)) * cos(angle));
}

void rng_shuffle(struct rng *rng, size_t *items, size_t count) {
    for (size_t i = count; i > 1; i--) {
        size_t j = (size_t)rng_below(rng, i);
        size_t item = items[i - 1];
        items[i - 1] = items[j];
        items[j] = item;
    }
}
