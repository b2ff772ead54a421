/* Trains the built-in policy on other networks (make policy).
 *
 * For each folder given (model.onnx, clean.npz) a job runs as far as the graph; then, from the greedy mask on, single flips are
 * scored one by one: all pruned units, those that the second-order estimate likes, and others at random. Flips that help are
 * applied and it starts again from that mask, a few times. Each mask is an example: features, graph, and for the flips tried what
 * they changed in the reward.
 *
 * The policy learns logits such that pruning has the higher probability where it has the higher reward: logistic regression on the
 * sign of the difference, weighted by its size. With one flip an episode this is the policy gradient towards greedy
 * decisions, without its noise, since both outcomes of each bit are known. How many passes are best was found by leaving out one
 * network after the other (--apart). */
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "common/mem.h"
#include "common/options.h"
#include "server/agent/policy_file.h"
#include "server/mitigate/features.h"
#include "server/mitigate/job.h"
#include "server/mitigate/method.h"
#include "server/mitigate/mitigate_score.h"
#include "server/mitigate/warm_start.h"
#include "server/nn/optim.h"

enum {
    ROUNDS = 3,
    LIKED = 32,
    RANDOM = 32,
    EXAMPLES_MAX = 512,
    NETWORKS_MAX = 128,
    WIDTH = 32,
    LAYERS = 2,
    ARRAY_MAX = 1 << 24,
    FLIPS_MAX = 512,
    TEN = 10
};
static const float WEIGHT_MAX = 3.0F, NOISE = 0.3F, LEARNING_RATE = 3e-3F;

/* One mask of one network. */
struct example {
    size_t network;
    struct neuron_graph *graph; /* the network's; owned by its first example */
    bool owns_graph;
    float *features;
    size_t feature_count, flips;
    uint32_t *unit; /* (flips) */
    float *prune;   /* (flips) reward with the unit pruned less with it kept */
    size_t *action_of;
    double scale; /* of the differences */
};

struct examples {
    struct example items[EXAMPLES_MAX];
    size_t count, network;
    uint64_t apart; /* the network that is not trained on */
};

static struct examples all = {.apart = NETWORKS_MAX}; /* the stages of a job are given no user pointer */

/* --- collecting --- */

struct flip {
    double gain;
    uint32_t unit;
};

static int by_falling_gain(const void *a, const void *b) {
    const double x = ((const struct flip *)a)->gain, y = ((const struct flip *)b)->gain;
    return x > y ? -1 : x < y;
}

/* Which flips to try: (units) marks. */
static void choose(const struct job *job, struct rng *rng, uint8_t *marks) {
    const size_t units = job->units->unit_count, gain = job->feature_count - 1;
    memcpy(marks, job->best, units);
    for (size_t n = 0; n < LIKED; n++) {
        size_t best = units;
        for (size_t u = 0; u < units; u++) {
            const bool better = best == units || job->features[u * job->feature_count + gain] >
                                                     job->features[best * job->feature_count + gain];
            best = marks[u] == 0 && better ? u : best;
        }
        if (best < units) {
            marks[best] = 1;
        }
    }
    for (size_t n = 0; n < RANDOM; n++) {
        marks[rng_below(rng, units)] = 1;
    }
}

static enum status try_flips(struct job *job, const uint8_t *marks, double base_reward, struct flip *flips,
                             size_t *count, struct error *error) {
    const size_t units = job->units->unit_count;
    *count = 0;
    for (size_t u = 0; u < units; u++) {
        struct score_parts parts;
        if (marks[u] == 0) {
            continue;
        }
        job->best[u] ^= 1;
        const enum status status = score_mask(job->score, job->best, &parts, error);
        job->best[u] ^= 1;
        if (status != STATUS_OK) {
            return status;
        }
        flips[(*count)++] = (struct flip){parts.reward - base_reward, (uint32_t)u};
    }
    return STATUS_OK;
}

