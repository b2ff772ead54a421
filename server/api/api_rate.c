/* A bucket is found by hashing the client's name; the few places after that are searched, and if none is free the oldest
 * of them is given up. Hashes are keyed by chance, so that nobody can aim at another client's place. */
#include "server/api/api_rate.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "common/id.h"
#include "common/mem.h"

enum { BUCKETS = 4096, PLACES = 8, CLIENT_SIZE = 48 };

struct bucket {
    char client[CLIENT_SIZE]; /* "": free */
    double left, seen;
};

struct api_rate {
    double rate, burst;
    uint64_t key;
    struct bucket buckets[BUCKETS];
};

/* FNV-1a, started from the key. */
static uint64_t hash(uint64_t key, const char *text) {
    uint64_t value = 0xcbf29ce484222325U ^ key;

    for (; *text != '\0'; text++) {
        value = (value ^ (unsigned char)*text) * 0x100000001b3U;
    }
    return value ^ value >> 32;
}

struct api_rate *api_rate_new(double rate, double burst) {
    struct api_rate *made = mem_calloc(1, sizeof(*made));
    char random[ID_SIZE];

    if (made != NULL) {
        made->rate = rate;
        made->burst = burst < 1 ? 1 : burst;
        id_make("key", random);
        made->key = hash(0, random);
    }
    return made;
}

void api_rate_free(struct api_rate *rate) {
    mem_free(rate);
}

static struct bucket *bucket_of(struct api_rate *rate, const char *client, double now) {
    uint64_t start = hash(rate->key, client);
    struct bucket *oldest = NULL;

    for (size_t i = 0; i < PLACES; i++) {
        struct bucket *bucket = &rate->buckets[(start + i) % BUCKETS];
        if (strncmp(bucket->client, client, CLIENT_SIZE - 1) == 0) {
            return bucket;
        }
        if (oldest == NULL ||
            (oldest->client[0] != '\0' && (bucket->client[0] == '\0' || bucket->seen < oldest->seen))) {
            oldest = bucket;
        }
    }
    (void)snprintf(oldest->client, sizeof(oldest->client), "%s", client);
    oldest->left = rate->burst;
    oldest->seen = now;
    return oldest;
}

double api_rate_take(struct api_rate *rate, const char *client, double now) {
    struct bucket *bucket = bucket_of(rate, client, now);

    bucket->left += (now - bucket->seen) * rate->rate;
    bucket->left = bucket->left > rate->burst ? rate->burst : bucket->left;
    bucket->seen = now;
    if (bucket->left < 1) {
        return (1 - bucket->left) / rate->rate;
    }
    bucket->left -= 1;
    return 0;
}
