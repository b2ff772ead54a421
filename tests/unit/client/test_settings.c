/* --set words to JSON. */
#include "client/settings.h"

#include <stdlib.h>
#include <string.h>

#include "tests/support/cm.h"

static void expect(const struct option_list *list, const char *expected) {
    struct error error = {0};
    json_t *object = NULL;
    assert_int_equal(settings_from_list(list, &object, &error), STATUS_OK);
    char *text = json_dumps(object, JSON_COMPACT | JSON_SORT_KEYS);
    assert_string_equal(text, expected);
    free(text); /* of json_dumps() */
    json_decref(object);
}

static void test_values(void **state) {
    const struct option_list list = {
        .items = {"a=1", "b=0.5", "c=true", "d=word", "e=\"1\"", "f=[1,2]", "g=", "h=null", "i=x=y", "j=1e-3"},
        .count = 10,
    };
    (void)state;
    expect(&list, "{\"a\":1,\"b\":0.5,\"c\":true,\"d\":\"word\",\"e\":\"1\",\"f\":[1,2],\"g\":\"\",\"h\":null,"
                  "\"i\":\"x=y\",\"j\":0.001}");
}

static void test_nested(void **state) {
    const struct option_list list = {.items = {"search.ppo.clip=0.25", "search.iterations=3", "x=1"}, .count = 3};
    const struct option_list none = {.count = 0};
    (void)state;
    expect(&list, "{\"search\":{\"iterations\":3,\"ppo\":{\"clip\":0.25}},\"x\":1}");
    expect(&none, "{}");
}

static void test_refused(void **state) {
    static const struct option_list lists[] = {
        {.items = {"a"}, .count = 1},
        {.items = {"=1"}, .count = 1},
        {.items = {"a..b=1"}, .count = 1},
        {.items = {".a=1"}, .count = 1},
        {.items = {"a.=1"}, .count = 1},
        {.items = {"a=1", "a=2"}, .count = 2},
        {.items = {"a=1", "a.b=2"}, .count = 2},
        {.items = {"a.b=1", "a=2"}, .count = 2},
        {.items = {"a=\xff"}, .count = 1},
        {.items = {"a.b.c.d.e.f.g.h.i=1"}, .count = 1},
    };
    (void)state;
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        struct error error = {0};
        json_t *object = NULL;
        assert_int_equal(settings_from_list(&lists[i], &object, &error), STATUS_INVALID);
        assert_null(object);
        assert_int_equal(strncmp(error.message, "failed to read setting", 22), 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_nested),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
