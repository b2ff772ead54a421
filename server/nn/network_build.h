/* Private to nn: appending to a network without asking the op table, for copies of what was already checked. */
#ifndef ONP_SERVER_NN_NETWORK_BUILD_H
#define ONP_SERVER_NN_NETWORK_BUILD_H

#include "server/nn/network.h"

/* Appends a value: name copied, data as given (not copied, not owned), use_count 0. */
enum status network_append_value(struct network *network, const struct value *value, size_t *index,
                                 struct error *error);
/* Appends a node (inputs and name copied) and its output value of the given shape and name; counts the uses. */
enum status network_append_node(struct network *network, const struct node *node, const struct shape *shape,
                                const char *value_name, size_t *output, struct error *error);

#endif
