/* What the printed report and the page share: figures as text, and which of them stand in which row. */
#ifndef ONP_CLIENT_REPORT_FORMAT_H
#define ONP_CLIENT_REPORT_FORMAT_H

#include <jansson.h>
#include <stdbool.h>

enum { REPORT_CELL_SIZE = 32 };

/* A row with a figure before and after, or with one figure; names are those of report_fields.h. */
struct report_row {
    const char *title;
    const char *before;
    const char *after; /* NULL: one figure */
};
/* Accuracy, attack success, recovery; the search. A row without a title ends each. */
extern const struct report_row report_rates[];
extern const struct report_row report_rewards[];

/* "83.4 %" of a figure that is a fraction; "-" if the report lacks it. */
void report_format_percent(char out[REPORT_CELL_SIZE], const json_t *report, const char *name);
/* Three digits after the point; "-" for what is no number. */
void report_format_number(char out[REPORT_CELL_SIZE], const json_t *value);
/* Whether `class` is among the suspects of an exposure. */
bool report_is_suspect(const json_t *exposure, json_int_t class);
/* Whether this verdict is good news. */
bool report_verdict_is_good(const char *verdict);
/* The member of a point of the curve ({"evaluations", "best", "mean"}); NaN if there is none. */
double report_curve_value(const json_t *point, const char *member);
/* The largest of one member of a list's objects, at least 0. */
double report_largest(const json_t *list, const char *member);

#endif
