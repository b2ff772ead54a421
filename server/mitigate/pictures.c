/* Figures for pictures. They are files of their own because a report is for reading and these are not. */
#include "server/mitigate/pictures.h"

#include <math.h>

#include "common/base64.h"
#include "common/json_read.h"
#include "common/mem.h"
#include "server/graph/neuron_graph.h"

/* The columns that stage 5 adds to the weight features, in its order, from the first that is not here anyway. */
enum { SEARCH_COLUMN = WEIGHT_FEATURE_COUNT + 2 };
static const char *const weight_names[WEIGHT_FEATURE_COUNT] = {"l1", "in", "out", "lipschitz"};
static const char *const search_names[] = {"taylor_clean", "taylor_trigger", "change"};
enum { SEARCH_NAMES = sizeof search_names / sizeof search_names[0] };

/* Takes `bytes`; NULL without memory. */
static json_t *base64_json(uint8_t *bytes, size_t count) {
    char *text = bytes == NULL ? NULL : base64_encode(bytes, count);
    json_t *json = text == NULL ? NULL : json_string(text);
    mem_free(text);
    mem_free(bytes);
    return json;
}

static uint8_t byte_of(float value, float low, float high) {
    const float share = high > low ? (value - low) / (high - low) : 0.0F;
    return (uint8_t)lrintf(255.0F * fminf(1.0F, fmaxf(0.0F, share)));
}

/* x (C, H, W) as the network takes it. */
static json_t *image_json(const struct image_range *range, const float *x) {
    const size_t pixels = range->height * range->width, count = range->channels * pixels;
    uint8_t *bytes = mem_alloc(count, 1);
    for (size_t i = 0; bytes != NULL && i < count; i++) {
        bytes[i] = byte_of(x[i], range->low[i / pixels], range->high[i / pixels]);
    }
    return base64_json(bytes, count);
}

static json_t *mask_json(const struct image_range *range, const float *mask) {
    const size_t pixels = range->height * range->width;
    uint8_t *bytes = mem_alloc(pixels, 1);
    for (size_t i = 0; bytes != NULL && i < pixels; i++) {
        bytes[i] = byte_of(mask[i], 0.0F, 1.0F);
    }
    return base64_json(bytes, pixels);
}

/* The first of the build samples that is not of this class; the trigger was inverted on such samples, so there is one. */
static const float *sample_of_others(const struct job *job, size_t class) {
    for (size_t i = 0; i < job->split->build_count; i++) {
        if ((size_t)job->build_labels[i] != class) {
            return job->build_images + i * job->image_floats;
        }
    }
    return job->build_images;
}

static json_t *trigger_json(const struct job *job, const struct trigger *trigger) {
    const struct image_range *range = &job->range;
    const bool patch = trigger->family == TRIGGER_PATCH; /* rendered: mask (H, W), pattern (C, H, W) */
    const float *clean = sample_of_others(job, trigger->target);
    float *triggered = mem_alloc(job->image_floats, sizeof *triggered);
    json_t *json = NULL;
    if (triggered != NULL) {
        trigger_apply(trigger, range, clean, triggered);
        json = json_pack("{s:o, s:s, s:o, s:o, s:o, s:o, s:o, s:o}", "class",
                         trigger->target < job->info.classes ? json_integer((json_int_t)trigger->target) : json_null(),
                         "family", trigger_family_name(trigger->family), "size", json_real_or_null(trigger->size),
                         "success", json_real_or_null(trigger->success), "clean", image_json(range, clean), "triggered",
                         image_json(range, triggered), "mask",
                         patch ? mask_json(range, trigger->rendered) : json_null(), "pattern",
                         patch ? image_json(range, trigger->rendered + range->height * range->width) : json_null());
    }
    mem_free(triggered);
    return json;
}

