/* Rows as documents of the interface. */
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "server/api/api_internal.h"

json_t *api_time_json(int64_t wall_ms) {
    char text[CLOCK_RFC3339_SIZE];

    if (wall_ms == 0) {
        return json_null();
    }
    clock_rfc3339(wall_ms, text);
    return json_string(text);
}

static json_t *text_or_null(const char *text) {
    return text[0] != '\0' ? json_string(text) : json_null();
}

json_t *api_object_json(enum store_kind kind, const struct store_object *object) {
    char content[API_LOCATION_SIZE];

    (void)snprintf(content, sizeof(content), "%s/%s/content", kind == STORE_MODEL ? PATH_MODELS : PATH_SAMPLES,
                   object->id);
    return json_pack("{s:s, s:s, s:o, s:s, s:I, s:O, s:o, s:{s:s}}", "id", object->id, "object", store_kind_name(kind),
                     "name", text_or_null(object->name), "sha256", object->blob.sha256, "size",
                     (json_int_t)object->blob.size, "info", object->info, "created_at",
                     api_time_json(object->created_ms), "links", "content", content);
}

static json_t *problem_or_null(const struct error *problem) {
    if (problem->status == STATUS_OK) {
        return json_null();
    }
    return json_pack("{s:s, s:s, s:s}", "status", status_name(problem->status), "where", problem->where, "message",
                     problem->message);
}

static json_t *job_links(const struct store_job *job) {
    char events[API_LOCATION_SIZE], result[API_LOCATION_SIZE], artifacts[API_LOCATION_SIZE];

    (void)snprintf(events, sizeof(events), PATH_JOBS "/%s/events", job->id);
    (void)snprintf(result, sizeof(result), PATH_JOBS "/%s/result", job->id);
    (void)snprintf(artifacts, sizeof(artifacts), PATH_JOBS "/%s/artifacts", job->id);
    if (job->summary == NULL) {
        return json_pack("{s:s}", "events", events);
    }
    return json_pack("{s:s, s:s, s:s}", "events", events, "result", result, "artifacts", artifacts);
}

json_t *api_job_json(const struct store_job *job) {
    json_t *json = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:o}", "id", job->id, "object", "job", "state",
                             job_state_name(job->state), "method", job->method, "model_id", job->model_id, "samples_id",
                             job->samples_id, "probe_id", text_or_null(job->probe_id));
    json_t *rest = json_pack(
        "{s:O, s:I, s:i, s:O, s:o, s:I, s:I, s:b, s:o, s:o, s:O?}", "parameters", job->parameters, "seed",
        (json_int_t)job->seed, "priority", job->priority, "labels", job->labels, "deadline_s",
        job->deadline_s > 0 ? json_real(job->deadline_s) : json_null(), "attempt", (json_int_t)job->attempt,
        "max_attempts", (json_int_t)job->max_attempts, "cancel_requested", job->cancel_requested ? 1 : 0, "progress",
        store_progress_json(&job->progress), "problem", problem_or_null(&job->problem), "summary", job->summary);
    json_t *times = json_pack("{s:o, s:o, s:o, s:o, s:o}", "created_at", api_time_json(job->created_ms), "started_at",
                              api_time_json(job->started_ms), "finished_at", api_time_json(job->finished_ms),
                              "updated_at", api_time_json(job->updated_ms), "links", job_links(job));

    if (json == NULL || json_object_update_missing(json, rest) != 0 || json_object_update_missing(json, times) != 0) {
        json_decref(json);
        json = NULL;
    }
    json_decref(rest);
    json_decref(times);
    return json;
}

json_t *api_event_json(const struct store_event *event) {
    return json_pack("{s:I, s:o, s:s, s:O}", "id", (json_int_t)event->sequence, "time", api_time_json(event->time_ms),
                     "type", event->type, "data", event->data);
}
