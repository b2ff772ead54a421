/* Writing a sample set: for the forge and for tests. */
#include <stdio.h>
#include <string.h>

#include "common/mem.h"
#include "server/data/npz.h"
#include "server/data/samples.h"

enum { ARRAYS = 5 };

/* npz_save() only reads, but struct npy also serves arrays that were read, hence the copies: one a list. */
static enum status add(struct npy *arrays, size_t *count, const char *name, enum npy_type type,
                       const struct shape *shape, const void *data, size_t bytes) {
    struct npy *array = &arrays[*count];
    array->data = mem_dup(data, bytes);
    if (array->data == NULL) {
        return STATUS_NO_MEMORY;
    }
    (void)snprintf(array->name, sizeof array->name, "%s", name);
    array->type = type;
    array->shape = *shape;
    (*count)++;
    return STATUS_OK;
}

enum status samples_save(const char *path, const struct samples_source *source, struct error *error) {
    struct npy arrays[ARRAYS] = {{.data = NULL}};
    size_t count = 0;
    struct shape images = {.rank = 4, .dim = {source->count, source->channels, source->height, source->width}};
    struct shape list = {.rank = 1, .dim = {source->count}};
    struct shape channels = {.rank = 1, .dim = {source->channels}};
    size_t label_bytes = source->count * sizeof *source->labels;
    size_t channel_bytes = source->channels * sizeof *source->mean;
    enum status status = add(arrays, &count, "x", NPY_U1, &images, source->pixels, shape_count(&images));
    if (status == STATUS_OK) {
        status = add(arrays, &count, "y", NPY_I4, &list, source->labels, label_bytes);
    }
    if (status == STATUS_OK && source->targets != NULL) {
        status = add(arrays, &count, "target", NPY_I4, &list, source->targets, label_bytes);
    }
    if (status == STATUS_OK && source->mean != NULL) {
        status = add(arrays, &count, "mean", NPY_F4, &channels, source->mean, channel_bytes);
    }
    if (status == STATUS_OK && source->std != NULL) {
        status = add(arrays, &count, "std", NPY_F4, &channels, source->std, channel_bytes);
    }
    if (status == STATUS_OK) {
        status = npz_save(path, arrays, count, error);
    } else {
        (void)error_no_memory(error, "the arrays of a sample set");
    }
    for (size_t i = 0; i < count; i++) {
        mem_free(arrays[i].data);
    }
    return status;
}
