/* Passes over the entries of a dictionary. */
#include "server/expose/dictionary.h"

#include <math.h>
#include <string.h>

#include "common/mem.h"
#include "server/nn/loss.h"

enum {
    FIT_SAMPLES = 96,
    MAP_SAMPLES = 32, /* with a map each entry is tried on so many */
    HEAT_PART = 3,    /* all entries are tried on a third of the samples, */
    HEAT_KEPT = 3     /* and up to this many of each class on all of them */
};
/* On that third: of a family that is more than its dictionary an entry is only a start, and one that works on fewer samples is no better than a random one. */
static const double HEAT_SUCCESS = 1.0 / 3.0;

struct probing {
    const struct invert_data *data;
    struct trigger *trigger;
    size_t *picked; /* (samples of the data) */
    float *logits;  /* (room, classes) */
    size_t room, limit;
};

static enum status probing_init(struct probing *p, const struct invert_data *data, enum trigger_family family,
                                size_t limit, struct error *error) {
    *p = (struct probing){.data = data, .room = limit < data->count ? limit : data->count};
    p->limit = p->room;
    p->picked = mem_alloc(data->count, sizeof *p->picked);
    p->logits = mem_alloc(p->room * data->classes, sizeof *p->logits);
    if (p->picked == NULL || p->logits == NULL) {
        return error_no_memory(error, "the dictionary");
    }
    return trigger_new_entry(family, 0, 0, data->range, &p->trigger, error);
}

static void probing_deinit(struct probing *p) {
    trigger_free(p->trigger);
    mem_free(p->picked);
    mem_free(p->logits);
}

/* One entry on the samples, whatever their class. */
static enum status run_entry(struct probing *p, size_t entry, size_t *count, struct error *error) {
    trigger_set_entry(p->trigger, p->data->range, entry);
    return invert_logits(p->data, p->trigger, p->limit, p->picked, p->logits, count, error);
}

static void read_class(const struct probing *p, size_t count, size_t target, double *loss, double *success) {
    const size_t classes = p->data->classes;
    const int32_t label = (int32_t)target;
    double sum = 0.0;
    size_t hits = 0, others = 0;
    for (size_t i = 0; i < count; i++) {
        if (p->data->labels[p->picked[i]] == label) {
            continue;
        }
        const float *row = p->logits + i * classes;
        sum += loss_cross_entropy(1, classes, row, &label, 1.0F, NULL);
        hits += loss_argmax(classes, row) == target;
        others++;
    }
    *loss = others > 0 ? sum / (double)others : INFINITY;
    *success = others > 0 ? (double)hits / (double)others : 0.0;
}

/* Loss of every entry for every class on `samples` samples; those marked in `skip` (NULL: none) are left out. losses and successes
 * (entries, classes). */
static enum status run_entries(struct probing *p, size_t samples, const bool *skip, size_t entries, double *losses,
                               double *successes, struct error *error) {
    const size_t classes = p->data->classes;
    enum status status = STATUS_OK;
    p->limit = samples < p->room ? samples : p->room;
    for (size_t e = 0; e < entries && status == STATUS_OK; e++) {
        size_t count = 0;
        if (skip != NULL && skip[e]) {
            continue;
        }
        status = run_entry(p, e, &count, error);
        for (size_t t = 0; t < classes && status == STATUS_OK; t++) {
            read_class(p, count, t, &losses[e * classes + t], &successes[e * classes + t]);
        }
    }
    return status;
}

