/* npz archives: a zip (libzip) of npy arrays, read with every size checked before it is believed. */
#ifndef ONP_SERVER_DATA_NPZ_H
#define ONP_SERVER_DATA_NPZ_H

#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "server/nn/tensor.h"

enum npy_type { NPY_U1, NPY_I4, NPY_I8, NPY_F2, NPY_F4, NPY_F8 };

struct npy {
    char name[64]; /* entry name without ".npy" */
    enum npy_type type;
    struct shape shape;
    void *data; /* C order, little endian as stored */
};

struct npz {
    struct npy *arrays;
    size_t count;
};

enum status npz_load(const char *path, size_t max_file_bytes, size_t max_unpacked_bytes, struct npz **out,
                     struct error *error);
void npz_free(struct npz *npz);
const struct npy *npz_find(const struct npz *npz, const char *name);
/* Element i of an array as a double / integer (integers only from integer types). */
double npy_double(const struct npy *array, size_t i);
int64_t npy_integer(const struct npy *array, size_t i);
enum status npz_save(const char *path, const struct npy *arrays, size_t count, struct error *error);

#endif
