/* Methods that do what a test tells them to by the parameter "act" (jobs) or by the first line of the file (checks), and a server of
 * jobs around them. */
#ifndef ONP_TESTS_UNIT_JOBS_FAKE_METHODS_H
#define ONP_TESTS_UNIT_JOBS_FAKE_METHODS_H

#include "server/jobs/jobs.h"
#include "tests/support/cm.h"
#include "tests/support/patience.h"
#include "tests/support/scratch.h"

extern const struct job_methods fake_methods;

enum { HANG_S = 100 }; /* how long a check hangs */

struct fixture {
    struct scratch scratch;
    struct store *store;
    struct jobs *jobs;
    struct jobs_options options;
    char model_id[ID_SIZE];
    char samples_id[ID_SIZE];
};

/* cmocka's setup and teardown: *state is a struct fixture, its jobs not started yet. */
int fixture_setup(void **state);
int fixture_teardown(void **state);
void fixture_start(struct fixture *fixture);
/* Stops jobs and store and opens both again, as a restart of the daemon does. */
void fixture_restart(struct fixture *fixture, double grace_s);
/* Submits a job with {"act": act} and, if `path` is not NULL, {"path": path}. */
void fixture_submit(struct fixture *fixture, const char *act, const char *path, char id[ID_SIZE]);
/* Queues a job that hangs until it is ended, with a deadline of so many seconds. */
void fixture_submit_hanging(struct fixture *fixture, double deadline_s, char id[ID_SIZE]);
/* Waits until the job is in this state and gives its row; fails the test if that does not come. */
void fixture_await(struct fixture *fixture, const char *id, enum job_state state, struct store_job *job);
/* The lines of a file in the scratch folder; 0 if it is not there. */
size_t fixture_lines(const struct fixture *fixture, const char *name);
void assert_ok(enum status status, const struct error *error);

#endif
