/* Writing npz archives: built in memory by libzip, then put in place as a whole. */
#include <stdio.h>
#include <string.h>
#include <zip.h>

#include "common/file.h"
#include "common/mem.h"
#include "server/data/npy.h"

enum { DOS_DATE_1980 = 0x21, DEFLATE_LEVEL = 6 }; /* no clock in the file: the same arrays make the same bytes */

struct writing {
    zip_t *zip;
    char **entries; /* header and data of each array; libzip reads them when the archive is closed */
    size_t count;
    struct error *error;
};

static enum status zip_failed(struct writing *writing, const char *what) {
    return error_set(writing->error, STATUS_NO_MEMORY, NULL, "failed to write npz: got an error of libzip in %s", what);
}

/* Header and elements in one block. */
static char *pack_array(const struct npy *array, size_t *length) {
    size_t header = 0;
    size_t bytes = shape_count(&array->shape) * npy_width(array->type);
    char *text = npy_format_header(array, &header);
    char *block = text != NULL ? mem_alloc(header + bytes, 1) : NULL;
    if (block != NULL) {
        memcpy(block, text, header);
        if (bytes > 0) {
            memcpy(block + header, array->data, bytes);
        }
        *length = header + bytes;
    }
    mem_free(text);
    return block;
}

static enum status add_array(struct writing *writing, const struct npy *array) {
    char name[sizeof array->name + 8];
    size_t length = 0;
    char *block = pack_array(array, &length);
    if (block == NULL) {
        return error_no_memory(writing->error, "an entry of an npz");
    }
    writing->entries[writing->count++] = block;
    (void)snprintf(name, sizeof name, "%s.npy", array->name);
    zip_source_t *source = zip_source_buffer(writing->zip, block, length, 0);
    if (source == NULL) {
        return zip_failed(writing, "an entry");
    }
    zip_int64_t index = zip_file_add(writing->zip, name, source, ZIP_FL_ENC_UTF_8);
    if (index < 0) {
        zip_source_free(source);
        return zip_failed(writing, "an entry");
    }
    if (zip_set_file_compression(writing->zip, (zip_uint64_t)index, ZIP_CM_DEFLATE, DEFLATE_LEVEL) != 0 ||
        zip_file_set_dostime(writing->zip, (zip_uint64_t)index, 0, DOS_DATE_1980, 0) != 0) {
        return zip_failed(writing, "the settings of an entry");
    }
    return STATUS_OK;
}

/* The finished archive is in `source`. */
static enum status write_source(struct writing *writing, zip_source_t *source, const char *path) {
    zip_stat_t info;
    char *bytes = NULL;
    enum status status = STATUS_OK;
    zip_stat_init(&info);
    if (zip_source_stat(source, &info) != 0 || (info.valid & ZIP_STAT_SIZE) == 0 || zip_source_open(source) != 0) {
        return zip_failed(writing, "the archive");
    }
    bytes = mem_alloc((size_t)info.size, 1);
    if (bytes == NULL) {
        status = error_no_memory(writing->error, "the bytes of an npz");
    } else if (zip_source_read(source, bytes, info.size) != (zip_int64_t)info.size) {
        status = zip_failed(writing, "the archive");
    }
    (void)zip_source_close(source);
    if (status == STATUS_OK) {
        status = file_write_atomic(path, bytes, (size_t)info.size, writing->error);
    }
    mem_free(bytes);
    return status;
}

enum status npz_save(const char *path, const struct npy *arrays, size_t count, struct error *error) {
    struct writing writing = {.error = error, .entries = mem_calloc(count, sizeof *writing.entries)};
    zip_source_t *source = zip_source_buffer_create(NULL, 0, 0, NULL);
    enum status status = STATUS_OK;
    if (writing.entries == NULL || source == NULL) {
        status = error_no_memory(error, "an npz");
        goto done;
    }
    writing.zip = zip_open_from_source(source, ZIP_CREATE | ZIP_TRUNCATE, NULL);
    if (writing.zip == NULL) {
        status = zip_failed(&writing, "a new archive");
        goto done;
    }
    zip_source_keep(source); /* one reference is the archive's, one ours */
    for (size_t i = 0; status == STATUS_OK && i < count; i++) {
        status = add_array(&writing, &arrays[i]);
    }
    if (status != STATUS_OK || zip_close(writing.zip) != 0) {
        status = status != STATUS_OK ? status : zip_failed(&writing, "the archive");
        zip_discard(writing.zip);
        goto done;
    }
    status = write_source(&writing, source, path);

done:
    for (size_t i = 0; i < writing.count; i++) {
        mem_free(writing.entries[i]);
    }
    mem_free(writing.entries);
    if (source != NULL) {
        zip_source_free(source);
    }
    return status;
}
