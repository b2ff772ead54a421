/* Jobs as the client sees them. Following survives a restart of the server, because jobs do. */
#include "client/job_calls.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "client/interrupt.h"
#include "client/settings.h"
#include "client/transfer.h"
#include "common/clock.h"
#include "common/parse.h"

enum { CALL_TIMEOUT_S = 60, POLL_S = 20, AWAY_MAX_S = 60 };
static const double POLL_GAP_S = 0.2; /* between two polls, lest a server that answers at once is hammered */

static enum status set_integer(json_t *body, const char *name, const char *text, int64_t least, struct error *error) {
    int64_t value = 0;
    if (text == NULL) {
        return STATUS_OK;
    }
    if (!parse_i64(text, least, INT64_MAX, &value)) {
        char where[32];
        (void)snprintf(where, sizeof where, "--%s", name);
        return error_set(error, STATUS_INVALID, where, "failed to read option --%s: got \"%.32s\", expected an integer",
                         name, text);
    }
    return json_object_set_new(body, name, json_integer(value)) == 0 ? STATUS_OK : error_no_memory(error, "a job");
}

/* Labels are always strings, whatever they look like. */
static enum status set_labels(json_t *body, const struct option_list *list, struct error *error) {
    json_t *labels = json_object();
    if (list->count == 0 || labels == NULL) {
        json_decref(labels);
        return list->count == 0 ? STATUS_OK : error_no_memory(error, "labels");
    }
    enum status status = STATUS_OK;
    for (size_t i = 0; i < list->count && status == STATUS_OK; i++) {
        char key[80];
        const char *equals = strchr(list->items[i], '=');
        size_t length = equals != NULL ? (size_t)(equals - list->items[i]) : 0;
        if (length == 0 || length >= sizeof key) {
            status = error_set(error, STATUS_INVALID, "--label",
                               "failed to read option --label: got \"%.64s\", expected key=value", list->items[i]);
            break;
        }
        memcpy(key, list->items[i], length);
        key[length] = '\0';
        if (json_object_set_new(labels, key, json_string(equals + 1)) != 0) {
            status = error_set(error, STATUS_INVALID, "--label",
                               "failed to read option --label: got text that is not UTF-8");
        }
    }
    if (status == STATUS_OK && json_object_set(body, "labels", labels) != 0) {
        status = error_no_memory(error, "labels");
    }
    json_decref(labels);
    return status;
}

enum status job_calls_prepare(const struct job_words *words, json_t **body, struct error *error) {
    json_t *parameters = NULL;
    json_t *result = json_pack("{s:s}", "method", words->method);
    enum status status = result != NULL ? STATUS_OK
                                        : error_set(error, STATUS_INVALID, "--method",
                                                    "failed to read method: got text that is not UTF-8");
    if (status == STATUS_OK) {
        status = settings_from_list(&words->settings, &parameters, error);
    }
    if (status == STATUS_OK && json_object_size(parameters) > 0 &&
        json_object_set(result, "parameters", parameters) != 0) {
        status = error_no_memory(error, "a job");
    }
    if (status == STATUS_OK) {
        status = set_integer(result, "seed", words->seed, 0, error);
    }
    if (status == STATUS_OK) {
        status = set_integer(result, "priority", words->priority, INT64_MIN, error);
    }
    if (status == STATUS_OK) {
        status = set_labels(result, &words->labels, error);
    }
    if (status == STATUS_OK && words->deadline_s > 0 &&
        json_object_set_new(result, "deadline_s", json_real(words->deadline_s)) != 0) {
        status = error_no_memory(error, "a job");
    }
    if (status == STATUS_OK) {
        *body = result;
        result = NULL;
    }
    json_decref(parameters);
    json_decref(result);
    return status;
}

static enum status put_id(struct api_client *client, struct progress_bar *bar, enum transfer_kind kind,
                          const char *word, json_t *body, const char *member, struct error *error) {
    char id[ID_SIZE];
    enum status status = transfer_object_id(client, bar, kind, word, id, error);
    if (status == STATUS_OK && json_object_set_new(body, member, json_string(id)) != 0) {
        status = error_no_memory(error, "a job");
    }
    return status;
}

enum status job_calls_submit(struct api_client *client, struct progress_bar *bar, const struct job_words *words,
                             json_t *body, char job_id[ID_SIZE], struct error *error) {
    struct api_reply reply = {0};
    enum status status = put_id(client, bar, TRANSFER_MODEL, words->model, body, "model_id", error);
    if (status == STATUS_OK) {
        status = put_id(client, bar, TRANSFER_SAMPLES, words->samples, body, "samples_id", error);
    }
    if (status == STATUS_OK && words->probe != NULL) {
        status = put_id(client, bar, TRANSFER_SAMPLES, words->probe, body, "probe_id", error);
    }
    if (status == STATUS_OK) {
        char key[ID_SIZE];
        id_make("key", key);
        status = api_client_post(client, PATH_JOBS, body, words->key != NULL ? words->key : key, &reply, error);
    }
    if (status == STATUS_OK) {
        const char *id = json_string_value(json_object_get(reply.body, "id"));
        if (id != NULL && id_is_valid(id, "job")) {
            (void)snprintf(job_id, ID_SIZE, "%s", id);
        } else {
            status = error_set(error, STATUS_INVALID, PATH_JOBS, "failed to submit job: got no id, expected one");
        }
    }
    json_decref(reply.body);
    return status;
}

