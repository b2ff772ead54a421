/* Triggers that inversion can find, one family a row of a table: what turns a clean image into a triggered one, and the
 * gradient of that with respect to the trigger's parameters.
 *
 * Images are (C, H, W) as the network takes them; `struct image_range` says which values a valid input can take, so that
 * all families work in units of the pixel range [0, 1] whatever the normalisation. */
#ifndef ONP_SERVER_EXPOSE_TRIGGER_H
#define ONP_SERVER_EXPOSE_TRIGGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/rng.h"

struct image_range {
    size_t channels, height, width;
    const float *low, *high; /* (C), borrowed: the least and largest valid value a channel */
};

enum trigger_family {
    TRIGGER_PATCH,    /* x' = x (1 - m) + p m; m (H, W), p (C, H, W): Wang et al. 2019 (Neural Cleanse), eq. 2 */
    TRIGGER_ADDITIVE, /* x' = clip(x + d), |d|_2 bounded */
    TRIGGER_WARP,     /* x' = x resampled by a smooth flow from a 4 x 4 control grid, displacement bounded */
    TRIGGER_TONE,     /* x' = one of a list of transformations of the whole image, quantisation above all */
    TRIGGER_FAMILY_COUNT
};

struct trigger {
    enum trigger_family family;
    size_t target; /* class it sends images to; the number of classes for an all-to-all trigger */
    int32_t *map;  /* all-to-all: (classes) where each class's images are sent, TRIGGER_AWAY: out of it; else NULL */
    size_t map_count;
    double scale;      /* additive, warp: multiplies the family's bound; 1 when classes are compared */
    float *parameters; /* unbounded, what the optimiser moves */
    size_t parameter_count;
    float *rendered; /* what trigger_render() made of them: the images' own terms */
    size_t rendered_count;
    /* How it did on the samples it was fitted to, in the last steps: */
    double loss;    /* mean cross-entropy to the target, nats */
    double success; /* share sent to the target */
    double extent;  /* patch: |m|_1 in pixels; additive: |d|_2; warp: mean displacement in pixels */
    double size;    /* the figure that is compared across classes, see trigger_size() */
};

#define TRIGGER_AWAY (-1)

const char *trigger_family_name(enum trigger_family family);

/* scale > 0, see above; the patch family, which has no bound, ignores it. */
enum status trigger_new(enum trigger_family family, size_t target, double scale, const struct image_range *range,
                        struct rng *rng, struct trigger **out, struct error *error);
/* The dictionary of ready-made triggers of a family; 0: it has none. An entry's trigger has the scale entries are tried at. */
size_t trigger_entry_count(enum trigger_family family, const struct image_range *range);
enum status trigger_new_entry(enum trigger_family family, size_t target, size_t entry, const struct image_range *range,
                              struct trigger **out, struct error *error);
/* Is the dictionary all that the family has, so that there is no gradient to follow? */
bool trigger_is_fixed(enum trigger_family family);
/* Turns an entry into another of its own family (which must have a dictionary). */
void trigger_set_entry(struct trigger *trigger, const struct image_range *range, size_t entry);
/* map (classes), copied: makes it an all-to-all trigger. */
enum status trigger_set_map(struct trigger *trigger, const int32_t *map, size_t classes, struct error *error);
/* The class from which the trigger sends an image on, of its label and what the network as it came takes it for. An all-to-all attack starts
 * from the latter: by its label, a network that is often wrong would seem to disobey. */
int32_t trigger_source(const struct trigger *trigger, int32_t label, int32_t predicted);
/* Where the trigger sends an image of that class: a class, or TRIGGER_AWAY. */
int32_t trigger_goal(const struct trigger *trigger, int32_t source);
/* Does the family have a bound, so that a trigger may need a larger scale to reach its target? */
bool trigger_is_bounded(enum trigger_family family);
enum status trigger_copy(const struct trigger *trigger, struct trigger **out, struct error *error);
void trigger_free(struct trigger *trigger);

/* Recomputes `rendered` and `extent` from `parameters`. Call after each change of the parameters. */
void trigger_render(struct trigger *trigger, const struct image_range *range);
/* out (C, H, W) = the triggered form of image x (C, H, W); out must not be x. Any thread. */
void trigger_apply(const struct trigger *trigger, const struct image_range *range, const float *x, float *out);
/* As trigger_apply(), with what the trigger changes of x multiplied by `strength` and the result clipped to valid values: what an attacker's
 * trigger may look like of which this one is a weak image. */
void trigger_apply_at(const struct trigger *trigger, const struct image_range *range, float strength, const float *x,
                      float *out);
/* Adds to gradient (rendered_count) what d(loss)/d(out) = dout (C, H, W) gives for one image x. Any thread. */
void trigger_backward(const struct trigger *trigger, const struct image_range *range, const float *x, const float *dout,
                      float *gradient);
/* From the gradient by `rendered` (summed over samples, then divided by their number) to that by `parameters`, the family's
 * regulariser included. */
void trigger_parameter_gradient(const struct trigger *trigger, const struct image_range *range,
                                const float *rendered_gradient, float *parameter_gradient);
/* Brings the parameters back into the family's bounds after a step (additive: into the ball). */
void trigger_project(struct trigger *trigger, const struct image_range *range);
/* Learning rate of Adam that suits the trigger's parameters. */
float trigger_learning_rate(const struct trigger *trigger);
/* The figure compared across classes; small = suspicious. Patch: the pixels that the objective is worth, |m|_1 + loss /
 * lambda, so that a mask that does not reach the target does not look small. Bounded families: the loss at the bound. */
double trigger_size(const struct trigger *trigger, const struct image_range *range);

#endif
