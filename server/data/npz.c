/* npz archives over libzip. Nothing is allocated on the word of the archive alone: the sizes that the zip declares are
 * held against stated limits, the header of each array against its entry, and the bytes that come out against both.
 * libzip checks the CRC when an entry has been read to its end, so each is. */
#include "server/data/npz.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zip.h>

#include "common/file.h"
#include "common/mem.h"
#include "server/data/npy.h"

enum {
    ARRAYS_MAX = 64,
    RATIO_MAX = 200, /* unpacked to packed bytes, for entries beyond: */
};

/* Deflate packs an all-black image set by 1000: small entries may, and the unpacked bytes are the hard limit. */
static const uint64_t RATIO_FREE = (uint64_t)64 << 20;

struct reading {
    const char *path;
    zip_t *zip;
    size_t max_unpacked, unpacked;
    struct error *error;
};

static enum status zip_failed(struct reading *reading, const char *place, zip_error_t *why) {
    enum status status = zip_error_code_zip(why) == ZIP_ER_MEMORY ? STATUS_NO_MEMORY : STATUS_INVALID;
    return error_set(reading->error, status, place,
                     "failed to read npz%s%s: got %s, expected a zip archive of npy arrays",
                     place != NULL ? " entry " : "", place != NULL ? place : "", zip_error_strerror(why));
}

/* libzip gets a descriptor, so that what was measured is what is read. */
static enum status open_archive(struct reading *reading, size_t max_file_bytes) {
    struct stat info;
    int code = 0;
    int fd = open(reading->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return error_io(reading->error, NULL, "failed to open samples file");
    }
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
        (void)close(fd);
        return error_set(reading->error, STATUS_IO, NULL, "failed to open samples file: expected a regular file");
    }
    if ((uint64_t)info.st_size > max_file_bytes) {
        (void)close(fd);
        return error_set(reading->error, STATUS_LIMIT, NULL, "failed to read npz: got %lld bytes, expected at most %zu",
                         (long long)info.st_size, max_file_bytes);
    }
    reading->zip = zip_fdopen(fd, 0, &code); /* takes the descriptor if it succeeds */
    if (reading->zip == NULL) {
        zip_error_t why;
        (void)close(fd);
        zip_error_init_with_code(&why, code);
        enum status status = zip_failed(reading, NULL, &why);
        zip_error_fini(&why);
        return status;
    }
    return STATUS_OK;
}

