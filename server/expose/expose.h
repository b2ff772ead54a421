/* Exposure: for each family of triggers and each class, how small a trigger sends the other classes there. A backdoor's
 * target stands out. Classes are compared by successive halving, so that most of the work goes to the few that may. */
#ifndef ONP_SERVER_EXPOSE_EXPOSE_H
#define ONP_SERVER_EXPOSE_EXPOSE_H

#include <stdbool.h>
#include <stddef.h>

#include "common/error.h"
#include "common/rng.h"
#include "server/expose/invert.h"

struct expose_options {
    size_t
        rung_steps; /* steps of each class in a rung; the last one adds twice as many, bounded families take 2/3 of it */
    size_t rungs;   /* the classes left are halved after each */
    size_t batch;   /* samples a step of a race, */
    size_t bounded_batch; /* of one of bounded triggers, which fewer samples tell apart, */
    size_t bank_batch;    /* and of triggers for the bank: few samples tell classes apart, but a trigger wants more */
    size_t measure;       /* samples that tell a trigger's loss well enough, */
    size_t glance;        /* and those that tell which class to go on with */
    double anomaly_threshold; /* a suspect's anomaly index is at least this, */
    double size_ratio;        /* if its size is this share of the median; the more, the smaller it is not */
    size_t restarts;          /* further inversions of each suspect, from other starts */
    size_t many;              /* with more classes than this, a short heat chooses half as many for the rungs */
    size_t probe_samples;     /* samples that each entry of a dictionary is tried on */
};
extern const struct expose_options expose_default_options;

struct exposure_cell {
    double size;    /* at the last rung; for classes dropped earlier extrapolated by how the others shrank */
    double success; /* when last measured */
    double anomaly; /* index within the family */
    size_t steps;   /* spent on it */
    bool suspect;
    size_t
        level; /* of a suspect: the strength at which its bank triggers reach the target; the adversary starts there */
    double small_share; /* of a suspect: up to this share of what other classes need, its triggers count as small */
    struct trigger
        *trigger; /* the last trigger of the class, owned; NULL for a class that the heat dropped, and in an all-to-all
                                cell without a candidate */
};

enum { HINTS_MAX = 4 };
/* Levels of strength: the bound of a bounded family once, twice, four times. */
enum { EXPOSE_LEVELS = 3 };

struct exposure {
    size_t classes;
    size_t columns;                      /* classes + 1: the last is the all-to-all trigger */
    struct exposure_cell *cells;         /* (TRIGGER_FAMILY_COUNT, columns) */
    double median[TRIGGER_FAMILY_COUNT]; /* of the sizes in each family */
    /* At each level what a suspect's size is compared with: the median size of other classes there. At level 0 that is the family's
     * median if its race went to the end; all others are measured when they are first asked for (bank.h), negative before. */
    double reference[TRIGGER_FAMILY_COUNT][EXPOSE_LEVELS];
    struct trigger *hints[HINTS_MAX]; /* entries of dictionaries that send most samples to one class, owned */
    size_t hint_count;
    bool hardening;        /* nobody is suspected: the bank holds hints, patterns that any network may obey */
    struct trigger **bank; /* triggers of the suspects, restarts included, owned */
    size_t bank_count, bank_capacity;
};

/* Called between inversions; `what` describes the last one. */
struct expose_hooks {
    void *user;
    void (*progress)(void *user, size_t done, size_t total, const struct trigger *last);
};

enum status expose_run(const struct invert_data *data, const struct expose_options *options,
                       const struct expose_hooks *hooks, const struct rng *rng, struct exposure **out,
                       struct error *error);
void exposure_free(struct exposure *exposure);
struct exposure_cell *exposure_cell(const struct exposure *exposure, enum trigger_family family, size_t target);

#endif
