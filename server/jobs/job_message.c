/* The lines between a job's parent and child. Numbers that JSON cannot hold exactly (seeds) travel as text. */
#include "server/jobs/job_message.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json_read.h"
#include "common/mem.h"
#include "common/parse.h"

enum { PATH_MAX_BYTES = STORE_PATH_SIZE + 64 };
static const double ETA_MAX_S = 1e9;

static const char *const TASKS[JOB_TASK_COUNT] = {"run", "check_model", "check_samples", "describe_graph"};
static const char *const MODES[JOB_SANDBOX_MODE_COUNT] = {"auto", "require", "off"};

/* Takes the value. */
static char *line_of(json_t *value) {
    size_t length = value != NULL ? json_dumpb(value, NULL, 0, JSON_COMPACT) : 0;
    char *line = length > 0 ? mem_alloc(length + 2, 1) : NULL;
    if (line != NULL) {
        (void)json_dumpb(value, line, length, JSON_COMPACT);
        line[length] = '\n';
        line[length + 1] = '\0';
    }
    json_decref(value);
    return line;
}

char *job_message_request(const struct job_request *request) {
    char seed[32];
    const struct mitigate_request *run = &request->run;
    const struct job_limits *limits = &request->limits;
    json_t *value =
        json_pack("{s:s, s:{s:I, s:I, s:I, s:s, s:I, s:b}}", "task", TASKS[request->task], "limits", "memory",
                  (json_int_t)limits->memory, "file", (json_int_t)limits->file, "cpu_s", (json_int_t)limits->cpu_s,
                  "sandbox", MODES[limits->sandbox], "uid", (json_int_t)limits->uid, "jit", limits->jit);
    json_t *body = NULL;
    if (request->task == JOB_TASK_RUN) {
        (void)snprintf(seed, sizeof seed, "%llu", (unsigned long long)run->seed);
        body = json_pack("{s:s, s:s, s:s*, s:s, s:s, s:O*, s:s, s:I, s:b}", "model", run->model_path, "samples",
                         run->samples_path, "probe", run->probe_path, "out_dir", run->out_dir, "method", run->method,
                         "parameters", run->parameters, "seed", seed, "threads", (json_int_t)run->threads, "checkpoint",
                         run->checkpoint);
    } else {
        body = json_pack("{s:s, s:I}", "path", request->path, "layer", (json_int_t)request->layer);
    }
    if (value == NULL || body == NULL || json_object_update(value, body) != 0) {
        json_decref(value);
        value = NULL;
    }
    json_decref(body);
    return line_of(value);
}

char *job_message_progress(const struct store_progress *progress) {
    const char *name;
    json_t *member;
    void *next;
    json_t *value = store_progress_json(progress);
    /* What is not known is left out. */
    json_object_foreach_safe(value, next, name, member) {
        if (json_is_null(member)) {
            (void)json_object_del(value, name);
        }
    }
    if (value != NULL && json_object_set_new(value, "type", json_string("progress")) != 0) {
        json_decref(value);
        value = NULL;
    }
    return line_of(value);
}

char *job_message_done(const json_t *info) {
    return line_of(json_pack("{s:s, s:O*}", "type", "done", "info", info));
}

char *job_message_error(const struct error *problem) {
    return line_of(json_pack("{s:s, s:s, s:s, s:s}", "type", "error", "status", status_name(problem->status), "where",
                             problem->where, "message", problem->message));
}

/* --- requests --- */

static enum status read_run(struct json_reader *reader, struct mitigate_request *run, struct error *error) {
    const char *seed = "";
    uint64_t threads = 0;
    json_t *parameters = NULL;
    (void)json_get_string(reader, "model", JSON_REQUIRED, PATH_MAX_BYTES, &run->model_path);
    (void)json_get_string(reader, "samples", JSON_REQUIRED, PATH_MAX_BYTES, &run->samples_path);
    (void)json_get_string(reader, "probe", JSON_OPTIONAL, PATH_MAX_BYTES, &run->probe_path);
    (void)json_get_string(reader, "out_dir", JSON_REQUIRED, PATH_MAX_BYTES, &run->out_dir);
    (void)json_get_string(reader, "method", JSON_REQUIRED, STORE_METHOD_SIZE - 1, &run->method);
    (void)json_get_object(reader, "parameters", JSON_OPTIONAL, &parameters);
    (void)json_get_string(reader, "seed", JSON_REQUIRED, 32, &seed);
    (void)json_get_u64(reader, "threads", JSON_REQUIRED, 0, 4096, &threads);
    (void)json_get_bool(reader, "checkpoint", JSON_REQUIRED, &run->checkpoint);
    enum status status = json_reader_finish(reader);
    if (status == STATUS_OK && !parse_u64(seed, UINT64_MAX, &run->seed)) {
        status = error_set(error, STATUS_INVALID, "/seed", "failed to read the seed of a request");
    }
    run->parameters = parameters;
    run->threads = (size_t)threads;
    return status;
}

