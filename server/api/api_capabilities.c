/* /v1/capabilities: what this server takes and does, so that clients need not know it by heart. */
#include "server/api/api_internal.h"

static json_t *operators_json(const struct api *api) {
    json_t *list = json_array();

    for (size_t i = 0; api->config.operators != NULL && api->config.operators[i] != NULL; i++) {
        (void)json_array_append_new(list, json_string(api->config.operators[i]));
    }
    return list;
}

static json_t *states_json(void) {
    json_t *list = json_array();

    for (int state = 0; state < JOB_STATE_COUNT; state++) {
        (void)json_array_append_new(list, json_string(job_state_name((enum job_state)state)));
    }
    return list;
}

static json_t *stages_json(void) {
    json_t *list = json_array();

    for (int stage = 0; stage < STAGE_COUNT; stage++) {
        (void)json_array_append_new(list, json_string(job_stage_name((enum job_stage)stage)));
    }
    return list;
}

/* null while the server drains. */
static json_t *sandbox_json(const struct api *api) {
    static const char *const modes[JOB_SANDBOX_MODE_COUNT] = {"auto", "require", "off"};
    struct jobs_sandbox sandbox;

    if (api->draining) {
        return json_null();
    }
    jobs_sandbox(api->config.jobs, &sandbox);
    return json_pack("{s:s, s:i, s:b, s:b, s:b}", "mode", modes[sandbox.mode], "landlock_abi", sandbox.landlock,
                     "system_calls", sandbox.calls, "own_user", sandbox.user, "memory", sandbox.address_space);
}

/* 0 stands for no limit. */
static json_t *limits_json(const struct api_config *config) {
    return json_pack("{s:I, s:I, s:i, s:i, s:f, s:I, s:I, s:f, s:i, s:I, s:[i, i], s:i}", "upload_bytes",
                     (json_int_t)config->max_upload, "json_bytes", (json_int_t)HTTP_JSON_MAX, "list", STORE_LIST_MAX,
                     "labels", STORE_LABELS_MAX, "wait_s", config->wait_max_s, "stored_bytes",
                     (json_int_t)config->quota_bytes, "live_jobs", (json_int_t)config->jobs_max, "requests_a_second",
                     config->rate, "idempotency_key", STORE_IDEMPOTENCY_KEY_SIZE - 1, "upload_lifetime_s",
                     (json_int_t)(API_UPLOAD_LIFETIME_MS / 1000), "priority", -API_PRIORITY_MAX, API_PRIORITY_MAX,
                     "deadline_s", API_DEADLINE_MAX_S);
}

void api_capabilities_get(struct http_request *request, void *context) {
    const struct api *api = context;

    http_reply_json(request, 200,
                    json_pack("{s:s, s:s, s:o, s:{s:[s], s:[ss]}, s:o, s:{s:i, s:i}, s:o, s:o, s:o, s:o}", "name",
                              "onpd", "version", ONP_VERSION, "methods", api->config.describe_methods(), "formats",
                              "model", "onnx", "samples", "npz", "zip", "operators", operators_json(api), "opset",
                              "min", api->config.opset_min, "max", api->config.opset_max, "states", states_json(),
                              "stages", stages_json(), "sandbox", sandbox_json(api), "limits",
                              limits_json(&api->config)));
}
