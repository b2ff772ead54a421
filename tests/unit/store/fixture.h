/* A store in a scratch folder with a model and samples in it. */
#ifndef ONP_TESTS_UNIT_STORE_FIXTURE_H
#define ONP_TESTS_UNIT_STORE_FIXTURE_H

#include "server/store/store.h"
#include "server/store/store_jobs.h"
#include "server/store/store_objects.h"
#include "tests/support/cm.h"
#include "tests/support/patience.h"
#include "tests/support/scratch.h"

struct fixture {
    struct scratch scratch;
    struct store *store;
    char model_id[ID_SIZE];
    char samples_id[ID_SIZE];
};

/* cmocka's setup and teardown: *state is a struct fixture. */
int fixture_setup(void **state);
int fixture_teardown(void **state);
/* Closes the store and opens it again. */
void fixture_reopen(struct fixture *fixture);
/* Uploads `text` as an object; fails the test if that does not work. *id is written. */
void fixture_object(struct store *store, enum store_kind kind, const char *name, const char *text, char id[ID_SIZE]);
/* Inserts a job over the fixture's model and samples. */
void fixture_job(struct fixture *fixture, int priority, char id[ID_SIZE]);
struct store_job_request fixture_request(const struct fixture *fixture);
/* The state of a job. */
enum job_state fixture_state(struct fixture *fixture, const char *id);
/* One number that `sql` gives, read by a connection of its own. */
int64_t fixture_number(const struct fixture *fixture, const char *sql);
/* The text that `sql` gives, in `out`. */
void fixture_text(const struct fixture *fixture, const char *sql, char *out, size_t size);
/* How many files are below `folder` of the data folder. */
size_t fixture_files(const struct fixture *fixture, const char *folder);
/* Fails the test with the error's text unless status is STATUS_OK. */
void assert_ok(enum status status, const struct error *error);

#endif
