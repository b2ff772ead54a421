/* Base64 against the examples of RFC 4648, section 10. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "common/base64.h"
#include "common/mem.h"

static void test_examples_of_the_rfc(void **state) {
    static const char *const examples[][2] = {{"", ""},
                                              {"f", "Zg=="},
                                              {"fo", "Zm8="},
                                              {"foo", "Zm9v"},
                                              {"foob", "Zm9vYg=="},
                                              {"fooba", "Zm9vYmE="},
                                              {"foobar", "Zm9vYmFy"}};
    (void)state;
    for (size_t i = 0; i < sizeof examples / sizeof examples[0]; i++) {
        char *text = base64_encode(examples[i][0], strlen(examples[i][0]));
        assert_non_null(text);
        assert_string_equal(text, examples[i][1]);
        mem_free(text);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_examples_of_the_rfc)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
