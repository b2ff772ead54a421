/* Private to expose/: the table of trigger families. A row works on one trigger; see trigger.h for what each function does. */
#ifndef ONP_SERVER_EXPOSE_TRIGGER_FAMILY_H
#define ONP_SERVER_EXPOSE_TRIGGER_FAMILY_H

#include "server/expose/trigger.h"

struct trigger_family_row {
    const char *name;
    float learning_rate;
    bool bounded;
    bool rate_by_scale; /* the parameters are in units of the bound's own, so steps grow with it */
    size_t (*parameter_count)(const struct image_range *range);
    size_t (*rendered_count)(const struct image_range *range);
    void (*start)(struct trigger *trigger, const struct image_range *range, struct rng *rng);
    void (*render)(struct trigger *trigger, const struct image_range *range);
    void (*apply)(const struct trigger *trigger, const struct image_range *range, const float *x, float *out);
    void (*backward)(const struct trigger *trigger, const struct image_range *range, const float *x, const float *dout,
                     float *gradient);
    void (*parameter_gradient)(const struct trigger *trigger, const struct image_range *range, const float *rendered,
                               float *parameter);
    void (*project)(struct trigger *trigger, const struct image_range *range);
    double (*size)(const struct trigger *trigger, const struct image_range *range);
    /* The family's dictionary: ready-made triggers. NULL: none. A family without backward has nothing else. */
    size_t (*entry_count)(const struct image_range *range);
    void (*set_entry)(struct trigger *trigger, const struct image_range *range, size_t index);
    double entry_scale; /* at which entries are tried; 0: 1 */
};

extern const struct trigger_family_row trigger_patch_row, trigger_additive_row, trigger_warp_row, trigger_tone_row;

static inline size_t range_pixels(const struct image_range *range) {
    return range->height * range->width;
}

static inline size_t range_values(const struct image_range *range) {
    return range->channels * range_pixels(range);
}

#endif
