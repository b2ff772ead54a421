/* A report as one page that needs nothing else: no script, no font, no picture from elsewhere. */
#ifndef ONP_CLIENT_REPORT_HTML_H
#define ONP_CLIENT_REPORT_HTML_H

#include <jansson.h>

#include "common/buf.h"

/* Appends the page to `out`, which may fail for its size. The figures are those of report_view.h. Names in a report are an
 * attacker's text: they stand as escaped text only, never in an attribute, and the page forbids scripts. */
void report_html_write(struct buf *out, const json_t *report);

#endif
