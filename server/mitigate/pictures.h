/* What pictures of a job are drawn from, beside its report: the triggers that were found, as pixels, and figures of each unit. */
#ifndef ONP_SERVER_MITIGATE_PICTURES_H
#define ONP_SERVER_MITIGATE_PICTURES_H

#include <jansson.h>

#include "server/mitigate/job.h"

/* triggers.json, after stage 7: {"schema": 1, "channels", "height", "width", "triggers": [{"class", "family", "size",
 * "success", "clean", "triggered", "mask", "pattern"}]} of the suspects, at most PICTURES_TRIGGERS_MAX of them and none of
 * an image of more than PICTURES_PIXELS_MAX pixels; class is null if each class is sent to one of its own. Images are base64
 * of bytes (C, H, W), 0 the least value that a valid input can take and 255 the largest: a sample of another class, and the
 * same with the trigger. mask (H, W) and pattern (C, H, W) are those of a patch, null for other families. New reference, NULL
 * without memory. */
json_t *pictures_triggers(const struct job *job);
enum { PICTURES_TRIGGERS_MAX = 8, PICTURES_PIXELS_MAX = 512 * 512 };

/* units.json, after stage 6: {"schema": 1, "features": [name ...], "layers": [{"layer", "depth", "pruned": [channel ...],
 * "values": [one array a feature, of a number a channel]}]}. Features are those of the weights if the method has made the
 * graph, the mean and deviation on clean samples and the gain after the repair; and what the policy knew beside them, in
 * deviations from the layer's mean, if there was a search. New reference, NULL without memory. */
json_t *pictures_units(const struct job *job);

#endif
