/* `--set key=value` words to a JSON object of job parameters. */
#ifndef ONP_CLIENT_SETTINGS_H
#define ONP_CLIENT_SETTINGS_H

#include <jansson.h>

#include "common/error.h"
#include "common/options.h"

enum { SETTINGS_DEPTH_MAX = 8 };

/* Puts one "key=value" into `object`; "a.b=1" makes {"a": {"b": 1}}. The value is read as JSON where it is JSON (numbers,
 * true, false, null, quoted strings, arrays, objects) and is a string otherwise. STATUS_INVALID for a key that is empty,
 * set twice or both a value and an object. */
enum status settings_apply(json_t *object, const char *text, struct error *error);
/* A new object of all words of the list; on success *out is a new reference. */
enum status settings_from_list(const struct option_list *list, json_t **out, struct error *error);

#endif
