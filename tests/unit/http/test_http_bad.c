/* Every folder of tests/data/http_bad is a request, byte for byte, and how it is answered: the status on the first line of `error`,
 * a part of the answer on the second. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "tests/support/cases.h"
#include "tests/support/cm.h"
#include "tests/unit/http/world.h"

struct run {
    struct world *world;
    size_t wrong;
};

static void ask(void *user, const char *name, const char *folder) {
    struct run *run = user;
    size_t length = 0, ignored = 0;
    char *request = cases_read(folder, "request", &length);
    char *expected = cases_read(folder, "error", &ignored);
    char *part = NULL;
    long code = strtol(expected, &part, 10);
    part += strspn(part, "\n");
    part[strcspn(part, "\n")] = '\0';
    const char *answer = live_talk(&run->world->live, request, length, NULL);
    if (live_code(answer) != (int)code || strstr(answer, part) == NULL) {
        print_error("%s: got '%.300s', expected %ld with '%s'\n", name, answer, code, part);
        run->wrong++;
    }
    mem_free(request);
    mem_free(expected);
}

static void bad_requests_are_refused(void **state) {
    struct run run = {.world = *state};
    assert_true(cases_each("tests/data/http_bad", ask, &run) >= 30);
    assert_int_equal(run.wrong, 0);
    /* And the server goes on. */
    assert_int_equal(live_code(live_ask(&run.world->live, "GET /hello HTTP/1.1\r\n" CLOSE "\r\n")), 200);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(bad_requests_are_refused, world_setup_hasty, world_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
