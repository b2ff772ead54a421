/* The log: one JSON object a line, whatever is in the message. */
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/file.h"
#include "common/log.h"
#include "common/mem.h"
#include "tests/support/cm.h"
#include "tests/support/scratch.h"

static struct scratch scratch;
static int saved_stderr = -1;

static int setup(void **state) {
    (void)state;
    scratch_make(&scratch);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    scratch_remove(&scratch);
    return 0;
}

/* Sends stderr to a file until release_log() reads it. */
static void capture_log(void) {
    int fd = open(scratch_path(&scratch, "log"), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    saved_stderr = dup(STDERR_FILENO);
    assert_true(dup2(fd, STDERR_FILENO) >= 0);
    (void)close(fd);
}

static char *release_log(void) {
    char *text = NULL;
    size_t length = 0;
    struct error error = {0};
    assert_true(dup2(saved_stderr, STDERR_FILENO) >= 0);
    (void)close(saved_stderr);
    assert_int_equal(file_read(scratch_path(&scratch, "log"), 1 << 20, &text, &length, &error), STATUS_OK);
    return text;
}

/* The message of the one line in `text`, after checking the other members. */
static json_t *parse_line(const char *text, const char *level, const char *event) {
    json_t *line = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(line);
    assert_int_equal(text[strlen(text) - 1], '\n');
    assert_string_equal(json_string_value(json_object_get(line, "level")), level);
    assert_string_equal(json_string_value(json_object_get(line, "event")), event);
    assert_int_equal(strlen(json_string_value(json_object_get(line, "time"))), 24);
    return line;
}

static void a_line_is_an_object(void **state) {
    (void)state;
    capture_log();
    log_event(LOG_WARN, "disk_low", "free: %d of %s", 3,
              "\"C:\\\"\n\t\x01 \xc3\xa9 \xff\xc0\xaf \xed\xa0\x80 \xf0\x9f\x98\x80");
    char *text = release_log();
    json_t *line = parse_line(text, "warn", "disk_low");
    assert_string_equal(json_string_value(json_object_get(line, "message")),
                        "free: 3 of \"C:\\\"\n\t\x01 \xc3\xa9 ??? ??? \xf0\x9f\x98\x80");
    json_decref(line);
    mem_free(text);
}

static void long_messages_are_cut_to_a_valid_line(void **state) {
    (void)state;
    char message[10000];
    memset(message, '\n', sizeof message - 1); /* each becomes six bytes */
    message[sizeof message - 1] = '\0';
    capture_log();
    log_event(LOG_ERROR, "large", "%s", message);
    char *text = release_log();
    assert_in_range(strlen(text), 3000, 4096);
    json_t *line = parse_line(text, "error", "large");
    json_decref(line);
    mem_free(text);
}

static void levels_filter(void **state) {
    (void)state;
    assert_int_equal(log_get_level(), LOG_INFO);
    capture_log();
    log_event(LOG_DEBUG, "hidden", "x");
    log_set_level(LOG_ERROR);
    log_event(LOG_WARN, "hidden", "x");
    log_set_level(LOG_DEBUG);
    log_event(LOG_DEBUG, "shown", "x");
    log_set_level(LOG_INFO);
    char *text = release_log();
    json_t *line = parse_line(text, "debug", "shown");
    json_decref(line);
    mem_free(text);
}

static void gathered_lines_leave_together(void **state) {
    (void)state;
    enum { LINES = 100, LENGTH = 150 };
    struct log_lines lines = {0};
    char message[LENGTH + 1];
    size_t count = 0;
    memset(message, 'm', LENGTH);
    message[LENGTH] = '\0';
    capture_log();
    log_lines_add(&lines, LOG_DEBUG, "hidden", message);
    assert_int_equal(lines.length, 0);
    for (int i = 0; i < LINES; i++) {
        message[0] = i % 2 == 0 ? '"' : 'm';
        log_lines_add(&lines, LOG_INFO, "gathered", message);
        assert_in_range(lines.length, 1, LOG_LINES_BYTES);
    }
    log_lines_write(&lines);
    assert_int_equal(lines.length, 0);
    log_lines_write(&lines); /* nothing to do */
    char *text = release_log();
    for (char *at = text; *at != '\0'; count++) {
        char *end = strchr(at, '\n');
        assert_non_null(end);
        char saved = end[1];
        end[1] = '\0';
        json_t *line = parse_line(at, "info", "gathered");
        message[0] = count % 2 == 0 ? '"' : 'm';
        assert_string_equal(json_string_value(json_object_get(line, "message")), message);
        json_decref(line);
        end[1] = saved;
        at = end + 1;
    }
    assert_int_equal(count, LINES);
    mem_free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_is_an_object),
        cmocka_unit_test(long_messages_are_cut_to_a_valid_line),
        cmocka_unit_test(levels_filter),
        cmocka_unit_test(gathered_lines_leave_together),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