static void add_example(struct job *job, const struct flip *flips, size_t count) {
    struct example *example = &all.items[all.count];
    *example = (struct example){.network = all.network,
                                .graph = job->graph,
                                .features = job->features,
                                .feature_count = job->feature_count,
                                .flips = count,
                                .unit = mem_calloc(count, sizeof *example->unit),
                                .prune = mem_calloc(count, sizeof *example->prune),
                                .action_of = mem_calloc(job->units->unit_count, sizeof(size_t))};
    job->features = NULL;
    if (example->unit == NULL || example->prune == NULL || example->action_of == NULL) {
        abort();
    }
    double positive = 0.0;
    size_t helping = 0;
    for (size_t i = 0; i < count; i++) {
        example->unit[i] = flips[i].unit;
        example->prune[i] = (float)(job->best[flips[i].unit] != 0 ? -flips[i].gain : flips[i].gain);
        positive += fmax(flips[i].gain, 0.0);
        helping += flips[i].gain > 0;
    }
    example->scale = helping > 0 ? positive / (double)helping : 1.0;
    for (size_t u = 0; u < job->units->unit_count; u++) {
        example->action_of[u] = u;
    }
    all.count++;
}

/* The best prefix of the flips that help, best first, is flipped. *reward: of the mask then. */
static enum status apply_flips(struct job *job, struct flip *flips, size_t count, double *reward, struct error *error) {
    const size_t units = job->units->unit_count;
    uint8_t *trial = mem_dup(job->best, units), *best = mem_dup(job->best, units);
    enum status status = trial == NULL || best == NULL ? error_no_memory(error, "a mask") : STATUS_OK;
    qsort(flips, count, sizeof *flips, by_falling_gain);
    for (size_t i = 0; i < count && flips[i].gain > 0 && status == STATUS_OK; i++) {
        struct score_parts parts;
        trial[flips[i].unit] ^= 1;
        if ((i & (i + 1)) != 0) { /* prefixes of 1, 2, 4, 8, ... */
            continue;
        }
        status = score_mask(job->score, trial, &parts, error);
        if (status == STATUS_OK && parts.reward > *reward) {
            *reward = parts.reward;
            memcpy(best, trial, units);
        }
    }
    if (status == STATUS_OK) {
        memcpy(job->best, best, units);
    }
    mem_free(trial);
    mem_free(best);
    return status;
}

static enum status collect_rounds(struct job *job, struct flip *flips, uint8_t *marks, struct error *error) {
    struct rng rng = rng_stream(&job->rng, STREAM_RANDOM);
    struct score_parts parts;
    enum status status = warm_start(job, WARM_ROUNDS, job->best, &parts, error);
    double reward = parts.reward;
    for (size_t round = 0; round < ROUNDS && all.count < EXAMPLES_MAX && status == STATUS_OK; round++) {
        size_t count = 0;
        const double before = reward;
        status = features_measure(job, job->best, error);
        if (status == STATUS_OK) {
            choose(job, &rng, marks);
            status = try_flips(job, marks, reward, flips, &count, error);
        }
        if (status != STATUS_OK) {
            break;
        }
        add_example(job, flips, count);
        status = apply_flips(job, flips, count, &reward, error);
        if (status == STATUS_OK) {
            fprintf(stderr, "  round %zu: %zu flips, reward %.5f -> %.5f\n", round + 1, count, before, reward);
        }
        if (reward <= before) {
            break;
        }
    }
    return status;
}

static enum status stage_collect(struct job *job, struct error *error) {
    const size_t units = job->units->unit_count, first = all.count;
    struct checkpoint *journal = job->checkpoint; /* for the inversions alone, which are the same each time */
    enum status status = STATUS_OK;
    job->report = json_object();
    if (job->exposure->bank_count == 0) {
        fprintf(stderr, "  nobody is suspected: left out\n");
        return STATUS_OK;
    }
    job->checkpoint = NULL;
    job->best = mem_calloc(units, 1);
    struct flip *flips = mem_calloc(units, sizeof *flips);
    uint8_t *marks = mem_calloc(units, 1);
    status = job->best == NULL || flips == NULL || marks == NULL ? error_no_memory(error, "flips")
                                                                 : score_new(job, &job->score, error);
    if (status == STATUS_OK) {
        status = collect_rounds(job, flips, marks, error);
    }
    if (all.count > first) {
        all.items[first].owns_graph = true;
        job->graph = NULL;
    }
    job->checkpoint = journal;
    mem_free(flips);
    mem_free(marks);
    return status;
}

