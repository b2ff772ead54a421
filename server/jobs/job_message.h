/* What parent and child of a job say to each other: JSON, one line a message, over a socket.
 *
 * The parent sends one request. The child answers with any number of progress messages and one outcome: done or error.
 * The child is not trusted: job_message_parse() accepts nothing but these. */
#ifndef ONP_SERVER_JOBS_JOB_MESSAGE_H
#define ONP_SERVER_JOBS_JOB_MESSAGE_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "server/jobs/job_limits.h"
#include "server/mitigate/mitigate.h"
#include "server/store/store_jobs.h"

enum { JOB_REQUEST_MAX = 4 * 1024 * 1024, JOB_LINE_MAX = 64 * 1024, JOB_INFO_LINE_MAX = 4 * 1024 * 1024 };

enum job_task { JOB_TASK_RUN, JOB_TASK_CHECK_MODEL, JOB_TASK_CHECK_SAMPLES, JOB_TASK_DESCRIBE_GRAPH, JOB_TASK_COUNT };

struct job_request {
    enum job_task task;
    struct job_limits limits;    /* what the child holds itself to (job_sandbox.h) */
    const char *path;            /* of a check or description */
    long layer;                  /* of JOB_TASK_DESCRIBE_GRAPH; < 0: none in particular */
    struct mitigate_request run; /* of JOB_TASK_RUN */
};

enum job_message_kind { JOB_MESSAGE_PROGRESS, JOB_MESSAGE_DONE, JOB_MESSAGE_ERROR };

struct job_message {
    enum job_message_kind kind;
    struct store_progress progress;
    json_t *info; /* of a check that is done, else NULL; new reference */
    struct error problem;
};

/* Each of these gives one line with its newline, the caller's (mem_free()), or NULL without memory. */
char *job_message_request(const struct job_request *request);
char *job_message_progress(const struct store_progress *progress);
char *job_message_done(const json_t *info);
char *job_message_error(const struct error *problem);

/* Reads a request; its strings are borrowed from *document, which is the caller's (json_decref()). */
enum status job_message_parse_request(const char *line, size_t length, struct job_request *request, json_t **document,
                                      struct error *error);
/* Reads what a child said. STATUS_INVALID and the place if it is anything else. */
enum status job_message_parse(const char *line, size_t length, struct job_message *message, struct error *error);

/* Copies what the stages report into the form that is stored; out-of-range numbers become "not known". */
void job_message_from_stages(const struct mitigate_progress *from, struct store_progress *to);

#endif
