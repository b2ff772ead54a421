/* Case folders: see cases.h. */
#include "tests/support/cases.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "common/mem.h"
#include "tests/support/cm.h"

enum { CASES_MAX = 512, NAME_MAX_LENGTH = 128, FILE_MAX = 64 << 20 };

static int compare_names(const void *a, const void *b) {
    return strcmp(a, b);
}

size_t cases_each(const char *root, void (*run)(void *user, const char *name, const char *folder), void *user) {
    char(*names)[NAME_MAX_LENGTH] = mem_calloc(CASES_MAX, sizeof *names);
    size_t count = 0;
    DIR *dir = opendir(root);
    if (dir == NULL || names == NULL) {
        fail_msg("no folder %s: tests run in the root of the tree", root);
    }
    for (struct dirent *entry = readdir(dir); entry != NULL && count < CASES_MAX; entry = readdir(dir)) {
        if (entry->d_name[0] != '.' && strlen(entry->d_name) < NAME_MAX_LENGTH) {
            (void)snprintf(names[count++], NAME_MAX_LENGTH, "%.*s", NAME_MAX_LENGTH - 1, entry->d_name);
        }
    }
    (void)closedir(dir);
    qsort(names, count, sizeof *names, compare_names);
    for (size_t i = 0; i < count; i++) {
        char folder[PATH_MAX];
        (void)snprintf(folder, sizeof folder, "%s/%s", root, names[i]);
        run(user, names[i], folder);
    }
    mem_free(names);
    if (count == 0) {
        fail_msg("no case in %s", root);
    }
    return count;
}

char *cases_read(const char *folder, const char *name, size_t *length) {
    char path[PATH_MAX];
    char *data = NULL;
    struct error error = {0};
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    if (file_read(path, FILE_MAX, &data, length, &error) != STATUS_OK) {
        fail_msg("%s: %s", path, error.message);
    }
    return data;
}

int cases_error_matches(const char *name, const char *folder, enum status status, const struct error *error) {
    size_t length = 0;
    char *text = cases_read(folder, "error", &length);
    char *part = strchr(text, '\n');
    int good = 0;
    if (part == NULL) {
        fail_msg("%s/error has no second line", folder);
        return 0;
    }
    *part++ = '\0';
    part[strcspn(part, "\n")] = '\0';
    good = status == status_from_name(text) && error->status == status &&
           (strstr(error->message, part) != NULL || strstr(error->where, part) != NULL);
    if (!good) {
        (void)fprintf(stderr, "%s: got %s, '%s', '%s'; expected %s, '%s'\n", name, status_name(status), error->where,
                      error->message, text, part);
    }
    mem_free(text);
    return good;
}
