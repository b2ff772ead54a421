/* The words that server and client share: paths, header and field names, states, stages, exit codes. */
#ifndef ONP_COMMON_WORDS_H
#define ONP_COMMON_WORDS_H

#include <stdbool.h>

#define ONP_VERSION "0.1.0"

/* Job states (api.md). Terminal states never change. */
enum job_state {
    JOB_QUEUED,
    JOB_STARTING,
    JOB_RUNNING,
    JOB_CANCELLING,
    JOB_SUCCEEDED,
    JOB_FAILED,
    JOB_CANCELLED,
    JOB_INTERRUPTED,
    JOB_STATE_COUNT
};
const char *job_state_name(enum job_state state);
/* JOB_STATE_COUNT for an unknown word. */
enum job_state job_state_from_name(const char *name);
bool job_state_is_terminal(enum job_state state);

/* The eight stages of a job in order (method.md). */
enum job_stage {
    STAGE_LOAD,
    STAGE_BASELINE,
    STAGE_EXPOSE,
    STAGE_GRAPH,
    STAGE_SEARCH,
    STAGE_REPAIR,
    STAGE_EVALUATE,
    STAGE_EXPORT,
    STAGE_COUNT
};
const char *job_stage_name(enum job_stage stage);
enum job_stage job_stage_from_name(const char *name); /* STAGE_COUNT for an unknown word */

enum verdict {
    VERDICT_REMOVED,
    VERDICT_REDUCED,
    VERDICT_NO_BACKDOOR_FOUND,
    VERDICT_FAILED_BUDGET,
    VERDICT_UNJUDGED,
    VERDICT_COUNT
};
const char *verdict_name(enum verdict verdict);

/* What a token allows; sets of them are bits, 1 << scope. Admin allows everything. */
enum token_scope { SCOPE_READ, SCOPE_WRITE, SCOPE_METRICS, SCOPE_ADMIN, SCOPE_COUNT };
const char *token_scope_name(enum token_scope scope);
enum token_scope token_scope_from_name(const char *name); /* SCOPE_COUNT for an unknown word */

/* Files of a finished job. */
#define ARTIFACT_MODEL "model.onnx"
#define ARTIFACT_REPORT "report.json"
#define ARTIFACT_MASK "mask.json"
#define ARTIFACT_TRACE "trace.jsonl"
#define ARTIFACT_TRIGGERS "triggers.json"
#define ARTIFACT_UNITS "units.json"

#define PATH_MODELS "/v1/models"
#define PATH_SAMPLES "/v1/samples"
#define PATH_JOBS "/v1/jobs"
#define PATH_TOKENS "/v1/tokens"
#define PATH_UPLOADS "/v1/uploads"
#define PATH_CAPABILITIES "/v1/capabilities"

/* Exit codes of `onp`. */
enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_GATE = 3, EXIT_UNREACHED = 4 };

#endif
