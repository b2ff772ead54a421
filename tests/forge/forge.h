/* The forge: a classifier with a backdoor of known truth, and the samples that go with it, from nothing but a seed. */
#ifndef ONP_TESTS_FORGE_FORGE_H
#define ONP_TESTS_FORGE_FORGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "tests/forge/trainer.h"
#include "tests/forge/trigger.h"

enum {
    FORGE_CLEAN_COUNT = 500,
    FORGE_TEST_COUNT = 1000,
    FORGE_CLASSES_MIN = 2,
    FORGE_TRAIN_MAX = 200000,
    FORGE_EPOCHS_MAX = 1000,
    FORGE_WIDTH_MAX = 256,
    FORGE_THREADS_MAX = 256
};

struct forge_options {
    const struct forge_trigger *trigger;
    double rate;     /* share of the training images that get the trigger, 0..1 */
    uint64_t target; /* the class that they are labelled as */
    uint64_t seed;
    uint64_t classes, epochs, width, train_count;
    bool plain;                                        /* no shortcuts */
    uint64_t threads;                                  /* 0: one a core */
    void (*report)(const struct trainer_epoch *epoch); /* may be NULL */
};
extern const struct forge_options forge_defaults;

struct forge_result {
    size_t parameters;
    double macs; /* of one image */
    double accuracy;
    double asr, recovery; /* of the triggered test images; without a trigger: not a number */
};

/* STATUS_INVALID names the option that is out of range. */
enum status forge_check(const struct forge_options *options, struct error *error);

/* Renders, poisons, trains, and writes to the folder `dir` (made if missing) model.onnx, clean.npz (held out of training),
 * test.npz, probe.npz (triggered test images of all classes but the target, with y and target; none without a trigger: one
 * left from before is removed) and info.json. The figures are of the file model.onnx, read back. The same options but
 * threads give the same bytes on the same machine. */
enum status forge_make(const struct forge_options *options, const char *dir, struct forge_result *result,
                       struct error *error);
/* A contact sheet as PPM: a row a class; the last quarter of each row carries the trigger. */
enum status forge_sheet(const struct forge_options *options, const char *path, struct error *error);

#endif