/* Is trigger `at` of the bank the first of its family and class? Further ones come from restarts and the adversary. */
static bool is_first(const struct exposure *exposure, size_t at) {
    for (size_t i = 0; i < at; i++) {
        if (exposure->bank[i]->family == exposure->bank[at]->family &&
            exposure->bank[i]->target == exposure->bank[at]->target) {
            return false;
        }
    }
    return true;
}

json_t *pictures_triggers(const struct job *job) {
    const struct image_range *range = &job->range;
    json_t *list = json_array();
    bool fine = list != NULL;
    const size_t most = range->height * range->width <= PICTURES_PIXELS_MAX ? PICTURES_TRIGGERS_MAX : 0;
    const size_t found = job->exposure == NULL ? 0 : job->exposure->bank_count; /* some methods look for no trigger */
    for (size_t i = 0; i < found && fine && json_array_size(list) < most; i++) {
        if (is_first(job->exposure, i)) {
            fine = json_array_append_new(list, trigger_json(job, job->exposure->bank[i])) == 0;
        }
    }
    if (!fine) {
        json_decref(list);
        return NULL;
    }
    return json_pack("{s:i, s:I, s:I, s:I, s:o}", "schema", 1, "channels", (json_int_t)range->channels, "height",
                     (json_int_t)range->height, "width", (json_int_t)range->width, "triggers", list);
}

/* values[first * stride], `count` of them, `stride` apart. */
static json_t *column_json(const float *values, size_t first, size_t count, size_t stride) {
    json_t *array = json_array();
    for (size_t i = 0; i < count; i++) {
        json_array_append_new(array, json_real_or_null((double)values[(first + i) * stride]));
    }
    return array;
}

static json_t *layer_values(const struct job *job, const struct unit_layer *layer) {
    const size_t first = layer->first, count = layer->count;
    json_t *values = json_array();
    for (size_t f = 0; job->graph != NULL && f < WEIGHT_FEATURE_COUNT; f++) {
        json_array_append_new(values, column_json(job->graph->weight_features + f, first, count, WEIGHT_FEATURE_COUNT));
    }
    json_array_append_new(values, column_json(job->stats0->mean, first, count, 1));
    json_array_append_new(values, column_json(job->stats0->deviation, first, count, 1));
    json_array_append_new(values, column_json(job->mask, first, count, 1));
    for (size_t f = 0; job->features != NULL && f < SEARCH_NAMES; f++) {
        json_array_append_new(values, column_json(job->features + SEARCH_COLUMN + f, first, count, job->feature_count));
    }
    return values;
}

static json_t *feature_names(const struct job *job) {
    json_t *names = json_array();
    for (size_t f = 0; job->graph != NULL && f < WEIGHT_FEATURE_COUNT; f++) {
        json_array_append_new(names, json_string(weight_names[f]));
    }
    json_array_append_new(names, json_string("mean"));
    json_array_append_new(names, json_string("deviation"));
    json_array_append_new(names, json_string("gain"));
    for (size_t f = 0; job->features != NULL && f < SEARCH_NAMES; f++) {
        json_array_append_new(names, json_string(search_names[f]));
    }
    return names;
}

json_t *pictures_units(const struct job *job) {
    json_t *layers = json_array();
    for (size_t l = 0; l < job->units->layer_count; l++) {
        const struct unit_layer *layer = &job->units->layers[l];
        json_t *pruned = json_array();
        for (size_t c = 0; c < layer->count; c++) {
            if (job->best[layer->first + c] != 0) {
                json_array_append_new(pruned, json_integer((json_int_t)c));
            }
        }
        json_array_append_new(layers, json_pack("{s:s, s:I, s:o, s:o}", "layer", units_layer_name(job->network, layer),
                                                "depth", (json_int_t)layer->depth, "pruned", pruned, "values",
                                                layer_values(job, layer)));
    }
    return json_pack("{s:i, s:o, s:o}", "schema", 1, "features", feature_names(job), "layers", layers);
}
