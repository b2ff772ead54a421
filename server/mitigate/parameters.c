/* The parameters of "onp", and what is derived from any such table. */
#include "server/mitigate/parameters.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "common/json_read.h"

enum { WORD_MAX = 32 };

static const char *const policy_starts[] = {[POLICY_BUILTIN] = "builtin", [POLICY_NONE] = "none", NULL};

static const struct parameter rows[] = {
    PARAMETER(max_accuracy_drop, PARAMETER_REAL, 0.02, 0.0, 1.0,
              "Largest loss of clean accuracy that is accepted, as a fraction."),
    PARAMETER(trigger_weight, PARAMETER_REAL, 0.5, 0.0, 100.0,
              "Weight of behaviour under the found triggers against behaviour on clean samples in the reward."),
    PARAMETER(anomaly_threshold, PARAMETER_REAL, 2.0, 0.5, 100.0, "Anomaly index from which a class is suspected."),
    PARAMETER(expose_steps, PARAMETER_INTEGER, 6, 1, 1000,
              "Steps of trigger inversion in each rung of successive halving."),
    PARAMETER(expose_rungs, PARAMETER_INTEGER, 3, 1, 10, "Rungs of successive halving over the classes."),
    PARAMETER(expose_batch, PARAMETER_INTEGER, 16, 1, 4096, "Samples in a step of trigger inversion."),
    PARAMETER(restarts, PARAMETER_INTEGER, 1, 0, 10, "Further inversions of each suspect from other starts."),
    PARAMETER(iterations, PARAMETER_INTEGER, 40, 0, 10000, "Iterations of PPO; 0 leaves the search to greedy."),
    PARAMETER(
        patience, PARAMETER_INTEGER, 8, 0, 10000,
        "Iterations in which PPO gains less than a fiftieth of the reward, after which it ends (on a network that is "
        "dear to run fewer, and a twentieth); 0: it never ends early."),
    PARAMETER(masks_per_iteration, PARAMETER_INTEGER, 4, 2, 1000, "Masks scored in an iteration of PPO."),
    PARAMETER(adversary_every, PARAMETER_INTEGER, 15, 1, 10000,
              "Iterations of PPO between two inversions on the best mask."),
    PARAMETER(adversary_rounds, PARAMETER_INTEGER, 4, 0, 100, "Triggers that the adversary may add to the bank."),
    PARAMETER(retune_steps, PARAMETER_INTEGER, 60, 0, 10000,
              "Steps of retuning the gains of the kept units after pruning; 0 only prunes."),
    PARAMETER(finetune_steps, PARAMETER_INTEGER, 0, 0, 10000,
              "Steps of fine-tuning all weights after the repair, on clean and triggered samples; 0: none."),
    PARAMETER(harden, PARAMETER_BOOLEAN, 0, 0, 1,
              "If no class stands out, prune against fixed patterns that the model obeys all the same, even if they "
              "look like an "
              "ordinary weakness; costs a clean model one to three points."),
    PARAMETER(random_baseline, PARAMETER_BOOLEAN, 1, 0, 1,
              "Also run a random search with PPO's number of evaluations, for comparison in the report."),
    PARAMETER_OF_WORDS(policy, POLICY_BUILTIN, policy_starts,
                       "What the agent starts from: a policy trained on other networks, or none."),
    PARAMETER(compact, PARAMETER_BOOLEAN, 0, 0, 1,
              "Remove pruned channels from the file, where that is exact: a smaller and faster model."),
    PARAMETER(message_passing, PARAMETER_BOOLEAN, 1, 0, 1,
              "For experiments: false takes the graph's edges from the policy, so that it sees each unit by itself."),
    PARAMETER(warm_start, PARAMETER_BOOLEAN, 1, 0, 1, "For experiments: false starts the search from the empty mask."),
};
const struct parameter_table parameters_onp = {rows, sizeof rows / sizeof rows[0]};

static void *field_of(const struct parameter *row, struct parameters *p) {
    return (char *)p + row->offset;
}

static void set_default(const struct parameter *row, struct parameters *p) {
    switch (row->kind) {
    case PARAMETER_REAL:
        *(double *)field_of(row, p) = row->initial;
        break;
    case PARAMETER_INTEGER:
    case PARAMETER_WORD:
        *(uint64_t *)field_of(row, p) = (uint64_t)row->initial;
        break;
    case PARAMETER_BOOLEAN:
        *(bool *)field_of(row, p) = row->initial != 0.0;
        break;
    }
}

static void set_defaults(const struct parameter_table *table, struct parameters *p) {
    for (size_t i = 0; i < table->count; i++) {
        set_default(&table->rows[i], p);
    }
}