/* --- examples as a file, so that a network is asked once --- */

struct stream {
    FILE *file;
    bool writing, bad;
};

/* Writes `size` bytes from data, or reads them into it. */
static void pass_bytes(struct stream *s, void *data, size_t size) {
    if (!s->bad && size > 0) {
        s->bad = (s->writing ? fwrite(data, 1, size, s->file) : fread(data, 1, size, s->file)) != size;
    }
}

/* The same for an array that is made when it is read. */
static void *pass_array(struct stream *s, void *data, size_t count, size_t size) {
    if (!s->writing) {
        data = s->bad || count > ARRAY_MAX ? NULL : mem_calloc(count, size);
        s->bad = s->bad || data == NULL;
    }
    pass_bytes(s, data, count * size);
    return data;
}

static void pass_graph(struct stream *s, struct neuron_graph *graph) {
    pass_bytes(s, &graph->node_count, sizeof graph->node_count);
    for (size_t r = 0; r < RELATION_COUNT && !s->bad; r++) {
        struct edge_list *edges = &graph->edges[r];
        edges->start = pass_array(s, edges->start, graph->node_count + 1, sizeof *edges->start);
        const size_t count = s->bad ? 0 : edges->start[graph->node_count];
        edges->source = pass_array(s, edges->source, count, sizeof *edges->source);
        edges->weight = pass_array(s, edges->weight, count, sizeof *edges->weight);
    }
}

static void pass_example(struct stream *s, struct example *example, size_t nodes) {
    pass_bytes(s, &example->flips, sizeof example->flips);
    pass_bytes(s, &example->feature_count, sizeof example->feature_count);
    pass_bytes(s, &example->scale, sizeof example->scale);
    s->bad = s->bad || example->feature_count > ARRAY_MAX / nodes;
    example->unit = pass_array(s, example->unit, example->flips, sizeof *example->unit);
    example->prune = pass_array(s, example->prune, example->flips, sizeof *example->prune);
    example->features = pass_array(s, example->features, nodes * example->feature_count, sizeof *example->features);
    example->action_of = pass_array(s, example->action_of, nodes, sizeof *example->action_of);
}

/* The examples from `first` on, which are one network's. false: there is no such file, or it is not whole. */
static bool pass_examples(const char *path, size_t first, bool writing) {
    struct stream s = {fopen(path, writing ? "wb" : "rb"), writing, false};
    size_t count = all.count - first;
    if (s.file == NULL) {
        return false;
    }
    pass_bytes(&s, &count, sizeof count);
    struct neuron_graph *graph = writing && count > 0 ? all.items[first].graph : NULL;
    if (!writing && count > 0) {
        graph = mem_calloc(1, sizeof *graph);
        s.bad = s.bad || graph == NULL || count > EXAMPLES_MAX - first;
    }
    if (graph != NULL && !s.bad) {
        pass_graph(&s, graph);
    }
    for (size_t i = first; i < first + count && !s.bad; i++) {
        struct example *example = &all.items[i];
        if (!writing) {
            *example = (struct example){.network = all.network, .graph = graph, .owns_graph = i == first};
        }
        pass_example(&s, example, graph->node_count);
    }
    const bool whole = fclose(s.file) == 0 && !s.bad;
    if (!writing && whole) {
        all.count = first + count;
    }
    return whole;
}

/* --- one network --- */

static const struct stage_row stages_collect[] = {
    {STAGE_LOAD, 0.1, stage_load},   {STAGE_BASELINE, 0.1, stage_baseline}, {STAGE_EXPOSE, 0.5, stage_expose},
    {STAGE_GRAPH, 0.1, stage_graph}, {STAGE_SEARCH, 0.2, stage_collect},
};
static const struct method method_collect = {.name = "onp",
                                             .summary = "",
                                             .parameters = &parameters_onp,
                                             .stages = stages_collect,
                                             .stage_count = sizeof stages_collect / sizeof stages_collect[0]};

