/* The figures of a report by short names: "asr_after", "accuracy_drop", "verdict". One table serves the gates, the
 * printed report and their messages. */
#ifndef ONP_CLIENT_REPORT_FIELDS_H
#define ONP_CLIENT_REPORT_FIELDS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

enum report_field_kind { REPORT_FIELD_NUMBER, REPORT_FIELD_WORD };

struct report_field {
    const char *name;
    const char *path;          /* members joined by dots */
    const char *subtract_path; /* path minus this one, or NULL */
    enum report_field_kind kind;
};

/* The row of a name, or NULL. */
const struct report_field *report_field_find(const char *name);
/* The name nearest to a misspelt one; never NULL. */
const char *report_field_nearest(const char *name);
/* Rows in order; NULL after the last. */
const struct report_field *report_field_at(size_t index);

/* false if the report has no such figure (no probe was given, or it is null). */
bool report_field_number(const json_t *report, const struct report_field *field, double *value);
/* The word, borrowed from the report; NULL if it has none. */
const char *report_field_word(const json_t *report, const struct report_field *field);
/* The two above by name; an unknown name is absent. */
bool report_number(const json_t *report, const char *name, double *value);
const char *report_word(const json_t *report, const char *name);

#endif
