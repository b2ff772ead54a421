/* Conditional and partial requests (RFC 9110, sections 13 and 14): entity tags and one byte range. Pure. */
#ifndef ONP_SERVER_HTTP_HTTP_RANGE_H
#define ONP_SERVER_HTTP_HTTP_RANGE_H

#include <stdbool.h>
#include <stdint.h>

enum http_range_result {
    HTTP_RANGE_WHOLE,         /* no range, or one to ignore (another unit, several ranges, malformed): answer 200 */
    HTTP_RANGE_PART,          /* answer 206 */
    HTTP_RANGE_UNSATISFIABLE, /* answer 416 */
};

/* `header` is the value of Range, or NULL. On HTTP_RANGE_PART *first and *length are within [0, size). */
enum http_range_result http_range_parse(const char *header, uint64_t size, uint64_t *first, uint64_t *length);

/* Is `etag` (with its quotes) in the list of If-None-Match? Weak comparison; "*" matches anything. NULL header: false. */
bool http_etag_matches(const char *header, const char *etag);
/* As the above for If-Match: strong comparison. NULL header: true, nothing is demanded. */
bool http_if_match_holds(const char *header, const char *etag);
/* May the range be served? True without If-Range; strong comparison; a date never matches, as we send no Last-Modified. */
bool http_if_range_holds(const char *header, const char *etag);

#endif
