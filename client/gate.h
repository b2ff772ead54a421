/* Gates for pipelines: `--fail-on 'asr_after>0.05'` makes `onp` exit with status 3 when the report says so. */
#ifndef ONP_CLIENT_GATE_H
#define ONP_CLIENT_GATE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "client/report_fields.h"
#include "common/error.h"
#include "common/options.h"

enum gate_relation { GATE_LESS, GATE_LESS_EQUAL, GATE_GREATER, GATE_GREATER_EQUAL, GATE_EQUAL, GATE_NOT_EQUAL };

struct gate {
    const char *text; /* borrowed: as it was given */
    const struct report_field *field;
    enum gate_relation relation;
    double number; /* of a number field */
    char word[32]; /* of a word field */
};

struct gates {
    struct gate items[OPTION_LIST_MAX];
    size_t count;
};

/* Reads "name relation value" (blanks around the relation are fine). STATUS_INVALID for an unknown name (the nearest is
 * named), a relation other than < <= > >= == !=, a value of the wrong kind, anything left over. */
enum status gate_parse(const char *text, struct gate *gate, struct error *error);
enum status gates_parse(const struct option_list *list, struct gates *gates, struct error *error);

enum gate_outcome { GATE_PASSED, GATE_TRIPPED, GATE_NO_FIGURE };
/* GATE_TRIPPED if the condition holds; GATE_NO_FIGURE if the report lacks the figure, which a pipeline must not take for
 * a pass. */
enum gate_outcome gate_check(const struct gate *gate, const json_t *report);
/* Checks all and writes a line for each that did not pass to `file`. true if all passed. */
bool gates_check(const struct gates *gates, const json_t *report, FILE *file);

#endif
