/* The table of parameters and what is derived from it. */
#include "server/mitigate/parameters.h"

#include <stddef.h>
#include <string.h>

#include "common/json_read.h"

enum kind { KIND_REAL, KIND_INTEGER, KIND_BOOLEAN };

struct row {
    const char *name;
    enum kind kind;
    size_t offset;
    double initial, low, high;
    const char *help;
};

#define ROW(field, kind, initial, low, high, help)                                                                     \
    { #field, kind, offsetof(struct parameters, field), initial, low, high, help }

static const struct row table[] = {
    ROW(max_accuracy_drop, KIND_REAL, 0.02, 0.0, 1.0,
        "Largest loss of clean accuracy that is accepted, as a fraction."),
    ROW(trigger_weight, KIND_REAL, 1.0, 0.0, 100.0,
        "Weight of behaviour under the found triggers against behaviour on clean samples in the reward."),
    ROW(anomaly_threshold, KIND_REAL, 2.0, 0.5, 100.0, "Anomaly index from which a class is suspected."),
    ROW(expose_steps, KIND_INTEGER, 20, 1, 1000, "Steps of trigger inversion in each rung of successive halving."),
    ROW(expose_rungs, KIND_INTEGER, 3, 1, 10, "Rungs of successive halving over the classes."),
    ROW(expose_batch, KIND_INTEGER, 48, 1, 4096, "Samples in a step of trigger inversion."),
    ROW(restarts, KIND_INTEGER, 1, 0, 10, "Further inversions of each suspect from other starts."),
    ROW(iterations, KIND_INTEGER, 40, 0, 10000, "Iterations of PPO; 0 leaves the search to greedy."),
    ROW(masks_per_iteration, KIND_INTEGER, 7, 2, 1000, "Masks scored in an iteration of PPO."),
    ROW(adversary_every, KIND_INTEGER, 10, 1, 10000, "Iterations of PPO between two inversions on the best mask."),
    ROW(adversary_rounds, KIND_INTEGER, 4, 0, 100, "Triggers that the adversary may add to the bank."),
    ROW(retune_steps, KIND_INTEGER, 60, 0, 10000,
        "Steps of retuning the gains of the kept units after pruning; 0 only prunes."),
    ROW(random_baseline, KIND_BOOLEAN, 1, 0, 1,
        "Also run a random search with PPO's number of evaluations, for comparison in the report."),
};
enum { ROWS = sizeof table / sizeof table[0] };

static void *field_of(const struct row *row, struct parameters *p) {
    return (char *)p + row->offset;
}

static void set_default(const struct row *row, struct parameters *p) {
    switch (row->kind) {
    case KIND_REAL:
        *(double *)field_of(row, p) = row->initial;
        break;
    case KIND_INTEGER:
        *(uint64_t *)field_of(row, p) = (uint64_t)row->initial;
        break;
    case KIND_BOOLEAN:
        *(bool *)field_of(row, p) = row->initial != 0.0;
        break;
    }
}

enum status parameters_read(const json_t *object, struct parameters *out, struct error *error) {
    struct parameters p;
    memset(&p, 0, sizeof p);
    for (size_t i = 0; i < ROWS; i++) {
        set_default(&table[i], &p);
    }
    if (object != NULL && !json_is_null(object)) {
        struct json_reader reader;
        enum status status = json_reader_init(&reader, object, "/parameters", error);
        for (size_t i = 0; i < ROWS && status == STATUS_OK; i++) {
            const struct row *row = &table[i];
            void *field = field_of(row, &p);
            switch (row->kind) {
            case KIND_REAL:
                status = json_get_double(&reader, row->name, JSON_OPTIONAL, row->low, row->high, field);
                break;
            case KIND_INTEGER:
                status =
                    json_get_u64(&reader, row->name, JSON_OPTIONAL, (uint64_t)row->low, (uint64_t)row->high, field);
                break;
            case KIND_BOOLEAN:
                status = json_get_bool(&reader, row->name, JSON_OPTIONAL, field);
                break;
            }
        }
        if (status == STATUS_OK) {
            status = json_reader_finish(&reader);
        }
        if (status != STATUS_OK) {
            return status;
        }
    }
    *out = p;
    return STATUS_OK;
}

static json_t *value_of(const struct row *row, const struct parameters *p) {
    const void *field = (const char *)p + row->offset;
    switch (row->kind) {
    case KIND_REAL:
        return json_real(*(const double *)field);
    case KIND_INTEGER:
        return json_integer((json_int_t) * (const uint64_t *)field);
    case KIND_BOOLEAN:
        return json_boolean(*(const bool *)field);
    }
    return NULL;
}

json_t *parameters_write(const struct parameters *parameters) {
    json_t *object = json_object();
    for (size_t i = 0; i < ROWS; i++) {
        if (json_object_set_new(object, table[i].name, value_of(&table[i], parameters)) != 0) {
            json_decref(object);
            return NULL;
        }
    }
    return object;
}

json_t *parameters_schema(void) {
    static const char *const types[] = {"number", "integer", "boolean"};
    struct parameters defaults;
    struct error error = {0};
    if (parameters_read(NULL, &defaults, &error) != STATUS_OK) {
        return NULL;
    }
    json_t *properties = json_object();
    for (size_t i = 0; i < ROWS; i++) {
        const struct row *row = &table[i];
        json_t *property = json_pack("{s:s, s:s, s:o}", "type", types[row->kind], "description", row->help, "default",
                                     value_of(row, &defaults));
        if (row->kind == KIND_REAL) {
            json_object_set_new(property, "minimum", json_real(row->low));
            json_object_set_new(property, "maximum", json_real(row->high));
        } else if (row->kind == KIND_INTEGER) {
            json_object_set_new(property, "minimum", json_integer((json_int_t)row->low));
            json_object_set_new(property, "maximum", json_integer((json_int_t)row->high));
        }
        if (json_object_set_new(properties, row->name, property) != 0) {
            json_decref(properties);
            return NULL;
        }
    }
    return json_pack("{s:s, s:b, s:o}", "type", "object", "additionalProperties", 0, "properties", properties);
}
