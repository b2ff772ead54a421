/* Private to mitigate/: the state of one job, filled stage by stage. Each stage reads what earlier stages left and adds its
 * own; mitigate.c owns it all and frees it. One thread; parallelism is inside the engine. */
#ifndef ONP_SERVER_MITIGATE_JOB_H
#define ONP_SERVER_MITIGATE_JOB_H

#include <jansson.h>

#include "common/rng.h"
#include "server/data/augment.h"
#include "server/data/samples.h"
#include "server/data/split.h"
#include "server/evaluate/metrics.h"
#include "server/expose/expose.h"
#include "server/graph/neuron_graph.h"
#include "server/graph/units.h"
#include "server/mitigate/mitigate.h"
#include "server/mitigate/parameters.h"
#include "server/nn/engine.h"
#include "server/nn/train.h"
#include "server/onnx/onnx_model.h"
#include "server/prune/unit_stats.h"

/* Streams of the job's generator: one a purpose, so that one part's draws do not shift another's. */
enum job_stream {
    STREAM_SPLIT = 1,
    STREAM_EXPOSE,
    STREAM_POLICY,
    STREAM_PPO,
    STREAM_RANDOM,
    STREAM_ADVERSARY,
    STREAM_RETUNE,
    STREAM_FINETUNE,
    STREAM_BASELINE, /* of the methods to compare with */
    STREAM_HINTS,
    STREAM_SIGNS, /* of the second-order effects */
    STREAM_VARIANTS
};

/* What the locked samples say, see locked.h. */
struct locked_figures {
    size_t count, hits_before, hits_after; /* locked samples, and those classified right */
    double drop_low; /* lower bound at 95 % of the accuracy lost, paired sample by sample; may be negative */
    size_t triggered,
        obeyed; /* images of other classes with each trigger of the bank, and those it sends where it should */
};

struct checkpoint;   /* checkpoint.h */
struct method;       /* method.h */
struct score;        /* mitigate_score.h */
struct unit_effects; /* rankings.h */

struct job {
    const struct method *method;
    const struct mitigate_request *request;
    const struct mitigate_hooks *hooks;
    struct parameters parameters;
    struct rng rng; /* never drawn from: see rng_stream() */
    double started, last_report, fraction;
    double best_reward; /* NaN before the search */
    double mean_reward; /* of the masks of PPO's latest iteration; NaN before */
    enum job_stage stage;
    double stage_seconds[STAGE_COUNT];
    json_t *trace;                 /* array of the events that trace.jsonl gets */
    struct checkpoint *checkpoint; /* from the end of the first stage on; NULL: none */
    struct invert_memo memo;       /* the inversions' view of it */

    /* 1 load */
    char model_sha256[65], samples_sha256[65];
    struct onnx_model *model;
    struct onnx_info info;
    const struct network *network; /* the model's own */
    struct unit_map *units;
    struct network *masked;
    double macs; /* multiply-adds of an image */
    struct pool *pool;
    struct engine *forward;  /* over `masked`, inference plan */
    struct engine *backward; /* over `masked`, with gradients */
    struct samples *samples, *probe;
    struct split *split;
    struct image_range range;
    size_t image_floats;     /* C * H * W */
    float *images;           /* (samples, C, H, W) as the network takes them */
    size_t *build_and_score; /* sample indices of both, build first */
    size_t build_and_score_count;
    float *build_images; /* (build, C, H, W) */
    int32_t *build_labels;

    /* 2 baseline */
    float *logits0;           /* (samples, K) */
    float *p0;                /* softmax of them */
    int32_t *build_predicted; /* (build) */
    float *probe_logits0;     /* (probe, K) or NULL */
    double accuracy0;
    struct snapshot *original; /* the weights as they came, from when they are first trained; else NULL */
    struct unit_stats *stats0; /* of the network as it came; mean is the fill */

    /* 3 expose */
    struct expose_options expose_options;
    struct exposure *exposure;

    /* 4 graph */
    struct neuron_graph *graph;
    float *features;
    size_t feature_count;

    /* 5 search: what it chose */
    struct unit_effects *effects0; /* of the network as it came; NULL until somebody measured them */
    struct score *score;           /* the reward function and its caches */
    uint8_t *best;                 /* (units) 1 = pruned */
    double reward_none, reward_greedy, reward_random, reward_ppo, reward_best;
    size_t evaluations, random_evaluations;
    json_t *trials;  /* [{family, class, success, residual, ...}] of hints (hints.h) */
    json_t *curve;   /* [{evaluations, best, mean}] */
    json_t *details; /* what a method wants said of itself in the report; NULL: nothing */

    /* 6 repair */
    float *mask, *fill;          /* (units) of the repaired network; mask: 0 pruned, else the gain */
    struct augmentation natural; /* variants that it takes for the same thing (variants.h) */

    /* 7 evaluate */
    float *logits1; /* (samples, K) of the repaired network */
    struct locked_figures locked;
    enum verdict verdict;
    char spared[DIGEST_HEX_SIZE]; /* of the network in which the adversary last found nothing; empty: none yet */
    struct trigger **after; /* (TRIGGER_FAMILY_COUNT * columns of the exposure), NULL where not looked for again */
    json_t *report;
};

/* One file a stage. */
enum status stage_load(struct job *job, struct error *error);
enum status stage_baseline(struct job *job, struct error *error);
enum status stage_expose(struct job *job, struct error *error);
enum status stage_graph(struct job *job, struct error *error);
enum status stage_search(struct job *job, struct error *error);
enum status stage_repair(struct job *job, struct error *error);
enum status stage_evaluate(struct job *job, struct error *error);
enum status stage_export(struct job *job, struct error *error);

/* Tells step of total within the running stage; throttled. */
void job_progress(struct job *job, size_t step, size_t total, const char *message);
/* Adds an event to the trace; takes the reference (NULL is an allocation failure and ignored: the trace is for reading). */
void job_trace(struct job *job, json_t *event);
const atomic_bool *job_cancel(const struct job *job);
/* The inversion data over the build samples, for a network masked by mask and fill (NULL: as it came). */
struct invert_data job_invert_data(const struct job *job, const float *mask, const float *fill);
/* The key of something that depends on a mask and a fill (units each) and on `what` (size bytes), the same in every run of the job. */
enum status job_key(const struct job *job, const void *what, size_t size, const float *mask, const float *fill,
                    char key[DIGEST_HEX_SIZE], struct error *error);
/* mask (units) of floats from prune bits. */
void job_mask_from_bits(size_t units, const uint8_t *prune, float *mask);

#endif
