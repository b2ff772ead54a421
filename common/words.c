/* The tables behind words.h: one row a word, in the order of the enums. */
#include "common/words.h"

#include <stddef.h>
#include <string.h>

static const char *const STATE_NAMES[JOB_STATE_COUNT] = {
    [JOB_QUEUED] = "queued",         [JOB_STARTING] = "starting",       [JOB_RUNNING] = "running",
    [JOB_CANCELLING] = "cancelling", [JOB_SUCCEEDED] = "succeeded",     [JOB_FAILED] = "failed",
    [JOB_CANCELLED] = "cancelled",   [JOB_INTERRUPTED] = "interrupted",
};

static const char *const STAGE_NAMES[STAGE_COUNT] = {
    [STAGE_LOAD] = "load",     [STAGE_BASELINE] = "baseline", [STAGE_EXPOSE] = "expose",     [STAGE_GRAPH] = "graph",
    [STAGE_SEARCH] = "search", [STAGE_REPAIR] = "repair",     [STAGE_EVALUATE] = "evaluate", [STAGE_EXPORT] = "export",
};

static const char *const VERDICT_NAMES[VERDICT_COUNT] = {
    [VERDICT_REMOVED] = "removed",
    [VERDICT_REDUCED] = "reduced",
    [VERDICT_NO_BACKDOOR_FOUND] = "no_backdoor_found",
    [VERDICT_FAILED_BUDGET] = "failed_budget",
    [VERDICT_UNJUDGED] = "unjudged",
};

static const char *const SCOPE_NAMES[SCOPE_COUNT] = {
    [SCOPE_READ] = "read", [SCOPE_WRITE] = "write", [SCOPE_METRICS] = "metrics", [SCOPE_ADMIN] = "admin"};

/* Index of `name` in `table`, or `count`. */
static size_t find(const char *const *table, size_t count, const char *name) {
    size_t i = 0;
    while (i < count && (name == NULL || strcmp(table[i], name) != 0)) {
        i++;
    }
    return i;
}

static const char *name_at(const char *const *table, size_t count, size_t index) {
    return index < count ? table[index] : "unknown";
}

const char *job_state_name(enum job_state state) {
    return name_at(STATE_NAMES, JOB_STATE_COUNT, (size_t)state);
}

enum job_state job_state_from_name(const char *name) {
    return (enum job_state)find(STATE_NAMES, JOB_STATE_COUNT, name);
}

bool job_state_is_terminal(enum job_state state) {
    /* JOB_INTERRUPTED is not: it is queued again until its attempts are used up, and then fails. */
    return state == JOB_SUCCEEDED || state == JOB_FAILED || state == JOB_CANCELLED;
}

const char *job_stage_name(enum job_stage stage) {
    return name_at(STAGE_NAMES, STAGE_COUNT, (size_t)stage);
}

enum job_stage job_stage_from_name(const char *name) {
    return (enum job_stage)find(STAGE_NAMES, STAGE_COUNT, name);
}

const char *token_scope_name(enum token_scope scope) {
    return name_at(SCOPE_NAMES, SCOPE_COUNT, (size_t)scope);
}

enum token_scope token_scope_from_name(const char *name) {
    return (enum token_scope)find(SCOPE_NAMES, SCOPE_COUNT, name);
}

const char *verdict_name(enum verdict verdict) {
    return name_at(VERDICT_NAMES, VERDICT_COUNT, (size_t)verdict);
}
