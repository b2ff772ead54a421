/* One job: a pure function of (model file, samples, parameters, seed), from files to files, in eight stages (method.md). It knows no
 * SQL, HTTP or libuv, so it runs the same in a test, in a child process or in a thread. */
#ifndef ONP_SERVER_MITIGATE_MITIGATE_H
#define ONP_SERVER_MITIGATE_MITIGATE_H

#include <jansson.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/words.h"

struct mitigate_request {
    const char *model_path;
    const char *samples_path;
    const char *probe_path; /* or NULL */
    const char *out_dir;    /* exists; gets model.onnx, report.json, mask.json, trace.jsonl, each written atomically */
    const char *method;     /* "onp" */
    const json_t *parameters; /* object or NULL for the defaults; checked again here */
    uint64_t seed;
    size_t threads; /* 0: one a core */
    /* File to go on from, if it holds what an earlier run of this very job left, and to keep what is done in (checkpoint.h);
     * NULL: none. The result is the same with and without. */
    const char *checkpoint;
};

struct mitigate_progress {
    enum job_stage stage;
    size_t step, total;                /* within the stage */
    double fraction;                   /* of the whole job, in [0, 1], never goes back */
    double eta_s;                      /* seconds left, < 0 if not known yet */
    double best_reward;                /* NaN before the search */
    size_t evaluations;                /* masks scored so far */
    double mean_reward, greedy_reward; /* of PPO's latest masks, of greedy; NaN: not known */
    const char *message;               /* short, for people: "class 3: patch trigger of 4.1 pixels" ; "" if none */
};

struct mitigate_hooks {
    void *user;
    /* Called from the thread that runs the job, a few times a second at most. May be NULL. */
    void (*progress)(void *user, const struct mitigate_progress *progress);
    const atomic_bool *cancel; /* tested between batches; may be NULL */
};

/* Runs the job. On success *report is report.json as an object (new reference). */
enum status mitigate_run(const struct mitigate_request *request, const struct mitigate_hooks *hooks, json_t **report,
                         struct error *error);

/* STATUS_INVALID with the JSON pointer (below /parameters) if `parameters` of this method are wrong; NULL is fine.
 * Unknown method: place "/method". Cheap: called when a job is submitted. */
enum status mitigate_check_parameters(const char *method, const json_t *parameters, struct error *error);
/* [{"name": "onp", "summary": ..., "parameters": {JSON Schema with defaults}}], new reference; for /v1/capabilities. */
json_t *mitigate_describe_methods(void);

/* Checks on upload, in the same words as the job would fail with. On success *info (new reference):
 * model: {"inputs": [{name, shape}], "outputs", "opset", "ir_version", "producer", "parameters", "units", "layers", "classes", "batch": "dynamic" | "fixed"}
 * samples: {"count", "shape": [C, H, W], "classes", "dtype", "class_counts", "normalised": bool, "has_target": bool}. */
enum status mitigate_check_model(const char *path, json_t **info, struct error *error);
enum status mitigate_check_samples(const char *path, json_t **info, struct error *error);
/* Do these samples (and probe, or NULL) fit the model? From the infos above; place is a JSON pointer such as "/samples_id". */
enum status mitigate_check_fit(const json_t *model, const json_t *samples, const json_t *probe, struct error *error);
/* {"layers": [{"name", "first", "channels"}], "units": n, "edges": [...]} of one layer or all, for pictures. layer < 0: all. */
enum status mitigate_describe_graph(const char *path, long layer, json_t **graph, struct error *error);

#endif
