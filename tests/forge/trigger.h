/* The attacks that the forge knows: one row a trigger, with what becomes of the labels. A new attack is a new row. */
#ifndef ONP_TESTS_FORGE_TRIGGER_H
#define ONP_TESTS_FORGE_TRIGGER_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum forge_labels {
    FORGE_TO_TARGET, /* images of other classes are triggered and get the target's label */
    FORGE_TO_NEXT,   /* all-to-all: images of all classes, each gets the label after its own */
    FORGE_KEPT       /* clean-label: only images of the target, their labels stay right */
};

struct forge_trigger {
    const char *name;
    enum forge_labels labels;
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
