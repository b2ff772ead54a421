/* The route table against itself and against the interface description. */
#include <ctype.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "common/embedded.h"
#include "server/api/api_internal.h"
#include "server/http/http_problem.h"
#include "tests/support/cm.h"

static void test_rows_are_complete(void **state) {
    (void)state;
    for (size_t i = 0; i < api_route_count; i++) {
        const struct http_route *route = &api_routes[i];
        assert_non_null(route->handle);
        assert_int_equal(route->begin != NULL, route->body == HTTP_BODY_STREAM);
        assert_true(route->path[0] == '/');
        if (strcmp(route->method, "GET") == 0) {
            assert_int_equal(route->body, HTTP_BODY_NONE);
        } else {
            /* OPTIONS and HEAD change nothing. */
            assert_true(route->scope == HTTP_SCOPE_WRITE || route->scope == HTTP_SCOPE_ADMIN ||
                        strcmp(route->method, "OPTIONS") == 0);
        }
    }
}

static void test_no_row_hides_another(void **state) {
    (void)state;
    for (size_t i = 0; i < api_route_count; i++) {
        for (size_t k = 0; k < i; k++) {
            assert_false(strcmp(api_routes[i].method, api_routes[k].method) == 0 &&
                         strcmp(api_routes[i].path, api_routes[k].path) == 0);
        }
    }
}

static json_t *description(void) {
    for (const struct embedded_file *file = embedded_openapi; file->name != NULL; file++) {
        if (strcmp(file->name, "openapi.yaml") == 0) {
            return json_loadb((const char *)file->data, file->size, JSON_REJECT_DUPLICATES, NULL);
        }
    }
    return NULL;
}

static const json_t *operation(const json_t *openapi, const char *path, const char *method) {
    char name[16];
    size_t length = strlen(method);

    assert_true(length < sizeof(name));
    for (size_t i = 0; i <= length; i++) {
        name[i] = (char)tolower((unsigned char)method[i]);
    }
    return json_object_get(json_object_get(json_object_get(openapi, "paths"), path), name);
}

static void test_every_route_is_described(void **state) {
    json_t *openapi = description();

    (void)state;
    assert_non_null(openapi);
    assert_string_equal(json_string_value(json_object_get(openapi, "openapi")), "3.1.0");
    for (size_t i = 0; i < api_route_count; i++) {
        const json_t *found = operation(openapi, api_routes[i].path, api_routes[i].method);
        if (found == NULL) {
            fail_msg("%s %s is not described", api_routes[i].method, api_routes[i].path);
        }
        /* Open routes say so; all others may be asked for a token. */
        assert_int_equal(json_object_get(found, "security") != NULL, api_routes[i].scope == HTTP_SCOPE_OPEN);
    }
    json_decref(openapi);
}

static void test_every_description_is_a_route(void **state) {
    json_t *openapi = description(), *item, *found;
    const char *path, *key;
    size_t described = 0;

    (void)state;
    json_object_foreach(json_object_get(openapi, "paths"), path, item) {
        json_object_foreach(item, key, found) {
            described += strcmp(key, "parameters") != 0;
        }
    }
    assert_int_equal(described, api_route_count);
    json_decref(openapi);
}

/* The component that "#/components/<group>/<name>" names, or NULL. */
static const json_t *component(const json_t *openapi, const char *reference) {
    static const char start[] = "#/components/";
    char group[64];
    const char *slash;

    if (strncmp(reference, start, sizeof(start) - 1) != 0) {
        return NULL;
    }
    reference += sizeof(start) - 1;
    slash = strchr(reference, '/');
    if (slash == NULL || (size_t)(slash - reference) >= sizeof(group)) {
        return NULL;
    }
    (void)snprintf(group, sizeof(group), "%.*s", (int)(slash - reference), reference);
    return json_object_get(json_object_get(json_object_get(openapi, "components"), group), slash + 1);
}

/* "$ref"s that lead nowhere are what generators stumble over. */
static size_t check_references(const json_t *openapi, const json_t *value, int depth) {
    const char *key;
    json_t *child;
    size_t i, count = 0;

    assert_true(depth < 64);
    if (json_is_object(value)) {
        json_object_foreach((json_t *)(uintptr_t)value, key, child) {
            if (strcmp(key, "$ref") == 0) {
                assert_non_null(component(openapi, json_string_value(child)));
                count++;
            }
            count += check_references(openapi, child, depth + 1);
        }
    } else {
        json_array_foreach(value, i, child) {
            count += check_references(openapi, child, depth + 1);
        }
    }
    return count;
}

static void test_references_resolve(void **state) {
    json_t *openapi = description();

    (void)state;
    assert_true(check_references(openapi, openapi, 0) > 50);
    json_decref(openapi);
}

/* What a problem's type may be is said in full, in both directions. */
static void test_every_problem_is_described(void **state) {
    json_t *openapi = description();
    const json_t *words = openapi, *word;
    static const char *const way[] = {"components", "schemas", "Problem", "properties", "type", "enum"};
    size_t count = 0;

    (void)state;
    for (size_t i = 0; i < sizeof(way) / sizeof(way[0]); i++) {
        words = json_object_get(words, way[i]);
    }
    while (http_problem_kind(count) != NULL) {
        word = json_array_get(words, count);
        assert_non_null(word);
        assert_string_equal(json_string_value(word), http_problem_kind(count)->type);
        count++;
    }
    assert_int_equal(json_array_size(words), count);
    json_decref(openapi);
}

/* Each {name} of a path is a parameter of it, and the other way round. */
static void test_path_parameters(void **state) {
    json_t *openapi = description(), *item, *parameter;
    const char *path;
    size_t i;

    (void)state;
    json_object_foreach(json_object_get(openapi, "paths"), path, item) {
        size_t braces = 0, named = 0;
        for (const char *at = path; *at != '\0'; at++) {
            braces += *at == '{';
        }
        json_array_foreach(json_object_get(item, "parameters"), i, parameter) {
            const json_t *found = json_object_get(parameter, "$ref") != NULL
                                      ? component(openapi, json_string_value(json_object_get(parameter, "$ref")))
                                      : parameter;
            char braced[64];
            (void)snprintf(braced, sizeof(braced), "{%s}", json_string_value(json_object_get(found, "name")));
            assert_non_null(strstr(path, braced));
            named++;
        }
        assert_int_equal(named, braces);
    }
    json_decref(openapi);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_are_complete),        cmocka_unit_test(test_no_row_hides_another),
        cmocka_unit_test(test_every_route_is_described), cmocka_unit_test(test_every_description_is_a_route),
        cmocka_unit_test(test_references_resolve),       cmocka_unit_test(test_every_problem_is_described),
        cmocka_unit_test(test_path_parameters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
