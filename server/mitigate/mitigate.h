/* One job: a pure function of (model file, samples, parameters, seed), from files to files, in eight stages (method.md). It knows no
 * SQL, HTTP or libuv, so it runs the same in a test, in a child process or in a thread. */
#ifndef ONP_SERVER_MITIGATE_MITIGATE_H
#define ONP_SERVER_MITIGATE_MITIGATE_H

#include <jansson.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/words.h"

#define MITIGATE_CHECKPOINT "checkpoint"

struct mitigate_request {
    const char *model_path;
    const char *samples_path;
    const char *probe_path;   /* or NULL */
    const char *out_dir;      /* exists; gets the artifacts of words.h, each written atomically */
    const char *method;       /* "onp", or another row of server/baselines/methods.h */
    const json_t *parameters; /* object or NULL for the defaults; checked again here */
    uint64_t seed;
    size_t threads; /* 0: one a core */
    /* Go on from out_dir/MITIGATE_CHECKPOINT, if it holds what an earlier run of this very job left, and keep there what is done
     * (checkpoint.h). The result is the same with and without. */
    bool checkpoint;
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

/* Checks on upload, in the same words as the job would fail with. On success *info (new reference):
 * model: {"inputs": [{name, shape}], "outputs", "opset", "ir_version", "producer", "parameters", "units", "layers", "classes", "batch": "dynamic" | "fixed"}
 * samples: {"count", "shape": [C, H, W], "classes", "dtype", "class_counts", "normalised": bool, "has_target": bool}. */
enum status mitigate_check_model(const char *path, json_t **info, struct error *error);
enum status mitigate_check_samples(const char *path, json_t **info, struct error *error);
/* Do these samples (and probe, or NULL) fit the model? From the infos above; place is a JSON pointer such as "/samples_id". */
enum status mitigate_check_fit(const json_t *model, const json_t *samples, const json_t *probe, struct error *error);
/* For pictures: {"layers": [{"layer", "name", "first", "channels", "depth"}], "units": n} and, with layer >= 0, {"layer", "nodes": [{"unit", "channel",
 * "group", "features": {"l1", "in", "out", "lipschitz"}}], "edges": [{"relation": "similar" | "forward", "from", "to", "weight"}]} of it:
 * edges that end in one of its units. STATUS_NOT_FOUND for a layer that is not there. */
enum status mitigate_describe_graph(const char *path, long layer, json_t **graph, struct error *error);

#endif