static enum status read_word(struct json_reader *reader, const struct parameter *row, uint64_t *field,
                             struct error *error) {
    const char *word = NULL;
    const enum status status = json_get_string(reader, row->name, JSON_OPTIONAL, WORD_MAX, &word);
    char known[128] = "";
    size_t used = 0;
    if (status != STATUS_OK || word == NULL) {
        return status;
    }
    for (size_t i = 0; row->words[i] != NULL; i++) {
        if (strcmp(row->words[i], word) == 0) {
            *field = i;
            return STATUS_OK;
        }
        if (used < sizeof known) {
            used +=
                (size_t)snprintf(known + used, sizeof known - used, "%s\"%s\"", i == 0 ? "" : " or ", row->words[i]);
        }
    }
    char where[64];
    snprintf(where, sizeof where, "/parameters/%s", row->name);
    return error_set(error, STATUS_INVALID, where, "failed to read a parameter: got \"%s\", expected %s", word, known);
}

enum status parameters_read(const struct parameter_table *table, const json_t *object, struct parameters *out,
                            struct error *error) {
    struct parameters p;
    memset(&p, 0, sizeof p);
    set_defaults(&parameters_onp, &p);
    set_defaults(table, &p);
    if (object != NULL && !json_is_null(object)) {
        struct json_reader reader;
        enum status status = json_reader_init(&reader, object, "/parameters", error);
        for (size_t i = 0; i < table->count && status == STATUS_OK; i++) {
            const struct parameter *row = &table->rows[i];
            void *field = field_of(row, &p);
            switch (row->kind) {
            case PARAMETER_REAL:
                status = json_get_double(&reader, row->name, JSON_OPTIONAL, row->low, row->high, field);
                break;
            case PARAMETER_INTEGER:
                status =
                    json_get_u64(&reader, row->name, JSON_OPTIONAL, (uint64_t)row->low, (uint64_t)row->high, field);
                break;
            case PARAMETER_BOOLEAN:
                status = json_get_bool(&reader, row->name, JSON_OPTIONAL, field);
                break;
            case PARAMETER_WORD:
                status = read_word(&reader, row, field, error);
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

static json_t *value_of(const struct parameter *row, const struct parameters *p) {
    const void *field = (const char *)p + row->offset;
    switch (row->kind) {
    case PARAMETER_REAL:
        return json_real(*(const double *)field);
    case PARAMETER_INTEGER:
        return json_integer((json_int_t) * (const uint64_t *)field);
    case PARAMETER_BOOLEAN:
        return json_boolean(*(const bool *)field);
    case PARAMETER_WORD:
        return json_string(row->words[*(const uint64_t *)field]);
    }
    return NULL;
}

json_t *parameters_write(const struct parameter_table *table, const struct parameters *parameters) {
    json_t *object = json_object();
    for (size_t i = 0; i < table->count; i++) {
        if (json_object_set_new(object, table->rows[i].name, value_of(&table->rows[i], parameters)) != 0) {
            json_decref(object);
            return NULL;
        }
    }
    return object;
}

json_t *parameters_schema(const struct parameter_table *table) {
    static const char *const types[] = {"number", "integer", "boolean", "string"};
    struct parameters defaults;
    struct error error = {0};
    if (parameters_read(table, NULL, &defaults, &error) != STATUS_OK) {
        return NULL;
    }
    json_t *properties = json_object();
    for (size_t i = 0; i < table->count; i++) {
        const struct parameter *row = &table->rows[i];
        json_t *property = json_pack("{s:s, s:s, s:o}", "type", types[row->kind], "description", row->help, "default",
                                     value_of(row, &defaults));
        if (row->kind == PARAMETER_REAL) {
            json_object_set_new(property, "minimum", json_real(row->low));
            json_object_set_new(property, "maximum", json_real(row->high));
        } else if (row->kind == PARAMETER_INTEGER) {
            json_object_set_new(property, "minimum", json_integer((json_int_t)row->low));
            json_object_set_new(property, "maximum", json_integer((json_int_t)row->high));
        } else if (row->kind == PARAMETER_WORD) {
            json_t *words = json_array();
            for (size_t k = 0; row->words[k] != NULL; k++) {
                json_array_append_new(words, json_string(row->words[k]));
            }
            json_object_set_new(property, "enum", words);
        }
        if (json_object_set_new(properties, row->name, property) != 0) {
            json_decref(properties);
            return NULL;
        }
    }
    return json_pack("{s:s, s:b, s:o}", "type", "object", "additionalProperties", 0, "properties", properties);
}
