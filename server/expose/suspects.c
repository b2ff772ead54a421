#include "server/expose/suspects.h"

#include <math.h>

#include "common/mem.h"
#include "server/expose/anomaly.h"

/* Of the size ratio: beside a suspect below the one, those above the other are its weak reflections in other families. */
static const double PLAIN = 0.6, WEAK = 0.8;
/* A class that one family shows at a share s of its median shows in others, too: above this many times s, or that of LEAST_SHARE, as a
 * reflection. Networks repaired without theirs (blends, low frequencies, a warp) obeyed the trigger no more than before, and
 * triggers for them were a fifth of the work. */
static const double REFLECTION = 4.0, LEAST_SHARE = 0.01;

/* A transformation of a fixed list cannot be strengthened: it works as it is, or it is none of an attacker's. */
static double success_min(enum trigger_family family) {
    return trigger_is_fixed(family) ? 0.6 : 0.0;
}

double suspects_index_needed(const struct expose_options *options, double share) {
    const double needed =
        options->anomaly_threshold * exp2((share - options->size_ratio) / (0.5 * options->size_ratio));
    return fmax(needed, 0.5 * options->anomaly_threshold);
}

/* Does a class stand out by its index? Where the other classes differ much among themselves, half the threshold is enough for half the
 * ratio; where they are alike, a size above the ratio may stand out just as plainly. */
static bool stands_out(const struct expose_options *options, enum trigger_family family,
                       const struct exposure_cell *cell, double median) {
    return cell->anomaly >= suspects_index_needed(options, cell->size / median) && cell->success >= success_min(family);
}

enum status suspects_find(struct exposure *exposure, const struct expose_options *options, enum trigger_family family,
                          bool ended_early, struct error *error) {
    const size_t classes = exposure->classes;
    double *values = mem_alloc(3 * classes, sizeof *values);
    if (values == NULL) {
        return error_no_memory(error, "the anomaly index");
    }
    double *scratch = values + classes, *index = values + 2 * classes;
    for (size_t t = 0; t < classes; t++) {
        values[t] = exposure_cell(exposure, family, t)->size;
    }
    exposure->median[family] = anomaly_index(values, classes, scratch, index);
    exposure->reference[family][0] = ended_early ? -1.0 : exposure->median[family];
    for (size_t level = 1; level < EXPOSE_LEVELS; level++) {
        exposure->reference[family][level] = -1.0;
    }
    for (size_t t = 0; t < classes; t++) {
        struct exposure_cell *cell = exposure_cell(exposure, family, t);
        cell->anomaly = index[t];
        cell->small_share = options->size_ratio;
        if (classes > 2) {
            const double median = exposure->median[family];
            cell->suspect = stands_out(options, family, cell, median) && cell->size <= options->size_ratio * median;
        } else { /* of two classes none can stand out by deviations: the ratio decides, against the other one's size */
            cell->suspect = classes == 2 && cell->size <= options->size_ratio * values[1 - t] &&
                            cell->success >= success_min(family);
        }
    }
    mem_free(values);
    return STATUS_OK;
}

double suspects_least_share(const struct exposure *exposure, size_t column) {
    double least = INFINITY;
    for (enum trigger_family f = 0; f < TRIGGER_FAMILY_COUNT; f++) {
        const struct exposure_cell *cell = exposure_cell(exposure, f, column);
        least = cell->suspect ? fmin(least, cell->size / exposure->median[f]) : least;
    }
    return least;
}

static double least_share(const struct exposure *exposure) {
    double least = INFINITY;
    for (size_t t = 0; t < exposure->columns; t++) {
        least = fmin(least, suspects_least_share(exposure, t));
    }
    return least;
}

bool suspects_any(const struct exposure *exposure) {
    return least_share(exposure) < INFINITY;
}

bool suspects_are_plain(const struct exposure *exposure, const struct expose_options *options) {
    return exposure->classes > 2 && least_share(exposure) <= PLAIN * options->size_ratio;
}

void suspects_look_again(struct exposure *exposure, const struct expose_options *options) {
    if (exposure->classes <= 2 || suspects_any(exposure)) {
        return;
    }
    for (enum trigger_family f = 0; f < TRIGGER_FAMILY_COUNT; f++) {
        const double median = exposure->median[f];
        for (size_t t = 0; t < exposure->classes && median > 0.0; t++) {
            struct exposure_cell *cell = exposure_cell(exposure, f, t);
            cell->suspect = stands_out(options, f, cell, median);
            cell->small_share = fmax(options->size_ratio, cell->size / median);
        }
    }
}

void suspects_drop_reflections(struct exposure *exposure, const struct expose_options *options) {
    if (!suspects_are_plain(exposure, options)) {
        return;
    }
    for (size_t t = 0; t < exposure->columns; t++) {
        const double most =
            fmin(WEAK * options->size_ratio, REFLECTION * fmax(suspects_least_share(exposure, t), LEAST_SHARE));
        for (enum trigger_family f = 0; f < TRIGGER_FAMILY_COUNT; f++) {
            struct exposure_cell *cell = exposure_cell(exposure, f, t);
            cell->suspect = cell->suspect && cell->size <= most * exposure->median[f];
        }
    }
}
