/* The hot loops compiled for any machine. */
#define LOOP_TABLE_NAME "portable"
#include "server/nn/kernels_loops.h"

const struct kernels *kernels_portable_table(void) {
    return &loop_table;
}
