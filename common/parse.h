/* Strict number parsing: the whole text must be the number, no leading blanks, no sign where none is
 * meant, no overflow, no locale. */
#ifndef ONP_COMMON_PARSE_H
#define ONP_COMMON_PARSE_H

#include <stdbool.h>
#include <stdint.h>

bool parse_u64(const char *text, uint64_t max, uint64_t *value);
bool parse_i64(const char *text, int64_t min, int64_t max, int64_t *value);
/* Finite numbers only. */
bool parse_double(const char *text, double min, double max, double *value);
/* "true"/"false"/"1"/"0"/"on"/"off". */
bool parse_bool(const char *text, bool *value);
/* "500", "64k", "10M", "2G" (powers of 1024). */
bool parse_bytes(const char *text, uint64_t max, uint64_t *value);

#endif
