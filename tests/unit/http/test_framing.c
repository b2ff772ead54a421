/* Framing checks over header fields as the library cuts them out of its buffer: name NUL blank value NUL NUL name ... */
#include "tests/support/cm.h"

#include <string.h>

#include "server/http/http_framing.h"

enum { BUFFER_SIZE = 65536 };
static char buffer[BUFFER_SIZE];

/* Cuts "Name: value\r\n..." in place as libmicrohttpd does: the colon and line ends become NULs. */
static size_t cut(const char *text, struct http_field *fields, size_t max) {
    size_t count = 0;
    char *at = buffer;

    assert_true(strlen(text) + 2 < BUFFER_SIZE);
    memset(buffer, 0, sizeof(buffer));
    memcpy(buffer, text, strlen(text));
    while (*at != '\0' && count < max) {
        char *end = strchr(at, '\n'), *colon = strchr(at, ':');
        size_t line_end = (size_t)(end - at);
        assert_non_null(colon);
        *colon = '\0';
        fields[count].name = at;
        fields[count].name_length = strlen(at);
        at[line_end] = '\0';
        if (at[line_end - 1] == '\r') {
            at[line_end - 1] = '\0';
        }
        fields[count].value = colon + 1 + strspn(colon + 1, " \t");
        fields[count].value_length = strlen(fields[count].value);
        count++;
        at = end + 1;
    }
    return count;
}

static enum status check(const char *text) {
    struct http_field fields[HTTP_FIELDS_MAX + 1];
    struct error error = {0};
    size_t count = cut(text, fields, HTTP_FIELDS_MAX + 1);

    return http_framing_check(fields, count, true, &error);
}

static void test_accepted(void **state) {
    static const char *const good[] = {
        "Host: a\r\n",
        "Host:\t a\r\nContent-Length: 5\r\nX:\r\nY: b c\t d\r\n",
        "Host: a\r\nTransfer-Encoding: Chunked\r\n",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_int_equal(check(good[i]), STATUS_OK);
    }
}

static void test_refused(void **state) {
    static const char *const bad[] = {
        "X: y\r\n",
        "Host: a\r\nHost: b\r\n",
        "Host: a\r\nhost: a\r\n",
        "Host: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        "Host: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n",
        "Host: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Host: a\r\nTransfer-Encoding: gzip\r\n",
        "Host: a\r\nTransfer-Encoding: gzip, chunked\r\n",
        "Host : a\r\n",
        "Host: a\r\n X: y\r\n",
        "Host: a\r\n: y\r\n",
        "Host: a\r\nX(y): z\r\n",
        "Host: a\r\nX: y\001z\r\n",
        "Host: a\r\nX: y\rz\r\n",
        "Host: a\nX:y\n",
        "Host: a\r\nX: y\nContent-Length: 3\r\n",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(check(bad[i]), STATUS_INVALID);
    }
}

static void test_http_1_0(void **state) {
    struct http_field fields[4];
    struct error error = {0};
    size_t count = cut("X: y\r\n", fields, 4);

    (void)state;
    assert_int_equal(http_framing_check(fields, count, false, &error), STATUS_OK);
    count = cut("Transfer-Encoding: chunked\r\n", fields, 4);
    assert_int_equal(http_framing_check(fields, count, false, &error), STATUS_INVALID);
}

/* "X: y<NUL>evil": the library's value ends at the NUL, but the next name does not follow. */
static void test_nul_in_value(void **state) {
    struct http_field fields[4];
    struct error error = {0};
    size_t count = cut("Host: a\r\nX: yZevil\r\nLast: b\r\n", fields, 4);

    (void)state;
    assert_int_equal(count, 3);
    buffer[fields[1].value - buffer + 1] = '\0';
    fields[1].value_length = 1;
    assert_int_equal(http_framing_check(fields, count, true, &error), STATUS_INVALID);
    error_clear(&error);
    assert_int_equal(http_framing_check(fields, 2, true, &error), STATUS_INVALID);
}

static void fold(struct http_field *fields, size_t count, enum status expected) {
    struct error error = {0};
    assert_int_equal(http_framing_check(fields, count, true, &error), expected);
}

/* A folded line is joined in another place of memory. */
static void test_fold(void **state) {
    static char elsewhere[] = "y  folded";
    struct http_field fields[4];
    size_t count = cut("Host: a\r\nX: y\r\nLast: b\r\n", fields, 4);

    (void)state;
    fold(fields, count, STATUS_OK);
    fields[1].value = elsewhere;
    fields[1].value_length = strlen(elsewhere);
    fold(fields, count, STATUS_INVALID);
    count = cut("Host: a\r\nX: y\r\nLast: b\r\n", fields, 4);
    fields[1].name = elsewhere;
    fields[1].name_length = 1;
    fold(fields, count, STATUS_INVALID);
}

static void test_limits(void **state) {
    static char text[BUFFER_SIZE - 16];
    size_t used = 9;

    (void)state;
    memcpy(text, "Host: a\r\n", used);
    for (int i = 0; i < HTTP_FIELDS_MAX; i++) {
        memcpy(text + used, "X: y\r\n", 6);
        used += 6;
    }
    assert_int_equal(check(text), STATUS_LIMIT);
    memset(text, 0, sizeof(text));
    memcpy(text, "Host: a\r\nX: ", 12);
    memset(text + 12, 'y', HTTP_FIELD_BYTES_MAX);
    memcpy(text + 12 + HTTP_FIELD_BYTES_MAX, "\r\n", 3);
    assert_int_equal(check(text), STATUS_LIMIT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accepted),     cmocka_unit_test(test_refused), cmocka_unit_test(test_http_1_0),
        cmocka_unit_test(test_nul_in_value), cmocka_unit_test(test_fold),    cmocka_unit_test(test_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