static bool name_is_clean(const char *name) {
    static const char ALLOWED[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._/-";
    return name[0] != '\0' && strspn(name, ALLOWED) == strlen(name);
}

/* "x.npy" to "x". */
static enum status take_name(struct reading *reading, const struct npz *npz, const char *entry, struct npy *array) {
    size_t length = strlen(entry);
    if (!name_is_clean(entry)) {
        return error_set(reading->error, STATUS_INVALID, entry,
                         "failed to read npz: got the entry name '%s', expected letters, digits and ._/-", entry);
    }
    if (length <= 4 || strcmp(entry + length - 4, ".npy") != 0 || length - 4 >= sizeof array->name) {
        return error_set(reading->error, STATUS_INVALID, entry,
                         "failed to read npz: got the entry '%s', expected arrays named *.npy of at most %zu letters",
                         entry, sizeof array->name - 1);
    }
    memcpy(array->name, entry, length - 4);
    array->name[length - 4] = '\0';
    if (npz_find(npz, array->name) != NULL) {
        return error_set(reading->error, STATUS_INVALID, entry, "failed to read npz: got the entry '%s' twice", entry);
    }
    return STATUS_OK;
}

/* What the zip says of the entry: kept, deflated, plain, within the limits. */
static enum status check_entry(struct reading *reading, const zip_stat_t *entry) {
    const zip_uint64_t needed =
        ZIP_STAT_NAME | ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE | ZIP_STAT_COMP_METHOD | ZIP_STAT_ENCRYPTION_METHOD;
    if ((entry->valid & needed) != needed) {
        return error_set(reading->error, STATUS_INVALID, NULL, "failed to read npz: got an entry without name or size");
    }
    if ((entry->comp_method != ZIP_CM_STORE && entry->comp_method != ZIP_CM_DEFLATE) ||
        entry->encryption_method != ZIP_EM_NONE) {
        return error_set(reading->error, STATUS_UNSUPPORTED, entry->name,
                         "failed to read %s: got compression method %d, expected stored or deflated, not encrypted",
                         entry->name, (int)entry->comp_method);
    }
    if (entry->size > reading->max_unpacked - reading->unpacked) {
        return error_set(reading->error, STATUS_LIMIT, entry->name,
                         "failed to read %s: got %llu bytes unpacked, expected at most %zu in all arrays together",
                         entry->name, (unsigned long long)entry->size, reading->max_unpacked);
    }
    if (entry->size > RATIO_FREE && entry->size / RATIO_MAX > entry->comp_size) {
        return error_set(reading->error, STATUS_LIMIT, entry->name,
                         "failed to read %s: got %llu bytes packed into %llu, expected a ratio of at most %d",
                         entry->name, (unsigned long long)entry->size, (unsigned long long)entry->comp_size, RATIO_MAX);
    }
    reading->unpacked += (size_t)entry->size;
    return STATUS_OK;
}

/* Exactly `length` bytes. */
static enum status read_exactly(struct reading *reading, const char *place, zip_file_t *file, void *out,
                                size_t length) {
    size_t done = 0;
    while (done < length) {
        zip_int64_t got = zip_fread(file, (char *)out + done, length - done);
        if (got < 0) {
            return zip_failed(reading, place, zip_file_get_error(file));
        }
        if (got == 0) {
            return error_set(reading->error, STATUS_INVALID, place,
                             "failed to read %s: got the end of the entry after %zu bytes, expected %zu more", place,
                             done, length - done);
        }
        done += (size_t)got;
    }
    return STATUS_OK;
}

/* After the last element: nothing more, and libzip's verdict on the CRC. */
static enum status check_end(struct reading *reading, const char *place, zip_file_t *file) {
    char extra = 0;
    zip_int64_t got = zip_fread(file, &extra, 1);
    if (got < 0) {
        return zip_failed(reading, place, zip_file_get_error(file));
    }
    if (got > 0) {
        return error_set(reading->error, STATUS_INVALID, place,
                         "failed to read %s: got more bytes than declared, expected the size in the archive", place);
    }
    return STATUS_OK;
}

static enum status read_header(struct reading *reading, const zip_stat_t *entry, zip_file_t *file, struct npy *array,
                               size_t *data_bytes) {
    unsigned char prefix[NPY_PREFIX_V2] = {0};
    size_t before = 0, length = 0, count = 0;
    char *text = NULL;
    enum status status = read_exactly(reading, entry->name, file, prefix, NPY_PREFIX_V1);
    if (status == STATUS_OK && prefix[6] == 2) {
        status = read_exactly(reading, entry->name, file, prefix + NPY_PREFIX_V1, NPY_PREFIX_V2 - NPY_PREFIX_V1);
    }
    if (status == STATUS_OK) {
        status = npy_prefix(prefix, entry->name, &before, &length, reading->error);
    }
    if (status != STATUS_OK) {
        return status;
    }
    text = mem_alloc(length, 1);
    status = text != NULL ? read_exactly(reading, entry->name, file, text, length)
                          : error_no_memory(reading->error, "an npy header");
    if (status == STATUS_OK) {
        status = npy_header(text, length, entry->name, array, reading->error);
    }
    mem_free(text);
    if (status != STATUS_OK) {
        return status;
    }
    if (!shape_count_checked(&array->shape, &count) || !mem_multiply(count, npy_width(array->type), data_bytes) ||
        entry->size < before + length || entry->size - before - length != *data_bytes) {
        char shape[SHAPE_TEXT_SIZE];
        return error_set(reading->error, STATUS_INVALID, entry->name,
                         "failed to read %s: got %llu bytes of data, expected shape %s of %s", entry->name,
                         (unsigned long long)(entry->size - before - length), shape_text(&array->shape, shape),
                         npy_type_text(array->type));
    }
    return STATUS_OK;
}

static enum status read_entry(struct reading *reading, zip_uint64_t index, struct npz *npz) {
    struct npy *array = &npz->arrays[npz->count];
    zip_stat_t entry;
    zip_file_t *file = NULL;
    size_t bytes = 0;
    zip_stat_init(&entry);
    if (zip_stat_index(reading->zip, index, 0, &entry) != 0) {
        return zip_failed(reading, NULL, zip_get_error(reading->zip));
    }
    enum status status = check_entry(reading, &entry);
    if (status == STATUS_OK) {
        status = take_name(reading, npz, entry.name, array);
    }
    if (status != STATUS_OK) {
        return status;
    }
    file = zip_fopen_index(reading->zip, index, 0);
    if (file == NULL) {
        return zip_failed(reading, entry.name, zip_get_error(reading->zip));
    }
    status = read_header(reading, &entry, file, array, &bytes);
    if (status == STATUS_OK) {
        array->data = mem_alloc(bytes, 1);
        npz->count++; /* from here npz_free() frees it */
        status = array->data != NULL ? read_exactly(reading, entry.name, file, array->data, bytes)
                                     : error_no_memory(reading->error, "an array");
    }
    if (status == STATUS_OK) {
        status = check_end(reading, entry.name, file);
    }
    (void)zip_fclose(file);
    return status;
}

enum status npz_load(const char *path, size_t max_file_bytes, size_t max_unpacked_bytes, struct npz **out,
                     struct error *error) {
    struct reading reading = {.path = path, .max_unpacked = max_unpacked_bytes, .error = error};
    struct npz *npz = mem_calloc(1, sizeof *npz);
    zip_int64_t count = 0;
    enum status status = STATUS_OK;
    if (npz == NULL) {
        return error_no_memory(error, "an npz");
    }
    status = open_archive(&reading, max_file_bytes);
    if (status != STATUS_OK) {
        goto done;
    }
    count = zip_get_num_entries(reading.zip, 0);
    if (count > ARRAYS_MAX) {
        status = error_set(error, STATUS_LIMIT, NULL, "failed to read npz: got %lld entries, expected at most %d",
                           (long long)count, ARRAYS_MAX);
        goto done;
    }
    npz->arrays = mem_calloc((size_t)count, sizeof *npz->arrays);
    if (npz->arrays == NULL) {
        status = error_no_memory(error, "the arrays of an npz");
        goto done;
    }
    for (zip_int64_t i = 0; status == STATUS_OK && i < count; i++) {
        status = read_entry(&reading, (zip_uint64_t)i, npz);
    }
    if (status == STATUS_OK) {
        *out = npz;
        npz = NULL;
    }

done:
    if (reading.zip != NULL) {
        zip_discard(reading.zip);
    }
    npz_free(npz);
    return status;
}

void npz_free(struct npz *npz) {
    if (npz == NULL) {
        return;
    }
    for (size_t i = 0; npz->arrays != NULL && i < npz->count; i++) {
        mem_free(npz->arrays[i].data);
    }
    mem_free(npz->arrays);
    mem_free(npz);
}

const struct npy *npz_find(const struct npz *npz, const char *name) {
    for (size_t i = 0; i < npz->count; i++) {
        if (strcmp(npz->arrays[i].name, name) == 0) {
            return &npz->arrays[i];
        }
    }
    return NULL;
}
