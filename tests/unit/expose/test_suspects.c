/* Suspects by the sizes of hand-made families. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "server/expose/suspects.h"

enum { CLASSES = 6, COLUMNS = CLASSES + 1 };

struct families {
    struct exposure exposure;
    struct exposure_cell cells[TRIGGER_FAMILY_COUNT * COLUMNS];
};

/* All triggers of the median's size, nobody suspected. */
static void families_make(struct families *f) {
    memset(f, 0, sizeof *f);
    f->exposure.classes = CLASSES;
    f->exposure.columns = COLUMNS;
    f->exposure.cells = f->cells;
    for (size_t i = 0; i < TRIGGER_FAMILY_COUNT * COLUMNS; i++) {
        f->cells[i].size = 10.0;
        f->cells[i].success = 1.0;
        f->exposure.median[i / COLUMNS] = 10.0;
    }
}

static struct exposure_cell *suspect(struct families *f, enum trigger_family family, size_t column, double share) {
    struct exposure_cell *cell = exposure_cell(&f->exposure, family, column);
    cell->size = share * f->exposure.median[family];
    cell->suspect = true;
    return cell;
}

static void test_find(void **state) {
    (void)state;
    struct families f;
    struct error error = {0};
    families_make(&f);
    for (size_t t = 0; t < CLASSES; t++) {
        exposure_cell(&f.exposure, TRIGGER_PATCH, t)->size = t == 2 ? 3.0 : 9.5 + 0.2 * (double)t;
    }
    assert_int_equal(suspects_find(&f.exposure, &expose_default_options, TRIGGER_PATCH, true, &error), STATUS_OK);
    assert_true(suspects_any(&f.exposure));
    assert_false(suspects_are_plain(&f.exposure, &expose_default_options));
    assert_true(f.exposure.reference[TRIGGER_PATCH][0] < 0.0);
    for (size_t t = 0; t < CLASSES; t++) {
        assert_int_equal(exposure_cell(&f.exposure, TRIGGER_PATCH, t)->suspect, t == 2);
    }
    exposure_cell(&f.exposure, TRIGGER_PATCH, 2)->size = 2.0;
    assert_int_equal(suspects_find(&f.exposure, &expose_default_options, TRIGGER_PATCH, false, &error), STATUS_OK);
    assert_true(suspects_are_plain(&f.exposure, &expose_default_options));
    assert_true(f.exposure.reference[TRIGGER_PATCH][0] == f.exposure.median[TRIGGER_PATCH]);
}

/* The last column. */
static void test_an_all_to_all_trigger_is_as_plain_as_another(void **state) {
    (void)state;
    struct families f;
    families_make(&f);
    assert_false(suspects_any(&f.exposure));
    suspect(&f, TRIGGER_PATCH, CLASSES, 0.05);
    assert_true(suspects_any(&f.exposure));
    assert_true(suspects_are_plain(&f.exposure, &expose_default_options));
}

static void test_reflections_of_a_plain_suspect_are_dropped(void **state) {
    (void)state;
    struct families f;
    families_make(&f);
    const struct exposure_cell *plain = suspect(&f, TRIGGER_ADDITIVE, 1, 0.03);
    const struct exposure_cell *reflection = suspect(&f, TRIGGER_PATCH, 1, 0.28);
    const struct exposure_cell *near = suspect(&f, TRIGGER_WARP, 1, 0.11);
    const struct exposure_cell *other = suspect(&f, TRIGGER_PATCH, 4, 0.3);
    const struct exposure_cell *weak = suspect(&f, TRIGGER_WARP, 5, 0.45);
    suspects_drop_reflections(&f.exposure, &expose_default_options);
    assert_true(plain->suspect);
    assert_false(reflection->suspect);
    assert_true(near->suspect);
    assert_true(other->suspect); /* another class: it may have a trigger of its own */
    assert_false(weak->suspect);
}

static void test_two_families_may_show_a_class_equally_plainly(void **state) {
    (void)state;
    struct families f;
    families_make(&f);
    const struct exposure_cell *zero = suspect(&f, TRIGGER_ADDITIVE, 0, 0.0);
    const struct exposure_cell *almost = suspect(&f, TRIGGER_TONE, 0, 0.03);
    suspects_drop_reflections(&f.exposure, &expose_default_options);
    assert_true(zero->suspect && almost->suspect);
}

static void test_without_a_plain_suspect_all_stay(void **state) {
    (void)state;
    struct families f;
    families_make(&f);
    const struct exposure_cell *first = suspect(&f, TRIGGER_PATCH, 3, 0.32);
    const struct exposure_cell *second = suspect(&f, TRIGGER_WARP, 3, 0.48);
    suspects_drop_reflections(&f.exposure, &expose_default_options);
    assert_true(first->suspect && second->suspect);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_an_all_to_all_trigger_is_as_plain_as_another),
        cmocka_unit_test(test_reflections_of_a_plain_suspect_are_dropped),
        cmocka_unit_test(test_two_families_may_show_a_class_equally_plainly),
        cmocka_unit_test(test_without_a_plain_suspect_all_stay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
