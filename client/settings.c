/* Job parameters on the command line. The client knows no parameter names: the server checks them against the method's
 * schema and answers with the place, so a new parameter needs no new client. */
#include "client/settings.h"

#include <string.h>

#include "common/json_read.h"
#include "common/mem.h"

/* The value of "key=value" as JSON; a word that is not JSON is taken as a string, so that nobody has to quote twice. */
static json_t *parse_value(const char *text) {
    json_t *value = NULL;
    struct error ignored = {0};
    if (text[0] != '\0' && json_read_text(text, strlen(text), &value, &ignored) == STATUS_OK) {
        return value;
    }
    return json_string(text); /* NULL if it is not UTF-8 */
}

/* The object that `name` of `object` holds, made if it is missing. NULL if something else is there. */
static json_t *enter(json_t *object, const char *name) {
    json_t *child = json_object_get(object, name);
    if (child == NULL && json_object_set_new(object, name, json_object()) == 0) {
        child = json_object_get(object, name);
    }
    return json_is_object(child) ? child : NULL;
}

static enum status put(json_t *object, char *key, const char *text, const char *value_text, struct error *error) {
    char *name = key;
    for (int depth = 0; depth < SETTINGS_DEPTH_MAX; depth++) {
        char *dot = strchr(name, '.');
        if (dot != NULL) {
            *dot = '\0';
        }
        if (name[0] == '\0') {
            return error_set(error, STATUS_INVALID, text, "failed to read setting: got \"%.64s\", expected key=value",
                             text);
        }
        if (dot == NULL) {
            if (json_object_get(object, name) != NULL) {
                return error_set(error, STATUS_INVALID, text,
                                 "failed to read setting %.64s: got it twice, expected it once", name);
            }
            json_t *value = parse_value(value_text);
            if (value == NULL || json_object_set_new(object, name, value) != 0) {
                return error_set(error, STATUS_INVALID, text,
                                 "failed to read setting %.64s: got text that is not UTF-8, expected a value", name);
            }
            return STATUS_OK;
        }
        object = enter(object, name);
        if (object == NULL) {
            return error_set(error, STATUS_INVALID, text,
                             "failed to read setting \"%.64s\": got a value at %.64s, expected an object", text, name);
        }
        name = dot + 1;
    }
    return error_set(error, STATUS_INVALID, text, "failed to read setting: got more than %d levels, expected fewer",
                     SETTINGS_DEPTH_MAX);
}

enum status settings_apply(json_t *object, const char *text, struct error *error) {
    const char *equals = strchr(text, '=');
    if (equals == NULL || equals == text) {
        return error_set(error, STATUS_INVALID, text, "failed to read setting: got \"%.64s\", expected key=value",
                         text);
    }
    char *key = mem_strdup(text);
    if (key == NULL) {
        return error_no_memory(error, "a setting");
    }
    key[equals - text] = '\0';
    enum status status = put(object, key, text, equals + 1, error);
    mem_free(key);
    return status;
}

enum status settings_from_list(const struct option_list *list, json_t **out, struct error *error) {
    enum status status = STATUS_OK;
    json_t *object = json_object();
    if (object == NULL) {
        return error_no_memory(error, "settings");
    }
    for (size_t i = 0; i < list->count && status == STATUS_OK; i++) {
        status = settings_apply(object, list->items[i], error);
    }
    if (status != STATUS_OK) {
        json_decref(object);
        return status;
    }
    *out = object;
    return STATUS_OK;
}
