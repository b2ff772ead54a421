/* A gate that is misread lets a backdoored model through, so the parser is strict and an absent figure is a failure. */
#include "client/gate.h"

#include <ctype.h>
#include <float.h>
#include <string.h>

#include "common/parse.h"
#include "common/words.h"

enum { NAME_SIZE = 48, VALUE_SIZE = 32 };

/* Two-letter relations first: "<=" must not be read as "<" and a value "=0.1". */
static const struct relation_row {
    const char *text;
    enum gate_relation relation;
} RELATIONS[] = {
    {"<=", GATE_LESS_EQUAL}, {">=", GATE_GREATER_EQUAL}, {"==", GATE_EQUAL},
    {"!=", GATE_NOT_EQUAL},  {"<", GATE_LESS},           {">", GATE_GREATER},
};

static enum status malformed(const char *text, const char *got, const char *expected, struct error *error) {
    return error_set(error, STATUS_INVALID, "--fail-on", "failed to read gate \"%.64s\": got %.64s, expected %.160s",
                     text, got, expected);
}

static const char *skip_blanks(const char *text) {
    return text + strspn(text, " \t");
}

/* Copies the text without the blanks at its end; false if it does not fit. */
static bool copy_trimmed(char *out, size_t size, const char *text, size_t length) {
    while (length > 0 && (text[length - 1] == ' ' || text[length - 1] == '\t')) {
        length--;
    }
    if (length >= size) {
        return false;
    }
    memcpy(out, text, length);
    out[length] = '\0';
    return true;
}

static bool verdict_is_known(const char *word) {
    for (int i = 0; i < VERDICT_COUNT; i++) {
        if (strcmp(word, verdict_name((enum verdict)i)) == 0) {
            return true;
        }
    }
    return false;
}

static enum status parse_value(const char *text, const char *value, struct gate *gate, struct error *error) {
    if (gate->field->kind == REPORT_FIELD_NUMBER) {
        if (!parse_double(value, -DBL_MAX, DBL_MAX, &gate->number)) {
            return malformed(text, value, "a number, such as 0.05 (rates are fractions)", error);
        }
        return STATUS_OK;
    }
    if (gate->relation != GATE_EQUAL && gate->relation != GATE_NOT_EQUAL) {
        return malformed(text, "an order of words", "== or !=", error);
    }
    if (!copy_trimmed(gate->word, sizeof gate->word, value, strlen(value)) || gate->word[0] == '\0') {
        return malformed(text, "no word of at most 31 letters", "a word", error);
    }
    if (strcmp(gate->field->name, "verdict") == 0 && !verdict_is_known(gate->word)) {
        return malformed(text, gate->word, "removed, reduced, no_backdoor_found or failed_budget", error);
    }
    return STATUS_OK;
}

enum status gate_parse(const char *text, struct gate *gate, struct error *error) {
    struct gate result = {.text = text};
    char name[NAME_SIZE];
    char value[VALUE_SIZE];
    const char *at = skip_blanks(text);
    size_t length = 0;
    while (isalnum((unsigned char)at[length]) || at[length] == '_') {
        length++;
    }
    if (length == 0 || !copy_trimmed(name, sizeof name, at, length)) {
        return malformed(text, "no name", "name, relation, value, such as asr_after>0.05", error);
    }
    result.field = report_field_find(name);
    if (result.field == NULL) {
        char expected[96];
        (void)snprintf(expected, sizeof expected, "perhaps %s", report_field_nearest(name));
        return malformed(text, name, expected, error);
    }
    at = skip_blanks(at + length);
    const struct relation_row *row = NULL;
    for (size_t i = 0; i < sizeof RELATIONS / sizeof RELATIONS[0] && row == NULL; i++) {
        if (strncmp(at, RELATIONS[i].text, strlen(RELATIONS[i].text)) == 0) {
            row = &RELATIONS[i];
        }
    }
    if (row == NULL) {
        return malformed(text, at[0] == '\0' ? "no relation" : at, "<, <=, >, >=, == or !=", error);
    }
    result.relation = row->relation;
    at = skip_blanks(at + strlen(row->text));
    if (!copy_trimmed(value, sizeof value, at, strlen(at))) {
        return malformed(text, at, "a shorter value", error);
    }
    enum status status = parse_value(text, value, &result, error);
    if (status == STATUS_OK) {
        *gate = result;
    }
    return status;
}

enum status gates_parse(const struct option_list *list, struct gates *gates, struct error *error) {
    enum status status = STATUS_OK;
    gates->count = 0;
    for (size_t i = 0; i < list->count && status == STATUS_OK; i++) {
        status = gate_parse(list->items[i], &gates->items[i], error);
        gates->count = i + 1;
    }
    return status;
}

/* Figures are ratios of counts and differences of ratios: 0.834 - 0.814 is a hair above 0.02 in binary, and a drop of
 * exactly the limit must not trip over that hair. */
static int compare(double left, double right) {
    const double hair = 1e-9;
    return left > right + hair ? 1 : left < right - hair ? -1 : 0;
}

static bool holds(enum gate_relation relation, double left, double right) {
    int order = compare(left, right);
    switch (relation) {
    case GATE_LESS:
        return order < 0;
    case GATE_LESS_EQUAL:
        return order <= 0;
    case GATE_GREATER:
        return order > 0;
    case GATE_GREATER_EQUAL:
        return order >= 0;
    case GATE_EQUAL:
        return order == 0;
    case GATE_NOT_EQUAL:
        return order != 0;
    }
    return true;
}

enum gate_outcome gate_check(const struct gate *gate, const json_t *report) {
    bool is_true = false;
    if (gate->field->kind == REPORT_FIELD_WORD) {
        const char *word = report_field_word(report, gate->field);
        if (word == NULL) {
            return GATE_NO_FIGURE;
        }
        is_true = (strcmp(word, gate->word) == 0) == (gate->relation == GATE_EQUAL);
    } else {
        double value = 0;
        if (!report_field_number(report, gate->field, &value)) {
            return GATE_NO_FIGURE;
        }
        is_true = holds(gate->relation, value, gate->number);
    }
    return is_true ? GATE_TRIPPED : GATE_PASSED;
}

bool gates_check(const struct gates *gates, const json_t *report, FILE *file) {
    bool passed = true;
    for (size_t i = 0; i < gates->count; i++) {
        const struct gate *gate = &gates->items[i];
        enum gate_outcome outcome = gate_check(gate, report);
        if (outcome == GATE_PASSED) {
            continue;
        }
        passed = false;
        double value = 0;
        const char *word = report_field_word(report, gate->field);
        if (outcome == GATE_NO_FIGURE) {
            (void)fprintf(file, "onp: gate not met: %s: the report has no %s (was a probe given?)\n", gate->text,
                          gate->field->name);
        } else if (word != NULL) {
            (void)fprintf(file, "onp: gate not met: %s: %s is %s\n", gate->text, gate->field->name, word);
        } else if (report_field_number(report, gate->field, &value)) {
            (void)fprintf(file, "onp: gate not met: %s: %s is %.6g\n", gate->text, gate->field->name, value);
        }
    }
    return passed;
}
