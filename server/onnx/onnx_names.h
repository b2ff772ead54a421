/* A map from names to numbers 0, 1, 2, ... in the order they are added; memory is an arena's. */
#ifndef ONP_SERVER_ONNX_ONNX_NAMES_H
#define ONP_SERVER_ONNX_ONNX_NAMES_H

#include <stdbool.h>
#include <stddef.h>

#include "common/arena.h"

struct onnx_names;

/* For at most `max` names. NULL: no memory. Freed with the arena. */
struct onnx_names *onnx_names_new(struct arena *arena, size_t max);
/* The name is borrowed. false if it is there already or the map is full; *index is its number either way. */
bool onnx_names_add(struct onnx_names *names, const char *name, size_t *index);
bool onnx_names_find(const struct onnx_names *names, const char *name, size_t *index);
size_t onnx_names_count(const struct onnx_names *names);

#endif
