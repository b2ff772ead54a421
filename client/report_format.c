/* A report comes from a file or a server that need not be ours: members may be missing or of another type, and are a dash then. */
#include "client/report_format.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "client/report_fields.h"
#include "common/words.h"

const struct report_row report_rates[] = {
    {"accuracy", "accuracy_before", "accuracy_after"},
    {"accuracy, locked part", "locked_before", "locked_after"},
    {"attack success", "asr_before", "asr_after"},
    {"recovery", "recovery_before", "recovery_after"},
    {NULL, NULL, NULL},
};

const struct report_row report_rewards[] = {
    {"nothing pruned", "reward_none", NULL},
    {"greedy ranking", "reward_greedy", NULL},
    {"random search", "reward_random", NULL},
    {"agent (best)", "reward_best", NULL},
    {NULL, NULL, NULL},
};

void report_format_percent(char out[REPORT_CELL_SIZE], const json_t *report, const char *name) {
    double value = 0;
    if (report_number(report, name, &value)) {
        (void)snprintf(out, REPORT_CELL_SIZE, "%.1f %%", value * 100);
    } else {
        (void)snprintf(out, REPORT_CELL_SIZE, "-");
    }
}

void report_format_number(char out[REPORT_CELL_SIZE], const json_t *value) {
    if (json_is_number(value)) {
        (void)snprintf(out, REPORT_CELL_SIZE, "%.3f", json_number_value(value));
    } else {
        (void)snprintf(out, REPORT_CELL_SIZE, "-");
    }
}

bool report_is_suspect(const json_t *exposure, json_int_t class) {
    size_t i = 0;
    json_t *item = NULL;
    json_array_foreach(json_object_get(exposure, "suspects"), i, item) {
        if (json_is_integer(item) && json_integer_value(item) == class) {
            return true;
        }
    }
    return false;
}

bool report_verdict_is_good(const char *verdict) {
    return strcmp(verdict, verdict_name(VERDICT_REMOVED)) == 0 ||
           strcmp(verdict, verdict_name(VERDICT_NO_BACKDOOR_FOUND)) == 0;
}

double report_curve_value(const json_t *point, const char *member) {
    const json_t *value = json_object_get(point, member);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

double report_largest(const json_t *list, const char *member) {
    double largest = 0;
    size_t i = 0;
    json_t *item = NULL;
    json_array_foreach(list, i, item) {
        largest = fmax(largest, json_number_value(json_object_get(item, member)));
    }
    return largest;
}
