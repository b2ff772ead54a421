/* Idempotency keys: what was answered to a request, so that the same request sent again has no second effect. */
#ifndef ONP_SERVER_STORE_STORE_IDEMPOTENCY_H
#define ONP_SERVER_STORE_STORE_IDEMPOTENCY_H

#include <stdint.h>

#include "common/id.h"
#include "server/store/store.h"

enum { STORE_IDEMPOTENCY_KEY_SIZE = 256, STORE_LOCATION_SIZE = 64 };

/* A key belongs to who sent it. Both borrowed. */
struct store_idempotency_key {
    const char *subject, *key;
};

enum store_idempotency {
    STORE_IDEMPOTENCY_NEW,    /* never seen: go on, then store_idempotency_finish() */
    STORE_IDEMPOTENCY_REPLAY, /* answered before: *answer */
    STORE_IDEMPOTENCY_BUSY,   /* the first is not answered yet */
    STORE_IDEMPOTENCY_OTHER,  /* the key came with another request before */
};

struct store_answer {
    unsigned code;
    char location[STORE_LOCATION_SIZE]; /* "" if none */
    char *body;                         /* the caller's (mem_free()); NULL: none, or as `resource` stands now */
    char resource[ID_SIZE];             /* the job that was made; "" if none */
};

/* Takes the key for a request with this fingerprint, or says what became of the earlier one. Keys older than max_age_ms are
 * forgotten. */
enum status store_idempotency_begin(struct store *store, const struct store_idempotency_key *key,
                                    const char *fingerprint, int64_t max_age_ms, enum store_idempotency *found,
                                    struct store_answer *answer, struct error *error);
/* Keeps the answer (borrowed), or with NULL lets go of the key, so that the request may be tried again. */
enum status store_idempotency_finish(struct store *store, const struct store_idempotency_key *key,
                                     const struct store_answer *answer, struct error *error);
/* At a start: requests of an earlier run that were never answered. Those that had made a job count as answered, the others
 * as never seen. */
enum status store_idempotency_recover(struct store *store, struct error *error);

#endif
