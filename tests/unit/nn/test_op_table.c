/* The table has a whole row for each kind, and nothing beyond. */
#include <string.h>

#include "server/nn/op.h"
#include "tests/support/cm.h"

static void rows_are_whole(void **state) {
    (void)state;
    for (size_t kind = 0; kind < OP_KIND_COUNT; kind++) {
        const struct op *op = op_find((enum op_kind)kind);
        assert_non_null(op);
        assert_non_null(op->infer);
        assert_non_null(op->forward);
        assert_non_null(op->backward);
        assert_string_equal(op->name, op_kind_name((enum op_kind)kind));
        for (size_t other = 0; other < kind; other++) {
            assert_ptr_not_equal(op, op_find((enum op_kind)other));
            assert_string_not_equal(op->name, op_kind_name((enum op_kind)other));
        }
    }
}

static void unknown_kinds(void **state) {
    (void)state;
    assert_null(op_find(OP_KIND_COUNT));
    assert_null(op_find((enum op_kind)12345));
    assert_string_equal(op_kind_name(OP_KIND_COUNT), "unknown operator");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(rows_are_whole), cmocka_unit_test(unknown_kinds)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