static enum status collect(const char *folder, const char *cache, uint64_t seed, uint64_t threads,
                           struct error *error) {
    const struct mitigate_hooks hooks = {0};
    const char *slash = strrchr(folder, '/');
    char model[PATH_MAX], samples[PATH_MAX], out[PATH_MAX], examples[PATH_MAX];
    const size_t first = all.count;
    json_t *report = NULL;
    enum status status = file_join(model, sizeof model, folder, "model.onnx", error);
    status = status == STATUS_OK ? file_join(samples, sizeof samples, folder, "clean.npz", error) : status;
    status =
        status == STATUS_OK ? file_join(out, sizeof out, cache, slash != NULL ? slash + 1 : folder, error) : status;
    status = status == STATUS_OK ? file_make_dir(out, error) : status;
    status = status == STATUS_OK ? file_join(examples, sizeof examples, out, "examples", error) : status;
    if (status != STATUS_OK) {
        return status;
    }
    if (pass_examples(examples, first, false)) {
        all.network++;
        return STATUS_OK;
    }
    const struct mitigate_request request = {.model_path = model,
                                             .samples_path = samples,
                                             .out_dir = out,
                                             .method = "onp",
                                             .seed = seed,
                                             .threads = (size_t)threads,
                                             .checkpoint = true};
    fprintf(stderr, "%s\n", folder);
    status = method_run(&method_collect, &request, &hooks, &report, error);
    json_decref(report);
    if (status == STATUS_OK && !pass_examples(examples, first, true)) {
        status = error_set(error, STATUS_IO, examples, "failed to keep the examples: got an error, expected none");
    }
    all.network++;
    return status;
}

/* --- learning --- */

static struct rl_env env_of(const struct example *example) {
    return (struct rl_env){.graph = example->graph,
                           .features = example->features,
                           .feature_count = example->feature_count,
                           .action_count = example->graph->node_count,
                           .action_of = example->action_of};
}

struct fitness {
    double loss, weight;
    /* What the ten flips it likes best bring, the ten best would, any ten do on average, those of the highest estimate do. */
    double taken, possible, chance, estimate;
};

static float weight_of(const struct example *example, size_t i) {
    const float size = fabsf(example->prune[i]) / (float)example->scale;
    return size < WEIGHT_MAX ? size : WEIGHT_MAX;
}

/* The loss of one example, and with dlogits its gradient. */
static void measure_loss(const struct example *example, const float *logits, float *dlogits, struct fitness *fitness) {
    double total = 0.0;
    for (size_t i = 0; i < example->flips; i++) {
        total += (double)weight_of(example, i);
    }
    for (size_t i = 0; i < example->flips && total > 0.0; i++) {
        const float logit = logits[example->unit[i]], target = example->prune[i] > 0 ? 1.0F : 0.0F;
        const double weight = (double)weight_of(example, i) / total;
        const double p = 1.0 / (1.0 + exp(-(double)logit));
        fitness->loss -= weight * log(fmax(target > 0 ? p : 1.0 - p, 1e-12));
        if (dlogits != NULL) {
            dlogits[example->unit[i]] = (float)(weight * (p - (double)target));
        }
    }
    fitness->weight += total > 0.0;
}

/* What the ten of the `n` flips with the highest key bring. */
static double best_ten(const struct example *example, struct flip *flips, size_t n) {
    double sum = 0.0;
    qsort(flips, n, sizeof *flips, by_falling_gain);
    for (size_t k = 0; k < n && k < TEN; k++) {
        sum += fmax((double)example->prune[flips[k].unit], 0.0) / example->scale;
    }
    return sum;
}

