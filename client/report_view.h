/* A report for people: tables and small bars. */
#ifndef ONP_CLIENT_REPORT_VIEW_H
#define ONP_CLIENT_REPORT_VIEW_H

#include <jansson.h>
#include <stdio.h>

#include "client/progress_bar.h"

/* The table before/after: accuracy, attack success, recovery, pruned units, verdict, seconds. Members that the report
 * lacks are shown as "-". */
void report_view_summary(FILE *file, const json_t *report, const struct progress_style *style);
/* The summary, then trigger sizes by class, pruned units by layer, the search, seconds by stage. */
void report_view_full(FILE *file, const json_t *report, const struct progress_style *style);

#endif
