/* Jobs over the REST interface: submit, follow, cancel, result. */
#ifndef ONP_CLIENT_JOB_CALLS_H
#define ONP_CLIENT_JOB_CALLS_H

#include <jansson.h>
#include <stdbool.h>

#include "client/api_client.h"
#include "client/progress_bar.h"
#include "common/error.h"
#include "common/id.h"
#include "common/options.h"
#include "common/words.h"

/* What a job is made of, from the command line: ids or files. */
struct job_words {
    const char *model;
    const char *samples;
    const char *probe; /* or NULL */
    const char *method;
    struct option_list settings; /* key=value */
    const char *seed;            /* decimal, or NULL */
    struct option_list labels;   /* key=value */
    const char *priority;        /* decimal, or NULL */
    double deadline_s;           /* 0: none */
    const char *key;             /* Idempotency-Key, or NULL: one of its own */
};

/* The members that need no server: method, parameters, seed, labels, priority. On success *body is a new reference. */
enum status job_calls_prepare(const struct job_words *words, json_t **body, struct error *error);
/* Uploads what is a file, puts the ids into `body`, submits; the new job's id. */
enum status job_calls_submit(struct api_client *client, struct progress_bar *bar, const struct job_words *words,
                             json_t *body, char job_id[ID_SIZE], struct error *error);
enum status job_calls_get(struct api_client *client, const char *job_id, json_t **job, struct error *error);
/* *job (the job afterwards) may be NULL. */
enum status job_calls_cancel(struct api_client *client, const char *job_id, json_t **job, struct error *error);
/* The report of a succeeded job. */
enum status job_calls_result(struct api_client *client, const char *job_id, json_t **report, struct error *error);

struct job_follow {
    struct progress_bar *bar; /* or NULL */
    void *user;
    void (*changed)(void *user, const json_t *job); /* at each new version of the job; or NULL */
    double timeout_s;                               /* 0: none */
    int interrupts; /* the count of signals at which following stops with STATUS_CANCELLED */
};

/* Long-polls until the job is in a terminal state, through restarts of the server. On success *job is the last version (new
 * reference). STATUS_LIMIT after the timeout; STATUS_UNAVAILABLE if the server stays away for a minute. */
enum status job_calls_follow(struct api_client *client, const char *job_id, const struct job_follow *follow,
                             json_t **job, struct error *error);

/* Follows the job to its end and gives its outcome. The first signal cancels it and the wait goes on; the second leaves. */
enum status job_calls_see_through(struct api_client *client, const char *job_id, struct progress_bar *bar,
                                  struct error *error);

/* The state of a job's JSON; JOB_STATE_COUNT if it has none. */
enum job_state job_calls_state(const json_t *job);
/* What a terminal job is as an error: STATUS_OK if it succeeded. Records why it failed, with the place. */
enum status job_calls_outcome(const json_t *job, struct error *error);

#endif