enum status job_calls_get(struct api_client *client, const char *job_id, json_t **job, struct error *error) {
    char path[API_PATH_SIZE];
    enum status status = api_path(path, PATH_JOBS, job_id, "", error);
    return status == STATUS_OK ? api_client_get(client, path, job, error) : status;
}

enum status job_calls_cancel(struct api_client *client, const char *job_id, json_t **job, struct error *error) {
    char path[API_PATH_SIZE];
    struct api_reply reply = {0};
    enum status status = api_path(path, PATH_JOBS, job_id, "/cancel", error);
    if (status == STATUS_OK) {
        status = api_client_call(client, "POST", path, NULL, NULL, CALL_TIMEOUT_S, &reply, error);
    }
    if (status == STATUS_OK && job != NULL && reply.body != NULL) {
        *job = reply.body;
        reply.body = NULL;
    }
    json_decref(reply.body);
    return status;
}

enum status job_calls_result(struct api_client *client, const char *job_id, json_t **report, struct error *error) {
    char path[API_PATH_SIZE];
    enum status status = api_path(path, PATH_JOBS, job_id, "/result", error);
    return status == STATUS_OK ? api_client_get(client, path, report, error) : status;
}

enum job_state job_calls_state(const json_t *job) {
    const char *name = json_string_value(json_object_get(job, "state"));
    return name != NULL ? job_state_from_name(name) : JOB_STATE_COUNT;
}

enum status job_calls_outcome(const json_t *job, struct error *error) {
    enum job_state state = job_calls_state(job);
    const char *id = json_string_value(json_object_get(job, "id"));
    if (state == JOB_SUCCEEDED) {
        return STATUS_OK;
    }
    if (state == JOB_CANCELLED) {
        return error_set(error, STATUS_CANCELLED, NULL, "job %.40s was cancelled", id != NULL ? id : "");
    }
    const json_t *problem = json_object_get(job, "error");
    problem = json_is_object(problem) ? problem : json_object_get(job, "problem");
    const char *message = json_string_value(json_object_get(problem, "message"));
    message = message != NULL ? message : json_string_value(json_object_get(problem, "detail"));
    const char *where = json_string_value(json_object_get(problem, "where"));
    const char *word = json_string_value(json_object_get(problem, "status"));
    enum status status = word != NULL ? status_from_name(word) : STATUS_INTERNAL;
    /* UNAVAILABLE would read as a server that was not reached; the job was. */
    status = status == STATUS_OK || status == STATUS_UNAVAILABLE ? STATUS_INTERNAL : status;
    return error_set(error, status, where, "job %.40s %s: %.400s", id != NULL ? id : "",
                     state < JOB_STATE_COUNT ? job_state_name(state) : "has no state",
                     message != NULL ? message : "no reason was given");
}

struct watch {
    const struct job_follow *follow;
    const json_t *job; /* the latest; borrowed */
    double deadline;   /* clock_seconds(); 0: none */
};

static double number_or(const json_t *value, double otherwise) {
    return json_is_number(value) ? json_number_value(value) : otherwise;
}

static void show(const struct watch *watch) {
    const json_t *progress = json_object_get(watch->job, "progress");
    const char *stage = json_string_value(json_object_get(progress, "stage"));
    const char *state = json_string_value(json_object_get(watch->job, "state"));
    enum job_state known = job_calls_state(watch->job);
    struct progress_state now = {
        .label = stage != NULL && known == JOB_RUNNING ? stage
                 : state != NULL                       ? state
                                                       : "job",
        .fraction = number_or(json_object_get(progress, "fraction"), -1),
        .eta_s = number_or(json_object_get(progress, "eta_s"), -1),
        .best_reward = number_or(json_object_get(progress, "best_reward"), NAN),
        .message = json_string_value(json_object_get(progress, "message")),
    };
    if (job_state_is_terminal(known)) {
        now.fraction = known == JOB_SUCCEEDED ? 1 : now.fraction;
        now.eta_s = -1;
        now.message = NULL;
    }
    progress_bar_show(watch->follow->bar, &now);
}

static bool is_over(const struct watch *watch) {
    return interrupt_count() >= watch->follow->interrupts ||
           (watch->deadline > 0 && clock_seconds() >= watch->deadline);
}

static bool on_tick(void *user, uint64_t done, uint64_t total, bool waiting) {
    const struct watch *watch = user;
    (void)done;
    (void)total;
    (void)waiting;
    if (watch->job != NULL) {
        show(watch);
    }
    return !is_over(watch);
}