static enum status read_limits(json_t *value, struct job_limits *limits, struct error *error) {
    struct json_reader reader;
    const char *mode = "";
    uint64_t uid = 0;
    enum status status = json_reader_init(&reader, value, "/limits", error);
    if (status != STATUS_OK) {
        return status;
    }
    (void)json_get_u64(&reader, "memory", JSON_REQUIRED, 0, INT64_MAX, &limits->memory);
    (void)json_get_u64(&reader, "file", JSON_REQUIRED, 0, INT64_MAX, &limits->file);
    (void)json_get_u64(&reader, "cpu_s", JSON_REQUIRED, 0, INT64_MAX, &limits->cpu_s);
    (void)json_get_string(&reader, "sandbox", JSON_REQUIRED, 32, &mode);
    (void)json_get_u64(&reader, "uid", JSON_REQUIRED, 0, UINT32_MAX, &uid);
    (void)json_get_bool(&reader, "jit", JSON_REQUIRED, &limits->jit);
    status = json_reader_finish(&reader);
    limits->uid = (uint32_t)uid;
    limits->sandbox = JOB_SANDBOX_MODE_COUNT;
    for (size_t i = 0; i < JOB_SANDBOX_MODE_COUNT; i++) {
        limits->sandbox = strcmp(mode, MODES[i]) == 0 ? (enum job_sandbox_mode)i : limits->sandbox;
    }
    if (status == STATUS_OK && limits->sandbox == JOB_SANDBOX_MODE_COUNT) {
        status = error_set(error, STATUS_INVALID, "/limits/sandbox", "failed to read limits: got mode '%.32s'", mode);
    }
    return status;
}

enum status job_message_parse_request(const char *line, size_t length, struct job_request *request, json_t **document,
                                      struct error *error) {
    struct json_reader reader;
    const char *task = "";
    json_t *limits = NULL;
    *request = (struct job_request){.task = JOB_TASK_COUNT};
    enum status status = json_read_text(line, length, document, error);
    if (status == STATUS_OK) {
        status = json_reader_init(&reader, *document, "", error);
    }
    if (status != STATUS_OK) {
        return status;
    }
    (void)json_get_string(&reader, "task", JSON_REQUIRED, 32, &task);
    (void)json_get_object(&reader, "limits", JSON_REQUIRED, &limits);
    for (size_t i = 0; i < JOB_TASK_COUNT; i++) {
        if (strcmp(task, TASKS[i]) == 0) {
            request->task = (enum job_task)i;
        }
    }
    if (request->task == JOB_TASK_COUNT) {
        return error_set(error, STATUS_INVALID, "/task", "failed to read a request: got task '%s'", task);
    }
    status = limits != NULL ? read_limits(limits, &request->limits, error) : STATUS_OK;
    if (status != STATUS_OK) {
        return status;
    }
    if (request->task == JOB_TASK_RUN) {
        return read_run(&reader, &request->run, error);
    }
    int64_t layer = -1;
    (void)json_get_string(&reader, "path", JSON_REQUIRED, PATH_MAX_BYTES, &request->path);
    (void)json_get_i64(&reader, "layer", JSON_REQUIRED, -1, INT32_MAX, &layer);
    request->layer = (long)layer;
    return json_reader_finish(&reader);
}

/* --- what a child says --- */