/* Marks all but the few entries that each class likes best of those that work on `least` of the samples. skip (entries) */
static void keep_best(size_t entries, size_t classes, const double *losses, const double *successes, double least,
                      bool *skip) {
    memset(skip, true, entries * sizeof *skip);
    for (size_t t = 0; t < classes; t++) {
        double best[HEAT_KEPT];
        size_t kept[HEAT_KEPT], count = 0;
        for (size_t e = 0; e < entries; e++) {
            const double loss = losses[e * classes + t];
            if (successes[e * classes + t] < least || (count == HEAT_KEPT && best[count - 1] <= loss)) {
                continue;
            }
            size_t at = count < HEAT_KEPT ? count++ : HEAT_KEPT - 1;
            while (at > 0 && best[at - 1] > loss) {
                best[at] = best[at - 1];
                kept[at] = kept[at - 1];
                at--;
            }
            best[at] = loss;
            kept[at] = e;
        }
        for (size_t i = 0; i < count; i++) {
            skip[kept[i]] = false;
        }
    }
}

enum status dictionary_probe(const struct invert_data *data, enum trigger_family family, size_t samples,
                             struct dictionary_find *finds, struct error *error) {
    struct probing p;
    const size_t entries = trigger_entry_count(family, data->range), classes = data->classes;
    int32_t *away = mem_alloc(classes, sizeof *away);
    double *losses = mem_alloc(entries * classes, sizeof *losses);
    double *successes = mem_alloc(entries * classes, sizeof *successes);
    bool *skip = mem_alloc(entries, sizeof *skip);
    enum status status = probing_init(&p, data, family, samples, error);
    if (status == STATUS_OK && (away == NULL || losses == NULL || successes == NULL || skip == NULL)) {
        status = error_no_memory(error, "the dictionary");
    }
    for (size_t t = 0; t < classes && status == STATUS_OK; t++) {
        away[t] = TRIGGER_AWAY; /* no class's samples are left out: each is another's */
        finds[t] = (struct dictionary_find){0, INFINITY, 0.0};
    }
    if (status == STATUS_OK) {
        status = trigger_set_map(p.trigger, away, classes, error);
    }
    if (status == STATUS_OK) {
        status = run_entries(&p, samples / HEAT_PART, NULL, entries, losses, successes, error);
    }
    if (status == STATUS_OK) {
        keep_best(entries, classes, losses, successes, trigger_is_fixed(family) ? 0.0 : HEAT_SUCCESS, skip);
        status = run_entries(&p, samples, skip, entries, losses, successes, error);
    }
    for (size_t i = 0; i < entries * classes && status == STATUS_OK; i++) {
        struct dictionary_find *find = &finds[i % classes];
        if (!skip[i / classes] && losses[i] < find->loss) {
            *find = (struct dictionary_find){i / classes, losses[i], successes[i]};
        }
    }
    probing_deinit(&p);
    mem_free(skip);
    mem_free(losses);
    mem_free(successes);
    mem_free(away);
    return status;
}

enum status dictionary_fit(const struct invert_data *data, struct trigger *trigger, struct error *error) {
    const size_t entries = trigger_entry_count(trigger->family, data->range);
    struct dictionary_find *finds = mem_alloc(data->classes, sizeof *finds);
    if (finds == NULL) {
        return error_no_memory(error, "the dictionary");
    }
    size_t best = 0;
    enum status status = STATUS_OK;
    if (trigger->map == NULL) {
        status = dictionary_probe(data, trigger->family, FIT_SAMPLES, finds, error);
        best = status == STATUS_OK ? finds[trigger->target].entry : 0;
    } else { /* all-to-all: the entry that does best by the map */
        double least = INFINITY;
        for (size_t e = 0; e < entries && status == STATUS_OK; e++) {
            double loss = 0.0, success = 0.0;
            trigger_set_entry(trigger, data->range, e);
            status = invert_measure(data, trigger, MAP_SAMPLES, &loss, &success, error);
            best = loss < least ? e : best;
            least = fmin(least, loss);
        }
    }
    mem_free(finds);
    if (status == STATUS_OK) {
        trigger_set_entry(trigger, data->range, best);
        status = invert_measure(data, trigger, INVERT_MEASURE, &trigger->loss, &trigger->success, error);
    }
    if (status == STATUS_OK) {
        trigger->size = trigger_size(trigger, data->range);
    }
    return status;
}
