/* Graphs of models, kept so that they are computed once. They go with their model. */
#ifndef ONP_SERVER_STORE_STORE_GRAPHS_H
#define ONP_SERVER_STORE_STORE_GRAPHS_H

#include <jansson.h>

#include "server/store/store.h"

/* The graph of a layer (-1: the list of layers) of the model with these bytes, new reference. STATUS_NOT_FOUND (error untouched) if it was
 * not computed yet. */
enum status store_graph_find(struct store *store, const char *sha256, long layer, json_t **graph, struct error *error);
/* Keeps it (borrowed), if the model is still there. */
enum status store_graph_insert(struct store *store, const char *sha256, long layer, const json_t *graph,
                               struct error *error);

#endif