/* Of kept units alone: pruned ones are few, and asked about anyway. */
static void measure_choice(const struct example *example, const float *logits, struct fitness *fitness) {
    struct flip liked[FLIPS_MAX], best[FLIPS_MAX], estimated[FLIPS_MAX];
    size_t n = 0;
    double sum = 0.0;
    for (size_t i = 0; i < example->flips && n < FLIPS_MAX; i++) {
        const float *row = example->features + (size_t)example->unit[i] * example->feature_count;
        if (row[example->feature_count - 4] > 0.0F) {
            continue;
        }
        sum += fmax((double)example->prune[i], 0.0) / example->scale;
        liked[n] = (struct flip){(double)logits[example->unit[i]], (uint32_t)i};
        best[n] = (struct flip){(double)example->prune[i], (uint32_t)i};
        estimated[n++] = (struct flip){(double)row[example->feature_count - 1], (uint32_t)i};
    }
    fitness->taken += best_ten(example, liked, n);
    fitness->possible += best_ten(example, best, n);
    fitness->estimate += best_ten(example, estimated, n);
    fitness->chance += n > 0 ? sum * fmin(1.0, (double)TEN / (double)n) : 0.0;
}

struct training {
    struct policy *policy;
    struct adam *adam;
    float *logits, *dlogits, *noisy;
    struct rng rng;
};

static bool held_out(const struct example *example) {
    return example->network == all.apart;
}

static enum status pass(struct training *t, bool learn, const size_t *order, struct fitness *fitness,
                        struct error *error) {
    *fitness = (struct fitness){0};
    for (size_t k = 0; k < all.count; k++) {
        const struct example *example = &all.items[order[k]];
        if (held_out(example) == learn) {
            continue;
        }
        struct rl_env env = env_of(example);
        if (learn) { /* few networks, many weights: with noise on what it sees it learns them by heart later */
            for (size_t i = 0; i < env.graph->node_count * env.feature_count; i++) {
                t->noisy[i] = example->features[i] + NOISE * rng_normal(&t->rng);
            }
            env.features = t->noisy;
        }
        float value = 0.0F, *gradient = policy_gradient(t->policy);
        const enum status status = policy_forward(t->policy, &env, t->logits, &value, error);
        if (status != STATUS_OK) {
            return status;
        }
        memset(t->dlogits, 0, env.action_count * sizeof *t->dlogits);
        measure_loss(example, t->logits, t->dlogits, fitness);
        measure_choice(example, t->logits, fitness);
        if (learn) {
            memset(gradient, 0, policy_parameter_count(t->policy) * sizeof *gradient);
            policy_backward(t->policy, &env, t->dlogits, value); /* the value learns to say 0, the warm mask's */
            adam_step(t->adam, policy_parameters(t->policy), gradient);
        }
    }
    return STATUS_OK;
}

static void print_fitness(const char *what, const struct fitness *f) {
    fprintf(stderr,
            "%sloss %.4f, of what the best ten flips bring the ten it likes best do %.0f %%, by the estimate %.0f "
            "%%, any %.0f %%",
            what, f->loss / f->weight, 100 * f->taken / f->possible, 100 * f->estimate / f->possible,
            100 * f->chance / f->possible);
}

static enum status train(struct training *t, uint64_t epochs, struct rng *rng, struct error *error) {
    size_t order[EXAMPLES_MAX];
    enum status status = STATUS_OK;
    for (size_t i = 0; i < all.count; i++) {
        order[i] = i;
    }
    for (uint64_t epoch = 0; epoch < epochs && status == STATUS_OK; epoch++) {
        struct fitness seen, apart;
        adam_set_learning_rate(t->adam, LEARNING_RATE * (1.0F - (float)epoch / (float)epochs));
        rng_shuffle(rng, order, all.count);
        status = pass(t, true, order, &seen, error);
        if (status == STATUS_OK) {
            status = pass(t, false, order, &apart, error);
        }
        if (status == STATUS_OK) {
            fprintf(stderr, "epoch %llu: ", (unsigned long long)epoch + 1);
            print_fitness("", &seen);
            if (apart.weight > 0) {
                print_fitness("; apart: ", &apart);
            }
            fputc('\n', stderr);
        }
    }
    return status;
}

