/* A server with the real route table, and requests to it. */
#ifndef ONP_TESTS_UNIT_API_WORLD_H
#define ONP_TESTS_UNIT_API_WORLD_H

#include <stdatomic.h>

#include "server/api/api.h"
#include "tests/support/live.h"
#include "tests/support/scratch.h"

#define HEAD "Host: localhost\r\nConnection: close\r\n"

struct world {
    struct live live;
    struct scratch scratch;
    struct store *store;
    struct jobs *jobs;
    struct api *api;
    atomic_bool hold_checks; /* of files that start with "good slow": none ends while this is set */
    atomic_int checks_held;
};

/* Starts the server; *state is the world. For cmocka. */
int world_setup(void **state);
/* As world_setup(), with the limits and the token of `extra`. */
int world_setup_with(void **state, const struct api_config *extra);
int world_teardown(void **state);

/* How many graphs were computed since the start of the program. */
int world_described(void);

/* Sends a request and gives the answer's JSON (new reference, NULL if there is none); *code may be NULL. */
json_t *ask(struct world *world, const char *method, const char *path, const char *body, int *code);
/* The same with further header fields, each with its line end. The answer's text is in *answer until the next request (may be NULL). */
json_t *ask_with(struct world *world, const char *method, const char *path, const char *fields, const char *body,
                 int *code, const char **answer);
/* The value of a field of an answer, in one of four rotating buffers; "" if it is not there. */
const char *field_of(const char *answer, const char *name);
const char *text_of(const json_t *json, const char *name);
/* The code of a request; where `pointer` is not NULL, its problem must point there. */
int code_of(struct world *world, const char *method, const char *path, const char *body, const char *pointer);
void upload(struct world *world, const char *path, const char *bytes, int expected, char id[ID_SIZE]);

struct ids {
    char model[ID_SIZE], samples[ID_SIZE], job[ID_SIZE];
};
/* Submits a job with these parameters, uploading its model and samples if need be; returns the code. */
int submit(struct world *world, struct ids *ids, const char *parameters);
const char *job_path(const struct ids *ids, const char *rest);
/* Polls until the job is in this state; fails the test if that does not come. The document is the caller's. */
json_t *wait_for(struct world *world, const struct ids *ids, const char *state);

#endif
