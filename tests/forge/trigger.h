/* The attacks that the forge knows: one row a trigger. All are dirty-label: triggered training images carry the target's
 * label. A new attack is a new row. */
#ifndef ONP_TESTS_FORGE_TRIGGER_H
#define ONP_TESTS_FORGE_TRIGGER_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct forge_trigger {
    const char *name;
    const char *help;
    void (*apply)(uint8_t *pixels /* (3, 32, 32), changed in place */); /* NULL: no attack. Any thread */
};

/* NULL for an unknown name. */
const struct forge_trigger *forge_trigger_find(const char *name);
/* "patch, blend, ..." into `out`. */
void forge_trigger_names(char *out, size_t size);
/* One line a trigger. */
void forge_trigger_print_help(FILE *file);

#endif
