/* A classifier with a backdoor of known truth, written by hand: images are noise around a class's colour, eight features tell the
 * classes apart, and one further channel of the first layer matches a 3 x 3 checkerboard and outweighs them all. The right
 * repair is to prune that channel (in the first layer or where it passes through the second) and nothing else. */
#ifndef ONP_TESTS_PIPELINE_PLANTED_H
#define ONP_TESTS_PIPELINE_PLANTED_H

#include <limits.h>
#include <stdbool.h>

#include "server/mitigate/mitigate.h"
#include "tests/support/scratch.h"

enum { PLANTED_CHANNEL = 8, PLANTED_TARGET = 2 };
#define PLANTED_LAYER "conv1"

struct planted {
    struct scratch scratch;
    char model[PATH_MAX], samples[PATH_MAX], probe[PATH_MAX];
};

/* Makes a scratch folder and writes model.onnx, clean.npz (120 images) and probe.npz (80) into it; scratch_remove() ends it. */
void planted_make(struct planted *planted, bool with_backdoor);
/* A job over these files, on two threads; all pointers are borrowed. */
struct mitigate_request planted_request(const struct planted *planted, const char *out_dir, const char *method,
                                        const json_t *parameters, uint64_t seed);

#endif
