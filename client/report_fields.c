/* Short names for the figures of a report (api.md). Pipelines write them in gates, so a name that is here stays. */
#include "client/report_fields.h"

#include <string.h>

#include "client/nearest.h"

enum { PATH_PART_MAX = 64 };

static const struct report_field FIELDS[] = {
    {"verdict", "verdict", NULL, REPORT_FIELD_WORD},
    {"method", "method", NULL, REPORT_FIELD_WORD},
    {"accuracy_before", "accuracy.before", NULL, REPORT_FIELD_NUMBER},
    {"accuracy_after", "accuracy.after", NULL, REPORT_FIELD_NUMBER},
    {"accuracy_drop", "accuracy.before", "accuracy.after", REPORT_FIELD_NUMBER},
    {"locked_before", "accuracy.locked_before", NULL, REPORT_FIELD_NUMBER},
    {"locked_after", "accuracy.locked_after", NULL, REPORT_FIELD_NUMBER},
    {"locked_drop", "accuracy.locked_before", "accuracy.locked_after", REPORT_FIELD_NUMBER},
    {"asr_before", "probe.asr_before", NULL, REPORT_FIELD_NUMBER},
    {"asr_after", "probe.asr_after", NULL, REPORT_FIELD_NUMBER},
    {"asr_drop", "probe.asr_before", "probe.asr_after", REPORT_FIELD_NUMBER},
    {"recovery_before", "probe.recovery_before", NULL, REPORT_FIELD_NUMBER},
    {"recovery_after", "probe.recovery_after", NULL, REPORT_FIELD_NUMBER},
    {"der", "probe.der", NULL, REPORT_FIELD_NUMBER},
    {"pruned_units", "pruned_units", NULL, REPORT_FIELD_NUMBER},
    {"units", "model.units", NULL, REPORT_FIELD_NUMBER},
    {"evaluations", "search.evaluations", NULL, REPORT_FIELD_NUMBER},
    {"reward_none", "search.reward.none", NULL, REPORT_FIELD_NUMBER},
    {"reward_greedy", "search.reward.greedy", NULL, REPORT_FIELD_NUMBER},
    {"reward_random", "search.reward.random", NULL, REPORT_FIELD_NUMBER},
    {"reward_best", "search.reward.best", NULL, REPORT_FIELD_NUMBER},
    {"seconds", "seconds.total", NULL, REPORT_FIELD_NUMBER},
};

enum { FIELD_COUNT = sizeof FIELDS / sizeof FIELDS[0] };

const struct report_field *report_field_at(size_t index) {
    return index < FIELD_COUNT ? &FIELDS[index] : NULL;
}

const struct report_field *report_field_find(const char *name) {
    for (size_t i = 0; i < FIELD_COUNT; i++) {
        if (strcmp(FIELDS[i].name, name) == 0) {
            return &FIELDS[i];
        }
    }
    return NULL;
}

const char *report_field_nearest(const char *name) {
    const char *names[FIELD_COUNT];
    for (size_t i = 0; i < FIELD_COUNT; i++) {
        names[i] = FIELDS[i].name;
    }
    return nearest_word(name, names, FIELD_COUNT);
}

/* Follows "a.b.c" through objects; NULL where it ends early. */
static const json_t *follow(const json_t *value, const char *path) {
    while (value != NULL && *path != '\0') {
        char part[PATH_PART_MAX];
        size_t length = strcspn(path, ".");
        if (length >= sizeof part) {
            return NULL;
        }
        memcpy(part, path, length);
        part[length] = '\0';
        value = json_object_get(value, part);
        path += length;
        path += *path == '.';
    }
    return value;
}

bool report_field_number(const json_t *report, const struct report_field *field, double *value) {
    const json_t *first = follow(report, field->path);
    if (field->kind != REPORT_FIELD_NUMBER || !json_is_number(first)) {
        return false;
    }
    double result = json_number_value(first);
    if (field->subtract_path != NULL) {
        const json_t *second = follow(report, field->subtract_path);
        if (!json_is_number(second)) {
            return false;
        }
        result -= json_number_value(second);
    }
    *value = result;
    return true;
}

const char *report_field_word(const json_t *report, const struct report_field *field) {
    return field->kind == REPORT_FIELD_WORD ? json_string_value(follow(report, field->path)) : NULL;
}

bool report_number(const json_t *report, const char *name, double *value) {
    const struct report_field *field = report_field_find(name);
    return field != NULL && report_field_number(report, field, value);
}

const char *report_word(const json_t *report, const char *name) {
    const struct report_field *field = report_field_find(name);
    return field != NULL ? report_field_word(report, field) : NULL;
}