static enum status read_progress(struct json_reader *reader, struct store_progress *progress, struct error *error) {
    const char *stage = "";
    const char *message = "";
    *progress = (struct store_progress){
        .eta_s = -1, .best_reward = (double)NAN, .mean_reward = (double)NAN, .greedy_reward = (double)NAN};
    (void)json_get_string(reader, "stage", JSON_REQUIRED, 32, &stage);
    (void)json_get_u64(reader, "step", JSON_REQUIRED, 0, INT64_MAX, &progress->step);
    (void)json_get_u64(reader, "total", JSON_REQUIRED, 0, INT64_MAX, &progress->total);
    (void)json_get_double(reader, "fraction", JSON_REQUIRED, 0, 1, &progress->fraction);
    (void)json_get_double(reader, "eta_s", JSON_OPTIONAL, 0, ETA_MAX_S, &progress->eta_s);
    (void)json_get_double(reader, "best_reward", JSON_OPTIONAL, -HUGE_VAL, HUGE_VAL, &progress->best_reward);
    (void)json_get_u64(reader, "evaluations", JSON_REQUIRED, 0, INT64_MAX, &progress->evaluations);
    (void)json_get_double(reader, "mean_reward", JSON_OPTIONAL, -HUGE_VAL, HUGE_VAL, &progress->mean_reward);
    (void)json_get_double(reader, "greedy_reward", JSON_OPTIONAL, -HUGE_VAL, HUGE_VAL, &progress->greedy_reward);
    (void)json_get_string(reader, "message", JSON_REQUIRED, STORE_MESSAGE_SIZE - 1, &message);
    enum status status = json_reader_finish(reader);
    if (status != STATUS_OK) {
        return status;
    }
    progress->stage = job_stage_from_name(stage);
    if (progress->stage == STAGE_COUNT) {
        return error_set(error, STATUS_INVALID, "/stage", "failed to read progress: got stage '%s'", stage);
    }
    (void)snprintf(progress->message, sizeof progress->message, "%s", message);
    return STATUS_OK;
}

static enum status read_error(struct json_reader *reader, struct error *problem) {
    const char *word = "";
    const char *where = "";
    const char *message = "";
    (void)json_get_string(reader, "status", JSON_REQUIRED, 32, &word);
    (void)json_get_string(reader, "where", JSON_REQUIRED, ERROR_WHERE_MAX - 1, &where);
    (void)json_get_string(reader, "message", JSON_REQUIRED, ERROR_MESSAGE_MAX - 1, &message);
    enum status status = json_reader_finish(reader);
    if (status == STATUS_OK) {
        enum status said = status_from_name(word);
        /* error_set() makes it printable. */
        (void)error_set(problem, said == STATUS_OK ? STATUS_INTERNAL : said, where, "%s", message);
    }
    return status;
}

static enum status read_done(struct json_reader *reader, json_t **info) {
    json_t *found = NULL;
    (void)json_get_object(reader, "info", JSON_OPTIONAL, &found);
    enum status status = json_reader_finish(reader);
    if (status == STATUS_OK) {
        *info = json_incref(found);
    }
    return status;
}

enum status job_message_parse(const char *line, size_t length, struct job_message *message, struct error *error) {
    struct json_reader reader;
    json_t *document = NULL;
    const char *type = "";
    *message = (struct job_message){.kind = JOB_MESSAGE_ERROR};
    enum status status = json_read_text(line, length, &document, error);
    if (status == STATUS_OK) {
        status = json_reader_init(&reader, document, "", error);
    }
    if (status == STATUS_OK) {
        status = json_get_string(&reader, "type", JSON_REQUIRED, 32, &type);
    }
    if (status != STATUS_OK) {
        goto end;
    }
    if (strcmp(type, "progress") == 0) {
        message->kind = JOB_MESSAGE_PROGRESS;
        status = read_progress(&reader, &message->progress, error);
    } else if (strcmp(type, "done") == 0) {
        message->kind = JOB_MESSAGE_DONE;
        status = read_done(&reader, &message->info);
    } else if (strcmp(type, "error") == 0) {
        status = read_error(&reader, &message->problem);
    } else {
        status = error_set(error, STATUS_INVALID, "/type", "failed to read a message: got type '%.32s'", type);
    }
end:
    json_decref(document);
    return status;
}

static double finite_or_nan(double value) {
    return isfinite(value) ? value : (double)NAN;
}

void job_message_from_stages(const struct mitigate_progress *from, struct store_progress *to) {
    *to = (struct store_progress){.stage = from->stage, .step = from->step, .total = from->total};
    to->fraction = from->fraction >= 0 && from->fraction <= 1 ? from->fraction : 0;
    to->eta_s = from->eta_s >= 0 && from->eta_s <= ETA_MAX_S ? from->eta_s : -1;
    to->best_reward = finite_or_nan(from->best_reward);
    to->evaluations = from->evaluations;
    to->mean_reward = finite_or_nan(from->mean_reward);
    to->greedy_reward = finite_or_nan(from->greedy_reward);
    (void)snprintf(to->message, sizeof to->message, "%s", from->message != NULL ? from->message : "");
    store_progress_clean(to);
}
