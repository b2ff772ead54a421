/* Options by table: every kind, both spellings, what is refused and how it is said. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/options.h"
#include "tests/support/cm.h"

struct settings {
    bool json;
    const char *output;
    uint64_t threads;
    double rate;
    uint64_t memory;
    struct option_list sets;
    const char *words[2];
    size_t word_count;
    struct error error;
};

enum { ARGS_MAX = 80 };

/* Splits `line` at blanks and parses it with one option of each kind. */
static enum status parse_line(struct settings *s, const char *line) {
    static char copy[1024];
    static char program[] = "onp";
    char *argv[ARGS_MAX] = {program};
    int argc = 1;
    *s = (struct settings){.output = "default", .threads = 3, .word_count = 99};
    const struct option table[] = {
        {"json", 'j', OPTION_FLAG, &s->json, 0, NULL, "For machines."},
        {"output", 'o', OPTION_STRING, &s->output, 0, "FILE", "Where to."},
        {"threads", 't', OPTION_U64, &s->threads, 64, "N", "How many."},
        {"rate", 0, OPTION_DOUBLE, &s->rate, 0, "R", "How much."},
        {"memory", 0, OPTION_BYTES, &s->memory, UINT64_C(1) << 40, "SIZE", "At most."},
        {"set", 's', OPTION_LIST, &s->sets, 0, "KEY=VALUE", "May be repeated."},
        {NULL, 0, OPTION_FLAG, NULL, 0, NULL, NULL},
    };
    (void)snprintf(copy, sizeof copy, "%s", line);
    char *rest = NULL;
    for (char *word = strtok_r(copy, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest)) {
        assert_true(argc < ARGS_MAX);
        argv[argc++] = word;
    }
    return options_parse(table, argc, argv, s->words, 2, &s->word_count, &s->error);
}

static void every_kind_is_read(void **state) {
    (void)state;
    struct settings s;
    assert_int_equal(
        parse_line(&s, "run --json --output a.onnx --threads=8 --rate -0.5 --memory=2G --set a=1 -s b=2 m"), STATUS_OK);
    assert_true(s.json);
    assert_string_equal(s.output, "a.onnx");
    assert_int_equal(s.threads, 8);
    assert_true(s.rate == -0.5);
    assert_true(s.memory == UINT64_C(2) << 30);
    assert_int_equal(s.sets.count, 2);
    assert_string_equal(s.sets.items[0], "a=1");
    assert_string_equal(s.sets.items[1], "b=2");
    assert_int_equal(s.word_count, 2);
    assert_string_equal(s.words[0], "run");
    assert_string_equal(s.words[1], "m");
}

static void defaults_stay(void **state) {
    (void)state;
    struct settings s;
    assert_int_equal(parse_line(&s, ""), STATUS_OK);
    assert_false(s.json);
    assert_string_equal(s.output, "default");
    assert_int_equal(s.threads, 3);
    assert_int_equal(s.word_count, 0);
}

static void spellings(void **state) {
    (void)state;
    struct settings s;
    assert_int_equal(parse_line(&s, "-j -o out --json=false --set=k=v=w"), STATUS_OK);
    assert_false(s.json);
    assert_string_equal(s.output, "out");
    assert_string_equal(s.sets.items[0], "k=v=w"); /* only the first '=' ends the name */
    assert_int_equal(parse_line(&s, "--output= -- --json"), STATUS_OK);
    assert_string_equal(s.output, "");
    assert_false(s.json);
    assert_string_equal(s.words[0], "--json");
    assert_int_equal(parse_line(&s, "- -o -"), STATUS_OK); /* a single dash is a word: standard input */
    assert_string_equal(s.words[0], "-");
    assert_string_equal(s.output, "-");
}

static void wrong_lines_are_explained(void **state) {
    (void)state;
    static const struct {
        const char *line;
        const char *part; /* of the message */
    } CASES[] = {
        {"--thread 3", "expected perhaps --threads"},
        {"--ouptut x", "expected perhaps --output"},
        {"--jsn", "expected perhaps --json"},
        {"--thr", "got unknown --thr"}, /* no abbreviations */
        {"-x", "got unknown -x"},
        {"-jo", "got unknown -jo"},
        {"--threads", "--threads: got nothing, expected N"},
        {"-o", "--output: got nothing, expected FILE"},
        {"--threads 65", "got \"65\", expected an integer from 0 to 64"},
        {"--threads -1", "got \"-1\", expected an integer"},
        {"--threads=", "got \"\", expected an integer"},
        {"--rate nan", "got \"nan\", expected a number"},
        {"--memory 5X", "got \"5X\", expected a size"},
        {"--json=maybe", "got \"maybe\", expected true or false"},
        {"a b c", "got one more word \"c\", expected at most 2"},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        struct settings s;
        assert_int_equal(parse_line(&s, CASES[i].line), STATUS_INVALID);
        assert_non_null(strstr(s.error.message, CASES[i].part));
        assert_int_equal(s.word_count, 99); /* written on success only */
    }
}

static void lists_are_bounded(void **state) {
    (void)state;
    struct settings s;
    char line[512] = "";
    size_t at = 0;
    for (int i = 0; i < OPTION_LIST_MAX; i++) {
        at += (size_t)snprintf(line + at, sizeof line - at, "--set=k%d ", i);
    }
    assert_int_equal(parse_line(&s, line), STATUS_OK);
    assert_int_equal(s.sets.count, OPTION_LIST_MAX);
    (void)snprintf(line + at, sizeof line - at, "--set=more");
    assert_int_equal(parse_line(&s, line), STATUS_INVALID);
    assert_non_null(strstr(s.error.message, "expected at most 32"));
}

static void long_unknown_names_are_handled(void **state) {
    (void)state;
    struct settings s;
    char line[400] = "--";
    memset(line + 2, 'x', sizeof line - 3);
    assert_int_equal(parse_line(&s, line), STATUS_INVALID);
    assert_non_null(strstr(s.error.message, "expected none"));
}

static void help_lists_every_option(void **state) {
    (void)state;
    bool flag = false;
    const char *text = NULL;
    const struct option table[] = {
        {"json", 'j', OPTION_FLAG, &flag, 0, NULL, "For machines."},
        {"output", 0, OPTION_STRING, &text, 0, "FILE", "Where to."},
        {"a-name-that-is-rather-long", 0, OPTION_STRING, &text, 0, "VALUE", "Below."},
        {NULL, 0, OPTION_FLAG, NULL, 0, NULL, NULL},
    };
    char *out = NULL;
    size_t size = 0;
    FILE *file = open_memstream(&out, &size);
    assert_non_null(file);
    options_print_help(file, table);
    assert_int_equal(fclose(file), 0);
    assert_string_equal(out, "  -j, --json                  For machines.\n"
                             "      --output FILE           Where to.\n"
                             "      --a-name-that-is-rather-long VALUE\n"
                             "                              Below.\n");
    free(out); /* of open_memstream() */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_is_read),
        cmocka_unit_test(defaults_stay),
        cmocka_unit_test(spellings),
        cmocka_unit_test(wrong_lines_are_explained),
        cmocka_unit_test(lists_are_bounded),
        cmocka_unit_test(long_unknown_names_are_handled),
        cmocka_unit_test(help_lists_every_option),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
