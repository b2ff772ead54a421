/* Trigger inversion: the gradient search for one trigger of one family that sends the samples of the other classes to one
 * class. It can be advanced in parts, so that many classes are tried a little and only the promising ones to the end. */
#ifndef ONP_SERVER_EXPOSE_INVERT_H
#define ONP_SERVER_EXPOSE_INVERT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/digest.h"
#include "common/error.h"
#include "common/rng.h"
#include "server/expose/trigger.h"
#include "server/nn/engine.h"

/* Keeps the states that inversions have reached, so that a job that runs again need not go the way again. Calls come in the
 * order of the job, from its thread. */
struct invert_memo {
    void *user;
    /* true: `state` (size) is what an advance asked for by this key led to. */
    bool (*recall)(void *user, const char key[DIGEST_HEX_SIZE], void *state, size_t size);
    void (*keep)(void *user, const char key[DIGEST_HEX_SIZE], const void *state, size_t size);
};

/* What all inversions of a job share; everything borrowed. */
struct invert_data {
    struct engine *engine; /* planned for backward */
    const struct image_range *range;
    const float *images;      /* (count, C, H, W) as the network takes them: clean samples */
    const int32_t *labels;    /* (count) */
    const int32_t *predicted; /* (count) by the network as it came; NULL: as labelled */
    size_t count, classes;
    const float *mask, *fill; /* (units) of the network under test; NULL: as it came */
    size_t units;             /* of mask and fill, for the memo's keys */
    const atomic_bool *cancel;
    const struct invert_memo *memo; /* or NULL */
};

/* trigger_source() of a sample. */
int32_t invert_class_of(const struct invert_data *data, const struct trigger *trigger, size_t sample);

struct inversion;

/* scale: of the trigger's bound; batch: samples a step. STATUS_INVALID if no sample has another class than `target`. `rng` is copied. */
enum status inversion_new(const struct invert_data *data, enum trigger_family family, size_t target, double scale,
                          size_t batch, const struct rng *rng, struct inversion **out, struct error *error);
/* As inversion_new(), of an all-to-all trigger: map (classes) is copied, see trigger.h. */
enum status inversion_new_mapped(const struct invert_data *data, enum trigger_family family, const int32_t *map,
                                 double scale, size_t batch, const struct rng *rng, struct inversion **out,
                                 struct error *error);
/* As inversion_new(), with the family and the goal of `like`, from a random start of its own. */
enum status inversion_anew(const struct invert_data *data, const struct trigger *like, double scale, size_t batch,
                           const struct rng *rng, struct inversion **out, struct error *error);
/* As inversion_new(), starting from a given trigger instead of a random one, at another scale. */
enum status inversion_from(const struct invert_data *data, const struct trigger *start, double scale, size_t batch,
                           const struct rng *rng, struct inversion **out, struct error *error);
void inversion_free(struct inversion *inversion);

/* Samples that tell a trigger's loss and success well enough, and those that tell which of many triggers are worth going on with. */
enum { INVERT_MEASURE = 256, INVERT_GLANCE = 64 };
/* `steps` of Adam, then loss, success, extent and size are measured anew on up to `limit` of the other classes' samples. */
enum status inversion_advance(struct inversion *inversion, size_t steps, size_t limit, struct error *error);
/* The same, but it ends when the batches' mean cross-entropy has stayed below `settled` for a few steps: hardly any gradient is left. */
enum status inversion_settle(struct inversion *inversion, size_t steps, double settled, size_t limit,
                             struct error *error);
/* The same as the first of several inversions of one family over the same data: with a batch of whole chunks their steps share runs of the engine, which
 * keeps more threads busy; what each comes to is the same as one after the other. */
enum status inversion_advance_all(struct inversion *const *inversions, size_t count, size_t steps, size_t limit,
                                  struct error *error);
size_t inversion_steps(const struct inversion *inversion);
const struct trigger *inversion_trigger(const struct inversion *inversion); /* borrowed */

/* The logits (count, classes) of up to `limit` triggered samples among those it is to send elsewhere: picked[i] (room for
 * data->count) is the sample of row i. */
enum status invert_logits(const struct invert_data *data, const struct trigger *trigger, size_t limit, size_t *picked,
                          float *logits, size_t *count, struct error *error);
/* Loss and success of a trigger on up to `limit` samples of the other classes, without changing it. */
enum status invert_measure(const struct invert_data *data, const struct trigger *trigger, size_t limit, double *loss,
                           double *success, struct error *error);

#endif