/* Sleeps in short naps, so that the bar goes on and signals count. */
static void pause_for(struct watch *watch, double seconds) {
    double end = clock_seconds() + seconds;
    while (clock_seconds() < end && on_tick(watch, 0, 0, true)) {
        (void)interrupt_sleep(fmin(0.1, seconds));
    }
}

/* One poll. *reply is new if the job changed; STATUS_UNAVAILABLE if the server is away. */
static enum status poll_once(struct api_client *client, const char *job_id, const char *etag, struct api_reply *reply,
                             struct error *error) {
    char path[API_PATH_SIZE];
    char suffix[32] = "";
    if (etag[0] != '\0') {
        (void)snprintf(suffix, sizeof suffix, "?wait=%d", POLL_S);
    }
    enum status status = api_path(path, PATH_JOBS, job_id, suffix, error);
    if (status != STATUS_OK) {
        return status;
    }
    return api_client_call(client, "GET", path, NULL, etag, POLL_S + CALL_TIMEOUT_S, reply, error);
}

static enum status why_over(const struct watch *watch, const char *job_id, struct error *error) {
    error_clear(error);
    if (interrupt_count() >= watch->follow->interrupts) {
        return error_set(error, STATUS_CANCELLED, NULL, "stopped waiting for job %.40s", job_id);
    }
    return error_set(error, STATUS_LIMIT, "--timeout", "failed to wait for job %.40s: got no end after %.0f s", job_id,
                     watch->follow->timeout_s);
}

enum status job_calls_follow(struct api_client *client, const char *job_id, const struct job_follow *follow,
                             json_t **job, struct error *error) {
    enum status status = STATUS_OK;
    char etag[API_ETAG_SIZE] = "";
    json_t *latest = NULL;
    double away_since = 0;
    struct watch watch = {.follow = follow};
    struct api_hooks hooks = {.user = &watch, .tick = on_tick};
    watch.deadline = follow->timeout_s > 0 ? clock_seconds() + follow->timeout_s : 0;
    api_client_set_hooks(client, &hooks);
    while (latest == NULL || !job_state_is_terminal(job_calls_state(latest))) {
        struct api_reply reply = {0};
        struct error cause = {0};
        if (is_over(&watch)) {
            status = why_over(&watch, job_id, error);
            break;
        }
        double asked = clock_seconds();
        api_client_set_patience(client, latest == NULL ? API_PATIENCE_S : 0); /* later this loop has its own */
        status = poll_once(client, job_id, etag, &reply, &cause);
        if (status == STATUS_UNAVAILABLE && latest != NULL && asked - away_since < AWAY_MAX_S) {
            pause_for(&watch, 0.5);
            continue;
        }
        if (status != STATUS_OK) {
            status = is_over(&watch) ? why_over(&watch, job_id, error)
                                     : error_set(error, cause.status, cause.where, "%s", cause.message);
            break;
        }
        away_since = clock_seconds();
        if (reply.body != NULL) {
            (void)snprintf(etag, sizeof etag, "%s", reply.etag);
            json_decref(latest);
            latest = reply.body;
            watch.job = latest;
            show(&watch);
            if (follow->changed != NULL) {
                follow->changed(follow->user, latest);
            }
            if (job_state_is_terminal(job_calls_state(latest))) {
                break;
            }
        }
        pause_for(&watch, POLL_GAP_S - (clock_seconds() - asked));
    }
    api_client_set_hooks(client, NULL);
    api_client_set_patience(client, API_PATIENCE_S);
    if (status == STATUS_OK) {
        *job = latest;
        latest = NULL;
    }
    json_decref(latest);
    return status;
}

enum status job_calls_see_through(struct api_client *client, const char *job_id, struct progress_bar *bar,
                                  struct error *error) {
    struct job_follow watch = {.bar = bar, .interrupts = interrupt_count() + 1};
    struct error cause = {0};
    json_t *job = NULL;
    enum status status = job_calls_follow(client, job_id, &watch, &job, &cause);
    if (status == STATUS_CANCELLED) {
        progress_bar_end(bar, true);
        (void)fprintf(stderr, "onp: cancelling job %s (once more to leave at once)\n", job_id);
        watch.interrupts = interrupt_count() + 1;
        error_clear(&cause);
        status = job_calls_cancel(client, job_id, NULL, &cause);
        if (status == STATUS_OK || status == STATUS_CONFLICT) { /* a conflict: it ended meanwhile */
            error_clear(&cause);
            status = job_calls_follow(client, job_id, &watch, &job, &cause);
        }
    }
    progress_bar_end(bar, true);
    if (status == STATUS_OK) {
        status = job_calls_outcome(job, &cause);
    }
    json_decref(job);
    return status == STATUS_OK ? status : error_set(error, cause.status, cause.where, "%s", cause.message);
}