static enum status learn(const char *out, uint64_t epochs, uint64_t seed, struct error *error) {
    const struct policy_shape shape = {all.items[0].feature_count, WIDTH, LAYERS};
    const struct adam_options options = {LEARNING_RATE, 0.9F, 0.99F, 1e-8F, 1e-2F};
    struct training t = {0};
    struct rng rng;
    size_t units = 1, length = 0;
    uint8_t *bytes = NULL;
    for (size_t i = 0; i < all.count; i++) {
        units = all.items[i].graph->node_count > units ? all.items[i].graph->node_count : units;
    }
    rng_seed(&rng, seed);
    t.logits = mem_calloc(units, sizeof *t.logits);
    t.dlogits = mem_calloc(units, sizeof *t.dlogits);
    t.noisy = mem_calloc(units, shape.feature_count * sizeof *t.noisy);
    t.rng = rng_stream(&rng, 1);
    enum status status = t.logits == NULL || t.dlogits == NULL || t.noisy == NULL
                             ? error_no_memory(error, "logits")
                             : policy_new(&shape, &rng, &t.policy, error);
    status = status == STATUS_OK ? adam_new(policy_parameter_count(t.policy), &options, &t.adam, error) : status;
    if (status == STATUS_OK) {
        policy_skip(t.policy)[shape.feature_count - 1] = 1.0F; /* the estimate is where it starts from */
    }
    status = status == STATUS_OK ? train(&t, epochs, &rng, error) : status;
    status = status == STATUS_OK ? policy_save(t.policy, features_names, &bytes, &length, error) : status;
    status = status == STATUS_OK ? file_write_atomic(out, bytes, length, error) : status;
    mem_free(bytes);
    mem_free(t.logits);
    mem_free(t.dlogits);
    mem_free(t.noisy);
    adam_free(t.adam);
    policy_free(t.policy);
    return status;
}

int main(int argc, char **argv) {
    const char *out = NULL, *cache = NULL, *folders[NETWORKS_MAX];
    uint64_t seed = 1, epochs = 25, threads = 0;
    size_t count = 0;
    struct error error = {0};
    const struct option table[] = {
        {"out", 'o', OPTION_STRING, &out, 0, "FILE", "the policy; without it examples are only collected"},
        {"cache", 0, OPTION_STRING, &cache, 0, "DIR", "where inversions are kept for the next time"},
        {"seed", 0, OPTION_U64, &seed, INT64_MAX, "N", "seed of all randomness (1)"},
        {"epochs", 0, OPTION_U64, &epochs, 100000, "N", "passes over the examples (25)"},
        {"apart", 0, OPTION_U64, &all.apart, NETWORKS_MAX, "N", "network N, from 0, is only measured on (none)"},
        {"threads", 0, OPTION_U64, &threads, 256, "N", "0: one a core (0)"},
        {NULL, 0, OPTION_FLAG, NULL, 0, NULL, NULL},
    };
    enum status status = options_parse(table, argc, argv, folders, NETWORKS_MAX, &count, &error);
    if (status == STATUS_OK && (cache == NULL || count == 0)) {
        status =
            error_set(&error, STATUS_INVALID, NULL, "failed to train: got no folders or no --cache, expected both");
    }
    for (size_t i = 0; i < count && status == STATUS_OK; i++) {
        status = collect(folders[i], cache, seed, threads, &error);
    }
    if (status == STATUS_OK && out != NULL && all.count == 0) {
        status = error_set(&error, STATUS_INVALID, NULL, "failed to train: got no examples, expected some");
    }
    if (status == STATUS_OK && out != NULL) {
        fprintf(stderr, "%zu examples of %zu networks\n", all.count, all.network);
        status = learn(out, epochs, seed, &error);
    }
    for (size_t i = 0; i < all.count; i++) {
        if (all.items[i].owns_graph) {
            neuron_graph_free(all.items[i].graph);
        }
        mem_free(all.items[i].features);
        mem_free(all.items[i].unit);
        mem_free(all.items[i].prune);
        mem_free(all.items[i].action_of);
    }
    if (status != STATUS_OK) {
        fprintf(stderr, "train: %s%s%s\n", error.where, error.where[0] != '\0' ? ": " : "", error.message);
    }
    return status == STATUS_OK ? 0 : 1;
}
