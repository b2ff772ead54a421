/* onp list: jobs, models or samples, newest first, page after page. */
#include <stdio.h>
#include <string.h>

#include "client/command.h"
#include "client/nearest.h"
#include "client/terminal_text.h"

enum { PAGE = 200, CELLS_MAX = 6, AFTER_SIZE = 64 };

static const struct listing {
    const char *name, *path;
    const char *members[CELLS_MAX]; /* columns; NULL ends */
    size_t widths[CELLS_MAX];
} LISTINGS[] = {
    {"jobs", PATH_JOBS, {"id", "state", "method", "created_at", "model_id"}, {31, 12, 8, 25, 31}},
    {"models", PATH_MODELS, {"id", "size", "created_at", "name"}, {31, 12, 25, 1}},
    {"samples", PATH_SAMPLES, {"id", "size", "created_at", "name"}, {31, 12, 25, 1}},
};
enum { LISTING_COUNT = sizeof LISTINGS / sizeof LISTINGS[0] };

struct list {
    struct command_options options;
    const char *state;
    const char *method;
    uint64_t limit;
};

static const struct listing *find_listing(const char *name) {
    for (size_t i = 0; i < LISTING_COUNT; i++) {
        if (strcmp(LISTINGS[i].name, name) == 0) {
            return &LISTINGS[i];
        }
    }
    return NULL;
}

/* The titles, where `item` is NULL. */
static void print_row(const struct listing *listing, const json_t *item) {
    size_t column = 0;
    for (size_t i = 0; i < CELLS_MAX && listing->members[i] != NULL; i++) {
        char number[32] = "-";
        const json_t *value = item != NULL ? json_object_get(item, listing->members[i]) : NULL;
        const char *text = item != NULL ? json_string_value(value) : listing->members[i];
        if (json_is_integer(value)) {
            (void)snprintf(number, sizeof number, "%lld", (long long)json_integer_value(value));
        }
        terminal_cell(stdout, text != NULL ? text : number, listing->widths[i], &column);
    }
    (void)printf("\n");
}

/* Adds "&name=value" with the value escaped; false if it does not fit. */
static bool add_query(char *path, size_t size, const char *name, const char *value) {
    char escaped[256];
    if (value == NULL) {
        return true;
    }
    size_t length = strlen(path);
    int added = api_escape(escaped, sizeof escaped, value)
                    ? snprintf(path + length, size - length, "&%s=%s", name, escaped)
                    : -1;
    return added >= 0 && (size_t)added < size - length;
}

/* One page: prints it, moves `after` on. */
static enum status list_page(const struct list *list, struct api_client *client, const struct listing *listing,
                             uint64_t limit, char after[AFTER_SIZE], size_t *printed, bool *has_more,
                             struct error *error) {
    char path[API_PATH_SIZE];
    json_t *page = NULL;
    size_t i = 0;
    json_t *item = NULL;
    (void)snprintf(path, sizeof path, "%s?limit=%llu", listing->path, (unsigned long long)limit);
    if (!add_query(path, sizeof path, "state", list->state) || !add_query(path, sizeof path, "method", list->method) ||
        !add_query(path, sizeof path, "after", after[0] != '\0' ? after : NULL)) {
        return error_set(error, STATUS_LIMIT, NULL, "failed to list: got too long a filter");
    }
    enum status status = api_client_get(client, path, &page, error);
    if (status != STATUS_OK) {
        return status;
    }
    if (!list->options.json && *printed == 0) {
        print_row(listing, NULL);
    }
    json_array_foreach(json_object_get(page, "data"), i, item) {
        if (list->options.json) {
            command_print_json(stdout, item, false);
        } else {
            print_row(listing, item);
        }
    }
    const char *next = json_string_value(json_object_get(page, "next_after"));
    *printed += i;
    *has_more = json_is_true(json_object_get(page, "has_more")) && next != NULL && i > 0;
    if (*has_more) {
        (void)snprintf(after, AFTER_SIZE, "%s", next);
    }
    json_decref(page);
    return STATUS_OK;
}

static int list_all(const struct list *list, const struct listing *listing) {
    struct error error = {0};
    struct api_client *client = NULL;
    char after[AFTER_SIZE] = "";
    size_t printed = 0;
    bool has_more = true;
    enum status status = command_connect(&list->options, &client, &error);
    while (status == STATUS_OK && has_more && printed < list->limit) {
        uint64_t left = list->limit - printed;
        status = list_page(list, client, listing, left < PAGE ? left : PAGE, after, &printed, &has_more, &error);
    }
    if (status == STATUS_OK && has_more && !list->options.json) {
        (void)fprintf(stderr, "onp: there are more than %llu; --limit shows them\n", (unsigned long long)list->limit);
    }
    api_client_free(client);
    return status == STATUS_OK ? EXIT_DONE : command_fail(&error);
}

int cmd_list(const struct command *command, int argc, char **argv) {
    struct list list = {.limit = 50};
    const struct option table[] = {
        {"state", 0, OPTION_STRING, &list.state, 0, "STATE", "jobs in this state only"},
        {"method", 0, OPTION_STRING, &list.method, 0, "NAME", "jobs of this method only"},
        {"limit", 'n', OPTION_U64, &list.limit, 1000000, "N", "at most this many (default 50)"},
        COMMAND_OPTION_ROWS(list.options),
        COMMAND_OPTION_END,
    };
    struct command_words words;
    struct error error = {0};
    int exit_code = EXIT_USAGE;
    if (!command_parse(command, table, &list.options.help, argc, argv, 0, 1, &words, &exit_code)) {
        return exit_code;
    }
    const char *name = words.count > 0 ? words.items[0] : "jobs";
    const struct listing *listing = find_listing(name);
    if (listing == NULL) {
        const char *const names[] = {"jobs", "models", "samples"};
        (void)error_set(&error, STATUS_INVALID, NULL, "failed to list: got \"%.32s\", expected perhaps %s", name,
                        nearest_word(name, names, LISTING_COUNT));
        return command_usage(command, &error);
    }
    if (list.state != NULL && job_state_from_name(list.state) == JOB_STATE_COUNT) {
        const char *names[JOB_STATE_COUNT];
        for (int i = 0; i < JOB_STATE_COUNT; i++) {
            names[i] = job_state_name((enum job_state)i);
        }
        (void)error_set(&error, STATUS_INVALID, "--state", "failed to list: got state \"%.32s\", expected perhaps %s",
                        list.state, nearest_word(list.state, names, JOB_STATE_COUNT));
        return command_usage(command, &error);
    }
    if ((list.state != NULL || list.method != NULL) && listing != &LISTINGS[0]) {
        (void)error_set(&error, STATUS_INVALID, NULL, "failed to list %s: got a filter, expected one with jobs only",
                        name);
        return command_usage(command, &error);
    }
    return list_all(&list, listing);
}
