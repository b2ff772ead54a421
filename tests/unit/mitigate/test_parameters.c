/* Parameters of the method: defaults, strictness with the place, schema. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "server/mitigate/mitigate.h"
#include "server/mitigate/parameters.h"

static enum status read_text(const char *text, struct parameters *p, struct error *error) {
    json_t *object = json_loads(text, 0, NULL);
    assert_non_null(object);
    error_clear(error);
    const enum status status = parameters_read(&parameters_onp, object, p, error);
    json_decref(object);
    return status;
}

static void test_defaults_and_values(void **state) {
    (void)state;
    struct parameters p;
    struct error error = {0};
    assert_int_equal(parameters_read(&parameters_onp, NULL, &p, &error), STATUS_OK);
    assert_true(p.max_accuracy_drop == 0.02 && p.random_baseline);
    assert_int_equal(
        read_text("{\"iterations\": 3, \"random_baseline\": false, \"max_accuracy_drop\": 0.1}", &p, &error),
        STATUS_OK);
    assert_true(p.iterations == 3 && !p.random_baseline && p.max_accuracy_drop == 0.1);
}

static void test_errors_name_the_place(void **state) {
    (void)state;
    static const struct {
        const char *text, *where;
    } cases[] = {
        {"{\"iterations\": -1}", "/parameters/iterations"},
        {"{\"iterations\": 1.5}", "/parameters/iterations"},
        {"{\"iterations\": \"3\"}", "/parameters/iterations"},
        {"{\"max_accuracy_drop\": 2}", "/parameters/max_accuracy_drop"},
        {"{\"random_baseline\": 1}", "/parameters/random_baseline"},
        {"{\"policy\": \"some\"}", "/parameters/policy"},
        {"{\"policy\": 1}", "/parameters/policy"},
        {"{\"iteration\": 1}", "/parameters/iteration"},
        {"[]", "/parameters"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct parameters p;
        struct error error;
        memset(&p, 0x5a, sizeof p);
        const struct parameters before = p;
        assert_int_equal(read_text(cases[i].text, &p, &error), STATUS_INVALID);
        assert_string_equal(error.where, cases[i].where);
        assert_memory_equal(&p, &before, sizeof p); /* written on success only */
    }
}

static void test_written_parameters_read_back(void **state) {
    (void)state;
    struct parameters p, q;
    struct error error = {0};
    assert_int_equal(read_text("{\"expose_steps\": 7, \"trigger_weight\": 0.25, \"policy\": \"none\"}", &p, &error),
                     STATUS_OK);
    json_t *written = parameters_write(&parameters_onp, &p);
    assert_non_null(written);
    assert_int_equal(parameters_read(&parameters_onp, written, &q, &error), STATUS_OK);
    assert_memory_equal(&p, &q, sizeof p);
    json_decref(written);
}

static void test_schema_lists_every_parameter(void **state) {
    (void)state;
    struct parameters p;
    struct error error = {0};
    assert_int_equal(parameters_read(&parameters_onp, NULL, &p, &error), STATUS_OK);
    json_t *schema = parameters_schema(&parameters_onp), *written = parameters_write(&parameters_onp, &p);
    json_t *properties = json_object_get(schema, "properties");
    const char *name;
    json_t *value;
    assert_int_equal(json_object_size(properties), json_object_size(written));
    json_object_foreach(written, name, value) {
        assert_true(json_equal(json_object_get(json_object_get(properties, name), "default"), value));
    }
    json_decref(schema);
    json_decref(written);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults_and_values),
        cmocka_unit_test(test_errors_name_the_place),
        cmocka_unit_test(test_written_parameters_read_back),
        cmocka_unit_test(test_schema_lists_every_parameter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
